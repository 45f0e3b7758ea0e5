//! `--from engine`: from Docker and Podman into the cache, without a download.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Podman, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::machine::{Machine, show};
use crate::main_job::{gzip, states};

/// A machine with a pallet of three pinned images, its Docker 20.10 that has pulled them, and their registry.
fn device() -> (Machine, ImageSet, Registry, Dockerd) {
    let set = ImageSet::build(&["caddy:2.6.2", "acme/one:1", "acme/two:2"], &gzip()).unwrap();
    let registry = Registry::start().unwrap();
    registry.publish_all(&set);
    let args = vec!["--registry-mirror".to_owned(), registry.url()];
    let engine = Dockerd::debian_with(DockerdOptions { args, ..DockerdOptions::default() }).unwrap();
    let mut machine = Machine::new();
    let pins: Vec<String> = set.images.iter().map(palletjack_testkit::image::Image::pinned).collect();
    for pin in &pins {
        engine.docker().unwrap().run(&["pull", pin]).unwrap().assert_success();
    }
    machine.pallet_of(&pins);
    machine.mirror(&registry.url());
    machine.set("DOCKER_HOST", engine.host());
    registry.clear_requests();
    (machine, set, registry, engine)
}

fn rebuilt(document: &Value) -> Vec<bool> {
    document["images"].as_array().unwrap().iter().map(|image| image["rebuilt"].as_bool().unwrap()).collect()
}

#[test]
fn a_devices_own_images_are_rebuilt_without_a_download_and_replaced_by_the_next_one() {
    require_real!(Part::Docker20);
    let (machine, set, registry, engine) = device();
    let (ran, document) = machine.json("plt cache-img --from engine");
    ran.assert_success();
    assert_eq!((&document["schema"], &document["from"]), (&"palletjack.fetch/1".into(), &"engine".into()));
    assert_eq!(states(&document, "fetched"), 3, "{ran}");
    assert_eq!(rebuilt(&document), [true; 3]);
    assert_eq!(document["images"][0]["required_by"][0], "app-1");
    assert!(document["bytes_fetched"].as_u64() > document["bytes_written"].as_u64(), "{ran}");
    assert_eq!(registry.requests().len(), 0);
    machine.assert_verified(3);

    // A second time nothing is asked for but what is there.
    let (ran, document) = machine.json("plt cache-img --from engine");
    ran.assert_success();
    assert_eq!(states(&document, "cached"), 3);
    assert_eq!((document["bytes_fetched"].as_u64(), rebuilt(&document)), (Some(0), vec![true; 3]));
    let text = machine.run("plt cache-img --from engine");
    text.assert_success();
    assert!(text.stderr.contains("3 of 3 rebuilt"), "{text}");

    // It says so wherever the image is shown.
    let (_, listed) = machine.json("cache ls-img");
    assert_eq!(rebuilt(&listed), [true; 3]);
    let vouched = |at: usize| listed["images"][at]["vouched"][0].as_str().unwrap().to_owned();
    assert!((0..3).all(|at| listed["images"][at]["reference"].as_str().unwrap().ends_with(&vouched(at))));
    assert_eq!(machine.run("cache ls-img").stdout.matches("  rebuilt").count(), 3);
    let (ran, status) = machine.json("plt status");
    ran.assert_success();
    assert_eq!(rebuilt(&status), [true; 3]);
    // Offline it counts.
    machine.run("plt cache-img --offline").assert_success();
    let (ran, loaded) = machine.json("plt load-img");
    ran.assert_success();
    assert_eq!((states(&loaded, "present"), rebuilt(&loaded)), (3, vec![true; 3]));

    // An engine that has none of it gets it under its tags.
    let mut other = Dockerd::debian().unwrap();
    let loads = |words: &str, engine: &Dockerd| {
        let mut command = machine.command(words);
        let output = command.env("DOCKER_HOST", engine.host()).output().unwrap();
        (output.status.code(), show(&output))
    };
    let (code, text) = loads("plt load-img", &other);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("rebuilt from an engine: only `cache-img`"), "{text}");
    for image in &set.images {
        other.docker().unwrap().create_never(&image.tagged()).unwrap().assert_success();
    }
    other.stop();

    // Where there is a network, what the registry has takes its place.
    let (ran, document) = machine.json("plt cache-img");
    ran.assert_success();
    assert_eq!((states(&document, "fetched"), rebuilt(&document)), (3, vec![false; 3]));
    assert!(registry.requests().len() > 3);
    machine.run("cache del-img caddy:2.6.2").assert_success();
    machine.assert_verified(2);
    // Now the layers are in the cache, and all of the image but its manifest.
    let (ran, document) = machine.json("plt cache-img --from engine");
    ran.assert_success();
    assert_eq!((states(&document, "cached"), states(&document, "fetched")), (2, 1));
    drop(engine);
}

