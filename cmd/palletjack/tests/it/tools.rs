//! Other people's tools on the cache directory itself: skopeo reads it, `tar | docker load` loads it.

use std::path::Path;
use std::process::{Command, Stdio};

use palletjack_testkit::Ran;
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{DockerCli, Dockerd, Part, Skopeo, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::{Machine, read_json};
use crate::main_job::{gzip, is_zstd};

/// A machine whose cache has the standard pallet's images.
fn filled(shape: &Shape) -> (Machine, ImageSet, Registry) {
    let machine = Machine::new();
    let set = machine.standard_pallet(shape);
    let registry = Registry::start().unwrap();
    registry.publish_all(&set);
    machine.mirror(&registry.url());
    machine.run("plt cache-img").assert_success();
    (machine, set, registry)
}

/// skopeo reads this image of the cache and copies it out, and it is the right one.
fn reads(skopeo: &Skopeo, machine: &Machine, set: &ImageSet, reference: &str) {
    let from = format!("oci:{}:{reference}", machine.layout().display());
    let amd64 = |args: &[&str]| {
        let args: Vec<&str> =
            ["--override-os", "linux", "--override-arch", "amd64"].iter().chain(args).copied().collect();
        let ran = skopeo.run(&args).unwrap();
        ran.assert_success();
        ran.stdout
    };
    let inspected: serde_json::Value = serde_json::from_str(&amd64(&["inspect", &from])).unwrap();
    let image = set.images.iter().find(|image| image.pinned() == reference).unwrap();
    let layers: Vec<String> =
        image.platform("linux/amd64").unwrap().layers.iter().map(|layer| layer.digest.to_string()).collect();
    assert_eq!(crate::machine::strings(&inspected["Layers"]), layers, "{reference}");
    assert_eq!(skopeo.raw_manifest(&from).unwrap().as_bytes(), image.top.bytes, "{reference}");
    let copy = machine.sandbox.root().join("copy");
    amd64(&["copy", "--quiet", &from, &format!("dir:{}", copy.display())]);
    for layer in layers {
        assert!(
            copy.join(layer.trim_start_matches("sha256:")).is_file(),
            "{layer} of {reference} is not in the copy"
        );
    }
    std::fs::remove_dir_all(copy).unwrap();
}

#[test]
fn todays_skopeo_reads_every_image() {
    require_real!(Part::Skopeo122);
    let (machine, set, _registry) = filled(&Shape::small());
    let skopeo = Skopeo::forky().unwrap();
    let names = machine.names_in_layout();
    assert_eq!(names.len(), 13);
    for (name, _) in names {
        reads(&skopeo, &machine, &set, &name);
    }
}

#[test]
fn debian_12s_skopeo_reads_images_of_oci_type() {
    require_real!(Part::Skopeo);
    let (machine, set, _registry) = filled(&Shape::small());
    let skopeo = Skopeo::debian().unwrap();
    let names = machine.names_in_layout();
    let (oci, docker): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|(_, media_type)| media_type.starts_with("application/vnd.oci."));
    assert!(!oci.is_empty() && !docker.is_empty());
    for (name, _) in oci {
        reads(&skopeo, &machine, &set, &name);
    }
}

/// `tar -C <cache>/docker-archives -c . | docker load`.
fn load_directory(docker: &DockerCli, layout: &Path) -> Ran {
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(layout)
        .args(["-c", "."])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ran = docker.load(tar.stdout.take().unwrap()).unwrap();
    // It may have been cut off by a `docker` that had seen enough.
    tar.wait().unwrap();
    ran
}

#[test]
fn the_directory_itself_is_an_archive_for_docker_20() {
    require_real!(Part::Docker20);
    let (machine, set, _registry) = filled(&gzip());
    let engine = Dockerd::debian().unwrap();
    let docker = engine.docker().unwrap();
    load_directory(&docker, &machine.layout()).assert_success();
    for image in &set.images {
        docker.create_never(&image.tagged()).unwrap().assert_success();
    }
}

#[test]
fn docker_20_loads_all_it_can_read_before_it_fails_by_name() {
    require_real!(Part::Docker20);
    let (machine, set, _registry) = filled(&Shape::small());
    let zstd = set.images.iter().find(|image| is_zstd(image)).unwrap();
    let manifest = read_json(&machine.layout().join("manifest.json"));
    let last = manifest.as_array().unwrap().last().unwrap();
    assert_eq!(last["RepoTags"][0], zstd.tagged(), "what some engines cannot read comes last");

    let engine = Dockerd::debian().unwrap();
    let docker = engine.docker().unwrap();
    let ran = load_directory(&docker, &machine.layout());
    assert!(!ran.success() && ran.stderr.contains("invalid tar header"), "{ran}");
    let tags = docker.tags().unwrap();
    assert_eq!(tags.len(), 12, "{tags:?}");
    for image in set.images.iter().filter(|image| !is_zstd(image)) {
        docker.create_never(&image.tagged()).unwrap().assert_success();
    }
}

#[test]
fn the_directory_itself_is_an_archive_for_docker_28() {
    require_real!(Part::Docker28);
    let (machine, set, _registry) = filled(&Shape::small());
    let engine = Dockerd::forky(Store::Containerd).unwrap();
    let docker = engine.docker().unwrap();
    load_directory(&docker, &machine.layout()).assert_success();
    for image in &set.images {
        docker.create_never(&image.tagged()).unwrap().assert_success();
    }
}

/// With two platforms of one tag in the cache, the tag is the main platform's, which is the one the cache was made for.
#[test]
fn a_tag_is_the_main_platforms() {
    require_real!(Part::Docker20);
    for (main, other, expected) in
        [("linux/amd64", "linux/arm64", "amd64"), ("linux/arm64", "linux/amd64", "arm64")]
    {
        let mut machine = Machine::new();
        machine.unset("PALLETJACK_PLATFORM");
        // The second image is one that only the other platform is fetched of.
        let set = ImageSet::build(&["example.com/acme/one:1", "example.com/acme/two:2"], &gzip()).unwrap();
        let registry = Registry::start().unwrap();
        registry.publish_all(&set);
        let [one, two] =
            [0, 1].map(|i| format!("{}/{}:{}", registry.host(), set.images[i].name.repository, i + 1));
        machine.run(&format!("cache add-img --platform {main} {one}")).assert_success();
        machine.run(&format!("cache add-img --platform {other} {one} {two}")).assert_success();
        machine.assert_verified(3);

        let engine = Dockerd::debian().unwrap();
        let docker = engine.docker().unwrap();
        load_directory(&docker, &machine.layout()).assert_success();
        let architecture = |name: &str| docker.inspect(name).unwrap().unwrap()["Architecture"].clone();
        assert_eq!(architecture(&one), expected, "{main} first");
        assert_eq!(architecture(&two), other.trim_start_matches("linux/"), "only there for {other}");
    }
}
