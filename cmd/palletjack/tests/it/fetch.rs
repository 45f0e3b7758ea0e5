//! Fetching from registries that misbehave, and for the right platform.

use std::fs;

use palletjack_image::Digest;
use palletjack_testkit::image::ImageSet;
use palletjack_testkit::registry::{Fault, Gate, Registry, When};

use crate::machine::{Machine, PROGRAM, own_layer, pins, show, small_set};
use crate::main_job::{gzip, states};

/// A registry with the small images, and a machine whose pallet needs them.
fn scene() -> (Machine, Registry) {
    let (machine, registry) = (Machine::new(), Registry::start().unwrap());
    machine.pallet_in(&registry, small_set());
    (machine, registry)
}

fn blob(digest: &Digest) -> String {
    format!("/blobs/{digest}")
}

#[test]
fn what_registries_send_is_kept_byte_for_byte_and_each_blob_comes_once() {
    let (machine, registry) = scene();
    let ran = machine.run("plt cache-img");
    ran.assert_success();
    assert_eq!(ran.stdout, "", "results alone go to standard output");
    let set = small_set();
    for image in &set.images {
        assert_eq!(fs::read(machine.blob(&image.top.digest)).unwrap(), image.top.bytes);
        let chosen = image.platform("linux/amd64").unwrap();
        let child = image.manifests().find(|manifest| manifest.digest == chosen.manifest).unwrap();
        assert_eq!(fs::read(machine.blob(&chosen.manifest)).unwrap(), child.bytes);
    }
    for digest in set.layers("linux/amd64").keys() {
        assert_eq!(registry.count("GET", &blob(digest)), 1, "{digest}");
    }
    for digest in set.layers("linux/arm64/v8").keys() {
        assert_eq!(registry.count("GET", &blob(digest)), 0, "nobody asked for arm64");
    }
    machine.assert_verified(4);
}

/// A registry with twelve images, and a machine whose pallet needs them.
fn many() -> (Machine, Registry) {
    let (machine, registry) = (Machine::new(), Registry::start().unwrap());
    let names: Vec<String> = (0..12).map(|i| format!("acme/app-{i}:1")).collect();
    machine.pallet_in(&registry, &ImageSet::build(&names, &gzip()).unwrap());
    (machine, registry)
}

#[test]
fn eight_and_more_requests_are_in_flight() {
    let (machine, registry) = many();
    let gate = Gate::new();
    registry.fault(When::blobs(), Fault::Stall(gate.clone()));
    let child = machine.command("plt cache-img").spawn().unwrap();
    gate.wait_for(8);
    gate.open();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
}

#[test]
fn without_parallel_it_is_one_after_the_other() {
    for (words, variable) in [
        ("plt cache-img --parallel=1", ""),
        ("plt cache-img --parallel=false", ""),
        ("plt cache-img", "FORKLIFT_PARALLEL"),
        ("plt cache-img", "PALLETJACK_PARALLEL"),
    ] {
        let (mut machine, registry) = many();
        if !variable.is_empty() {
            machine.set(variable, "false");
        }
        machine.run(words).assert_success();
        // An answer counts until the server is done with it, which may be when the next request is there already.
        assert!(registry.max_in_flight() <= 2, "{words} {variable}: {}", registry.max_in_flight());
        machine.assert_verified(12);
    }
}

#[test]
fn wrong_content_is_fetched_once_more() {
    let (machine, registry) = scene();
    let layer = own_layer(small_set(), 1);
    let fault = registry.fault(When::blob(&layer.digest).first(1), Fault::Flip { at: 1000 });
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_success();
    assert_eq!(fault.happened(), 1);
    assert_eq!(states(&document, "fetched"), 4);
    assert_eq!(registry.count("GET", &blob(&layer.digest)), 2);
    machine.assert_verified(4);
}

