//! The power goes while the cache is filled, and right after.

use std::path::Path;
use std::process::Command;

use palletjack_testkit::powercut::{Cut, Disk};
use palletjack_testkit::real::Part;
use palletjack_testkit::registry::{Fault, Gate, Registry, When};
use palletjack_testkit::require_real;

use crate::images::images;
use crate::machine::{Machine, small_set};
use crate::moment::{Moment, Numbers, asked, run_and};

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

/// Whatever has a name in `blobs` is what it is called, by a program that is not under test.
fn assert_blobs_are_what_they_are_called(cache: &Path) -> usize {
    let Ok(blobs) = cache.join("docker-archives/blobs/sha256").read_dir() else { return 0 };
    let blobs: Vec<_> = blobs.map(|entry| entry.unwrap().path()).collect();
    for blob in &blobs {
        let output = Command::new("sha256sum").arg(blob).output().unwrap();
        let name = blob.file_name().unwrap().to_str().unwrap();
        assert!(output.stdout.starts_with(name.as_bytes()), "{output:?}");
    }
    blobs.len()
}

/// The same at random moments, of which nothing is known but how much was on the disk by then.
#[test]
fn a_fetch_cut_at_any_moment_is_completed_by_the_next_run() {
    require_real!(Part::LoopMounts);
    let count = asked("PALLETJACK_CUTS").unwrap_or(2);
    let mut numbers = Numbers::new("the cache");
    let mut disk = Disk::new(256 << 20).unwrap();
    let machine = machine_with_cache_on(&disk);
    let (registry, cache) = (Registry::start().unwrap(), disk.path().join("cache"));
    registry.publish_all(&images().set);
    machine.mirror(&registry.url());
    machine.pallet_of(&images().pins());
    let bytes: u64 = images().set.layers("linux/amd64").values().map(|layer| layer.size).sum();
    let all = format!("cache add-img {}", images().pins().join(" "));
    for (words, count) in [("plt cache-img", count.div_ceil(2)), (&all, count / 2)] {
        let moments: Vec<Moment> = (0..count).map(|_| Moment::Written(numbers.below(bytes))).collect();
        let mut cuts = Vec::new();
        let command = machine.command(&format!("{words} --progress json"));
        run_and(command, &disk, &moments, |_, moment| {
            cuts.push((disk.cut().unwrap(), moment.to_string()));
        })
        .assert_success();
        cuts.push((disk.cut().unwrap(), "right at the end".to_owned()));
        assert_eq!(cuts.len(), count + 1, "a moment never came: {moments:?}");
        for (cut, when) in cuts {
            disk.restore(&cut).unwrap();
            let blobs = assert_blobs_are_what_they_are_called(&cache);
            println!("  {words:.13}, cut {when}: {blobs} blobs");
            let ran = machine.run("cache verify");
            // 3: no image had its name yet.
            assert!(ran.success() || ran.code == Some(3) && when != "right at the end", "{ran}");
            if when == "right at the end" {
                machine.run("plt cache-img --offline").assert_success();
            }
            machine.run(words).assert_success();
            machine.assert_verified(images().count());
        }
        std::fs::remove_dir_all(&cache).unwrap();
    }
}
