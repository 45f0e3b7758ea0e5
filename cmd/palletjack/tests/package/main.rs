//! What is released, as its users get it: `PALLETJACK_DIST` names the directory that `cargo xtask dist` filled.
//!
//! `cargo xtask soak dist` makes it and runs these. Without it they say that they were skipped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[allow(dead_code, reason = "the machine is made for other tests as well")]
#[path = "../it/machine.rs"]
mod machine;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use palletjack_testkit::real::{BootEngine, BootTree, Part, Target};
use palletjack_testkit::{Ran, require_real};

use crate::machine::Machine;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const UNITS: [&str; 3] = ["palletjack-load.service", "palletjack-pins.service", "palletjack-fill.service"];

/// The release, if there is one.
fn release() -> Option<PathBuf> {
    let directory = env::var_os("PALLETJACK_DIST").map(PathBuf::from);
    if directory.is_none() {
        // Straight to the stream: what a test prints is captured, and a skipped test must be seen.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: PALLETJACK_DIST names no release; `cargo xtask soak dist` does"
        );
    }
    directory
}

fn deb(release: &Path, target: Target) -> PathBuf {
    release.join(format!("palletjack_{VERSION}-1_{}.deb", target.debian()))
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let ran = Machine::new().run_other(program, args);
    ran.assert_success();
    ran.stdout
}

/// Files, links and what they lead to; no directories, of which packages share some.
fn files(root: &Path) -> BTreeSet<String> {
    let listed = run("find", &[root.to_str().unwrap(), "-xdev", "!", "-type", "d", "-printf", "/%P -> %l\n"]);
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn a_debian_package_says_what_it_needs_and_keeps_to_debians_places() {
    let Some(release) = release() else { return };
    for target in Target::ALL {
        let path = deb(&release, target);
        let path = path.to_str().unwrap();
        let field = |name: &str| run("dpkg-deb", &["--field", path, name]).trim().to_owned();
        assert_eq!(field("Package"), "palletjack");
        assert_eq!(field("Version"), format!("{VERSION}-1"));
        assert_eq!(field("Architecture"), target.debian());
        assert_eq!(field("Depends"), "libc6 (>= 2.31), libgcc-s1");
        assert!(field("Suggests").contains("docker.io"), "{path}");
        assert!(field("Maintainer").contains('@') && field("Description").lines().count() > 2, "{path}");
        let contents = run("dpkg-deb", &["--contents", path]);
        let mut names = Vec::new();
        for line in contents.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (mode, owner, name) = (words[0], words[1], words[5]);
            assert!(matches!(owner, "root/root" | "0/0"), "{line}");
            let expected = match (mode.starts_with('d'), name) {
                (true, _) => "drwxr-xr-x",
                (false, "./usr/bin/palletjack") => "-rwxr-xr-x",
                (false, _) => "-rw-r--r--",
            };
            assert_eq!(mode, expected, "{line}");
            assert!(name == "./" || name.starts_with("./usr/"), "{line}");
            names.push(name.to_owned());
        }
        let mut wanted = vec![
            "usr/bin/palletjack".to_owned(),
            "usr/share/man/man1/palletjack.1.gz".to_owned(),
            "usr/share/man/man1/palletjack-plt-load-img.1.gz".to_owned(),
            "usr/share/bash-completion/completions/palletjack".to_owned(),
            "usr/share/zsh/vendor-completions/_palletjack".to_owned(),
            "usr/share/fish/vendor_completions.d/palletjack.fish".to_owned(),
            "usr/share/doc/palletjack/copyright".to_owned(),
            "usr/share/doc/palletjack/changelog.Debian.gz".to_owned(),
        ];
        wanted.extend(UNITS.map(|unit| format!("usr/lib/systemd/system/{unit}")));
        for name in wanted {
            assert!(names.contains(&format!("./{name}")), "{name} is not in\n{contents}");
        }
    }
}

