//! The power of a virtual machine is cut during its first boot: its kernel's memory is lost, and only what was written is there.

use palletjack_testkit::image::{Image, ImageSet, Shape};
use palletjack_testkit::real::{BootEngine, BootTree, Part, PoweredOff, VirtualMachine};
use palletjack_testkit::require_real;

use crate::device::{Device, LOAD, PINS};
use crate::soak;

const CACHE: &str = "var/cache/palletjack";
const IMAGES: [&str; 5] = [
    "docker.io/library/caddy:2.6.2",
    "ghcr.io/acme/station:1.0",
    "docker.io/acme/camera:0.9",
    "ghcr.io/acme/files:3.1",
    "docker.io/library/broker:2",
];

/// Whether all images are whole in the engine, and which of them can be run by their pinned reference.
fn script(set: &ImageSet) -> String {
    let mut script = format!("palletjack --cache-dir /{CACHE} cache status --deep; echo deep $?\n");
    for pin in set.images.iter().map(Image::pinned) {
        script.push_str(&format!("docker create --pull never {pin} >/dev/null && echo runs {pin}\n"));
    }
    script
}

/// The program's lines in what a console had, which have this text.
fn said(console: &[String], text: &str) -> usize {
    console.iter().filter(|line| line.contains(" palletjack[") && line.contains(text)).count()
}

#[track_caller]
fn assert_whole(off: &PoweredOff, set: &ImageSet) {
    let has = |line: &str| off.output.iter().any(|said| said == line);
    assert!(has("deep 0"), "{off}");
    for pin in set.images.iter().map(Image::pinned) {
        assert!(has(&format!("runs {pin}")), "{pin}: {off}");
    }
    for unit in [PINS, LOAD] {
        let is_end = |line: &&String| line.contains(&format!("Finished {unit}"));
        assert_eq!(off.console.iter().filter(is_end).count(), 1, "{unit}: {off}");
    }
    assert_eq!(off.output.last().map(String::as_str), Some("exited 0"), "{off}");
}

/// On a graph driver, where what a cut leaves is not repaired by loading it again.
#[test]
fn after_each_power_cut_the_next_boot_has_whole_images() {
    if !soak() {
        return;
    }
    require_real!(Part::VirtualMachine, Part::Docker28);
    let shape = Shape { base_bytes: 1_000_000, app_bytes: 500_000, zstd: false, ..Shape::small() };
    let set = ImageSet::build(&IMAGES, &shape).unwrap();
    let device = Device::with_images(BootTree::for_machines(BootEngine::Docker20).unwrap(), set, CACHE);
    device.install_units();
    let set = &device.set;
    let mut machine = VirtualMachine::new(&device.tree, &script(set)).unwrap();
    let mut twin = machine.twin().unwrap();

    // Some are loaded, and the others are not.
    let powered = machine.start().unwrap();
    powered.wait_for(": loaded").unwrap();
    let console = powered.cut().join("\n");
    assert!(!console.contains(&format!("Finished {PINS}")), "{console}");
    let off = machine.start().unwrap().finish().unwrap();
    assert!(said(&off.console, ": loaded") > 0, "{off}");
    assert_whole(&off, set);

    // The unit has just said that it is done.
    let powered = twin.start().unwrap();
    powered.wait_for(&format!("Finished {PINS}")).unwrap();
    let console = powered.cut();
    assert_eq!(said(&console, ": loaded"), IMAGES.len(), "{}", console.join("\n"));
    let off = twin.start().unwrap().finish().unwrap();
    assert_eq!(said(&off.console, ": loaded"), 0, "{off}");
    let nothing_sent = format!("0 loaded, 0 B sent; {} present before", IMAGES.len());
    assert_eq!(said(&off.console, &nothing_sent), 1, "{off}");
    assert_whole(&off, set);
}
