//! Several processes on one cache at the same time.

use std::process::Child;

use palletjack_testkit::real::{Dockerd, Part};
use palletjack_testkit::registry::{Fault, Gate, Registry, When};
use palletjack_testkit::require_real;

use crate::machine::{Machine, own_layer, pins, show, small_set};

fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
}

#[test]
fn processes_that_fetch_the_same_fetch_each_blob_once() {
    for processes in [2, 8] {
        let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
        machine.pallet_in(&registry, small_set());
        // All of them stand before the first manifest at the same moment.
        let gate = Gate::new();
        registry.fault(When::manifest(small_set().images[0].top.digest), Fault::Stall(gate.clone()));
        let children: Vec<Child> =
            (0..processes).map(|_| machine.command("plt cache-img").spawn().unwrap()).collect();
        gate.wait_for(processes);
        gate.open();
        children.into_iter().for_each(finish);
        for layer in small_set().layers("linux/amd64").values() {
            let count = registry.count("GET", &format!("/blobs/{}", layer.digest));
            assert_eq!(count, 1, "{processes} processes fetched {} {count} times", layer.digest);
        }
        machine.assert_verified(4);
    }
}

#[test]
fn a_layer_that_another_process_has_begun_is_waited_for() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    let pins = machine.pallet_in(&registry, small_set());
    let layer = own_layer(small_set(), 0);
    let gate = Gate::new();
    let fault = Fault::StallAfter { after: layer.size / 2, gate: gate.clone() };
    registry.fault(When::blob(&layer.digest), fault);
    let first = machine.command(&format!("cache add-img {}", pins[0])).spawn().unwrap();
    gate.wait_for(1);
    // The second process gets everything but that layer; then the first may go on.
    let last = Gate::new();
    registry.fault(When::blob(&own_layer(small_set(), 3).digest), Fault::Stall(last.clone()));
    let second = machine.command("plt cache-img").spawn().unwrap();
    last.wait_for(1);
    last.open();
    gate.open();
    finish(first);
    finish(second);
    assert_eq!(registry.count("GET", &format!("/blobs/{}", layer.digest)), 1);
    machine.assert_verified(4);
}

#[test]
fn a_process_that_is_killed_keeps_nobody_waiting() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    let pins = machine.pallet_in(&registry, small_set());
    let layer = own_layer(small_set(), 0);
    let gate = Gate::new();
    registry.fault(
        When::blob(&layer.digest).first(1),
        Fault::StallAfter { after: layer.size / 2, gate: gate.clone() },
    );
    let mut first = machine.command(&format!("cache add-img {}", pins[0])).spawn().unwrap();
    gate.wait_for(1);
    let last = Gate::new();
    registry.fault(When::blob(&own_layer(small_set(), 3).digest), Fault::Stall(last.clone()));
    let second = machine.command("plt cache-img").spawn().unwrap();
    last.wait_for(1);
    first.kill().unwrap();
    first.wait().unwrap();
    last.open();
    finish(second);
    machine.assert_verified(4);
}

#[test]
fn removing_while_another_fetches_disturbs_nobody() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    let pins = machine.pallet_in(&registry, small_set());
    machine.run(&format!("cache add-img {}", pins[1])).assert_success();
    let gate = Gate::new();
    registry.fault(When::blob(&own_layer(small_set(), 0).digest), Fault::Stall(gate.clone()));
    let fetching = machine.command(&format!("cache add-img {} {}", pins[0], pins[2])).spawn().unwrap();
    gate.wait_for(1);
    let ran = machine.run(&format!("cache del-img {}", pins[1]));
    ran.assert_success();
    assert!(ran.stderr.contains("removed") && ran.stderr.contains("another process uses the cache"), "{ran}");
    let ran = machine.run("cache verify --discard");
    assert!(ran.success() || ran.code == Some(3), "{ran}");
    gate.open();
    finish(fetching);
    machine.assert_verified(2);
    // What was not freed then is freed by the next removal.
    assert!(machine.blob(&own_layer(small_set(), 1).digest).is_file());
    machine.run(&format!("cache del-img {}", pins[2])).assert_success();
    assert!(!machine.blob(&own_layer(small_set(), 1).digest).exists());
    machine.assert_verified(1);
}

#[test]
fn verifying_while_others_fetch_and_remove_finds_nothing_wrong() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    let pins = machine.pallet_in(&registry, small_set());
    machine.run(&format!("cache add-img {}", pins[3])).assert_success();
    for round in 0..5 {
        let fetching = machine.command("plt cache-img").spawn().unwrap();
        let checking: Vec<Child> = (0..3).map(|_| machine.command("cache verify").spawn().unwrap()).collect();
        finish(fetching);
        checking.into_iter().for_each(finish);
        let words = format!("cache del-img {} {}", pins[round % 3], pins[(round + 1) % 3]);
        let removing = machine.command(&words).spawn().unwrap();
        let checking = machine.command("cache verify").spawn().unwrap();
        finish(removing);
        finish(checking);
    }
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
}

#[test]
fn two_platforms_can_be_fetched_at_once() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    registry.publish_all(small_set());
    let pin = &pins(&registry, small_set())[0];
    let gate = Gate::new();
    registry.fault(When::manifest(small_set().images[0].top.digest), Fault::Stall(gate.clone()));
    let children: Vec<Child> = ["linux/amd64", "linux/arm64", "linux/arm/v7"]
        .iter()
        .map(|platform| {
            machine.command(&format!("cache add-img --platform {platform} {pin}")).spawn().unwrap()
        })
        .collect();
    gate.wait_for(3);
    gate.open();
    children.into_iter().for_each(finish);
    machine.assert_verified(3);
}

#[test]
fn two_processes_may_load_into_one_engine() {
    require_real!(Part::Docker20);
    let (mut machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let children: Vec<Child> = (0..2).map(|_| machine.command("plt load-img").spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        // All are loaded, and this engine does not know their pins.
        assert_eq!(output.status.code(), Some(5), "{}", show(&output));
    }
    assert_eq!(engine.docker().unwrap().tags().unwrap().len(), 4);
}
