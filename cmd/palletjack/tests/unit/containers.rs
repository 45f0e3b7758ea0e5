//! A device's storage has its containers: what is brought into it before Docker starts leaves them alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use palletjack_testkit::image::{Image, ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Forky, Part, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::Machine;

/// Every file that a data root has of its containers.
fn containers(data_root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![data_root.join("containers")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

fn are_left_alone(start: impl Fn(DockerdOptions) -> Dockerd, store: &str, programs: &[PathBuf]) {
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
    let before = containers(&data_root);
    assert!(before.values().any(|text| String::from_utf8_lossy(text).contains("it runs")));

    let root = data_root.to_str().unwrap();
    let containerd = data_root.join("private-containerd");
    let mut words = vec!["seed", "--data-root", root, "--store", store, &two];
    if store == "containerd" {
        words.extend(["--containerd-root", containerd.to_str().unwrap()]);
    }
    words.extend(programs.iter().flat_map(|place| ["--engine-path", place.to_str().unwrap()]));
    machine.run_args(&words).assert_success();
    let after = containers(&data_root);
    let names: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "a private engine did something with what is the device's: {changed:?}");

    engine.start_again().unwrap();
    let docker = engine.docker().unwrap();
    docker.create_never(&two).unwrap().assert_success();
    let running = docker.run(&["ps", "--quiet", "--no-trunc"]).unwrap().ok().unwrap();
    assert_eq!(running.trim(), container.trim());
}

#[test]
fn a_graph_drivers_are() {
    require_real!(Part::Docker20);
    are_left_alone(|options| Dockerd::debian_with(options).unwrap(), "graph", &[]);
}

#[test]
fn a_containerd_stores_are() {
    require_real!(Part::Docker28);
    let forky = Forky::install().unwrap();
    let programs = ["docker/usr/sbin", "docker/usr/bin"].map(|place| forky.directory().join(place));
    let start = |options| Dockerd::forky_with(Store::Containerd, options).unwrap();
    are_left_alone(start, "containerd", &programs);
}