#[test]
fn all_that_a_containerd_store_has_comes_as_the_registry_had_it() {
    require_real!(Part::Docker28);
    let (from, engine) = (Machine::new(), Dockerd::forky(Store::Containerd).unwrap());
    let registry = Registry::start().unwrap();
    let set = ImageSet::build(&["acme/one:1", "acme/two:2", "acme/three:3"], &Shape::small()).unwrap();
    let pins = from.pallet_in(&registry, &set);
    let mut from = from;
    from.set("DOCKER_HOST", engine.host());
    from.run("plt cache-img").assert_success();
    from.run("plt load-img").assert_success();

    let mut to = Machine::new();
    to.set("DOCKER_HOST", engine.host());
    to.pallet_of(&pins);
    registry.clear_requests();
    let (ran, document) = to.json("cache add-img --from engine --all");
    ran.assert_success();
    assert_eq!((states(&document, "fetched"), rebuilt(&document)), (3, vec![false; 3]), "{ran}");
    // The pins mean the same, and are at hand.
    let (ran, document) = to.json("plt cache-img --from engine --offline");
    ran.assert_success();
    assert_eq!((states(&document, "fetched"), document["bytes_fetched"].as_u64()), (3, Some(0)), "{ran}");
    to.assert_verified(6);
    let blobs = |machine: &Machine| {
        let files = fs::read_dir(machine.layout().join("blobs/sha256")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(blobs(&from), blobs(&to));
    assert_eq!(registry.requests().len(), 0);

    // Into another engine, by their pins.
    let podman = Podman::start().unwrap();
    to.set("DOCKER_HOST", podman.host());
    to.run("plt load-img").assert_success();
    for pin in &pins {
        podman.create_never(pin).unwrap().assert_success();
    }
}

#[test]
fn what_the_engine_does_not_have_is_missing() {
    require_real!(Part::Docker20);
    let (machine, _, _, engine) = device();
    let (ran, document) = machine.json("cache add-img --from engine caddy:absent acme/one:1");
    ran.assert_code(3);
    let images = document["images"].as_array().unwrap();
    // Pulled by its pin alone, it has no tag in this engine.
    for image in images {
        assert_eq!((&image["state"], &image["error"]["code"]), (&"failed".into(), &"not-found".into()));
    }
    assert!(ran.stderr.contains("the engine does not have caddy:absent"), "{ran}");
    let ran = machine.run("cache add-img --all");
    ran.assert_code(2);
    assert!(ran.stderr.contains("--from engine"), "{ran}");
    machine.run("cache add-img --from engine --all caddy:2").assert_code(2);
    machine.run("cache add-img --from engine").assert_code(2);
    let (ran, document) = machine.json("cache add-img --from engine --all");
    ran.assert_success();
    assert_eq!(states(&document, "fetched"), 3);
    let ran = machine.run("cache add-img --from engine --all --platform linux/arm64");
    ran.assert_success();
    assert_eq!(ran.stderr.matches("left out").count(), 3, "{ran}");
    let ran = machine.run("plt cache-img --from engine --platform linux/arm64");
    assert!(
        ran.stderr.contains("error: caddy:2.6.2@sha256:") && ran.stderr.contains(", needed by "),
        "{ran}"
    );
    drop(engine);
    machine.run("cache add-img --from engine caddy:2.6.2").assert_code(5);
}

/// What a proxy does when it has passed on its share.
#[derive(Clone, Copy)]
enum Then {
    Stall,
    Break,
}

/// A socket in front of an engine's that passes on only so many bytes of an answer. Says when it has come to that.
fn proxy(machine: &Machine, engine: &Path, limit: usize, then: Then) -> (PathBuf, Receiver<()>) {
    let path = machine.sandbox.root().join(format!("proxy-{limit}-{}.sock", matches!(then, Then::Stall)));
    let listener = UnixListener::bind(&path).unwrap();
    let (reached, heard) = channel();
    let engine = engine.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&engine).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let reached = reached.clone();
            std::thread::spawn(move || answer(server, client, limit, then, &reached));
        }
    });
    (path, heard)
}

