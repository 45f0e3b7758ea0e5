//! The same job on engines that keep digests: Docker 28's containerd store and Podman. And on 28's graph driver.

use palletjack_testkit::Ran;
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, Part, Podman, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::Machine;
use crate::main_job::states;

/// A machine whose cache has the standard pallet's images, one of which has zstd layers.
fn filled() -> (Machine, ImageSet) {
    let machine = Machine::new();
    let set = machine.standard_pallet(&Shape::small());
    let registry = Registry::start().unwrap();
    registry.publish_all(&set);
    machine.mirror(&registry.url());
    machine.run("plt cache-img").assert_success();
    (machine, set)
}

/// Loads the pallet; every image is then there, and `exact` tells whether by its pin. Loads again: nothing is sent.
fn load(machine: &Machine, exact: bool) {
    let (ran, document) = machine.json("plt load-img");
    ran.assert_success();
    assert_eq!(states(&document, "loaded"), 13, "{ran}");
    for image in document["images"].as_array().unwrap() {
        assert_eq!(image["resolves"], exact, "{image}");
    }
    let (ran, document) = machine.json("plt load-img");
    ran.assert_success();
    assert_eq!(states(&document, "present"), 13, "{ran}");
    assert!(document["images"].as_array().unwrap().iter().all(|image| image["sent"] == 0), "{ran}");
}

/// A container of each image can be created without a network.
fn assert_runs(set: &ImageSet, by_pin: bool, create: impl Fn(&str) -> Ran) {
    for image in &set.images {
        create(&image.tagged()).assert_success();
        let pinned = create(&image.pinned());
        assert_eq!(pinned.success(), by_pin, "{pinned}");
    }
}

#[test]
fn docker_28s_containerd_store_resolves_the_very_pins() {
    require_real!(Part::Docker28);
    let (mut machine, set) = filled();
    let engine = Dockerd::forky(Store::Containerd).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    load(&machine, true);
    let docker = engine.docker().unwrap();
    assert_runs(&set, true, |reference| docker.create_never(reference).unwrap());
    let tags = docker.tags().unwrap();
    assert!(!tags.iter().any(|tag| tag.contains("moby-dangling")), "{tags:?}");
}

#[test]
fn docker_28s_graph_driver_runs_them_by_tag() {
    require_real!(Part::Docker28);
    let (mut machine, set) = filled();
    let engine = Dockerd::forky(Store::GraphDriver).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    load(&machine, false);
    let docker = engine.docker().unwrap();
    assert_runs(&set, false, |reference| docker.create_never(reference).unwrap());
}

#[test]
fn podman_resolves_the_very_pins() {
    require_real!(Part::Podman);
    let (mut machine, set) = filled();
    let engine = Podman::start().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    load(&machine, true);
    assert_runs(&set, true, |reference| engine.create_never(reference).unwrap());
}
