//! The power goes while the cache is filled, and right after.

use palletjack_testkit::powercut::{Cut, Disk};
use palletjack_testkit::real::Part;
use palletjack_testkit::registry::{Fault, Gate, Registry, When};
use palletjack_testkit::require_real;

use crate::machine::{Machine, small_set};

fn machine_with_cache_on(disk: &Disk) -> Machine {
    let mut machine = Machine::new();
    machine.set("PALLETJACK_CACHE_DIR", disk.path().join("cache"));
    machine
}

#[test]
fn what_was_fetched_is_safe_when_the_power_goes() {
    require_real!(Part::LoopMounts);
    let mut disk = Disk::new(256 << 20).unwrap();
    let machine = machine_with_cache_on(&disk);
    let registry = Registry::start().unwrap();
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    let cut = disk.cut().unwrap();
    disk.restore(&cut).unwrap();

    registry.clear_requests();
    machine.run("cache verify").assert_success();
    machine.run("plt cache-img --offline").assert_success();
    machine.run("plt cache-img").assert_success();
    assert_eq!(registry.count("GET", "/blobs/"), 0, "it was reported, and had to be fetched again");
}

#[test]
fn a_fetch_cut_anywhere_leaves_a_cache_that_is_right_and_can_go_on() {
    require_real!(Part::LoopMounts);
    let set = small_set();
    let layers: Vec<_> = set.layers("linux/amd64").into_values().collect();
    let mut disk = Disk::new(256 << 20).unwrap();
    let machine = machine_with_cache_on(&disk);
    let registry = Registry::start().unwrap();
    machine.pallet_in(&registry, set);
    // While a request hangs, the rest of the run goes on as far as it can; then the power goes.
    let cuts: Vec<Cut> = layers
        .iter()
        .step_by(2)
        .map(|layer| {
            let gate = Gate::new();
            let fault = Fault::StallAfter { after: layer.size / 2, gate: gate.clone() };
            registry.fault(When::blob(&layer.digest), fault);
            let child = machine.command("plt cache-img").spawn().unwrap();
            gate.wait_for(1);
            let cut = disk.cut().unwrap();
            registry.clear_faults();
            gate.open();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            std::fs::remove_dir_all(disk.path().join("cache")).unwrap();
            cut
        })
        .collect();
    for cut in cuts {
        disk.restore(&cut).unwrap();
        let ran = machine.run("cache verify");
        // 3: no image had its name yet.
        assert!(ran.success() || ran.code == Some(3), "{ran}");
        machine.run("plt cache-img").assert_success();
        machine.run("cache verify").assert_success();
        machine.run("plt cache-img --offline").assert_success();
    }
}
