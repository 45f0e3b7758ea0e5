//! The plug is pulled in the middle of the first boot's load.

use std::fs;
use std::path::Path;
use std::process::Command;

use palletjack_testkit::powercut::Disk;
use palletjack_testkit::real::{BootEngine, BootTree, Part, Store};
use palletjack_testkit::require_real;

use crate::device::{Device, LOAD};
use crate::soak;

/// Room for a system with Docker 28 and for what it is going to unpack.
const DISK: u64 = 3 << 30;

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| entries.flatten().count())
}

/// Boots, pulls the plug when some layers are there and the load is not over, and boots again.
fn repairs(engine: BootEngine, layers: &str) {
    let mut disk = Disk::new(DISK).unwrap();
    let device = Device::cached(BootTree::below(disk.path(), engine).unwrap(), "var/cache/palletjack");
    device.install_units();
    // The card was written long ago.
    assert!(Command::new("sync").arg("--file-system").arg(disk.path()).status().unwrap().success());

    let running = device.tree.start("true").unwrap();
    let layers = device.tree.root().join(layers);
    let unsettled = device.tree.root().join("var/cache/palletjack/state/unsettled");
    running.wait_until(|| entries(&layers) > 12);
    let cut = disk.cut().unwrap();
    running.pull_the_plug();
    disk.restore(&cut).unwrap();
    assert_eq!(entries(&unsettled), 1, "the load had begun and was not over");

    let seen = device.boot_deep();
    assert_eq!(seen.property(LOAD, "Result"), "success", "{}", seen.boot);
    device.assert_resolves(&seen);
    assert_eq!(seen.section("deep").trim(), "0", "{}", seen.boot);
    assert_eq!(entries(&unsettled), 0);
}

#[test]
fn docker_28_is_whole_after_the_next_boot() {
    require_real!(Part::Boots, Part::Docker28, Part::LoopMounts);
    if soak() {
        repairs(
            BootEngine::Docker28(Store::Containerd),
            "var/lib/containerd/io.containerd.content.v1.content/blobs/sha256",
        );
    }
}

#[test]
fn docker_20_is_whole_after_the_next_boot() {
    require_real!(Part::Boots, Part::Docker20, Part::LoopMounts);
    if soak() {
        repairs(BootEngine::Docker20, "var/lib/docker/image/overlay2/layerdb/sha256");
    }
}
