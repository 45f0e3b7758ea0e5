//! Storage filled from outside: real engines, private ones that fill it and ordinary ones that find it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

mod device;
mod interrupted;
mod podman;
mod refused;
#[path = "../support/mod.rs"]
mod support;
mod tree;
mod update;
mod whole;

use std::sync::{Arc, Mutex};

use palletjack_engine::seed::{Device, Programs, SeedError, SeedOptions, Seeded, Target, Wishes, seed};
use palletjack_engine::{Durable, DurableReport, Event, LoadOptions};
use palletjack_image::Platform;
use palletjack_store::Image;
use palletjack_testkit::image::{ImageBuilder, Kind};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Forky, Store};
use support::{Cache, layer};
use tokio_util::sync::CancellationToken;
use tree::FakeTree;

/// Which Docker, with which image store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kit {
    Docker20,
    Docker28Graph,
    Docker28Containerd,
}

impl Kit {
    /// Its programs, which a run finds where it is told to look.
    fn programs(self) -> Programs {
        match self {
            Self::Docker20 => Programs::of(&["/usr/sbin".into(), "/usr/bin".into()]).unwrap(),
            _ => {
                let docker = Forky::install().unwrap().directory().join("docker/usr");
                Programs::of(&[docker.join("sbin"), docker.join("bin")]).unwrap()
            }
        }
    }

    /// A tree as a distribution's packages leave it.
    fn tree(self, architecture: &str) -> FakeTree {
        let tree = FakeTree::new(architecture);
        match self {
            Self::Docker20 => tree.docker("20.10.24+dfsg1-1+b3"),
            Self::Docker28Graph => tree.docker("28.5.2+dfsg1-1"),
            Self::Docker28Containerd => {
                tree.docker("28.5.2+dfsg1-1");
                tree.write("etc/docker/daemon.json", r#"{"features":{"containerd-snapshotter":true}}"#);
            }
        }
        tree
    }

    /// The engine as docker.service starts it, on the data root of a tree.
    fn ordinary(self, tree: &FakeTree, args: &[String]) -> Dockerd {
        let options = DockerdOptions {
            data_root: Some(tree.data_root()),
            args: args.to_vec(),
            ..DockerdOptions::default()
        };
        match self {
            Self::Docker20 => Dockerd::debian_with(options),
            Self::Docker28Graph => Dockerd::forky_with(Store::GraphDriver, options),
            Self::Docker28Containerd => Dockerd::forky_with(Store::Containerd, options),
        }
        .unwrap()
    }
}

fn amd64() -> Platform {
    support::amd64()
}

/// A pinned image for two processors, in the cache for one of them.
fn pinned(cache: &Cache, reference: &str, seed: u64, platform: &Platform) -> Image {
    let kind = if seed.is_multiple_of(2) { Kind::Docker } else { Kind::Oci };
    let layers = |of: u64| [layer(900 + of, 300_000), layer(of + seed, 200_000)];
    let image = ImageBuilder::new(reference)
        .kind(kind)
        .platform("linux/amd64", layers(0))
        .platform("linux/arm64", layers(1000))
        .build()
        .unwrap();
    cache.publish_for(&image, &image.pinned(), platform)
}

/// What a pallet with two bundles needs: names of several registries, two pins of one tag, no tag, no pin.
fn images(cache: &Cache, platform: &Platform) -> Vec<Image> {
    for (seed, reference) in
        (1..).zip(["caddy:2.6.2", "ghcr.io/acme/two:1", "ghcr.io/acme/moving:1", "ghcr.io/acme/moving:1"])
    {
        pinned(cache, reference, seed, platform);
    }
    let plain = ImageBuilder::new("quay.io/acme/plain:3")
        .platform("linux/amd64", [layer(31, 150_000)])
        .platform("linux/arm64", [layer(32, 150_000)])
        .build()
        .unwrap();
    cache.publish_for(&plain, "quay.io/acme/plain:3", platform);
    cache.publish_for(&plain, &format!("registry.local:5000/acme/bare@{}", plain.top.digest), platform);
    let snapshot = cache.store.snapshot().unwrap();
    let images: Vec<Image> =
        snapshot.entries().iter().map(|entry| cache.store.image(entry).unwrap()).collect();
    assert_eq!(images.len(), 6);
    images
}

fn device(tree: &FakeTree) -> Device {
    Device::find(&Target::Root(tree.root().to_owned()), &Wishes::default()).unwrap()
}

struct Run {
    result: Result<Seeded, SeedError>,
    told: Vec<String>,
    report: DurableReport,
}

impl Run {
    fn seeded(&self) -> &Seeded {
        self.result.as_ref().unwrap()
    }

    /// Every image is there and resolves as it is written. How many had to be brought.
    fn assert_whole(&self) -> usize {
        let seeded = self.seeded();
        let loaded = seeded.images.iter().map(|result| result.as_ref().unwrap());
        for loaded in loaded.clone() {
            assert!(loaded.resolves.content && loaded.resolves.exact, "{loaded:?}");
        }
        loaded.filter(|loaded| loaded.was != palletjack_engine::Was::Present).count()
    }
}

async fn run(cache: &Cache, device: &Device, images: &[Image], programs: Programs) -> Run {
    run_until(cache, device, images, programs, None, &|_| false).await
}

/// The same, cancelled when an event comes for which `is_end` holds.
async fn run_until(
    cache: &Cache,
    device: &Device,
    images: &[Image],
    programs: Programs,
    parallel: Option<usize>,
    is_end: &(dyn Fn(&Event<'_>) -> bool + Send + Sync),
) -> Run {
    let told = Mutex::new(Vec::new());
    let cancel = CancellationToken::new();
    let events = |event: Event<'_>| {
        if is_end(&event) {
            cancel.cancel();
        }
        told.lock().unwrap().push(format!("{event:?}"));
    };
    let durable = Arc::new(Durable::new(&cache.store, &[]));
    let load = LoadOptions { parallel, ..LoadOptions::default() };
    let options = SeedOptions { programs, load, durable: durable.clone(), cancel: cancel.clone() };
    let lease = cache.store.lease().unwrap();
    let result = seed(&cache.store, &lease, device, images, &options, &events).await;
    Run { result, told: told.into_inner().unwrap(), report: durable.report() }
}
