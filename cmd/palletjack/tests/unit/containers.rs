//! A device's storage has its containers: what is brought into it before Docker starts leaves them alone.

use std::fs;
use std::path::Path;

use palletjack_testkit::image::{Image, ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::Machine;

/// How often the containers of a data root were started, by what they said.
fn starts(data_root: &Path) -> usize {
    let count = |path: &Path| fs::read_to_string(path).unwrap_or_default().matches("it runs").count();
    let containers = fs::read_dir(data_root.join("containers")).unwrap().map(|entry| entry.unwrap().path());
    containers
        .flat_map(|container| fs::read_dir(container).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.to_string_lossy().ends_with("-json.log"))
        .map(|path| count(&path))
        .sum()
}

fn are_left_alone(start: impl Fn(DockerdOptions) -> Dockerd, store: &str) {
    let (mut machine, registry) = (Machine::new(), Registry::start().unwrap());
    let names = ["one:1", "two:2"].map(|name| format!("ghcr.io/acme/{name}"));
    let set = ImageSet::build(&names, &Shape { zstd: false, stays: true, ..Shape::small() }).unwrap();
    registry.publish_all(&set);
    machine.mirror(&registry.url());
    let [one, two] = [&set.images[0], &set.images[1]].map(Image::pinned);
    machine.run(&format!("cache add-img {one} {two}")).assert_success();

    let data_root = machine.sandbox.root().join("docker");
    let mut engine =
        start(DockerdOptions { data_root: Some(data_root.clone()), ..DockerdOptions::default() });
    machine.set("DOCKER_HOST", engine.host());
    machine.run(&format!("cache load-img {one}"));
    let docker = engine.docker().unwrap();
    let run = ["run", "--detach", "--restart", "always", "--network", "none", "--pull", "never"];
    let container = docker.run(&[&run[..], &[&set.images[0].tagged()]].concat()).unwrap().ok().unwrap();
    let said = |_: &usize| docker.run(&["logs", container.trim()]).unwrap().stdout.contains("it runs");
    assert!((0..1000).any(|attempt| said(&attempt)), "it does not run");
    engine.stop();
    assert_eq!(starts(&data_root), 1);

    let root = data_root.to_str().unwrap();
    let containerd = data_root.join("private-containerd");
    machine
        .run_args(&[
            "seed",
            "--data-root",
            root,
            "--store",
            store,
            "--containerd-root",
            containerd.to_str().unwrap(),
            &two,
        ])
        .assert_success();
    assert_eq!(starts(&data_root), 1, "a private engine started what is the device's");

    engine.start_again().unwrap();
    let docker = engine.docker().unwrap();
    docker.create_never(&two).unwrap().assert_success();
    let running = docker.run(&["ps", "--quiet", "--no-trunc"]).unwrap().ok().unwrap();
    assert_eq!(running.trim(), container.trim());
}

#[test]
fn a_graph_drivers_are() {
    require_real!(Part::Docker20);
    are_left_alone(|options| Dockerd::debian_with(options).unwrap(), "graph");
}
