//! The program or the engine is killed while images are loaded. The machine goes on.

use std::cell::RefCell;

use palletjack_testkit::real::ready;
use rustix::process::{Pid, Signal, kill_process};

use crate::device::{CacheOn, Device, Kind};
use crate::images::images;
use crate::machine::assert_loaded;
use crate::moment::{Moment, Numbers, asked, load_and};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Program,
    Engine,
}

/// Kills each of them so many times, each time in a load into an engine that has none of the images.
fn kill_both(kind: Kind, times: usize) {
    if times == 0 || !ready(&kind.parts()) {
        return;
    }
    let mut numbers = Numbers::new(&format!("{kind:?}"));
    let mut device = Device::new(kind, CacheOn::AnotherDisk);
    let mut booted = device.boot();
    let mut victims = [Victim::Program, Victim::Engine].repeat(times);
    let mut missed = 0;
    while let Some(victim) = victims.pop() {
        images().remove_from(&booted);
        let moment = Moment::random(&mut numbers);
        println!("  {victim:?} {moment}");
        let engine = RefCell::new(booted);
        let mut struck = false;
        let ran = load_and(&device, std::slice::from_ref(&moment), |child, _| {
            struck = true;
            match victim {
                Victim::Program => kill_process(Pid::from_child(child), Signal::KILL).unwrap(),
                Victim::Engine => engine.borrow_mut().kill(),
            }
        });
        if !struck {
            // An engine that still does away with what was removed gives back what it writes: the moment never comes.
            missed += 1;
            assert!(missed <= 3 + times, "{moment} never came: {ran}");
            victims.push(victim);
        }
        // Who is killed at the very end has done everything.
        assert!(matches!(ran.code, None | Some(0 | 5)), "{ran}");
        booted = engine.into_inner();
        if victim == Victim::Engine {
            // The old one's mounts go before the new one's come.
            drop(booted);
            booted = device.boot();
        }
        assert_loaded(&device.machine.run("plt load-img"));
        device.assert_all_whole(&booted);
    }
}

/// This engine's part of all kills, which are dealt to three engines in turn.
fn share(engine: usize) -> usize {
    (asked("PALLETJACK_KILLS").unwrap_or(5) + 2 - engine) / 3
}

#[test]
fn with_docker_20() {
    kill_both(Kind::Docker20, share(0));
}

#[test]
fn with_docker_28s_containerd_store() {
    kill_both(Kind::Docker28Containerd, share(1));
}

#[test]
fn with_podman() {
    kill_both(Kind::Podman, share(2));
}

#[test]
fn every_kill_is_dealt_to_somebody() {
    let dealt: usize = (0..3).map(share).sum();
    assert_eq!(dealt, asked("PALLETJACK_KILLS").unwrap_or(5));
}