#[test]
fn wrong_content_twice_is_named_and_given_up_and_the_rest_is_there() {
    let (machine, registry) = scene();
    let layer = own_layer(small_set(), 1);
    let fault = registry.fault(When::blob(&layer.digest), Fault::Flip { at: 1000 });
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_code(6);
    assert_eq!(fault.happened(), 2, "once more, and no more");
    assert_eq!((states(&document, "fetched"), states(&document, "failed")), (3, 1), "{ran}");
    let failed = &document["images"].as_array().unwrap().iter().find(|i| i["state"] == "failed").unwrap();
    assert_eq!(failed["required_by"][0], "app-1");
    assert_eq!(failed["error"]["code"], "corrupt");
    let line = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(line.contains("acme/two:2") && line.contains("app-1"), "{ran}");
    assert!(line.contains(&layer.digest.to_string()), "{ran}");
    assert!(!machine.blob(&layer.digest).exists());
    machine.assert_verified(3);
    registry.clear_faults();
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
}

#[test]
fn a_manifest_that_is_another_is_never_named() {
    let (machine, registry) = scene();
    let image = &small_set().images[0];
    registry.fault(When::manifest(image.top.digest), Fault::Flip { at: 100 });
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_code(6);
    assert_eq!((states(&document, "fetched"), states(&document, "failed")), (3, 1), "{ran}");
    assert!(ran.stderr.contains("acme/one:1") && ran.stderr.contains("app-0"), "{ran}");
    machine.assert_verified(3);
}

#[test]
fn a_connection_that_breaks_off_is_resumed_where_it_broke() {
    let (machine, registry) = scene();
    let layer = own_layer(small_set(), 0);
    let after = layer.size / 2;
    registry.fault(When::blob(&layer.digest).first(1), Fault::Cut { after });
    machine.run("plt cache-img").assert_success();
    let asked: Vec<Option<String>> = registry
        .requests()
        .iter()
        .filter(|request| request.method == "GET" && request.path.ends_with(&blob(&layer.digest)))
        .map(|request| request.range().map(str::to_owned))
        .collect();
    assert_eq!(asked, [None, Some(format!("bytes={after}-"))]);
    machine.assert_verified(4);
}

#[test]
fn a_registry_in_passing_trouble_is_asked_again() {
    for fault in [
        Fault::TooManyRequests { retry_after: 0 },
        Fault::Unavailable { retry_after: 0 },
        Fault::Status(500),
        Fault::Hangup,
    ] {
        let (machine, registry) = scene();
        let layer = own_layer(small_set(), 2);
        let handles = [
            registry.fault(When::blob(&layer.digest).first(1), fault.clone()),
            registry.fault(When::manifest(small_set().images[3].top.digest).first(1), fault.clone()),
        ];
        let ran = machine.run("plt cache-img");
        ran.assert_success();
        assert!(handles.iter().all(|handle| handle.happened() == 1), "{fault:?}");
        assert!(ran.stderr.contains("trying again"), "{ran}");
        machine.assert_verified(4);
    }
}

#[test]
fn a_registry_that_is_down_is_told_in_one_line() {
    let (machine, mut registry) = scene();
    let host = registry.host();
    registry.stop();
    let pins = pins(&registry, small_set());
    machine.pallet_of(&pins[..1]);
    let ran = machine.run("plt cache-img");
    ran.assert_code(4);
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(lines[0].contains(&host) && lines[0].contains("connection refused"), "{ran}");
    assert!(lines[0].contains("acme/one:1") && lines[0].contains("app-0"), "{ran}");
    assert_eq!(lines.len(), 2, "one for the image, one for the command: {ran}");
}

#[test]
fn a_captive_portal_is_no_registry() {
    let (machine, registry) = scene();
    registry.fault(When::any(), Fault::Html);
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_code(4);
    assert_eq!(states(&document, "failed"), 4, "{ran}");
    assert!(ran.stderr.to_lowercase().contains("html") || ran.stderr.contains("web page"), "{ran}");
    assert!(!ran.stderr.contains("<html"), "{ran}");
    machine.run("cache verify").assert_code(3);
}

