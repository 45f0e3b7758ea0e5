//! What goes wrong keeps no device from booting.

use std::fs;

use palletjack_testkit::real::{BootEngine, BootTree, Part, Store};
use palletjack_testkit::require_real;

use crate::device::{Device, LOAD};
use crate::soak;

#[test]
fn a_device_with_a_broken_cache_boots() {
    require_real!(Part::Boots, Part::Docker28);
    if !soak() {
        return;
    }
    let tree = BootTree::new(BootEngine::Docker28(Store::Containerd)).unwrap();
    let device = Device::cached(tree, "var/cache/palletjack");
    device.install_units();
    let index = device.tree.root().join("var/cache/palletjack/docker-archives/index.json");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, &whole[..whole.len() / 2]).unwrap();
    let seen = device.boot();
    seen.boot.assert_success();
    assert_eq!(seen.property(LOAD, "Result"), "exit-code", "{}", seen.boot);
    assert_eq!(seen.property("docker.service", "ActiveState"), "active");
    assert!(
        seen.lines(LOAD).iter().any(|line| line.starts_with("error: ") && line.contains("index.json")),
        "{}",
        seen.boot
    );
    let is_error = |entry: &palletjack_testkit::real::Entry| entry.unit == LOAD && entry.priority == 3;
    assert!(seen.boot.journal.iter().any(is_error), "{}", seen.boot);
    assert_eq!(seen.section("resolves"), "");

    // Mended, the next boot loads.
    fs::write(&index, &whole).unwrap();
    let seen = device.boot();
    assert_eq!(seen.property(LOAD, "Result"), "success", "{}", seen.boot);
    device.assert_resolves(&seen);
}
