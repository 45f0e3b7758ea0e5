//! The main job with real parts: a real pallet's images go from a registry to the cache to Docker 20.10.

use palletjack_testkit::image::{Compression, Image, ImageSet, Shape};
use palletjack_testkit::real::{DockerCli, DockerRegistry, Dockerd, Part, Skopeo, push, push_all};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use serde_json::Value;

use crate::machine::Machine;

/// Layers that every Docker reads.
pub(crate) fn gzip() -> Shape {
    Shape { zstd: false, ..Shape::small() }
}

pub(crate) fn is_zstd(image: &Image) -> bool {
    image.platforms[0].layers.iter().any(|layer| layer.compression == Compression::Zstd)
}

/// The verdicts of a JSON document by state.
#[track_caller]
pub(crate) fn states(document: &Value, state: &str) -> usize {
    document["images"].as_array().unwrap().iter().filter(|image| image["state"] == state).count()
}

/// `docker create --pull never` of each tag.
fn assert_runs_by_tag<'a>(docker: &DockerCli, images: impl IntoIterator<Item = &'a Image>) {
    for image in images {
        docker.create_never(&image.tagged()).unwrap().assert_success();
        let config = image.platform("linux/amd64").unwrap().config.to_string();
        let id = docker.inspect(&image.tagged()).unwrap().unwrap()["Id"].clone();
        assert_eq!(id, config, "{} is another image", image.tagged());
    }
}

/// resolve -> fetch -> registry gone -> fetch again: the cache has the pallet's images.
fn fetch(machine: &Machine, mut registry: DockerRegistry, set: &ImageSet) {
    let listed = machine.run("plt ls-img");
    let pinned: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
    assert_eq!(pinned.len(), 13);
    for image in &set.images {
        let digest = image.top.digest.to_string();
        assert_eq!(pinned.iter().filter(|pin| pin.ends_with(&digest)).count(), 1, "{digest}");
    }
    machine.mirror(&registry.url());
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_success();
    assert_eq!(document["schema"], "palletjack.fetch/1");
    assert_eq!(states(&document, "fetched"), 13, "{ran}");
    let layers = set.layers("linux/amd64");
    let bytes: u64 = layers.values().map(|layer| layer.size).sum();
    let fetched = document["bytes_fetched"].as_u64().unwrap();
    assert!(fetched >= bytes && fetched < bytes * 11 / 10, "{fetched} bytes fetched for {bytes} of layers");

    registry.stop();
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_success();
    assert_eq!(document["requests"], 0, "{ran}");
    assert_eq!(document["bytes_fetched"], 0);
    assert_eq!(states(&document, "cached"), 13);
    machine.run("plt cache-img --offline").assert_success();
    machine.assert_verified(13);
}

#[test]
fn a_real_pallets_images_go_from_a_registry_to_docker() {
    require_real!(Part::DockerRegistry, Part::Docker20);
    let mut machine = Machine::new();
    let set = machine.standard_pallet(&gzip());
    let registry = DockerRegistry::start().unwrap();
    push_all(registry.host(), &set).unwrap();
    fetch(&machine, registry, &set);

    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(5);
    assert_eq!(document["schema"], "palletjack.load/1");
    assert_eq!(states(&document, "loaded"), 13, "{ran}");
    let sent =
        document["images"].as_array().unwrap().iter().map(|image| image["sent_layers"].as_u64().unwrap());
    let layers: u64 = set.layers("linux/amd64").values().map(|layer| layer.size).sum();
    assert_eq!(sent.sum::<u64>(), layers, "each layer is sent once: {ran}");
    let docker = engine.docker().unwrap();
    assert_runs_by_tag(&docker, &set.images);
    assert_eq!(docker.tags().unwrap().len(), 13, "nothing else is in the engine");

    // This engine keeps no digests of loaded images: what a container can be started as is said.
    for (image, verdict) in set.images.iter().zip(document["images"].as_array().unwrap()) {
        assert_eq!(verdict["resolves"], false, "{verdict}");
        let runs_as = verdict["runs_as"].as_str().unwrap();
        docker.create_never(runs_as).unwrap().assert_success();
        assert!(!docker.create_never(&image.pinned()).unwrap().success());
    }

    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(5);
    assert_eq!(states(&document, "present"), 13, "{ran}");
    assert!(document["images"].as_array().unwrap().iter().all(|image| image["sent"] == 0), "{ran}");
    // By its parts too, and in words.
    let ran = machine.run("cache load-img");
    ran.assert_code(5);
    assert!(ran.stderr.contains("13 present before"), "{ran}");
}

#[test]
fn a_registry_that_skopeo_filled_serves_as_well_and_zstd_is_recoded() {
    require_real!(Part::DockerRegistry, Part::Docker20, Part::Skopeo122);
    let mut machine = Machine::new();
    let set = machine.standard_pallet(&Shape::small());
    let source = Registry::start().unwrap();
    source.publish_all(&set);
    let registry = DockerRegistry::start().unwrap();
    let skopeo = Skopeo::forky().unwrap();
    for image in &set.images {
        if is_zstd(image) {
            // skopeo adds an annotation to indexes of zstd images, and with it changes their digests.
            push(registry.host(), image).unwrap();
            continue;
        }
        let path = format!("{}:{}", image.name.repository, image.name.tag.as_deref().unwrap());
        let [from, to] = [&source.host(), registry.host()].map(|host| format!("docker://{host}/{path}"));
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let args = ["copy", "--quiet", "--all", "--preserve-digests", plain[0], plain[1], &from, &to];
        skopeo.run(&args).unwrap().assert_success();
    }
    fetch(&machine, registry, &set);

    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    // This engine reads no zstd layers: they are handed over as gzip, and the image is the same by its ID.
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(5);
    assert_eq!(states(&document, "loaded"), 13, "{ran}");
    assert_eq!(set.images.iter().filter(|image| is_zstd(image)).count(), 1);
    let docker = engine.docker().unwrap();
    assert_runs_by_tag(&docker, &set.images);
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(5);
    assert_eq!(states(&document, "present"), 13, "{ran}");
}

#[test]
fn a_staged_bundles_images_go_to_docker() {
    require_real!(Part::DockerRegistry, Part::Docker20);
    let mut machine = Machine::new();
    crate::resolve::write_stages(&machine, "  next: 2\n  history: [1]\n", "v0.8.0");
    let set = ImageSet::build(&["shared:1", "bundle-1:1", "bundle-2:1"], &gzip()).unwrap();
    let registry = DockerRegistry::start().unwrap();
    push_all(registry.host(), &set).unwrap();
    machine.mirror(&registry.url());
    let (ran, document) = machine.json("stage cache-img next");
    ran.assert_success();
    assert_eq!(states(&document, "fetched"), 2, "{ran}");
    // Without an identifier, what an apply falls back to is wanted too.
    let (ran, document) = machine.json("stage cache-img");
    ran.assert_success();
    assert_eq!((states(&document, "fetched"), states(&document, "cached")), (1, 2), "{ran}");

    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    machine.run("stage load-img").assert_success();
    assert_runs_by_tag(&engine.docker().unwrap(), &set.images);
}
