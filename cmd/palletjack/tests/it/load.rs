//! Loading into engines that do not do what they say.

use std::fs;

use palletjack_testkit::engine::{Engine, LoadFault, Profile};
use palletjack_testkit::registry::Registry;

use crate::machine::{Machine, assert_loaded, show, small_set};
use crate::main_job::states;

/// A machine whose cache has what its pallet needs, and an engine.
fn scene(profile: Profile) -> (Machine, Engine) {
    let (mut machine, registry) = (Machine::new(), Registry::start().unwrap());
    machine.pallet_in(&registry, small_set());
    machine.run("plt cache-img").assert_success();
    let engine = Engine::start(profile).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    (machine, engine)
}

/// The next run has all images in the engine, with all their files, and nothing is left to be done.
#[track_caller]
pub(crate) fn assert_all_whole_after_another_run(machine: &Machine) {
    assert_loaded(&machine.run("plt load-img"));
    let (ran, document) = machine.json("plt status --deep");
    for image in document["images"].as_array().unwrap() {
        assert!(image["state"] == "runs" || image["state"] == "unnamed", "{ran}");
        assert!(image["alike"].as_u64() > Some(5) && image["different"] == 0, "{ran}");
    }
    let unsettled = fs::read_dir(machine.sandbox.cache().join("state/unsettled")).unwrap().count();
    assert_eq!(unsettled, 0, "a load is not settled: {ran}");
}

#[test]
fn each_image_has_a_request_of_its_own_and_nothing_is_spooled() {
    let (machine, engine) = scene(Profile::docker_20());
    assert_loaded(&machine.run("plt load-img"));
    let loads = engine.wait_for_loads(4);
    assert_eq!(loads.len(), 4);
    for load in &loads {
        assert!(load.complete);
        let members = load.members().unwrap();
        for name in ["oci-layout", "index.json", "manifest.json"] {
            assert!(members.iter().any(|member| member == name), "{name} is not in {members:?}");
        }
        assert!(members.iter().any(|member| member.starts_with("blobs/sha256/")));
    }
    let temporary = machine.sandbox.root().join("tmp");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0);
    assert_loaded(&machine.run("plt load-img"));
    assert_eq!(engine.loads().len(), 4, "what is present is not sent again");
}

#[test]
fn what_an_engine_says_is_not_taken_for_what_it_has() {
    let hangup = LoadFault::HangupAfter { bytes: 50_000 };
    let full = LoadFault::ErrorLine("write /layer.tar: no space left on device".to_owned());
    let refused = LoadFault::Status { status: 500, message: "unlucky today".to_owned() };
    for (fault, exit, text) in [
        (LoadFault::Forgets, 5, "does not have it"),
        (LoadFault::ErrorLine("unexpected EOF".to_owned()), 5, "unexpected EOF"),
        (refused, 5, "unlucky today"),
        (hangup, 5, "connection to the engine broke"),
        (LoadFault::CutAnswer, 5, ""),
        (full, 7, "no space left"),
    ] {
        let (machine, engine) = scene(Profile::docker_20());
        // Some faults are worth a second try; this one stays.
        for _ in 0..8 {
            engine.fault(fault.clone());
        }
        let (ran, document) = machine.json("plt load-img");
        ran.assert_code(exit);
        assert_eq!(states(&document, "failed"), 4, "{fault:?}: {ran}");
        let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        for image in ["acme/one:1", "acme/two:2", "acme/three:3", "acme/four:4"] {
            assert!(errors.iter().any(|line| line.contains(image)), "{image}: {ran}");
        }
        assert!(errors[0].contains("app-") && ran.stderr.contains(text), "{fault:?}: {ran}");
        engine.clear_faults();
        assert_all_whole_after_another_run(&machine);
    }
}

#[test]
fn one_image_that_an_engine_refuses_does_not_keep_the_others_out() {
    let (machine, engine) = scene(Profile::docker_20());
    engine.fault(LoadFault::ErrorLine("no such luck".to_owned()));
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(5);
    assert_eq!((states(&document, "loaded"), states(&document, "failed")), (3, 1), "{ran}");
    let (ran, document) = machine.json("plt load-img");
    assert_loaded(&ran);
    assert_eq!((states(&document, "loaded"), states(&document, "present")), (1, 3), "{ran}");
}

#[test]
fn an_image_that_was_removed_from_the_engine_is_loaded_again() {
    let (machine, engine) = scene(Profile::docker_20());
    assert_loaded(&machine.run("plt load-img"));
    let tag = engine.images()[0].tags[0].clone();
    engine.remove_image(&tag);
    let (ran, document) = machine.json("plt load-img");
    assert_loaded(&ran);
    assert_eq!((states(&document, "loaded"), states(&document, "present")), (1, 3), "{ran}");
}

#[test]
fn a_rehearsal_says_what_would_be_sent_and_sends_nothing() {
    let (machine, engine) = scene(Profile::docker_20());
    let ran = machine.run("plt load-img --dry-run");
    ran.assert_success();
    for image in ["acme/one:1", "acme/two:2", "acme/three:3", "acme/four:4"] {
        assert!(ran.stdout.contains(image), "{image}: {ran}");
    }
    let (ran, _) = machine.json("plt load-img --dry-run");
    ran.assert_success();
    assert!(engine.loads().is_empty() && engine.images().is_empty());
}

#[test]
fn an_engine_that_comes_up_later_is_waited_for() {
    let (mut machine, engine) = scene(Profile::docker_20());
    let socket = machine.sandbox.root().join("late.sock");
    machine.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    machine.run("plt load-img").assert_code(5);
    let child = machine.command("plt load-img --wait").spawn().unwrap();
    std::os::unix::fs::symlink(engine.socket(), &socket).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", show(&output));
    assert_eq!(engine.images().len(), 4);
    fs::remove_file(socket).unwrap();
    machine.run("plt load-img --wait=1ms").assert_code(5);
}
