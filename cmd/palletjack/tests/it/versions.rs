//! Forklift versions: lists never check them, commands that fetch or load do.

use palletjack_testkit::registry::Registry;

use crate::machine::{Machine, pins, small_set};
use crate::resolve::write_stages;

/// A pallet that one image is enough for, made for this version of Forklift.
fn machine(registry: &Registry, version: &str) -> Machine {
    let machine = Machine::new();
    let set = small_set();
    registry.publish(&set.images[2]);
    machine.pallet_of(&pins(registry, set)[2..3]);
    let declaration = format!("forklift-version: {version}\npallet:\n  path: github.com/acme/pallet\n");
    std::fs::write(machine.sandbox.pallet().join("forklift-pallet.yml"), declaration).unwrap();
    machine
}

#[test]
fn a_pallet_older_than_forklift_reads_is_refused_but_listed() {
    let registry = Registry::start().unwrap();
    let machine = machine(&registry, "v0.3.0");
    machine.run("plt ls-img").assert_success();
    for verb in ["cache-img", "load-img"] {
        let ran = machine.run(&format!("plt {verb}"));
        ran.assert_code(1);
        assert!(ran.stderr.contains("forklift-pallet.yml"), "{ran}");
        assert!(ran.stderr.contains("v0.3.0") && ran.stderr.contains("v0.4.0"), "{ran}");
    }
    assert!(registry.requests().is_empty(), "nothing is fetched for a pallet that is refused");
    // The tool's version may be ignored, what the tool can read may not.
    machine.run("plt cache-img --ignore-tool-version").assert_code(1);
}

#[test]
fn a_newer_pallet_is_only_warned_about() {
    let registry = Registry::start().unwrap();
    let mut machine = machine(&registry, "v0.9.0");
    let ran = machine.run("plt ls-img");
    assert_eq!(ran.stderr, "");
    let ran = machine.run("plt cache-img");
    ran.assert_success();
    let warning = ran.stderr.lines().find(|line| line.starts_with("warning: ")).unwrap_or_default();
    assert!(warning.contains("v0.9.0") && warning.contains("v0.8.0"), "{ran}");
    machine.assert_verified(1);
    let ran = machine.run("plt cache-img --ignore-tool-version");
    assert!(ran.success() && !ran.stderr.contains("v0.9.0"), "{ran}");
    for variable in ["FORKLIFT_IGNORE_TOOL_VERSION", "PALLETJACK_IGNORE_TOOL_VERSION"] {
        machine.set(variable, "true");
        let ran = machine.run("plt cache-img");
        assert!(ran.success() && !ran.stderr.contains("v0.9.0"), "{variable}: {ran}");
        machine.unset(variable);
    }
}

#[test]
fn a_pallet_that_says_no_version_is_refused() {
    let registry = Registry::start().unwrap();
    let machine = machine(&registry, "");
    machine.run("plt ls-img").assert_success();
    let ran = machine.run("plt cache-img");
    ran.assert_code(1);
    assert!(ran.stderr.contains("`forklift-version` is missing"), "{ran}");
}

#[test]
fn bundles_have_a_minimum_of_their_own() {
    let machine = Machine::new();
    let staged = "  next: 1\n";
    write_stages(&machine, staged, "v0.6.0");
    machine.run("stage ls-img").assert_success();
    let ran = machine.run("stage cache-img");
    ran.assert_code(1);
    assert!(ran.stderr.contains("bundle 1") && ran.stderr.contains("v0.7.0"), "{ran}");
}
