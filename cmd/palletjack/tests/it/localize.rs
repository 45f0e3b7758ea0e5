//! Staged bundles whose Compose files name images by IDs, on a real Docker that keeps no digests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use palletjack_testkit::image::{Image, ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, Forky, Part, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::Machine;
use crate::main_job::states;

const RECORD: &str = ".palletjack-localized.json";

/// A machine whose current bundle needs the first two images, and the next one the last two; all are in its cache.
struct Scene {
    machine: Machine,
    images: Vec<Image>,
}

impl Scene {
    fn new() -> Self {
        let (machine, registry) = (Machine::new(), Registry::start().unwrap());
        machine.mirror(&registry.url());
        crate::resolve::write_stages(&machine, "  next: 2\n  history: [1]\n", "v0.8.0");
        let names = ["acme/one:1", "acme/two:1", "ghcr.io/acme/three:1"];
        let images = ImageSet::build(&names, &Shape::small()).unwrap();
        registry.publish_all(&images);
        let scene = Self { machine, images: images.images };
        for (index, of) in [(1, [0, 1]), (2, [1, 2])] {
            let [a, b] = of.map(|i: usize| scene.images[i].pinned());
            let compose = format!(
                "# What this bundle runs.\nservices:\n  a:\n    image: {a} # pinned\n    network_mode: none\n  b:\n    \
                 image: '{b}'\n    network_mode: none\n"
            );
            fs::write(scene.compose(index), compose).unwrap();
        }
        scene.machine.run("stage cache-img").assert_success();
        scene
    }

    fn bundle(&self, index: u64) -> PathBuf {
        self.machine.sandbox.stage_store().join(index.to_string())
    }

    fn compose(&self, index: u64) -> PathBuf {
        self.bundle(index).join("packages/packages/web/compose.yml")
    }

    fn id(&self, image: usize) -> String {
        self.images[image].platform("linux/amd64").unwrap().config.to_string()
    }

    /// The Compose files of both bundles.
    fn texts(&self) -> [String; 2] {
        [1, 2].map(|index| fs::read_to_string(self.compose(index)).unwrap())
    }
}

fn with_ids(scene: &Scene, texts: &[String; 2]) -> [String; 2] {
    texts.clone().map(|text| {
        let named = |text: String, image: usize| {
            let (pin, id) = (scene.images[image].pinned(), scene.id(image));
            text.replace(&format!("'{pin}'"), &format!("\"{id}\"")).replace(&pin, &format!("\"{id}\""))
        };
        (0..3).fold(text, named)
    })
}

#[test]
fn a_localized_bundle_runs_by_ids_and_is_put_back() {
    require_real!(Part::Docker20, Part::Docker28);
    let mut scene = Scene::new();
    let staged = scene.texts();
    let listed = scene.machine.run("stage ls-img").stdout;
    let engine = Dockerd::debian().unwrap();
    scene.machine.set("DOCKER_HOST", engine.host());
    let machine = &scene.machine;

    machine.run("stage load-img").assert_code(5);
    machine.run("stage status").assert_code(3);
    let ran = machine.run("stage load-img --localize");
    ran.assert_success();
    assert!(ran.stderr.contains("bundle 1: 2 images are named by their IDs"), "{ran}");
    assert_eq!(scene.texts(), with_ids(&scene, &staged));

    // What the device needs is what it was; that it runs offline is judged by the IDs.
    assert_eq!(machine.run("stage ls-img").stdout, listed);
    machine.run("stage cache-img --offline").assert_success();
    let (ran, document) = machine.json("stage status");
    ran.assert_success();
    assert!(document["images"].as_array().unwrap().iter().all(|image| image["state"] == "runs"), "{ran}");
    let (ran, document) = machine.json("stage load-img");
    ran.assert_success();
    assert_eq!(states(&document, "present"), 3);
    for image in document["images"].as_array().unwrap() {
        assert_eq!((&image["resolves"], &image["runs_offline"]), (&false.into(), &true.into()), "{image}");
    }

    // Another run changes nothing; Compose creates what it names, without a network.
    let record = fs::read(scene.bundle(2).join(RECORD)).unwrap();
    machine.run("stage load-img --localize").assert_success();
    assert_eq!(fs::read(scene.bundle(2).join(RECORD)).unwrap(), record);
    let docker = engine.docker().unwrap();
    for image in 0..3 {
        docker.create_never(&scene.id(image)).unwrap().assert_success();
    }
    let forky = Forky::install().unwrap();
    let directory = scene.bundle(2).join("packages/packages/web");
    let compose = |args: &[&str]| engine.compose(&forky, &directory, args).unwrap();
    compose(&["-p", "web", "create", "--pull", "never"]).assert_success();
    compose(&["-p", "web", "rm", "-f"]).assert_success();

    // An image that goes is missed under its ID.
    docker.run(&["rmi", "-f", &scene.id(2)]).unwrap().assert_success();
    machine.run("stage status").assert_code(3);
    machine.run("stage load-img").assert_success();

    let ran = machine.run("stage delocalize");
    ran.assert_success();
    assert_eq!(scene.texts(), staged);
    assert!(!scene.bundle(1).join(RECORD).exists() && !scene.bundle(2).join(RECORD).exists());
    machine.run("stage delocalize").assert_success();
    compose(&["-p", "web", "create", "--pull", "never"]).assert_code(1);
    machine.run("stage status").assert_code(3);
}

