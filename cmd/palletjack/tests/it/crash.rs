//! Runs that are killed, interrupted or ended: a crash loses work, never correctness.

use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;

use palletjack_image::Digest;
use palletjack_testkit::engine::{Engine, LoadFault, Profile};
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::registry::{Fault, Gate, Registry, When};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, Signal, kill_process};

use crate::load::assert_all_whole_after_another_run;
use crate::machine::{Machine, assert_loaded, own_layer, show, small_set};
use crate::main_job::states;

/// Numbers that are the same on every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Sends a signal to a run and returns its exit code, if the signal did not end it.
fn end(child: Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    if signal == Signal::KILL {
        assert_eq!(output.status.signal(), Some(9), "{}", show(&output));
    }
    output.status.code()
}

/// The cache after a crash: whatever has a name is whole.
fn assert_consistent(machine: &Machine) {
    let ran = machine.run("cache verify");
    // 3: no image had its name yet.
    assert!(ran.success() || ran.code == Some(3), "{ran}");
}

#[test]
fn a_fetch_that_is_killed_anywhere_leaves_a_cache_that_is_right_and_can_go_on() {
    let set = small_set();
    let layers: Vec<_> = set.layers("linux/amd64").into_values().collect();
    for seed in 0..8 {
        let mut numbers = Numbers(seed);
        let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
        machine.pallet_in(&registry, set);
        let kill = |when: When, fault: &dyn Fn(Gate) -> Fault| {
            let gate = Gate::new();
            registry.fault(when, fault(gate.clone()));
            let child = machine.command("plt cache-img").spawn().unwrap();
            gate.wait_for(1);
            assert_eq!(end(child, Signal::KILL), None);
            registry.clear_faults();
            assert_consistent(&machine);
        };
        if seed % 2 == 0 {
            // At a request of any kind, and again at the first of the next run: what was asked for is not there yet.
            kill(When::any().nth(1 + numbers.below(8)), &Fault::Stall);
            kill(When::any().nth(1), &Fault::Stall);
        } else {
            // Somewhere in a layer, and again further on in the same.
            let layer = &layers[usize::try_from(numbers.below(layers.len() as u64)).unwrap()];
            let after = numbers.below(layer.size);
            kill(When::blob(&layer.digest), &|gate| Fault::StallAfter { after, gate });
            let after = numbers.below(layer.size - after);
            kill(When::blob(&layer.digest), &|gate| Fault::StallAfter { after, gate });
        }
        registry.clear_requests();
        machine.run("plt cache-img").assert_success();
        machine.assert_verified(4);
        for layer in &layers {
            assert!(registry.count("GET", &format!("/blobs/{}", layer.digest)) <= 1, "seed {seed}");
        }
        let partials = fs::read_dir(machine.sandbox.cache().join("state/ingest")).unwrap().count();
        assert_eq!(partials, 0, "seed {seed}: what is whole is no partial any more");
    }
}

/// Blocks until the partial download of a blob has this many bytes; as an event of the file system.
fn wait_for_partial(cache: &Path, blob: &Digest, bytes: u64) {
    let directory = cache.join("state/ingest");
    let file = directory.join(blob.to_string().replace(':', "-"));
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, &directory, events).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    while fs::metadata(&file).map_or(0, |metadata| metadata.len()) < bytes {
        // Patience, after which the test fails; no success depends on it.
        let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&minute)).unwrap();
        assert!(ready > 0, "{} never had {bytes} bytes", file.display());
        inotify::Reader::new(&watch, &mut buffer).next().unwrap();
    }
}