#[test]
fn a_tarball_has_all_of_it_below_one_directory() {
    let Some(release) = release() else { return };
    for target in Target::ALL {
        let top = format!("palletjack-{VERSION}-{}", target.triple());
        let path = release.join(format!("{top}.tar.gz"));
        let listed = run("tar", &["-tzf", path.to_str().unwrap()]);
        assert!(listed.lines().all(|name| name.starts_with(&top)), "{listed}");
        for name in [
            "bin/palletjack",
            "share/man/man1/palletjack-cache-verify.1",
            "share/bash-completion/completions/palletjack",
            "lib/systemd/system/palletjack-load.service",
            "share/doc/palletjack/README.md",
            "share/doc/palletjack/LICENSE-MIT",
            "share/doc/palletjack/LICENSE-APACHE",
            "share/doc/palletjack/CHANGELOG.md",
        ] {
            assert!(listed.contains(&format!("{top}/{name}\n")), "{name} is not in\n{listed}");
        }
    }
    let ran = Machine::new().run_other(
        "sh",
        &["-c", "cd \"$0\" && sha256sum --check --strict SHA256SUMS", release.to_str().unwrap()],
    );
    ran.assert_success();
    assert_eq!(ran.stdout.lines().count(), Target::ALL.len() * 2, "{ran}");
}

#[test]
fn the_debian_package_installs_boots_and_leaves_nothing() {
    let Some(release) = release() else { return };
    require_real!(Part::Boots, Part::Docker20);
    let tree = BootTree::new(BootEngine::Docker20).unwrap();
    let root = tree.root().to_str().unwrap().to_owned();
    let inside = |words: &[&str]| -> Ran {
        let args = [&[root.as_str(), "/usr/bin/env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"], words].concat();
        Machine::new().run_other("/usr/sbin/chroot", &args)
    };
    let before = files(tree.root());
    tree.program(&deb(&release, Target::X86_64), "palletjack.deb").unwrap();
    inside(&["dpkg", "--install", "/palletjack.deb"]).assert_success();
    fs::remove_file(tree.root().join("palletjack.deb")).unwrap();
    inside(&["palletjack", "--version"]).assert_success();
    for unit in UNITS {
        assert_eq!(inside(&["systemctl", "is-enabled", unit]).stdout.trim(), "disabled");
        inside(&["systemctl", "enable", "--quiet", unit]).assert_success();
    }
    let added = || -> Vec<String> {
        let expected = ["/var/lib/dpkg/", "/var/log/", "/var/lib/systemd/", "/etc/machine-id"];
        let now = files(tree.root());
        let added = now.difference(&before).filter(|line| !expected.iter().any(|at| line.starts_with(at)));
        added.cloned().collect()
    };
    assert!(added().iter().any(|line| line.ends_with("-> /lib/systemd/system/palletjack-load.service")
        || line.ends_with("-> /usr/lib/systemd/system/palletjack-load.service")));

    // With nothing in the cache, the units have nothing to do, and the device boots.
    let script = format!(
        "systemd-analyze verify --man=no {}\necho verified $?\npalletjack --version\nsystemctl is-active docker\n",
        UNITS.map(|unit| format!("/usr/lib/systemd/system/{unit}")).join(" ")
    );
    let boot = tree.boot(&script).unwrap();
    boot.assert_success();
    assert!(boot.output.contains("verified 0\n"), "{boot}");
    assert!(boot.output.contains(&format!("palletjack {VERSION}\n")), "{boot}");
    assert!(boot.output.contains("\nactive\n"), "{boot}");

    inside(&["dpkg", "--purge", "palletjack"]).assert_success();
    let left: Vec<String> = added().into_iter().filter(|line| line.contains("palletjack")).collect();
    assert!(left.is_empty(), "{left:?}");
    let lost: Vec<String> =
        before.difference(&files(tree.root())).filter(|line| line.contains("/usr/")).cloned().collect();
    assert!(lost.is_empty(), "{lost:?}");
    for directory in ["var/cache/palletjack", "var/lib/palletjack", "usr/share/doc/palletjack"] {
        assert!(!tree.root().join(directory).exists(), "{directory}");
    }
}
