//! `status` on real engines: what would run offline, and what is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, Part, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use serde_json::Value;

use crate::machine::{Machine, own_layer};

fn machine(registry: &Registry, host: &str) -> Machine {
    let mut machine = Machine::new();
    let set = ImageSet::build(&["acme/one:1", "acme/two:2", "acme/three:3"], &Shape::small()).unwrap();
    machine.pallet_in(registry, &set);
    machine.set("DOCKER_HOST", host);
    machine
}

/// The state of each image, in the order of the list.
fn states(document: &Value) -> Vec<&str> {
    assert_eq!(document["schema"], "palletjack.status/1");
    document["images"].as_array().unwrap().iter().map(|image| image["state"].as_str().unwrap()).collect()
}

/// All files below a directory whose path ends with this, wherever an engine keeps them.
fn find(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(find(&path, ending)),
            Ok(kind) if kind.is_file() && path.ends_with(ending) => found.push(path),
            _ => {}
        }
    }
    found
}

#[test]
fn status_tells_what_would_run_and_deep_what_is_damaged_and_repair_mends_it() {
    require_real!(Part::Docker28);
    let (registry, engine) = (Registry::start().unwrap(), Dockerd::forky(Store::Containerd).unwrap());
    let machine = machine(&registry, &engine.host());
    let (ran, document) = machine.json("plt status");
    ran.assert_code(3);
    assert_eq!(states(&document), ["missing"; 3]);
    assert!(ran.stderr.contains("3 of 3 would not run offline now"), "{ran}");

    machine.run("plt cache-img").assert_success();
    let (ran, document) = machine.json("plt status");
    ran.assert_code(3);
    assert_eq!(states(&document), ["cached"; 3]);
    assert_eq!(document["images"][0]["required_by"][0], "app-0");

    let (ran, document) = machine.json("plt load-img");
    ran.assert_success();
    assert_eq!(document["durability"]["protected"], true);
    let durable = document["durability"]["images"].as_array().unwrap();
    assert!(durable.len() == 3 && durable.iter().all(|image| image["durability"] == "synced"), "{ran}");
    registry.clear_requests();
    for words in ["plt status", "plt status --deep", "cache status"] {
        let (ran, document) = machine.json(words);
        ran.assert_success();
        assert_eq!(states(&document), ["runs"; 3], "{words}");
        assert_eq!(document["runs_offline"], true);
    }
    assert_eq!(registry.requests().len(), 0, "status never uses the network");
    let ran = machine.run("cache status acme/absent:1");
    ran.assert_code(3);
    assert!(ran.stdout.starts_with("missing  acme/absent:1"), "{ran}");

    // What a power cut does: the engine sees no difference.
    let files = find(&engine.data_root(), "opt/own.bin");
    assert_eq!(files.len(), 3, "{files:?}");
    fs::write(&files[0], "").unwrap();
    machine.run("plt status").assert_success();
    let (ran, document) = machine.json("plt status --deep");
    ran.assert_code(6);
    let mut seen = states(&document);
    seen.sort_unstable();
    assert_eq!(seen, ["damaged", "runs", "runs"]);
    let damaged = document["images"].as_array().unwrap().iter().find(|image| image["state"] == "damaged");
    let damaged = damaged.unwrap();
    assert_eq!(damaged["different"], 1);
    assert!(
        damaged["note"].as_str().unwrap().starts_with("/opt/own.bin has 0 bytes instead of"),
        "{damaged}"
    );
    let name = damaged["reference"].as_str().unwrap();

    // An ordinary load believes the engine; this one does not, and touches only what is damaged.
    let (ran, document) = machine.json("plt load-img");
    ran.assert_success();
    assert!(document["images"].as_array().unwrap().iter().all(|image| image["state"] == "present"), "{ran}");
    let (ran, document) = machine.json("plt load-img --repair");
    ran.assert_success();
    for image in document["images"].as_array().unwrap() {
        let expected = if image["reference"] == name { "loaded" } else { "present" };
        assert_eq!(image["state"], expected, "{ran}");
    }
    let repaired = document["durability"]["checked"].as_array().unwrap();
    assert_eq!(repaired.iter().filter(|image| image["outcome"] == "repaired").count(), 1, "{ran}");
    machine.run("plt status --deep").assert_success();
    let docker = engine.docker().unwrap();
    assert_eq!(docker.run(&["ps", "--all", "--quiet"]).unwrap().ok().unwrap(), "");
}