#[test]
fn a_fetch_that_is_interrupted_keeps_what_it_has_and_goes_on_there() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
        let shape = Shape { app_bytes: 1_500_000, ..Shape::small() };
        let set = ImageSet::build(&["acme/one:1", "acme/two:2"], &shape).unwrap();
        machine.pallet_in(&registry, &set);
        let layer = own_layer(&set, 0);
        let gate = Gate::new();
        let fault = Fault::StallAfter { after: layer.size - 1000, gate: gate.clone() };
        registry.fault(When::blob(&layer.digest), fault);
        let child = machine.command("plt cache-img").spawn().unwrap();
        gate.wait_for(1);
        wait_for_partial(&machine.sandbox.cache(), &layer.digest, layer.size / 2);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", show(&output));
        assert!(show(&output).contains("kept for the next run"), "{}", show(&output));
        registry.clear_faults();
        registry.clear_requests();
        assert_consistent(&machine);

        machine.run("plt cache-img").assert_success();
        machine.assert_verified(2);
        let requests = registry.requests();
        let again: Vec<_> = requests.iter().filter(|r| r.path.ends_with(&layer.digest.to_string())).collect();
        assert_eq!(again.len(), 1);
        let range = again[0].range().unwrap_or_default();
        let start: u64 = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or_default();
        assert!(start >= layer.size / 2, "{range:?} of {} bytes", layer.size);
    }
}

#[test]
fn a_load_that_is_ended_says_so_and_the_next_one_completes_it() {
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let (mut machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
        machine.pallet_in(&registry, small_set());
        machine.run("plt cache-img").assert_success();
        let engine = Engine::start(Profile::docker_20()).unwrap();
        machine.set("DOCKER_HOST", engine.host());
        let gate = Gate::new();
        engine.fault(LoadFault::Silence(gate.clone()));
        let child = machine.command("plt load-img").spawn().unwrap();
        gate.wait_for(1);
        assert_eq!(end(child, signal), code);
        gate.open();
        assert_consistent(&machine);
        // The engine has taken what it had by then, and nobody knows whether that is whole.
        engine.wait_for_loads(1);
        assert_all_whole_after_another_run(&machine);
        let other = Engine::start(Profile::docker_20()).unwrap();
        machine.set("DOCKER_HOST", other.host());
        let (ran, document) = machine.json("plt load-img");
        assert_loaded(&ran);
        assert_eq!(states(&document, "loaded"), 4, "{ran}");
    }
}

/// Whatever has a name in `blobs` is what it is called, also when nothing in `index.json` names it yet.
#[test]
fn blobs_without_a_name_are_right_too_or_are_not_believed() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    machine.pallet_in(&registry, small_set());
    let layer = own_layer(small_set(), 0);
    // As after a crash of another program's making: the right name, the right size, the wrong content.
    machine.run("cache verify").assert_code(3);
    let path = machine.blob(&layer.digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![0; usize::try_from(layer.size).unwrap()]).unwrap();
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
    assert_eq!(registry.count("GET", &format!("/blobs/{}", layer.digest)), 1);
}

/// `manifest.json` follows from `index.json` and is written after it: a crash in between leaves the old one.
#[test]
fn an_old_manifest_json_is_brought_up_to_date() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    let pins = machine.pallet_in(&registry, small_set());
    machine.run(&format!("cache add-img {}", pins[0])).assert_success();
    let path = machine.layout().join("manifest.json");
    let old = fs::read(&path).unwrap();
    machine.run("plt cache-img").assert_success();
    let whole = fs::read(&path).unwrap();
    assert_ne!(old, whole);
    for words in ["plt cache-img", "cache verify"] {
        fs::write(&path, &old).unwrap();
        registry.clear_requests();
        machine.run(words).assert_success();
        assert!(registry.requests().is_empty());
        assert_eq!(fs::read(&path).unwrap(), whole, "{words}");
    }
    machine.assert_verified(4);
}

/// A partial becomes read-only just before it gets its name: a crash in between must not be in anybody's way.
#[test]
fn a_partial_that_is_whole_and_read_only_is_taken_up() {
    let (machine, registry) = (Machine::unprivileged(), Registry::start().unwrap());
    let pins = machine.pallet_in(&registry, small_set());
    machine.run(&format!("cache add-img {}", pins[0])).assert_success();
    let layer = own_layer(small_set(), 1);
    let name = layer.digest.to_string().replace(':', "-");
    let path = machine.sandbox.cache().join("state/ingest").join(name);
    fs::write(&path, layer.blob.read().unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
    assert_eq!(registry.count("GET", &format!("/blobs/{}", layer.digest)), 0, "it was there already");
    assert!(!path.exists());
}