#[test]
fn a_digest_alone_is_a_name_too() {
    let (machine, registry) = scene();
    let image = &small_set().images[0];
    let reference = format!("{}/acme/one@{}", registry.host(), image.top.digest);
    machine.run(&format!("cache add-img {reference}")).assert_success();
    machine.assert_verified(1);
    let (_, document) = machine.json("cache ls-img");
    assert_eq!(document["images"][0]["reference"], reference);
    machine.run(&format!("cache del-img {reference}")).assert_success();
}

#[test]
fn a_tag_that_is_not_there_is_told_with_those_that_are() {
    let (machine, registry) = scene();
    registry.set_tag("acme/one", "1.0.1", small_set().images[0].top.digest);
    let reference = format!("{}/acme/one:1.0.2", registry.host());
    let ran = machine.run(&format!("cache add-img {reference}"));
    ran.assert_code(4);
    assert!(ran.stderr.contains(&reference) && ran.stderr.contains("1.0.1"), "{ran}");
    let ran = machine.run(&format!("cache add-img {}/acme/none:1", registry.host()));
    ran.assert_code(4);
    assert!(ran.stderr.contains("not found"), "{ran}");
    assert!(!machine.layout().join("index.json").exists() || machine.names_in_layout().is_empty());
}

#[test]
fn one_image_that_fails_does_not_stop_the_others() {
    let (machine, registry) = scene();
    registry.remove_manifest(&small_set().images[2].top.digest);
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_code(4);
    assert_eq!((states(&document, "fetched"), states(&document, "failed")), (3, 1), "{ran}");
    assert!(ran.stderr.contains("acme/three:3") && ran.stderr.contains("app-2"), "{ran}");
    assert!(ran.stderr.contains("not in the cache: 1 of 4 images"), "{ran}");
    machine.assert_verified(3);
}

#[test]
fn the_platform_is_chosen_with_its_variant() {
    let (machine, registry) = scene();
    let image = &small_set().images[0];
    let reference = format!("{}/acme/one:1", registry.host());
    for (asked, has) in [("linux/arm/v7", "linux/arm/v7"), ("linux/arm64", "linux/arm64/v8")] {
        machine.run(&format!("cache add-img --platform {asked} {reference}")).assert_success();
        let chosen = image.platform(has).unwrap();
        for layer in &chosen.layers {
            assert!(machine.blob(&layer.digest).is_file(), "{asked}");
        }
        assert!(machine.blob(&chosen.manifest).is_file());
    }
    machine.assert_verified(2);
    let (_, document) = machine.json("cache ls-img");
    let mut platforms: Vec<&str> =
        document["images"].as_array().unwrap().iter().map(|i| i["platform"].as_str().unwrap()).collect();
    platforms.sort_unstable();
    assert_eq!(platforms, ["linux/arm/v7", "linux/arm64"]);
}

#[test]
fn a_platform_that_is_not_there_is_told_with_those_that_are() {
    let (machine, registry) = scene();
    let reference = format!("{}/acme/one:1", registry.host());
    let ran = machine.run(&format!("cache add-img --platform linux/s390x {reference}"));
    ran.assert_code(4);
    for text in ["acme/one:1", "linux/s390x", "linux/amd64", "linux/arm64", "linux/arm/v7"] {
        assert!(ran.stderr.contains(text), "{text}: {ran}");
    }
    // A v6 machine does not run what was built for v7.
    let ran = machine.run(&format!("cache add-img --platform linux/arm/v6 {reference}"));
    ran.assert_code(4);
    let ran = machine.run(&format!("cache add-img --platform linux/arm64 {}/acme/three:3", registry.host()));
    ran.assert_code(4);
    assert!(ran.stderr.contains("linux/amd64 alone, not for linux/arm64"), "{ran}");
    let ran = machine.run("plt cache-img --platform nonsense");
    ran.assert_code(2);
}

