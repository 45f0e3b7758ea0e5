//! A card whose engine's storage was filled when it was built.

use palletjack_testkit::real::{BootEngine, BootTree, Part, Store};
use palletjack_testkit::require_real;

use crate::cached::{assert_nothing_seeded, assert_present, took};
use crate::device::{Device, PINS};
use crate::soak;

fn nothing_is_left_to_do_at_boot(engine: BootEngine) {
    let device = Device::cached(BootTree::new(engine).unwrap(), "var/cache/palletjack");
    device.seed();
    let pins = device.install_units().contains(PINS);
    let images = device.set.images.len();
    let first = device.boot_with_compose();
    if pins {
        assert_nothing_seeded(&first, images);
    }
    assert_present(&first, images);
    device.assert_resolves(&first);
    device.assert_composed(&first);
    let second = device.boot();
    assert_present(&second, images);
    took(&first, &second);
}

#[test]
fn docker_20_runs_all_at_its_first_boot() {
    require_real!(Part::Boots, Part::Docker20);
    if soak() {
        nothing_is_left_to_do_at_boot(BootEngine::Docker20);
    }
}

#[test]
fn docker_28_runs_all_at_its_first_boot() {
    require_real!(Part::Boots, Part::Docker28);
    if soak() {
        nothing_is_left_to_do_at_boot(BootEngine::Docker28(Store::Containerd));
    }
}
