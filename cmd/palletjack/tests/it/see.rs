//! What is in the cache: listing, removing, verifying; and what a damaged blob does.

use std::collections::BTreeMap;
use std::fs;

use palletjack_image::Digest;
use palletjack_testkit::engine::{Engine, Profile};
use palletjack_testkit::image::{Image, ImageSet};
use palletjack_testkit::real::{Dockerd, Part};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use serde_json::Value;

use crate::machine::{Machine, assert_loaded, own_layer, pins, small_set, strings};
use crate::main_job::{gzip, states};

/// A machine whose cache has the small images, and their registry.
fn filled() -> (Machine, Registry, Vec<String>) {
    let (machine, registry) = (Machine::new(), Registry::start().unwrap());
    let pins = machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    registry.clear_requests();
    (machine, registry, pins)
}

/// The layer that all small images stand on.
fn base() -> Digest {
    small_set().images[0].platform("linux/amd64").unwrap().layers[0].digest
}

/// Everything that an image has for amd64, with sizes in bytes.
fn blobs(image: &Image) -> BTreeMap<Digest, u64> {
    let chosen = image.platform("linux/amd64").unwrap();
    let manifests = image
        .manifests()
        .filter(|manifest| [image.top.digest, chosen.manifest].contains(&manifest.digest))
        .map(|manifest| (manifest.digest, manifest.bytes.len() as u64));
    let layers = chosen.layers.iter().map(|layer| (layer.digest, layer.size));
    manifests.chain(layers).chain([(chosen.config, image.blobs[&chosen.config].size())]).collect()
}

fn entry<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let mut images = document["images"].as_array().unwrap().iter();
    images.find(|image| image["reference"] == reference).unwrap_or_else(|| panic!("{reference}: {document}"))
}

#[test]
fn a_list_for_scripts_has_sizes_and_what_is_shared() {
    let (machine, registry, pins) = filled();
    let (ran, document) = machine.json("cache ls-img");
    ran.assert_success();
    assert_eq!(document["schema"], "palletjack.cached-images/1");
    assert_eq!(document["cache"], machine.sandbox.cache().display().to_string());
    let set = small_set();
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for digest in set.images.iter().flat_map(|image| blobs(image).into_keys()) {
        *users.entry(digest).or_default() += 1;
    }
    for (image, pin) in set.images.iter().zip(&pins) {
        let entry = entry(&document, pin);
        let blobs = blobs(image);
        assert_eq!(entry["requested"], *pin);
        assert_eq!(entry["platform"], "linux/amd64");
        assert_eq!(entry["digest"], image.top.digest.to_string());
        assert_eq!(entry["manifest"], image.platform("linux/amd64").unwrap().manifest.to_string());
        assert_eq!(entry["size"], blobs.values().sum::<u64>(), "{pin}");
        let shared: u64 = blobs.iter().filter(|(digest, _)| users[digest] > 1).map(|(_, size)| size).sum();
        assert!(shared > 0);
        assert_eq!(entry["shared_size"], shared, "{pin}");
        assert!(entry["upstream"].as_str().unwrap().contains(&registry.host()), "{entry}");
        assert_eq!(entry["owns_tag"], true);
        let fetched = entry["fetched"].as_str().unwrap();
        assert!(fetched.starts_with("20") && fetched.ends_with('Z') && fetched.len() == 20, "{fetched}");
        assert!(entry.get("damage").is_none());
    }
}

#[test]
fn a_list_for_people_is_a_table() {
    let (machine, registry, pins) = filled();
    let ran = machine.run("cache ls-img");
    ran.assert_success();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), ["REFERENCE", "PLATFORM", "DIGEST", "SIZE", "SHARED", "FETCHED"]);
    assert_eq!(lines.len(), 5);
    assert!(
        lines[1..].iter().any(|line| line.starts_with(&format!("{}/acme/one:1 ", registry.host()))),
        "{ran}"
    );
    assert!(lines[1..].iter().all(|line| line.contains("linux/amd64") && line.contains(" kB ")), "{ran}");
    let ran = machine.run("cache list-images --no-trunc");
    assert!(pins.iter().all(|pin| ran.stdout.contains(pin)), "{ran}");
}

