//! Pins on an engine that keeps no digests, from end to end: by the engine's own mirror, live, by Compose files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(dead_code, reason = "the machine is made for other tests as well")]

#[path = "../it/machine.rs"]
mod machine;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;

use machine::Machine;
use palletjack_testkit::engine::{Engine, Profile};
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Forky, Part};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const HOSTS: &str = "127.0.0.1 localhost\n";
const INSIDE: &str = "PALLETJACK_TEST_NAMESPACE";

/// A machine whose cache has the images of these references, each pinned by a deployment `app-0`, `app-1`, …
fn cached(references: &[&str]) -> (Machine, ImageSet) {
    let machine = Machine::new();
    let set = ImageSet::build(references, &Shape { zstd: false, ..Shape::small() }).unwrap();
    let registry = Registry::start().unwrap();
    registry.publish_all(&set);
    machine.mirror(&registry.url());
    machine.pallet_of(&set.images.iter().map(palletjack_testkit::image::Image::pinned).collect::<Vec<_>>());
    machine.run("plt cache-img").assert_success();
    (machine, set)
}

fn ways(document: &Value) -> Vec<Option<&str>> {
    document["images"].as_array().unwrap().iter().map(|image| image["way"].as_str()).collect()
}

fn resolve(document: &Value) -> Vec<bool> {
    document["images"].as_array().unwrap().iter().map(|image| image["resolves"].as_bool().unwrap()).collect()
}