#[test]
fn an_image_for_another_processor_does_not_run() {
    require_real!(Part::Docker20);
    let (registry, engine) = (Registry::start().unwrap(), Dockerd::debian().unwrap());
    let machine = machine(&registry, &engine.host());
    let other = if std::env::consts::ARCH == "aarch64" { "linux/amd64" } else { "linux/arm64" };
    let name = format!("{}/acme/one:1", registry.host());
    for verb in ["add-img", "load-img"] {
        machine.run(&format!("--platform {other} cache {verb} {name}")).assert_success();
    }
    machine.run(&format!("--platform {other} cache status {name}")).assert_success();
    let (ran, document) = machine.json(&format!("cache status {name}"));
    ran.assert_code(3);
    assert_eq!(states(&document), ["missing"]);
    let note = document["images"][0]["note"].as_str().unwrap();
    assert!(note.starts_with(&format!("the engine has it for {other}, which is not linux/")), "{note}");
}

#[test]
fn what_the_cache_cannot_show_does_not_hide_the_other_images() {
    require_real!(Part::Docker28);
    let (registry, engine) = (Registry::start().unwrap(), Dockerd::forky(Store::Containerd).unwrap());
    let mut machine = Machine::new();
    let set = ImageSet::build(&["acme/one:1", "acme/two:2", "acme/three:3"], &Shape::small()).unwrap();
    machine.pallet_in(&registry, &set);
    machine.set("DOCKER_HOST", engine.host());
    machine.run("plt cache-img").assert_success();
    machine.run("plt load-img").assert_success();
    machine.damage(&own_layer(&set, 1).digest);
    let (ran, document) = machine.json("plt status --deep");
    ran.assert_code(6);
    assert_eq!(states(&document), ["runs"; 3]);
    let compared = |image: &&Value| image["alike"].is_u64();
    let images = document["images"].as_array().unwrap();
    assert_eq!(images.iter().filter(compared).count(), 2, "{ran}");
    let other = images.iter().find(|image| !compared(image)).unwrap();
    assert!(other["reference"].as_str().unwrap().contains("acme/two:2"), "{other}");
    let note = other["note"].as_str().unwrap();
    assert!(note.starts_with("its files were not compared: layer sha256:"), "{note}");
    assert!(
        ran.stderr.contains("1 of 3 could not be compared") && ran.stderr.contains("cache verify"),
        "{ran}"
    );
}

#[test]
fn a_pin_that_a_graph_driver_does_not_resolve_would_not_run() {
    require_real!(Part::Docker20);
    let (registry, engine) = (Registry::start().unwrap(), Dockerd::debian().unwrap());
    let machine = machine(&registry, &engine.host());
    machine.run("plt cache-img").assert_success();
    machine.run("plt load-img");
    let (ran, document) = machine.json("plt status --deep");
    ran.assert_code(3);
    assert_eq!(states(&document), ["unnamed"; 3]);
    let image = &document["images"][0];
    assert!(image["note"].as_str().unwrap().starts_with("the engine knows it as "), "{image}");
    assert_eq!(image["different"], 0);
    // By the name that it has it runs.
    let reference = image["reference"].as_str().unwrap();
    let (tagged, _) = reference.split_once('@').unwrap();
    let (ran, document) = machine.json(&format!("cache status {tagged}"));
    ran.assert_success();
    assert_eq!((states(&document), &document["images"][0]["cached"]), (vec!["runs"], &Value::Bool(false)));
}