#[test]
fn the_machines_own_platform_is_the_default() {
    let (mut machine, registry) = scene();
    machine.unset("PALLETJACK_PLATFORM");
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64/v8",
        "arm" => "linux/arm/v7",
        other => panic!("there are no generated images for {other}"),
    };
    machine.run(&format!("cache add-img {}/acme/one:1", registry.host())).assert_success();
    let chosen = small_set().images[0].platform(platform).unwrap();
    assert!(machine.blob(&chosen.manifest).is_file());
}

/// What is there is what the device was tested with: a tag that moves changes nothing by itself.
#[test]
fn a_tag_that_moved_is_followed_when_the_image_is_removed_first() {
    let (machine, registry) = scene();
    let set = small_set();
    let reference = format!("{}/acme/one:1", registry.host());
    let digest = |machine: &Machine| {
        let (_, document) = machine.json("cache ls-img");
        assert_eq!(document["images"].as_array().unwrap().len(), 1, "{document}");
        document["images"][0]["digest"].as_str().unwrap().to_owned()
    };
    machine.run(&format!("cache add-img {reference}")).assert_success();
    for (digest, blob) in &set.images[1].blobs {
        registry.add_blob("acme/one", *digest, blob.clone());
    }
    for manifest in set.images[1].manifests() {
        registry.add_manifest("acme/one", manifest.media_type, manifest.bytes.clone());
    }
    registry.set_tag("acme/one", "1", set.images[1].top.digest);
    registry.clear_requests();
    machine.run(&format!("cache add-img {reference}")).assert_success();
    assert_eq!(digest(&machine), set.images[0].top.digest.to_string());
    assert!(registry.requests().is_empty());
    machine.run(&format!("cache del-img {reference}")).assert_success();
    machine.run(&format!("cache add-img {reference}")).assert_success();
    assert_eq!(digest(&machine), set.images[1].top.digest.to_string());
    machine.assert_verified(1);
}

#[test]
fn offline_nothing_is_asked_and_what_is_missing_is_named() {
    let (mut machine, registry) = scene();
    let ran = machine.run("plt cache-img --offline");
    ran.assert_code(3);
    machine.run(&format!("cache add-img {}", pins(&registry, small_set())[0])).assert_success();
    registry.clear_requests();
    let ran = machine.run("--offline plt cache-img");
    ran.assert_code(3);
    assert!(ran.stderr.contains("3 of 4 images are not in the cache"), "{ran}");
    assert!(ran.stderr.contains("acme/two:2") && ran.stderr.contains("app-1"), "{ran}");
    assert!(!ran.stderr.contains("app-0"), "{ran}");
    assert!(registry.requests().is_empty());
    machine.set("PALLETJACK_OFFLINE", "1");
    machine.run("plt cache-img").assert_code(3);
    machine.set("PALLETJACK_OFFLINE", "0");
    machine.run("plt cache-img").assert_success();
    registry.clear_requests();
    machine.run("plt cache-img --offline").assert_success();
    assert!(registry.requests().is_empty());
}

#[test]
fn what_is_pinned_and_there_costs_no_request() {
    let (machine, registry) = scene();
    machine.run("plt cache-img").assert_success();
    registry.clear_requests();
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_success();
    assert_eq!(document["requests"], 0);
    assert!(registry.requests().is_empty());
}

#[test]
fn loopback_needs_no_certificates() {
    let (mut machine, _registry) = scene();
    let empty = machine.sandbox.root().join("no-certificates");
    fs::create_dir(&empty).unwrap();
    machine.set("SSL_CERT_FILE", "/nonexistent");
    machine.set("SSL_CERT_DIR", empty);
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
}

#[test]
fn mirrors_are_tried_in_order_and_then_the_registry() {
    let (machine, origin) = (Machine::new(), Registry::start().unwrap());
    let set = small_set();
    let pins = machine.pallet_in(&origin, set);
    let (empty, full) = (Registry::start().unwrap(), Registry::start().unwrap());
    full.publish(&set.images[0]);
    full.publish(&set.images[1]);
    machine.configure(&format!(
        "[registries.\"{}\"]\nmirrors = [\"{}\", \"{}\"]\n",
        origin.host(),
        empty.url(),
        full.url()
    ));
    let ran = machine.run("plt cache-img");
    ran.assert_success();
    machine.assert_verified(pins.len());
    assert!(empty.count("GET", "/acme/one/manifests/") > 0, "the first mirror is asked first");
    assert!(full.count("GET", "/acme/one/blobs/") > 0);
    assert_eq!(origin.count("GET", "/acme/one/"), 0, "a mirror had it");
    assert!(origin.count("GET", "/acme/three/blobs/") > 0, "no mirror had it");
}