#[test]
fn ids_of_another_engine_are_noticed_and_replaced() {
    require_real!(Part::Docker20, Part::Docker28);
    let mut scene = Scene::new();
    let staged = scene.texts();
    let graph = Dockerd::debian().unwrap();
    scene.machine.set("DOCKER_HOST", graph.host());
    scene.machine.run("stage load-img --localize").assert_success();

    // Docker with the containerd store knows pins, and calls images otherwise.
    let containerd = Dockerd::forky(Store::Containerd).unwrap();
    scene.machine.set("DOCKER_HOST", containerd.host());
    let machine = &scene.machine;
    let ran = machine.run("stage load-img");
    ran.assert_code(5);
    assert!(ran.stderr.contains("by IDs that are not theirs in this engine"), "{ran}");
    assert!(
        ran.stderr.contains("stage load-img --localize") && !ran.stderr.contains("each runs as"),
        "{ran}"
    );
    let ran = machine.run("stage status");
    ran.assert_code(3);
    assert!(ran.stdout.contains("which is not its ID in this engine"), "{ran}");
    assert!(ran.stderr.contains("stage delocalize") && !ran.stderr.contains("`cache-img` fetches"), "{ran}");
    machine.run("stage load-img --localize").assert_success();
    assert_eq!(scene.texts(), staged, "all pins resolve there, so there is nothing to name otherwise");
    machine.run("stage status").assert_success();
}

fn refused(scene: &Scene, texts: &[&str]) {
    let before = [1, 2].map(|index| listing(&scene.bundle(index)));
    let ran = scene.machine.run("stage load-img --localize");
    assert!(!ran.success(), "{ran}");
    for text in texts {
        assert!(ran.stderr.contains(text), "{text}: {ran}");
    }
    assert_eq!([1, 2].map(|index| listing(&scene.bundle(index))), before, "{ran}");
}

/// All files of a directory, with what is in them.
fn listing(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn where_one_bundle_cannot_be_rewritten_none_is() {
    require_real!(Part::Docker20, Part::LoopMounts);
    let mut scene = Scene::new();
    let engine = Dockerd::debian().unwrap();
    scene.machine.set("DOCKER_HOST", engine.host());
    let good = fs::read_to_string(scene.compose(2)).unwrap();
    let pin = scene.images[2].pinned();
    fs::write(scene.compose(2), good.replace(&format!("'{pin}'"), &format!(">-\n      {pin}"))).unwrap();
    refused(&scene, &["bundle 2", "web/compose.yml:7:", "written as a block"]);

    fs::write(scene.compose(2), &good).unwrap();
    scene.machine.run("stage load-img --localize").assert_success();
    let localized = fs::read_to_string(scene.compose(1)).unwrap();
    fs::write(scene.compose(1), "services: {}\n").unwrap();
    refused(&scene, &["web/compose.yml", "was changed"]);
    // One bundle that cannot be put back does not keep the other from it.
    let ran = scene.machine.run("stage delocalize");
    ran.assert_code(1);
    assert!(ran.stderr.contains("bundle 1") && ran.stderr.contains("was changed"), "{ran}");
    assert_eq!(fs::read_to_string(scene.compose(2)).unwrap(), good);
    fs::write(scene.compose(1), localized).unwrap();
    scene.machine.run("stage delocalize 1").assert_success();

    // A bundle on a medium that cannot be written, even by root.
    let bundle = scene.bundle(2);
    let mount = |program: &str, args: &[&str]| {
        assert!(Command::new(program).args(args).arg(&bundle).status().unwrap().success());
    };
    mount("mount", &["-o", "bind,ro", bundle.to_str().unwrap()]);
    let ran = scene.machine.run("stage load-img next --localize");
    mount("umount", &[]);
    ran.assert_code(5);
    assert!(ran.stderr.contains("no Compose file was changed"), "{ran}");
    assert_eq!(fs::read_to_string(scene.compose(2)).unwrap(), good);
}
