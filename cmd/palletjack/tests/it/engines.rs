//! The same job on engines that keep digests: Docker 28's containerd store and Podman. And on 28's graph driver.

use palletjack_testkit::Ran;
use palletjack_testkit::image::{Image, ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, Part, Podman, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::{Machine, assert_loaded};
use crate::main_job::{gzip, states};

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
    ran.assert_code(if exact { 0 } else { 5 });
    assert_eq!(states(&document, "loaded"), 13, "{ran}");
    for image in document["images"].as_array().unwrap() {
        assert_eq!(image["resolves"], exact, "{image}");
    }
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(if exact { 0 } else { 5 });
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

/// Pins of one tag that two bundles need, the current one's first.
fn two_pins() -> (Machine, [Image; 2]) {
    let machine = Machine::new();
    let registry = Registry::start().unwrap();
    machine.mirror(&registry.url());
    crate::resolve::write_stages(&machine, "  next: 2\n  history: [1]\n", "v0.8.0");
    // The same tag of one repository, at two times.
    let set = ImageSet::build(&["acme/app:1", "acme/app:2"], &gzip()).unwrap();
    registry.publish_all(&set);
    let images = [0, 1].map(|i| {
        let mut image = set.images[i].clone();
        image.name.tag = Some("1".to_owned());
        let compose = format!("services:\n  app:\n    image: {}\n", image.pinned());
        let bundle = machine.sandbox.stage_store().join((i + 1).to_string());
        std::fs::write(bundle.join("packages/packages/web/compose.yml"), compose).unwrap();
        image
    });
    machine.run("stage cache-img").assert_success();
    machine.assert_verified(2);
    (machine, images)
}

/// Loads what both bundles need. The tag is the next bundle's, whichever was loaded last.
fn load_two_pins(machine: &Machine) {
    for again in [false, true] {
        let (ran, document) = machine.json("stage load-img");
        assert_loaded(&ran);
        let state = if again { "present" } else { "loaded" };
        assert_eq!(states(&document, state), 2, "{ran}");
    }
}

#[test]
fn two_pins_of_one_tag_both_run_on_docker_28s_containerd_store() {
    require_real!(Part::Docker28);
    let (mut machine, [current, next]) = two_pins();
    let engine = Dockerd::forky(Store::Containerd).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    load_two_pins(&machine);
    let docker = engine.docker().unwrap();
    for pin in [current.pinned(), next.pinned(), next.tagged()] {
        docker.create_never(&pin).unwrap().assert_success();
    }
    let id = docker.inspect(&next.tagged()).unwrap().unwrap()["Id"].clone();
    assert_eq!(id, next.top.digest.to_string(), "the tag is the next bundle's");
}

#[test]
fn two_pins_of_one_tag_both_run_on_podman() {
    require_real!(Part::Podman);
    let (mut machine, [current, next]) = two_pins();
    let engine = Podman::start().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    load_two_pins(&machine);
    for pin in [current.pinned(), next.pinned(), next.tagged()] {
        engine.create_never(&pin).unwrap().assert_success();
    }
    let id = engine.run(&["image", "inspect", "--format", "{{.Id}}", &next.tagged()]).unwrap();
    let config = next.platform("linux/amd64").unwrap().config.to_string();
    assert_eq!(id.stdout.trim(), config.trim_start_matches("sha256:"), "the tag is the next bundle's");
}

#[test]
fn the_tag_is_the_next_bundles_on_docker_20() {
    require_real!(Part::Docker20);
    let (mut machine, [current, next]) = two_pins();
    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    load_two_pins(&machine);
    let docker = engine.docker().unwrap();
    let id = docker.inspect(&next.tagged()).unwrap().unwrap()["Id"].clone();
    assert_eq!(id, next.platform("linux/amd64").unwrap().config.to_string());
    let current = current.platform("linux/amd64").unwrap().config.to_string();
    docker.create_never(&current).unwrap().assert_success();
}

/// A machine whose cache has an image that is named by its digest alone.
fn digest_alone() -> (Machine, Image) {
    let machine = Machine::new();
    let registry = Registry::start().unwrap();
    machine.mirror(&registry.url());
    let mut image = ImageSet::build(&["acme/app:1"], &gzip()).unwrap().images.remove(0);
    registry.publish(&image);
    image.name.tag = None;
    machine.run(&format!("cache add-img {}", by_digest(&image))).assert_success();
    (machine, image)
}

fn by_digest(image: &Image) -> String {
    format!("{}@{}", image.name.full(), image.top.digest)
}

/// Loads it twice, and says under which name it runs.
fn load_digest_alone(machine: &Machine) -> String {
    let (ran, document) = machine.json("cache load-img");
    assert_loaded(&ran);
    assert_eq!(states(&document, "loaded"), 1, "{ran}");
    let (ran, document) = machine.json("cache load-img");
    assert_loaded(&ran);
    assert_eq!(states(&document, "present"), 1, "{ran}");
    document["images"][0]["runs_as"].as_str().unwrap().to_owned()
}

#[test]
fn an_image_without_a_tag_runs_on_every_engine() {
    require_real!(Part::Docker20, Part::Docker28, Part::Podman);
    let (mut machine, image) = digest_alone();
    for engine in [Dockerd::debian().unwrap(), Dockerd::forky(Store::Containerd).unwrap()] {
        machine.set("DOCKER_HOST", engine.host());
        let runs_as = load_digest_alone(&machine);
        engine.docker().unwrap().create_never(&runs_as).unwrap().assert_success();
    }
    let podman = Podman::start().unwrap();
    machine.set("DOCKER_HOST", podman.host());
    load_digest_alone(&machine);
    podman.create_never(&by_digest(&image)).unwrap().assert_success();
}
