//! The power goes while images are loaded, and after.

use palletjack_testkit::Ran;
use palletjack_testkit::real::ready;

use crate::device::{Booted, CacheOn, Device, Kind, PowerCut};
use crate::images::images;
use crate::machine::assert_loaded;
use crate::moment::{Moment, Numbers, asked, halted, load_and};

/// A cut, and when it was made.
struct Midway {
    cut: PowerCut,
    when: String,
}

/// One load, with the power cut at moments of it, right after it, and later.
fn cuts_of_one_load(device: &mut Device, moments: &[Moment]) -> (Vec<Midway>, [Midway; 2]) {
    let booted = device.boot();
    let mut midway = Vec::new();
    let ran = load_and(device, moments, |child, moment| {
        let cut = halted(device, child, || device.cut());
        midway.push(Midway { cut, when: moment.to_string() });
    });
    let at_end = Midway { cut: device.cut(), when: "right at the end".to_owned() };
    assert_loaded(&ran);
    device.add_theirs(&booted, "somebody/later:1");
    let later = Midway { cut: device.cut(), when: "later".to_owned() };
    (midway, [at_end, later])
}

fn has_succeeded(ran: &Ran) -> bool {
    ran.success() || ran.code == Some(5) && ran.stderr.contains("do not resolve by their pinned reference")
}

/// Follows what the error advises.
fn do_what_it_says(device: &Device, ran: &Ran) -> Ran {
    ran.assert_code(5);
    assert!(ran.stderr.contains("`load-img --reset-store`"), "{ran}");
    device.machine.run("plt load-img --reset-store")
}

/// What is said to run has all its files, also before anything was mended.
fn status_is_honest(device: &Device, booted: &Booted) {
    let (_, document) = device.machine.json("plt status");
    for image in document["images"].as_array().unwrap() {
        if image["state"] == "runs" || image["state"] == "unnamed" {
            images().assert_one_whole(booted, image["reference"].as_str().unwrap());
        }
    }
}

/// The power was cut in the middle: the next run mends what is damaged, or says what to do.
fn the_next_run_mends(device: &mut Device, midway: &Midway, look_first: bool) {
    device.restore(&midway.cut);
    let booted = device.boot();
    println!("  cut {}, {} records", midway.when, device.records().len());
    device.machine.run("cache verify").assert_success();
    if look_first {
        status_is_honest(device, &booted);
    }
    let mut ran = device.machine.run("plt load-img");
    if !has_succeeded(&ran) && device.kind.keeps_broken_layers() {
        println!("    the program says what to do");
        ran = do_what_it_says(device, &ran);
    }
    assert_loaded(&ran);
    device.assert_all_whole(&booted);
}

/// The power was cut after success had been reported: nothing is damaged, and nothing has to be sent.
fn nothing_is_damaged(device: &mut Device, after: &Midway) {
    device.restore(&after.cut);
    let booted = device.boot();
    println!("  cut {}", after.when);
    device.assert_all_whole(&booted);
    let (ran, document) = device.machine.json("plt load-img");
    assert_loaded(&ran);
    assert!(document["images"].as_array().unwrap().iter().all(|image| image["state"] == "present"), "{ran}");
}

/// Cuts as many loads of this engine as were asked for, else so many.
fn cut_loads(kind: Kind, otherwise: usize) {
    let cuts = asked("PALLETJACK_CUTS").unwrap_or(otherwise);
    if cuts == 0 || !ready(&kind.parts()) {
        return;
    }
    let mut numbers = Numbers::new(&format!("{kind:?}"));
    for (cache_on, count) in [(CacheOn::SameDisk, cuts.div_ceil(2)), (CacheOn::AnotherDisk, cuts / 2)] {
        println!("cache on {cache_on:?}");
        let mut device = Device::new(kind, cache_on);
        let moments: Vec<_> = (0..count).map(|_| Moment::random(&mut numbers)).collect();
        let (midway, [at_end, later]) = cuts_of_one_load(&mut device, &moments);
        assert_eq!(midway.len(), count, "a moment never came: {moments:?}");
        for (index, midway) in midway.iter().enumerate() {
            the_next_run_mends(&mut device, midway, index % 2 == 0);
        }
        let after = if cache_on == CacheOn::SameDisk { at_end } else { later };
        nothing_is_damaged(&mut device, &after);
    }
}

#[test]
fn on_docker_20() {
    cut_loads(Kind::Docker20, 2);
}

#[test]
fn on_docker_28s_containerd_store() {
    cut_loads(Kind::Docker28Containerd, 2);
}

#[test]
fn on_docker_28s_graph_driver_if_asked_for() {
    cut_loads(Kind::Docker28Graph, 0);
}

#[test]
fn on_docker_29s_containerd_store_if_asked_for() {
    cut_loads(Kind::Docker29Containerd, 0);
}

#[test]
fn on_podman_if_asked_for() {
    cut_loads(Kind::Podman, 0);
}