#[test]
fn progress_is_bars_on_a_terminal() {
    let (mut machine, _registry) = scene();
    // `script` gives the program a terminal and copies what it draws there to its own output.
    let run = |machine: &Machine, words: &str| {
        let ran = machine.run_other("/usr/bin/script", &["-qec", &format!("{PROGRAM} {words}"), "/dev/null"]);
        ran.assert_success();
        ran.stdout
    };
    machine.set("TERM", "xterm");
    let drawn = run(&machine, "plt cache-img");
    assert!(drawn.contains("/4 images") && drawn.contains('\u{1b}'), "{drawn:?}");
    assert!(!drawn.contains(": fetched"), "bars or lines, not both: {drawn:?}");
    let lines = run(&machine, "plt cache-img --progress plain");
    assert!(!lines.contains("/4 images") && lines.contains(": in the cache"), "{lines:?}");
    machine.set("TERM", "dumb");
    let lines = run(&machine, "plt cache-img");
    assert!(!lines.contains('\u{1b}') && lines.contains(": in the cache"), "{lines:?}");
}

#[test]
fn progress_is_lines_or_json_and_goes_to_standard_error() {
    let (machine, _registry) = scene();
    let ran = machine.run("plt cache-img --progress plain");
    ran.assert_success();
    assert_eq!(ran.stderr.lines().filter(|line| line.ends_with(": fetched")).count(), 4, "{ran}");
    let ran = machine.run("plt cache-img --progress json");
    let events = ran.stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let done: Vec<_> = events.filter(|event| event["event"] == "image-done").collect();
    assert_eq!(done.len(), 4, "{ran}");
    assert!(done.iter().all(|event| event["cached"] == true), "{ran}");
    let ran = machine.run("plt cache-img --quiet");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

#[test]
fn a_cache_that_cannot_be_written_is_enough_where_everything_is_there() {
    let (_, registry) = scene();
    let machine = Machine::unprivileged();
    let references = crate::machine::pins(&registry, small_set());
    machine.run(&format!("cache add-img {}", references[0])).assert_success();
    let cache = machine.sandbox.cache();
    let run = |mode: &str, words: &str| {
        machine.run_other("/usr/bin/chmod", &["-R", mode, &cache.display().to_string()]).assert_success();
        machine.run(words)
    };
    let ran = run("a-w", &format!("cache add-img {}", references[0]));
    ran.assert_success();
    assert!(ran.stderr.contains("cannot be written"), "{ran}");
    let ran = run("a-w", &format!("cache add-img {}", references[1]));
    ran.assert_code(1);
    assert!(ran.stderr.contains("no permission"), "{ran}");
    run("u+w", &format!("cache add-img {}", references[1])).assert_success();
}

#[test]
fn refresh_asks_what_a_tag_means_now() {
    let (_, registry) = scene();
    let machine = Machine::new();
    let reference = format!("{}/acme/one:1", registry.host());
    let digest = |words: &str| {
        let (ran, document) = machine.json(words);
        ran.assert_success();
        document["images"][0]["digest"].as_str().unwrap().to_owned()
    };
    let before = digest(&format!("cache add-img {reference}"));
    let other = &small_set().images[1];
    let mut moved = other.clone();
    moved.name = small_set().images[0].name.clone();
    registry.publish(&moved);
    assert_eq!(digest(&format!("cache add-img {reference}")), before);
    let after = digest(&format!("cache add-img --refresh {reference}"));
    assert_eq!(after, other.top.digest.to_string());
}