fn answer(mut server: UnixStream, mut client: UnixStream, limit: usize, then: Then, reached: &Sender<()>) {
    let (mut passed, mut piece) = (0, vec![0; 16 << 10]);
    while let Ok(read @ 1..) = server.read(&mut piece) {
        if client.write_all(&piece[..read]).is_err() {
            return;
        }
        passed += read;
        if passed >= limit {
            let _ = reached.send(());
            if matches!(then, Then::Stall) {
                // Until the other side has gone.
                let _ = client.read(&mut piece);
            }
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn a_run_that_is_killed_or_cut_off_midway_leaves_nothing_behind() {
    require_real!(Part::Docker20);
    let shape = Shape { app_bytes: 3_000_000, ..gzip() };
    let set = ImageSet::build(&["acme/large:1"], &shape).unwrap();
    let registry = Registry::start().unwrap();
    registry.publish_all(&set);
    let args = vec!["--registry-mirror".to_owned(), registry.url()];
    let engine = Dockerd::debian_with(DockerdOptions { args, ..DockerdOptions::default() }).unwrap();
    engine.docker().unwrap().run(&["pull", &set.images[0].tagged()]).unwrap().assert_success();
    let machine = Machine::new();
    let places = || fs::read_dir(machine.sandbox.cache().join("state/scratch")).map_or(0, Iterator::count);
    let words = "cache add-img --from engine acme/large:1";
    for (signal, limit, code, left) in [
        (Signal::KILL, 1_000_000, None, 1),
        (Signal::KILL, 2_000_000, None, 1),
        (Signal::INT, 1_500_000, Some(130), 0),
    ] {
        let (socket, heard) = proxy(&machine, &engine.socket(), limit, Then::Stall);
        let mut command = machine.command(words);
        let child = command.env("DOCKER_HOST", format!("unix://{}", socket.display())).spawn().unwrap();
        heard.recv().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{}", show(&output));
        // What the killed run before has left is gone with the next one.
        assert_eq!(places(), left);
        let listed = fs::read_dir(machine.layout().join("blobs/sha256")).unwrap().count();
        assert_eq!(listed, 0, "content got a name before all of it had come");
        machine.run("cache verify").assert_code(3);
    }
    let (socket, _heard) = proxy(&machine, &engine.socket(), 1_000_000, Then::Break);
    let output =
        machine.command(words).env("DOCKER_HOST", format!("unix://{}", socket.display())).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", show(&output));
    assert!(show(&output).contains("the connection to the engine broke"), "{}", show(&output));
    assert_eq!(places(), 0);

    let output = machine.command(words).env("DOCKER_HOST", engine.host()).output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    assert_eq!(places(), 0);
    machine.assert_verified(1);
}
