//! What containerd keeps of interrupted loads, on a real Docker with the containerd store.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, Forky, Part, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::machine::Machine;

/// How long a lease may outlive what it was for. No success depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Containerd's own client on the leases of an engine.
fn leases(engine: &Dockerd, words: &[&str]) -> String {
    let info = engine.info().unwrap();
    let address = info["Containerd"]["Address"].as_str().unwrap().to_owned();
    let namespace = info["Containerd"]["Namespaces"]["Containers"].as_str().unwrap().to_owned();
    let mut command = std::process::Command::new(Forky::install().unwrap().program("ctr"));
    command.args(["--address", &address, "--namespace", &namespace, "leases"]).args(words);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn leases_of_loads_that_no_longer_run_are_ended_and_nothing_else() {
    require_real!(Part::Docker28);
    let (mut machine, registry) = (Machine::new(), Registry::start().unwrap());
    machine.mirror(&registry.url());
    let set = ImageSet::build(&["acme/one:1"], &Shape::small()).unwrap();
    registry.publish_all(&set);
    let pin = set.images[0].pinned();
    machine.run(&format!("cache add-img {pin}")).assert_success();
    let mut engine = Dockerd::forky(Store::Containerd).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    machine.run("cache load-img").assert_success();
    let create = ["create", "--network", "none", "--name", "user", &pin];
    engine.docker().unwrap().run(&create).unwrap().assert_success();
    leases(&engine, &["create", "--id", "of-a-load-that-died", "--expires", "24h"]);
    // What was done above lets go of its own leases soon after it has answered.
    let patience = Instant::now();
    while leases(&engine, &["ls", "-q"]).lines().count() != 2 {
        assert!(patience.elapsed() < PATIENCE, "a load and a container: {}", leases(&engine, &["ls"]));
    }
    // Leases show whole seconds, and one of the second in which Docker starts may be in use.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let created = second();
    while second() == created {
        std::thread::yield_now();
    }
    engine.kill();
    engine.start_again().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    leases(&engine, &["create", "--id", "of-a-load-that-runs", "--expires", "24h"]);
    let before = leases(&engine, &["ls", "-q"]);
    assert_eq!(before.lines().count(), 3, "two loads and a container: {before}");

    let ran = machine.run("cache load-img --reset-store --dry-run");
    ran.assert_success();
    assert!(ran.stderr.contains("lease of-a-load-that-died"), "{ran}");
    assert_eq!(leases(&engine, &["ls", "-q"]), before);

    let ran = machine.run("cache load-img --reset-store");
    ran.assert_success();
    assert!(ran.stderr.contains("1 lease of loads or pulls that no longer run are ended"), "{ran}");
    assert!(ran.stderr.contains("1 lease may belong to a load or pull that runs now"), "{ran}");
    let after = leases(&engine, &["ls", "-q"]);
    assert_eq!(after, before.replace("of-a-load-that-died\n", ""));
    // The container has its files, and the image is whole.
    let docker = engine.docker().unwrap();
    let exported = machine.sandbox.root().join("user.tar");
    docker.run(&["export", "-o", exported.to_str().unwrap(), "user"]).unwrap().assert_success();
    docker.create_never(&pin).unwrap().assert_success();
    machine.run("cache status --deep").assert_success();
}

#[test]
fn a_graph_driver_has_nothing_to_reset() {
    require_real!(Part::Docker20);
    let (mut machine, registry) = (Machine::new(), Registry::start().unwrap());
    machine.mirror(&registry.url());
    let set = ImageSet::build(&["acme/one:1"], &Shape::small()).unwrap();
    registry.publish_all(&set);
    machine.run("cache add-img acme/one:1").assert_success();
    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let ran = machine.run("cache load-img --reset-store");
    ran.assert_success();
    assert!(ran.stderr.contains("there is nothing to reset"), "{ran}");
}
