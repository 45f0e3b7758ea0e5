//! A card that ships with a cache.

use palletjack_testkit::real::{BootEngine, BootTree, Part, Store};
use palletjack_testkit::require_real;

use crate::device::{Device, LOAD, PINS, Seen};
use crate::soak;

#[track_caller]
fn assert_loaded(seen: &Seen, count: usize) {
    assert_eq!(seen.property(LOAD, "Result"), "success", "{}", seen.boot);
    let lines = seen.lines(LOAD);
    assert_eq!(lines.iter().filter(|line| line.contains(": loaded, ")).count(), count, "{}", seen.boot);
    assert!(lines.iter().any(|line| line.starts_with(&format!("{count} loaded, "))), "{lines:?}");
    assert!(seen.property(LOAD, "StatusText").starts_with(&format!("{count} loaded, ")), "{}", seen.boot);
}

/// Nothing was missing: no layer byte was sent.
#[track_caller]
pub(crate) fn assert_present(seen: &Seen, count: usize) {
    assert_eq!(seen.property(LOAD, "Result"), "success", "{}", seen.boot);
    let summary = format!("0 loaded, 0 B sent; {count} present before");
    assert!(seen.lines(LOAD).contains(&&*summary), "{}", seen.boot);
    assert_eq!(seen.property(LOAD, "StatusText"), summary);
}

/// A containerd store keeps pins by itself: one unit. The cache's path has all that units could trip over.
#[test]
fn docker_28_loads_at_boot_what_it_lacks() {
    require_real!(Part::Boots, Part::Docker28);
    let tree = BootTree::new(BootEngine::Docker28(Store::Containerd)).unwrap();
    let device = Device::cached(tree, "srv/100% of \"it\" $HOME");
    let said = device.install_units();
    assert!(said.contains(LOAD) && !said.contains(PINS), "{said}");
    let images = device.set.images.len();

    let first = device.boot_with_compose();
    assert_loaded(&first, images);
    device.assert_resolves(&first);
    device.assert_composed(&first);
    assert_eq!(first.section("verify"), "");
    assert_eq!(first.property(PINS, "LoadState"), "not-found");

    let second = device.boot();
    assert_present(&second, images);
    device.assert_resolves(&second);
    took(&first, &second);

    if soak() {
        device.wipe();
        let third = device.boot();
        assert_loaded(&third, images);
        device.assert_resolves(&third);
    }
}

/// A graph driver keeps no digests of what it loads: what is missing is put into its storage before it starts.
#[test]
fn docker_20_is_seeded_at_boot_with_what_it_lacks() {
    require_real!(Part::Boots, Part::Docker20);
    let device = Device::cached(BootTree::new(BootEngine::Docker20).unwrap(), "var/cache/palletjack");
    let said = device.install_units();
    assert!(said.contains(LOAD) && said.contains(PINS), "{said}");
    let images = device.set.images.len();

    let first = device.boot_with_compose();
    assert_seeded(&first, images);
    assert_present(&first, images);
    device.assert_resolves(&first);
    device.assert_composed(&first);
    assert_eq!(first.section("verify"), "");

    let second = device.boot();
    assert_nothing_seeded(&second, images);
    assert_present(&second, images);
    device.assert_resolves(&second);
    took(&first, &second);

    if soak() {
        services_are_not_started_twice(&device);
        device.wipe();
        let wiped = device.boot();
        assert_seeded(&wiped, images);
        assert_present(&wiped, images);
        device.assert_resolves(&wiped);
    }
}

/// Where a pin is missing, a private engine runs on storage that has the device's containers: it leaves them alone.
fn services_are_not_started_twice(device: &Device) {
    let starts =
        "section starts; for c in $(docker ps --quiet); do docker logs $c | grep -c 'it runs'; done\n";
    // Of an image that no container of the example is of, so that the engine lets its pin go.
    let image = device.set.images.iter().find(|image| image.name.repository.contains("segmenter")).unwrap();
    let pin = format!("{}@{}", image.name.full(), image.top.digest);
    // Compose's networks need what a private engine does not make; these need none.
    let alone = device.set.images[0].pinned();
    let lonely: String = ["none", "host"]
        .map(|network| {
            format!("docker run --detach --restart always --network {network} --pull never {alone}\n")
        })
        .concat();
    let forget =
        format!("docker ps --all --quiet --filter ancestor={pin} | xargs -r docker rm; docker rmi {pin}");
    let before = device.boot_with(&format!("section run\n{lonely}{starts}section forget\n{forget}\n"));
    before.boot.assert_success();
    let after = device.boot_with(starts);
    assert_seeded(&after, 1);
    device.assert_resolves(&after);
    let counts = |seen: &Seen| -> Vec<u32> {
        let mut counts: Vec<u32> =
            seen.section("starts").lines().map(|count| count.parse().unwrap()).collect();
        counts.sort_unstable();
        counts
    };
    let once_more: Vec<u32> = counts(&before).iter().map(|count| count + 1).collect();
    assert!(!once_more.is_empty());
    assert_eq!(counts(&after), once_more, "{}", after.boot);
}

#[track_caller]
fn assert_seeded(seen: &Seen, count: usize) {
    assert_eq!(seen.property(PINS, "Result"), "success", "{}", seen.boot);
    let lines = seen.lines(PINS);
    assert_eq!(lines.iter().filter(|line| line.contains(": loaded")).count(), count, "{}", seen.boot);
}

/// No private engine was started.
#[track_caller]
pub(crate) fn assert_nothing_seeded(seen: &Seen, count: usize) {
    assert_eq!(seen.property(PINS, "Result"), "success", "{}", seen.boot);
    let lines = seen.lines(PINS);
    assert_eq!(lines.iter().filter(|line| line.contains(": present")).count(), count, "{}", seen.boot);
}

#[allow(clippy::print_stdout, reason = "times are for a person who reads the test's output")]
pub(crate) fn took(first: &Seen, second: &Seen) {
    let seconds = |seen: &Seen| seen.boot.took.as_secs_f32();
    println!("first boot {:.1} s, second {:.1} s", seconds(first), seconds(second));
}