#[test]
fn removing_frees_what_no_other_image_needs() {
    let (machine, _registry, pins) = filled();
    let image = &small_set().images[0];
    let own = own_layer(small_set(), 0).digest;
    let ran = machine.run(&format!("cache del-img {}", pins[0]));
    ran.assert_success();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("acme/one:1") && ran.stderr.contains("freed"), "{ran}");
    for digest in [own, image.top.digest, image.platform("linux/amd64").unwrap().config] {
        assert!(!machine.blob(&digest).exists(), "{digest}");
    }
    assert!(machine.blob(&base()).is_file(), "others stand on it");
    machine.assert_verified(3);
    let words = format!("cache del-img {}", pins[1..].join(" "));
    machine.run(&words).assert_success();
    let left = fs::read_dir(machine.layout().join("blobs/sha256")).unwrap().count();
    assert_eq!(left, 0, "no image, no blobs");
}

#[test]
fn a_name_without_digest_means_every_pin_of_it() {
    let (machine, registry) = (Machine::new(), Registry::start().unwrap());
    let name = format!("{}/acme/one:1", registry.host());
    // Two digests of one tag, as the current and the next bundle have them.
    let mut pins_of_one = Vec::new();
    for image in &ImageSet::build(&["acme/one:1", "acme/one:2"], &gzip()).unwrap().images {
        registry.publish(image);
        pins_of_one.push(format!("{name}@{}", image.top.digest));
    }
    let other = {
        registry.publish_all(small_set());
        pins(&registry, small_set())[3].clone()
    };
    let add = format!("cache add-img {} {} {other}", pins_of_one[0], pins_of_one[1]);
    machine.run(&add).assert_success();
    machine.assert_verified(3);
    let (_, document) = machine.json("cache ls-img");
    let owners = pins_of_one.iter().filter(|pin| entry(&document, pin)["owns_tag"] == true).count();
    assert_eq!(owners, 1, "a tag belongs to one digest: {document}");

    machine.run(&format!("cache del-img {}", pins_of_one[0])).assert_success();
    machine.assert_verified(2);
    machine.run(&add).assert_success();
    machine.run(&format!("cache del-img {name}")).assert_success();
    machine.assert_verified(1);
    let ran = machine.run(&format!("cache del-img {other} {name}"));
    ran.assert_code(3);
    assert!(ran.stderr.contains("not in the cache") && ran.stderr.contains(&name), "{ran}");
    machine.assert_verified(1);
}

#[test]
fn one_platform_can_be_removed_and_the_other_stays() {
    let (machine, _registry, pins) = filled();
    machine.run(&format!("cache add-img --platform linux/arm64 {}", pins[0])).assert_success();
    machine.assert_verified(5);
    machine.run(&format!("cache del-img --platform linux/arm64 {}", pins[0])).assert_success();
    machine.assert_verified(4);
    assert!(machine.blob(&small_set().images[0].top.digest).is_file(), "amd64 needs the index too");
}

#[test]
fn a_damaged_blob_is_found_with_all_images_that_it_hurts_and_mended() {
    let (machine, registry, pins) = filled();
    let own = own_layer(small_set(), 1).digest;
    machine.damage(&base());
    machine.damage(&own);
    let (ran, document) = machine.json("cache verify");
    ran.assert_code(6);
    assert_eq!(document["schema"], "palletjack.verification/1");
    let hurts = |digest: &Digest| {
        let problems = document["problems"].as_array().unwrap();
        let problem = problems.iter().find(|problem| problem["digest"] == digest.to_string()).unwrap();
        strings(&problem["hurts"])
    };
    assert_eq!(document["problems"].as_array().unwrap().len(), 2, "{ran}");
    assert_eq!(hurts(&own).len(), 1);
    assert!(hurts(&own)[0].contains("acme/two:2"));
    assert_eq!(hurts(&base()).len(), 4, "all stand on it");
    let ran = machine.run("cache verify");
    ran.assert_code(6);
    assert!(ran.stdout.contains("hurts") && ran.stdout.contains("acme/four:4"), "{ran}");
    assert!(ran.stderr.contains("--discard"), "{ran}");
    assert!(machine.blob(&own).is_file(), "nothing is deleted unasked");

    let ran = machine.run("cache verify --discard");
    ran.assert_code(6);
    assert!(ran.stderr.contains("deleted 2 corrupt blobs"), "{ran}");
    assert!(!machine.blob(&own).exists() && !machine.blob(&base()).exists());
    // They are missing now, which is told as well, until they are fetched again: they, and nothing else.
    machine.run("cache verify").assert_code(6);
    let ran = machine.run("cache ls-img");
    assert!(ran.success() && ran.stderr.contains("missing"), "{ran}");
    registry.clear_requests();
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
    assert_eq!(registry.count("GET", "/blobs/sha256:"), 2, "{pins:?}");
}

