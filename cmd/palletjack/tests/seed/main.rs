//! A card that is built, from a pallet to an engine that resolves all of it at its first start.
//!
//! ```text
//!   hooks      the guide's examples: an image file, a stage of pi-gen
//!   workflow   the guide's example of a GitHub workflow
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(dead_code, reason = "the machine is made for other tests as well")]

mod hooks;
#[path = "../it/machine.rs"]
mod machine;
mod workflow;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use machine::Machine;
use palletjack_testkit::image::{ImageSet, Shape};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Forky, Part, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const NAMES: [&str; 4] = ["caddy:2.6.2", "ghcr.io/acme/two:1", "ghcr.io/acme/three:v3", "acme/four:1"];

/// A machine whose pallet pins these images, and a card with Docker on it.
struct Card {
    machine: Machine,
    set: ImageSet,
    registry: Registry,
    root: PathBuf,
}

impl Card {
    fn new(architecture: &str, docker: &str) -> Self {
        let machine = Machine::new();
        let set = ImageSet::build(&NAMES, &Shape { zstd: false, ..Shape::small() }).unwrap();
        let registry = Registry::start().unwrap();
        registry.publish_all(&set);
        machine.mirror(&registry.url());
        machine
            .pallet_of(&set.images.iter().map(palletjack_testkit::image::Image::pinned).collect::<Vec<_>>());
        let root = machine.sandbox.root().join("card");
        let card = Self { machine, set, registry, root };
        let machine_number: u16 = if architecture == "arm64" { 183 } else { 62 };
        let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
        program.extend(machine_number.to_le_bytes());
        card.write("usr/bin/env", &program);
        if !docker.is_empty() {
            card.write("usr/sbin/dockerd", &program);
            let status = format!("Package: docker.io\nStatus: install ok installed\nVersion: {docker}\n");
            card.write("var/lib/dpkg/status", status.as_bytes());
        }
        card
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn data_root(&self) -> PathBuf {
        self.root.join("var/lib/docker")
    }

    /// `seed` onto the card, of the workspace's pallet.
    fn words(&self, more: &str) -> String {
        let pallet = self.machine.sandbox.pallet();
        format!("seed --root {} --plt {} {more}", self.root.display(), pallet.display())
    }

    fn options(&self) -> DockerdOptions {
        DockerdOptions { data_root: Some(self.data_root()), ..DockerdOptions::default() }
    }

    /// Every file of the card, with its size.
    fn listing(&self) -> String {
        let listed = self.machine.run_other("find", &[self.root.to_str().unwrap(), "-printf", "%p %s %T@\n"]);
        listed.ok().unwrap()
    }
}

fn states(document: &Value) -> Vec<&str> {
    document["images"].as_array().unwrap().iter().map(|image| image["state"].as_str().unwrap()).collect()
}

#[test]
fn a_card_is_ready_for_its_first_boot() {
    require_real!(Part::Docker20);
    let card = Card::new("amd64", "20.10.24+dfsg1-1+b3");
    let ran = card.machine.run(&card.words(""));
    ran.assert_code(3);
    assert!(ran.stderr.contains("the cache at"), "{ran}");
    let (ran, cached) = card.machine.json("plt cache-img");
    ran.assert_success();
    let before = card.listing();

    let (ran, plan) = card.machine.json(&card.words("--dry-run"));
    ran.assert_success();
    assert_eq!((&plan["schema"], &plan["done"]), (&"palletjack.seed-plan/1".into(), &false.into()));
    assert_eq!(plan["store"], "graph driver");
    let missing: u64 =
        plan["images"].as_array().unwrap().iter().map(|i| i["missing"].as_u64().unwrap()).sum();
    let layers: u64 = card.set.layers("linux/amd64").values().map(|layer| layer.blob.size()).sum();
    assert_eq!(missing, layers);
    assert_eq!(card.listing(), before, "a rehearsal changed the card");

    // By the registry's own bytes: the network is not asked.
    card.registry.clear_requests();
    let (ran, document) = card.machine.json(&card.words("--parallel=2"));
    ran.assert_success();
    assert_eq!(card.registry.requests().len(), 0);
    assert_eq!(document["schema"], "palletjack.seed/1");
    assert_eq!(states(&document), ["seeded"; 4], "{ran}");
    assert!(document["images"].as_array().unwrap().iter().all(|image| image["resolves"] == true), "{ran}");
    let summary = &document["summary"];
    assert_eq!((&summary["seeded"], &summary["layers"]), (&4.into(), &layers.into()), "{summary}");
    assert!(summary["shared_saved"].as_u64().unwrap() > 0, "{summary}");
    for what in ["layers", "shared_saved"] {
        assert_eq!(cached[what], summary[what], "{cached}");
    }
    assert!(cached["space_free"].as_u64().unwrap() > 0, "{cached}");
    let ran = card.machine.run("plt cache-img");
    assert!(ran.stderr.contains("saved by sharing"), "{ran}");
    assert_eq!(document["durability"]["protected"], true);

    let mut engine = Dockerd::debian_with(card.options()).unwrap();
    let docker = engine.docker().unwrap();
    for image in &card.set.images {
        docker.create_never(&image.pinned()).unwrap().assert_success();
        docker.create_never(&image.tagged()).unwrap().assert_success();
    }
    // What runs is not touched.
    let ran = card.machine.run(&card.words(""));
    ran.assert_code(5);
    assert!(ran.stderr.contains("is in use by dockerd (process"), "{ran}");
    engine.stop();

    let ran = card.machine.run(&card.words(""));
    ran.assert_success();
    assert!(ran.stderr.contains("all 4 images were there: no engine was started"), "{ran}");
    let (ran, document) = card.machine.json(&card.words(""));
    ran.assert_success();
    assert_eq!((states(&document), document.get("engine")), (vec!["present"; 4], None), "{ran}");
    let (_, plan) = card.machine.json(&card.words("--dry-run"));
    assert_eq!(plan["done"], true);
    // As the unit before docker.service does, which knows the data root alone.
    let ran = card.machine.run(&format!("seed --data-root {}", card.data_root().display()));
    ran.assert_success();
    assert!(ran.stderr.contains("no engine was started"), "{ran}");
}

/// The processor is the card's, whatever this machine's is; the containerd store what its settings say.
#[test]
fn a_card_for_another_processor() {
    require_real!(Part::Docker28);
    let mut card = Card::new("arm64", "28.5.2");
    card.machine.unset("PALLETJACK_PLATFORM");
    card.write("etc/docker/daemon.json", br#"{"features":{"containerd-snapshotter":true}}"#);
    card.write("lib/systemd/system/containerd.service", b"[Service]\nExecStart=/usr/bin/containerd\n");
    let toml = b"version = 2\nroot = \"/var/lib/docker/private-containerd\"\n";
    card.write("etc/containerd/config.toml", toml);
    // The generated images with a single manifest are for amd64.
    let pinned: Vec<String> = card
        .set
        .images
        .iter()
        .filter(|image| image.platform("linux/arm64/v8").is_some())
        .map(palletjack_testkit::image::Image::pinned)
        .collect();
    assert!(pinned.len() > 1);
    card.machine.pallet_of(&pinned);
    card.machine.run("plt cache-img --platform linux/arm64").assert_success();
    let docker = Forky::install().unwrap().directory().join("docker/usr");
    let engine = format!("--engine-path {0}/sbin --engine-path {0}/bin", docker.display());
    let (ran, document) = card.machine.json(&card.words(&engine));
    ran.assert_success();
    assert_eq!((&document["store"], &document["platform"]), (&"containerd".into(), &"linux/arm64".into()));
    assert_eq!(states(&document), vec!["seeded"; pinned.len()], "{ran}");
    let engine = Dockerd::forky_with(Store::Containerd, card.options()).unwrap();
    let docker = engine.docker().unwrap();
    for name in &pinned {
        let args = ["create", "--pull", "never", "--platform", "linux/arm64", "--network", "none", name];
        docker.run(&args).unwrap().assert_success();
    }
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_changed() {
    let card = Card::new("amd64", "20.10.24");
    card.machine.run("plt cache-img").assert_success();
    let before = card.listing();
    let root = card.root.display();
    let bare = card.machine.sandbox.root().join("bare");
    fs::create_dir(&bare).unwrap();
    for (words, code, want) in [
        (format!("seed --root {} caddy:2.6.2", bare.display()), 2, "install one there first"),
        (format!("seed --root {root}/absent"), 2, "no directory with a system in it"),
        (format!("seed --root {root} --data-root {root}"), 2, "cannot be used with"),
        ("seed --plt .".to_owned(), 2, "--data-root"),
        (format!("seed --root {root} --stage caddy:2.6.2"), 2, "cannot be used with"),
        (format!("seed --root {root} --store containerd"), 2, "containerd-snapshotter"),
        (format!("seed --root {root} --platform linux/arm64"), 1, "the system is linux/amd64"),
        (format!("seed --root {root} caddy:absent"), 3, "not in the cache"),
    ] {
        let ran = card.machine.run(&words);
        ran.assert_code(code);
        assert!(ran.stderr.contains(want), "{ran}");
    }
    // All that is missing, with who wants it.
    let mut images: Vec<String> =
        card.set.images.iter().map(palletjack_testkit::image::Image::pinned).collect();
    images.extend(["busybox:absent".to_owned(), "ghcr.io/acme/none:1".to_owned()]);
    card.machine.pallet_of(&images);
    let ran = card.machine.run(&card.words(""));
    ran.assert_code(3);
    assert!(ran.stderr.contains("2 of 6 images are not in the cache"), "{ran}");
    for missing in ["busybox:absent (needed by app-4)", "ghcr.io/acme/none:1 (needed by app-5)"] {
        assert!(ran.stderr.contains(missing), "{ran}");
    }
    assert_eq!(card.listing(), before);
}

#[test]
fn only_root_can_do_it() {
    let machine = Machine::new();
    let words = ["env", "-i", machine::PROGRAM, "seed", "--root", "/nowhere"];
    let ran = if rustix::process::geteuid().is_root() {
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        machine.run_other("setpriv", &[&user[..], &words].concat())
    } else {
        machine.run_other(words[0], &words[1..])
    };
    ran.assert_code(1);
    assert!(ran.stderr.contains("run it with sudo"), "{ran}");
}

/// Ctrl-C: the private engine ends in order, and what it was given so far stays.
#[test]
fn an_interrupted_run_is_gone_on_with() {
    require_real!(Part::Docker20);
    let card = Card::new("amd64", "20.10.24");
    card.machine.run("plt cache-img").assert_success();
    let mut command = card.machine.command(&card.words("--progress json --parallel=1"));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("image-done")));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    // Nobody is left who has the data root.
    assert!(!in_use(&card.data_root()));
    let (ran, document) = card.machine.json(&card.words(""));
    ran.assert_success();
    assert!(states(&document).contains(&"present"), "{ran}");
}

#[test]
fn progress_is_bars_on_a_terminal_and_lines_elsewhere() {
    require_real!(Part::Docker20);
    let mut card = Card::new("amd64", "20.10.24");
    card.machine.run("plt cache-img").assert_success();
    card.machine.set("TERM", "xterm");
    let words = format!("{} {}", machine::PROGRAM, card.words(""));
    // `script` gives the program a terminal and copies what it draws there to its own output.
    let drawn = card.machine.run_other("/usr/bin/script", &["-qec", &words, "/dev/null"]);
    drawn.assert_success();
    assert!(drawn.stdout.contains("/4 images") && drawn.stdout.contains('\u{1b}'), "{drawn}");
    assert!(!drawn.stdout.contains(": loaded"), "bars or lines, not both: {drawn}");
    assert!(drawn.stdout.contains("saved by sharing"), "{drawn}");

    fs::remove_dir_all(card.data_root()).unwrap();
    let lines = card.machine.run(&card.words("--progress plain"));
    lines.assert_success();
    assert_eq!(lines.stderr.lines().filter(|line| line.contains(": loaded, ")).count(), 4, "{lines}");
    for part in ["4 seeded by a private", "saved by sharing", "taken on the card"] {
        assert!(lines.stderr.contains(part), "{lines}");
    }
    assert_eq!(lines.stdout, "");
}

/// Whether a process was told this data root.
fn in_use(data_root: &Path) -> bool {
    let root = data_root.to_string_lossy().into_owned();
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let is_daemon =
            fs::read_to_string(process.path().join("comm")).unwrap_or_default().contains("docker");
        is_daemon && String::from_utf8_lossy(&words).contains(&root)
    })
}
