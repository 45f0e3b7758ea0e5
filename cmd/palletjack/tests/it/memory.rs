//! Peak memory does not grow with the images.

use std::fs;
use std::process::Child;

use palletjack_testkit::engine::{Engine, LoadFault, Profile};
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::registry::{Fault, Gate, Registry, When};

use crate::machine::{Machine, own_layer, show};

/// What a device with 1 GB can spare, in KiB.
const LIMIT: u64 = 64 << 10;

/// The most memory that a running process has had so far, in KiB.
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
}

#[test]
fn images_larger_than_the_limit_are_fetched_and_loaded_below_it() {
    let (mut machine, registry) = (Machine::new(), Registry::start().unwrap());
    let blobs = tempfile::tempdir().unwrap();
    let shape = Shape {
        app_bytes: 60 << 20,
        base_bytes: 1 << 20,
        directory: Some(blobs.path().into()),
        zstd: false,
        ..Shape::small()
    };
    let set = ImageSet::build(&["acme/one:1", "acme/two:2"], &shape).unwrap();
    machine.pallet_in(&registry, &set);
    let layer = own_layer(&set, 0);
    assert!(layer.size > LIMIT << 10, "{} bytes are too small for this test", layer.size);
    // Held back just before the largest layer's end.
    let gate = Gate::new();
    let fault = Fault::StallAfter { after: layer.size - 1, gate: gate.clone() };
    registry.fault(When::blob(&layer.digest), fault);
    let child = machine.command("plt cache-img").spawn().unwrap();
    gate.wait_for(1);
    let fetching = peak(&child);
    gate.open();
    finish(child);

    // Held back when the engine has everything of an image and does not answer yet.
    let engine = Engine::start(Profile::docker_20()).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let gate = Gate::new();
    engine.fault(LoadFault::Silence(gate.clone()));
    engine.fault(LoadFault::Silence(gate.clone()));
    let child = machine.command("plt load-img --parallel=1").spawn().unwrap();
    gate.wait_for(1);
    let loading = peak(&child);
    drop(gate);
    kill(child);
    assert!(fetching < LIMIT && loading < LIMIT, "{fetching} KiB to fetch, {loading} KiB to load");
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