#[test]
fn the_engines_own_mirror_is_used_without_being_asked_for() {
    require_real!(Part::Docker20);
    let (mut machine, set) = cached(&["caddy:2.6.2", "ghcr.io/acme/two:1"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let args = vec!["--registry-mirror".to_owned(), format!("http://{free}")];
    let engine = Dockerd::debian_with(DockerdOptions { args, ..DockerdOptions::default() }).unwrap();
    machine.set("DOCKER_HOST", engine.host());
    // The other's registry has no mirrors: it would not run as it is written.
    let (ran, document) = machine.json("plt load-img");
    ran.assert_code(5);
    assert_eq!(ways(&document), [Some("re-pinned by pull"), None], "{ran}");
    assert_eq!(resolve(&document), [true, false]);
    assert!(
        ran.stderr
            .contains(&format!("re-pinned by pull: 1 of 1 pins of docker.io, through its mirror {free}")),
        "{ran}"
    );
    let docker = engine.docker().unwrap();
    docker.create_never(&set.images[0].pinned()).unwrap().assert_success();
    docker.create_never(&set.images[0].tagged()).unwrap().assert_success();
    assert!(!docker.create_never(&set.images[1].pinned()).unwrap().success());
    // In words: what to do for the other.
    let ran = machine.run("plt load-img");
    ran.assert_code(5);
    assert!(
        ran.stderr.contains("load-img --repin live") && ran.stderr.contains("--compose-override"),
        "{ran}"
    );
}

#[test]
fn compose_files_name_what_runs() {
    require_real!(Part::Docker20, Part::Docker28);
    let (mut machine, set) = cached(&["caddy:2.6.2", "ghcr.io/acme/two:1"]);
    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let forky = Forky::install().unwrap();
    let ran = machine.run("plt load-img --dry-run");
    ran.assert_success();
    assert!(ran.stderr.contains("by the load alone, 2 pinned references would not resolve"), "{ran}");
    let ran = machine.run("plt load-img --compose-override overrides");
    ran.assert_success();
    // What is loaded by now resolves no more than before.
    let planned = machine.run("plt load-img --dry-run");
    assert!(planned.stderr.contains("2 pinned references would not resolve"), "{planned}");
    assert!(ran.stderr.contains("each service has the very image that its reference pins"), "{ran}");
    let status = machine.run("plt status");
    status.assert_code(3);
    assert!(
        status.stderr.contains("--repin live") && !status.stderr.contains("`load-img` loads"),
        "{status}"
    );
    for (i, image) in set.images.iter().enumerate() {
        let package = machine.sandbox.pallet().join(format!("packages/app-{i}"));
        let created = |files: &[&str]| {
            let args = [&["-p", "test"], files, &["create", "--pull", "never"]].concat();
            engine.compose(&forky, &package, &args).unwrap()
        };
        assert!(!created(&["-f", "compose.yml"]).success(), "the pin resolves without help");
        let file = machine.sandbox.home().join(format!("overrides/app-{i}.yml"));
        let written = fs::read_to_string(&file).unwrap();
        let id = image.platform("linux/amd64").unwrap().config.to_string();
        assert!(written.contains(&id) && written.contains(&image.top.digest.to_string()), "{written}");
        assert!(ran.stderr.contains(&format!("app-{i}: add `-f overrides/app-{i}.yml`")), "{ran}");
        created(&["-f", "compose.yml", "-f", file.to_str().unwrap()]).assert_success();
        let docker = engine.docker().unwrap();
        let container = docker.run(&["ps", "--all", "--quiet", "--no-trunc"]).unwrap().ok().unwrap();
        let runs =
            docker.run(&["inspect", "--format", "{{.Image}}", container.trim()]).unwrap().ok().unwrap();
        assert_eq!(runs.trim(), id);
        docker.run(&["rm", container.trim()]).unwrap().assert_success();
    }
    // One deployment: one file.
    machine.pallet_of(&[set.images[0].pinned()]);
    machine.run("plt load-img --compose-override one.yml").assert_success();
    assert!(fs::read_to_string(machine.sandbox.home().join("one.yml")).unwrap().contains("service-0"));
    // What is not in the engine cannot be named.
    machine.pallet_of(&["caddy:absent"]);
    machine.run("plt load-img --compose-override other.yml").assert_code(3);
    assert!(!machine.sandbox.home().join("other.yml").exists());
}

/// Runs the test again in mount and network namespaces of its own, with its own `/etc` and `/var/lib`.
fn inside(test: &str) -> bool {
    if std::env::var(INSIDE).is_ok() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--"]).arg(std::env::current_exe().unwrap());
    let ran = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && told.contains("1 passed"), "{told}\n{wrong}");
    false
}

fn furnish(machine: &Machine) {
    let etc = machine.sandbox.root().join("etc");
    let etc = etc.to_str().unwrap();
    for words in [
        "ip link set lo up".to_owned(),
        format!("cp --archive /etc {etc}"),
        format!("mount --bind {etc} /etc"),
        "mount -t tmpfs tmpfs /var/lib".to_owned(),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
    }
    // By the copy's own path: this machine's file is not touched, whatever becomes of the mount.
    fs::remove_file(format!("{etc}/hosts")).unwrap();
    fs::write(format!("{etc}/hosts"), HOSTS).unwrap();
}

#[test]
fn a_running_engine_is_led_to_the_cache_when_that_is_asked_for() {
    require_real!(Part::Docker20);
    if !inside("a_running_engine_is_led_to_the_cache_when_that_is_asked_for") {
        return;
    }
    let home = Machine::new();
    furnish(&home);
    let (mut machine, set) = cached(&["caddy:2.6.2", "ghcr.io/acme/two:1", "ghcr.io/acme/three:3"]);
    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let config = engine.socket().with_file_name("daemon.json");
    let before = fs::read_to_string(&config).unwrap();
    let as_before = || {
        assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), HOSTS);
        assert_eq!(fs::read_to_string(&config).unwrap(), before);
        assert!(!fs::exists("/var/lib/palletjack/repin.json").unwrap());
    };
    machine.run("plt load-img").assert_code(5);

    // Another program has the port: nothing is changed, and the images are there.
    let other = std::net::TcpListener::bind("0.0.0.0:80").unwrap();
    let ran = machine.run("plt load-img --repin live");
    ran.assert_code(5);
    assert!(ran.stderr.contains("127.0.0.5:80 cannot be listened on"), "{ran}");
    as_before();
    drop(other);

    let (ran, document) = machine.json("plt load-img --repin live");
    ran.assert_success();
    assert_eq!(resolve(&document), [true; 3], "{ran}");
    assert_eq!(ways(&document), [Some("re-pinned live"); 3], "{ran}");
    for line in ["every program on this machine resolves ghcr.io to 127.0.0.5", "everything is as before"] {
        assert!(ran.stderr.contains(line), "{ran}");
    }
    as_before();
    let docker = engine.docker().unwrap();
    for image in &set.images {
        docker.create_never(&image.pinned()).unwrap().assert_success();
        docker.create_never(&image.tagged()).unwrap().assert_success();
    }

    // Stopped while the machine is changed, politely or not.
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        for image in &set.images {
            let name = image.pinned().replace(":2.6.2@", "@").replace(":1@", "@").replace(":3@", "@");
            // Where the run before was stopped early, there is none.
            docker.run(&["rmi", &name]).unwrap();
            assert!(!docker.create_never(&image.pinned()).unwrap().success());
        }
        let mut child = machine.command("plt load-img --repin live").spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("re-pinning live")));
        kill_process(Pid::from_child(&child), signal).unwrap();
        // To the end, so that it does not stand still for want of a reader.
        assert!(lines.all(|line| line.is_ok()));
        assert_eq!(child.wait().unwrap().code(), code);
        if code.is_some() {
            as_before();
        }
    }
    // The next run, whatever it is for, puts back what the killed one left.
    machine.run("plt load-img").assert_code(5);
    as_before();
    assert!(engine.info().unwrap()["RegistryConfig"]["Mirrors"].as_array().is_none_or(Vec::is_empty));
}

