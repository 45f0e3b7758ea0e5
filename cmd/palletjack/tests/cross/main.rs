//! The program for the device's processor, built here and run by QEMU.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(dead_code, reason = "the machine is made for other tests as well")]

#[path = "../it/machine.rs"]
mod machine;

use std::path::PathBuf;
use std::sync::OnceLock;

use palletjack_testkit::Ran;
use palletjack_testkit::image::{Image, ImageSet};
use palletjack_testkit::real::{Cross, DockerRegistry, Dockerd, GLIBC, Part, Target, push_all};
use palletjack_testkit::require_real;
use serde_json::Value;
use tempfile::TempDir;

use crate::machine::{Machine, project, strings};

const TARGET: Target = Target::Aarch64;
const PLATFORM: &str = "linux/arm64/v8";
/// All kinds of manifests are among them, and one image with zstd layers.
const NAMES: [&str; 6] = [
    "docker.io/library/caddy:2.6.2",
    "ghcr.io/acme/device-portal:0.2.3",
    "docker.io/library/only-for-amd64:1",
    "docker.io/amir20/dozzle:v8.6.2",
    "docker.io/filebrowser/filebrowser:v2.30.0",
    "docker.io/filebrowser/filebrowser:v2.31.2",
];

/// All of them are in every Debian, so that the program runs where nothing is installed for it.
const BASE: [&str; 7] = [
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
];

/// The program as it is released for boards with 64 bits.
struct Built {
    cross: Cross,
    program: PathBuf,
    _directory: TempDir,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cross = Cross::install().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("palletjack");
        cross.build(&project(), TARGET, &program).unwrap();
        Built { cross, program, _directory: directory }
    })
}

/// Runs it on the machine.
fn run(machine: &Machine, words: &str) -> Ran {
    let built = built();
    let emulated = built.cross.emulated(TARGET, &built.program).unwrap();
    let emulated: Vec<&str> = emulated.iter().map(|word| word.to_str().unwrap()).collect();
    let words: Vec<&str> = emulated[1..].iter().copied().chain(words.split_whitespace()).collect();
    machine.run_other(emulated[0], &words)
}

#[track_caller]
fn json(machine: &Machine, words: &str) -> (Ran, Value) {
    let ran = run(machine, &format!("{words} --output json"));
    let document = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("standard output is no JSON ({error}): {ran}"));
    (ran, document)
}

/// `2.31` as numbers.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap()).collect()
}

#[test]
fn it_asks_for_no_newer_c_library_than_debian_11s() {
    require_real!(Part::Cross);
    let built = built();
    let needs = built.cross.needs(&built.program).unwrap();
    let glibc: Vec<&str> = needs.iter().filter_map(|name| name.strip_prefix("GLIBC_")).collect();
    assert!(glibc.len() > 1, "{needs:?}");
    for wanted in glibc {
        assert!(version(wanted) <= version(GLIBC), "asks for GLIBC_{wanted}: {needs:?}");
    }
    let libraries = built.cross.libraries(&built.program).unwrap();
    assert!(libraries.contains(&"libc.so.6".to_owned()), "{libraries:?}");
    assert!(libraries.iter().all(|name| BASE.contains(&name.as_str())), "{libraries:?}");
}

#[test]
fn the_main_job_on_the_devices_processor() {
    require_real!(Part::Cross, Part::Docker20, Part::DockerRegistry);
    let mut machine = Machine::new();
    // The platform is that of the processor.
    machine.unset("PALLETJACK_PLATFORM");
    let mut set = ImageSet::small(&NAMES).unwrap();
    set.images.retain(|image| image.platform(PLATFORM).is_some());
    machine.pallet_of(&set.images.iter().map(Image::pinned).collect::<Vec<_>>());
    let registry = DockerRegistry::start().unwrap();
    push_all(registry.host(), &set).unwrap();
    machine.mirror(&registry.url());

    let listed = run(&machine, "plt ls-img");
    listed.assert_success();
    assert_eq!(listed.stdout, machine.run("plt ls-img").stdout);
    assert_eq!(listed.stdout.lines().count(), set.images.len());

    let (ran, document) = json(&machine, "plt cache-img");
    ran.assert_success();
    let fetched = document["images"].as_array().unwrap();
    assert_eq!(fetched.len(), set.images.len(), "{ran}");
    let (ran, document) = json(&machine, "cache verify");
    ran.assert_success();
    assert_eq!(
        (&document["images"], &document["problems"]),
        (&set.images.len().into(), &Value::Array(Vec::new()))
    );
    // Another processor's program reads the same cache.
    machine.assert_verified(set.images.len());

    // The engine is not the device's: it runs on this machine, and would be given this machine's images.
    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let (ran, document) = json(&machine, "plt load-img --platform linux/arm64");
    machine::assert_loaded(&ran);
    let loaded = document["images"].as_array().unwrap();
    assert!(loaded.iter().all(|image| image["state"] == "loaded"), "{ran}");
    let docker = engine.docker().unwrap();
    for image in &set.images {
        let seen = docker.inspect(&image.tagged()).unwrap().unwrap_or_else(|| panic!("{ran}"));
        assert_eq!(seen["Architecture"], "arm64", "{seen}");
        let layers = strings(&seen["RootFS"]["Layers"]);
        let expected = &image.platform(PLATFORM).unwrap().layers;
        assert_eq!(layers.len(), expected.len(), "{seen}");
    }
    let (ran, document) = json(&machine, "plt load-img --platform linux/arm64");
    machine::assert_loaded(&ran);
    let again = document["images"].as_array().unwrap();
    assert!(again.iter().all(|image| image["state"] == "present" && image["sent"] == 0), "{ran}");

    // What a fault looks like there.
    let ran = run(&machine, "--offline cache add-img example.com/not/there:1");
    ran.assert_code(3);
}
