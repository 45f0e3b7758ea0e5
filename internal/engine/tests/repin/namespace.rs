//! A mount and network namespace for one test: its own loopback, its own hosts file.

use std::fs;
use std::path::Path;
use std::process::Command;

const INSIDE: &str = "PALLETJACK_TEST_NAMESPACE";

/// Whether this is the inside. Outside, the test is run again in namespaces of its own, and has to succeed there.
pub(crate) fn inside(test: &str) -> bool {
    is_inside() || !run_inside(test, "1")
}

pub(crate) fn is_inside() -> bool {
    std::env::var(INSIDE).is_ok()
}

/// What the outside has told this test.
pub(crate) fn told() -> String {
    std::env::var(INSIDE).unwrap()
}

/// Runs a test in there, with a word for it; it has to succeed.
pub(crate) fn run_inside(test: &str, word: &str) -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, word);
    let ran = command.output().unwrap();
    let (told, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && told.contains("1 passed"), "{told}\n{wrong}");
    true
}

/// Brings loopback up, and gives it an `/etc` of its own with a hosts file that is a mount, as in a container.
pub(crate) fn furnish(directory: &Path, hosts: &str) {
    let (etc, file) = (directory.join("etc"), directory.join("hosts"));
    fs::write(&file, hosts).unwrap();
    let run = |program: &str, args: &[&str]| {
        assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
    };
    run("ip", &["link", "set", "lo", "up"]);
    run("cp", &["--archive", "/etc", etc.to_str().unwrap()]);
    run("mount", &["--bind", etc.to_str().unwrap(), "/etc"]);
    run("mount", &["--bind", file.to_str().unwrap(), "/etc/hosts"]);
}
