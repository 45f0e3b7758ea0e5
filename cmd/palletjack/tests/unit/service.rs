//! The program as systemd runs it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use palletjack_testkit::engine::{Engine, Profile};
use palletjack_testkit::registry::Registry;

use crate::machine::{Machine, small_set};

/// A machine whose cache has what its pallet needs, as a unit runs the program.
fn scene() -> Machine {
    let (mut machine, registry) = (Machine::new(), Registry::start().unwrap());
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    machine.set("PALLETJACK_UNIT", "1");
    machine
}

fn received(socket: &UnixDatagram) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    let mut messages = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        messages.push(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned());
    }
    messages
}

#[test]
fn the_service_manager_is_told_what_goes_on() {
    let mut machine = scene();
    let engine = Engine::start(Profile::docker_28_containerd()).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let path = machine.sandbox.root().join("notify");
    let name = format!("palletjack-test-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
    let sockets = [
        (path.to_str().unwrap().to_owned(), UnixDatagram::bind(&path).unwrap()),
        (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address).unwrap()),
    ];
    for (i, (address, socket)) in sockets.iter().enumerate() {
        machine.set("NOTIFY_SOCKET", address);
        let ran = machine.run("plt load-img");
        ran.assert_success();
        let messages = received(socket);
        let (loaded, present) = if i == 0 { (4, 0) } else { (0, 4) };
        let last = messages.last().unwrap();
        assert!(last.starts_with(&format!("STATUS={loaded} loaded, ")), "{messages:?}");
        assert!(last.ends_with(&format!("; {present} present before")), "{messages:?}");
        assert!(messages[0].starts_with("STATUS=0 of 4 images; "), "{messages:?}");
        // The same lines are said, and no bars drawn.
        assert!(ran.stderr.contains(&last["STATUS=".len()..]) && !ran.stderr.contains('\r'), "{ran}");
    }
    // Started by hand, nobody is told.
    machine.unset("PALLETJACK_UNIT");
    machine.run("plt load-img").assert_success();
    assert_eq!(received(&sockets[1].1), Vec::<String>::new());
}

#[test]
fn what_the_configuration_has_of_a_later_version_is_passed_over() {
    let mut machine = scene();
    let engine = Engine::start(Profile::docker_28_containerd()).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    machine.configure("parallel = 2\nfrom-the-future = true\n[registries.\"ghcr.io\"]\nnewer = 1\n");
    let ran = machine.run("plt load-img");
    ran.assert_success();
    for key in ["`from-the-future`", "`registries.ghcr.io.newer`"] {
        assert!(ran.stderr.contains(&format!("does not know {key}")), "{ran}");
    }
    machine.unset("PALLETJACK_UNIT");
    let ran = machine.run("plt load-img");
    ran.assert_code(2);
    assert!(ran.stderr.contains("from-the-future"), "{ran}");
    // What is no TOML at all has no meaning that could be kept.
    machine.set("PALLETJACK_UNIT", "1");
    machine.configure("parallel = [");
    machine.run("plt load-img").assert_code(2);
}

#[test]
fn a_service_that_is_stuck_ends_as_failed() {
    let mut machine = scene();
    // It takes connections and never answers.
    let socket = machine.sandbox.root().join("deaf.sock");
    let _deaf = UnixListener::bind(&socket).unwrap();
    machine.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    machine.configure("unit-stall-timeout = \"1s\"\n");
    let ran = machine.run("plt load-img --wait=1h");
    ran.assert_code(1);
    assert!(
        ran.stderr.contains("nothing moved for 1s") && ran.stderr.contains("unit-stall-timeout"),
        "{ran}"
    );
    // By hand, a person decides: it waits as it was told to.
    machine.unset("PALLETJACK_UNIT");
    let ran = machine.run("plt load-img --wait=2s");
    ran.assert_code(5);
    assert!(!ran.stderr.contains("nothing moved"), "{ran}");
}
