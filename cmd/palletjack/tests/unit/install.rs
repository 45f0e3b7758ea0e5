//! Units in trees.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use palletjack_testkit::Ran;

use crate::machine::{Machine, PROGRAM};
use crate::tree::{Tree, foreign_program};

const LOAD: &str = "palletjack-load.service";
const PINS: &str = "palletjack-pins.service";
const PINNED: &str = "caddy:2@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn install(machine: &Machine, tree: &Tree, more: &[&str]) -> Ran {
    let root = tree.root.to_str().unwrap();
    machine.run_args(&[&["unit", "--install", root], more].concat())
}

fn exec(tree: &Tree, unit: &str) -> String {
    let text = tree.unit(unit).unwrap();
    text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().to_owned()
}

#[test]
fn a_system_gets_the_units_that_it_needs() {
    let machine = Machine::new();
    let tree = Tree::new(&machine, &["dockerd", "palletjack"]);
    install(&machine, &tree, &["caddy:2"]).assert_success();
    assert_eq!((tree.unit(PINS), tree.wanted("docker.service", PINS)), (None, None));
    assert_eq!(
        exec(&tree, LOAD),
        "/usr/bin/palletjack --cache-dir /var/cache/palletjack cache load-img --wait=1min caddy:2"
    );

    let ran = install(&machine, &tree, &[PINNED]);
    assert!(ran.assert_success().stderr.contains("there is no cache at /var/cache/palletjack"), "{ran}");
    assert!(exec(&tree, PINS).ends_with(&format!("seed --root / {PINNED}")));
    for (unit, by) in [(PINS, "docker.service"), (LOAD, "multi-user.target")] {
        assert_eq!(tree.wanted(by, unit).unwrap(), Path::new("/etc/systemd/system").join(unit));
    }

    // Another store: what is not needed any more goes, but for what is not ours.
    tree.write("etc/docker/daemon.json", r#"{"features":{"containerd-snapshotter":true}}"#);
    let ran = install(&machine, &tree, &[PINNED]);
    assert!(ran.assert_success().stderr.contains(&format!("{PINS}: removed")), "{ran}");
    assert_eq!((tree.unit(PINS), tree.wanted("docker.service", PINS)), (None, None));
    tree.write(&format!("etc/systemd/system/{PINS}"), "[Service]\nExecStart=/bin/true\n");
    install(&machine, &tree, &[PINNED]).assert_success();
    assert!(tree.unit(PINS).is_some());

    fs::remove_file(tree.root.join("usr/bin/dockerd")).unwrap();
    tree.write("usr/bin/podman", "");
    install(&machine, &tree, &[PINNED]).assert_success();
    assert!(tree.unit(LOAD).unwrap().contains("\nAfter=podman.socket\n"));
}

#[test]
fn the_stage_store_of_the_tree_is_found() {
    let machine = Machine::new();
    let tree = Tree::new(&machine, &["dockerd", "palletjack"]);
    let manifest = "forklift-version: v0.7.0\n";
    tree.write("home/pi/.local/share/forklift/stages/forklift-stage-store.yml", manifest);
    let ran = install(&machine, &tree, &[]);
    ran.assert_success();
    let store = "--stage-store /home/pi/.local/share/forklift/stages stage load-img --wait=1min";
    assert!(exec(&tree, LOAD).ends_with(store), "{ran}");

    tree.write("var/lib/forklift/stages/forklift-stage-store.yml", manifest);
    let ran = install(&machine, &tree, &[]);
    ran.assert_code(2);
    assert!(ran.stderr.contains("several stage stores"), "{ran}");
    // As this machine sees it, and as the device does.
    let here = tree.root.join("var/lib/forklift/stages");
    for place in [here.to_str().unwrap(), "/var/lib/forklift/stages"] {
        install(&machine, &tree, &["--stage-store", place]).assert_success();
        assert!(exec(&tree, LOAD).contains("--stage-store /var/lib/forklift/stages stage"));
    }
}

#[test]
fn the_program_is_copied_and_must_fit() {
    let machine = Machine::new();
    let tree = Tree::new(&machine, &["dockerd"]);
    let before = tree.paths();
    let ran = install(&machine, &tree, &[]);
    ran.assert_code(2);
    assert!(ran.stderr.contains("there is no palletjack in") && ran.stderr.contains("--binary"), "{ran}");

    let foreign = foreign_program(&machine);
    for (program, what) in [(foreign.to_str().unwrap(), "is a program for"), ("/etc/passwd", "is no program")]
    {
        let ran = install(&machine, &tree, &["--binary", program]);
        ran.assert_code(2);
        assert!(ran.stderr.contains(what), "{ran}");
    }
    install(&machine, &tree, &["--binary", "/no/such/file"]).assert_code(1);
    assert_eq!(tree.paths(), before, "nothing was changed");

    install(&machine, &tree, &["--binary", PROGRAM]).assert_success();
    let copy = tree.root.join("usr/local/bin/palletjack");
    assert!(fs::read(&copy).unwrap() == fs::read(PROGRAM).unwrap());
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(exec(&tree, LOAD).starts_with("/usr/local/bin/palletjack "));
}

#[test]
fn nothing_is_written_outside_of_the_tree_or_over_a_mask() {
    let machine = Machine::new();
    let tree = Tree::new(&machine, &["dockerd", "palletjack"]);
    let outside = machine.sandbox.root().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(tree.root.join("etc/systemd")).unwrap();
    symlink(&outside, tree.root.join("etc/systemd/system")).unwrap();
    install(&machine, &tree, &["caddy:2"]).assert_code(1);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    // An absolute link of the tree's means a place in the tree.
    fs::remove_file(tree.root.join("etc/systemd/system")).unwrap();
    fs::create_dir_all(tree.root.join("data/units")).unwrap();
    symlink("/data/units", tree.root.join("etc/systemd/system")).unwrap();
    install(&machine, &tree, &["caddy:2"]).assert_success();
    let unit = tree.root.join("data/units").join(LOAD);
    assert!(unit.is_file());

    fs::remove_file(&unit).unwrap();
    symlink("/dev/null", &unit).unwrap();
    let ran = install(&machine, &tree, &["caddy:2"]);
    ran.assert_code(2);
    assert!(ran.stderr.contains("is masked"), "{ran}");
    assert_eq!(fs::read_link(&unit).unwrap(), Path::new("/dev/null"));
}

#[test]
fn a_directory_that_is_no_system_is_refused() {
    let machine = Machine::new();
    let tree = Tree::new(&machine, &["palletjack"]);
    for (root, what) in [
        (tree.root.to_str().unwrap(), "neither Docker nor Podman"),
        (machine.sandbox.home().to_str().unwrap(), "there is no systemd"),
        ("/no/such/directory", "cannot be opened"),
    ] {
        let ran = machine.run_args(&["unit", "--install", root]);
        ran.assert_code(2);
        assert!(ran.stderr.contains(what), "{ran}");
    }
    // It will have one.
    install(&machine, &tree, &["--engine", "docker", "caddy:2"]).assert_success();
}
