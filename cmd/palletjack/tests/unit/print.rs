//! Units on standard output.

use std::fs;
use std::process::Command;

use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;

use crate::machine::{Machine, PROGRAM};

#[test]
fn systemd_finds_nothing_wrong_with_any_unit() {
    require_real!(Part::Boots);
    let machine = Machine::new();
    let directory = machine.sandbox.root().join("units");
    fs::create_dir(&directory).unwrap();
    let odd = "/srv/100% of \"it\"/$HOME and 'more'";
    for selection in [vec![], vec!["--stage"], vec!["--stage=next"], vec!["--plt", odd], vec!["caddy:2.8"]] {
        for unit in ["load", "pins", "fill"] {
            if unit == "pins" && selection == ["--stage=next"] {
                continue;
            }
            let mut words = vec!["--cache-dir", odd, "unit", unit];
            words.extend(&selection);
            let text = machine.run_args(&words).assert_success().stdout.clone();
            let path = directory.join(format!("palletjack-{unit}.service"));
            // It looks for the program.
            fs::write(&path, text.replace("/usr/bin/palletjack", PROGRAM)).unwrap();
            let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&verified.stderr);
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("palletjack")).collect();
            assert!(verified.status.success() && ours.is_empty(), "{said}\n{text}");
        }
    }
    // It would have.
    let path = directory.join("palletjack-load.service");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("TimeoutStartSec=", "Timeout=")).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    assert!(String::from_utf8_lossy(&verified.stderr).contains("Timeout"));
}

#[test]
fn a_unit_is_printed_alone_and_for_scripts() {
    let machine = Machine::new();
    let text = machine.run("unit load --stage").assert_success().stdout.clone();
    assert!(text.starts_with("# Written by `palletjack unit`"), "{text}");
    assert!(
        text.contains("\nExecStart=/usr/bin/palletjack --cache-dir /var/cache/palletjack stage load-img ")
    );
    let (ran, document) = machine.json("unit load --stage");
    ran.assert_success();
    assert_eq!(document["schema"], "palletjack.units/1");
    assert_eq!(document["units"][0]["text"], text);

    for (words, what) in [
        ("unit", "no unit is named"),
        ("unit pins --stage=next", "not `next` alone"),
        ("unit pins --engine podman", "Podman keeps the digests"),
        ("--cache-dir relative unit load", "absolute"),
        ("--cache-dir /a/../b unit load", "without `..`"),
        ("unit load --stage --plt /p", "cannot be used with"),
        ("unit load caddy", "caddy"),
        ("unit load --binary /bin/sh", "--install"),
    ] {
        let ran = machine.run(words);
        ran.assert_code(2);
        assert!(ran.stderr.contains(what), "{words}: {ran}");
    }
    machine.run_args(&["--cache-dir", "/a\nExecStartPre=/b", "unit", "load"]).assert_code(2);
}