/// All of a real pallet, zstd layers included: every pin resolves, and Compose takes the unchanged files.
#[test]
fn a_real_pallet_runs_by_its_pins_on_a_graph_driver() {
    require_real!(Part::Docker20, Part::Docker28);
    if !inside("a_real_pallet_runs_by_its_pins_on_a_graph_driver") {
        return;
    }
    let forky = Forky::install().unwrap();
    let mut machine = Machine::new();
    furnish(&machine);
    let set = machine.standard_pallet(&Shape::small());
    let registry = Registry::start().unwrap();
    registry.publish_all(&set);
    machine.mirror(&registry.url());
    machine.run("plt cache-img").assert_success();
    drop(registry);

    let engine = Dockerd::debian().unwrap();
    machine.set("DOCKER_HOST", engine.host());
    let (ran, document) = machine.json("plt load-img --repin live");
    ran.assert_success();
    assert_eq!(ways(&document), [Some("re-pinned live"); 13], "{ran}");
    let docker = engine.docker().unwrap();
    for image in &set.images {
        docker.create_never(&image.pinned()).unwrap().assert_success();
        docker.create_never(&image.tagged()).unwrap().assert_success();
    }
    // A second run has nothing to do, and says so by changing nothing.
    let (ran, document) = machine.json("plt load-img --repin live");
    ran.assert_success();
    assert!(document["images"].as_array().unwrap().iter().all(|image| image["state"] == "present"), "{ran}");
    assert!(
        resolve(&document).iter().all(|resolves| *resolves) && !ran.stderr.contains("re-pinning"),
        "{ran}"
    );

    // The first two of them in a pallet of ours, whose files need nothing else of the machine.
    let pins: Vec<String> = set.images.iter().take(2).map(palletjack_testkit::image::Image::pinned).collect();
    machine.pallet_of(&pins);
    for i in 0..pins.len() {
        let package = machine.sandbox.pallet().join(format!("packages/app-{i}"));
        let args = ["-p", "test", "-f", "compose.yml", "create", "--pull", "never"];
        engine.compose(&forky, &package, &args).unwrap().assert_success();
    }
}

#[test]
fn what_cannot_be_repinned_is_refused_before_anything_is_loaded() {
    let (mut machine, _set) = cached(&["caddy:2.6.2"]);
    let engine = Engine::start(Profile::docker_20()).unwrap();
    // As a forwarded port reaches an engine on another machine.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    machine.set("DOCKER_HOST", format!("tcp://{}", listener.local_addr().unwrap()));
    let socket = engine.socket();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (far, near);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    let ran = machine.run("plt load-img --repin live");
    ran.assert_code(2);
    assert!(ran.stderr.contains("may be anywhere") && ran.stderr.contains("Run palletjack there"), "{ran}");
    assert!(engine.loads().is_empty());
    machine.run("plt load-img --daemon-config x.json").assert_code(2);
    machine.run("plt load-img --repin never").assert_code(2);
    machine.run("cache load-img --compose-override x.yml").assert_code(2);
}