#[test]
fn blobs_that_are_cut_or_gone_are_found_too() {
    let (machine, _registry, _) = filled();
    let (cut, gone) = (own_layer(small_set(), 0).digest, small_set().images[2].top.digest);
    let path = machine.blob(&cut);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    fs::remove_file(machine.blob(&gone)).unwrap();
    let (ran, document) = machine.json("cache verify");
    ran.assert_code(6);
    let found: Vec<&str> = document["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|problem| problem["digest"].as_str())
        .collect();
    assert!(found.contains(&&*cut.to_string()) && found.contains(&&*gone.to_string()), "{ran}");
    // Fetching again mends what can be seen without hashing.
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
}

#[test]
fn a_damaged_blob_is_found_before_its_last_byte_leaves() {
    let (mut machine, _registry, pins) = filled();
    machine.damage(&own_layer(small_set(), 1).digest);
    let engine = Engine::start(Profile::docker_20()).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(6);
    assert_eq!((states(&document, "loaded"), states(&document, "failed")), (3, 1), "{ran}");
    assert_eq!(entry(&document, &pins[1])["state"], "failed");
    let line = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(line.contains("acme/two:2") && line.contains("app-1"), "{ran}");
    assert!(ran.stderr.contains("verify --discard"), "{ran}");
    // Its request is broken off, or never goes out when it would be a small one.
    let loads = engine.wait_for_loads(3);
    assert_eq!(loads.iter().filter(|load| load.complete).count(), 3);
    assert!(!engine.images().iter().any(|image| image.tags.iter().any(|tag| tag.contains("acme/two"))));
}

#[test]
fn a_real_engine_registers_nothing_of_an_image_with_a_damaged_blob() {
    require_real!(Part::Docker20);
    let (mut machine, _registry, _) = filled();
    machine.damage(&own_layer(small_set(), 1).digest);
    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    machine.run("plt load-img").assert_code(6);
    let docker = engine.docker().unwrap();
    let tags = docker.tags().unwrap();
    assert!(tags.len() == 3 && !tags.iter().any(|tag| tag.contains("acme/two")), "{tags:?}");
    let all = docker.run(&["images", "--all", "--quiet"]).unwrap().ok().unwrap();
    assert_eq!(all.lines().count(), 3, "nothing without a name either");
    machine.run("cache verify --discard").assert_code(6);
    machine.run("plt cache-img").assert_success();
    assert_loaded(&machine.run("plt load-img"));
    assert_eq!(docker.tags().unwrap().len(), 4);
}

#[test]
fn what_is_missing_in_the_cache_does_not_keep_the_rest_from_being_loaded() {
    let (mut machine, _registry, pins) = filled();
    machine.run(&format!("cache del-img {}", pins[3])).assert_success();
    let engine = Engine::start(Profile::docker_20()).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(3);
    assert_eq!((states(&document, "loaded"), states(&document, "missing")), (3, 1), "{ran}");
    assert!(ran.stderr.contains("acme/four:4") && ran.stderr.contains("app-3"), "{ran}");
    // By reference: those that are named, and no others.
    let other = Engine::start(Profile::docker_20()).unwrap();
    machine.set("DOCKER_HOST", other.host());
    assert_loaded(&machine.run(&format!("cache load-img {}", pins[0].split('@').next().unwrap())));
    assert_eq!(other.images().len(), 1);
    machine.run("cache load-img nowhere:1").assert_code(3);
}
