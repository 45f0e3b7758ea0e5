//! The power is cut while images are loaded, and after.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use palletjack_engine::{
    Around, Compared, Durability, Durable, Engine, Event, LoadError, LoadOptions, Loaded, RecoveredAs, RunError, Was,
};
use palletjack_store::Image;
use palletjack_testkit::powercut::{Cut, Disk};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Store};
use palletjack_testkit::require_real;

use crate::support::Cache;
use crate::{connect, images};

const IMAGES: u64 = 5;

/// A device: engine and cache on a disk whose power can be cut.
struct Device {
    disk: Arc<Disk>,
    start: fn(DockerdOptions) -> std::io::Result<Dockerd>,
}

impl Device {
    fn new(start: fn(DockerdOptions) -> std::io::Result<Dockerd>) -> Self {
        Self { disk: Arc::new(Disk::new(768 << 20).unwrap()), start }
    }

    fn boot(&self) -> Dockerd {
        let data_root: PathBuf = self.disk.path().join("docker");
        std::fs::create_dir_all(&data_root).unwrap();
        (self.start)(DockerdOptions { data_root: Some(data_root), ..DockerdOptions::default() }).unwrap()
    }

    fn cache(&self) -> Cache {
        Cache::at(&self.disk.path().join("cache"))
    }

    /// The disk is what it was at the cut.
    fn restore(&mut self, cut: &Cut) {
        Arc::get_mut(&mut self.disk).expect("nobody else holds it by now").restore(cut).unwrap();
    }
}

/// Cuts the power at chosen moments of a load.
#[derive(Debug)]
struct Knife {
    disk: Arc<Disk>,
    cuts: Mutex<Vec<Cut>>,
    /// After so many images were seen in the engine, before they are made durable.
    after_seen: Mutex<Vec<usize>>,
    seen: Mutex<usize>,
}

impl Knife {
    fn new(disk: &Arc<Disk>, after_seen: &[usize]) -> Arc<Self> {
        Arc::new(Self {
            disk: Arc::clone(disk),
            cuts: Mutex::default(),
            after_seen: Mutex::new(after_seen.to_vec()),
            seen: Mutex::default(),
        })
    }

    fn cut(&self) {
        self.cuts.lock().unwrap().push(self.disk.cut().unwrap());
    }
}

impl Around for Knife {
    fn after_seen<'a>(
        &'a self,
        _: &'a Engine,
        _: &'a Image,
        loaded: &'a mut Loaded,
    ) -> BoxFuture<'a, Result<(), LoadError>> {
        if loaded.was != Was::Present {
            let mut seen = self.seen.lock().unwrap();
            *seen += 1;
            if self.after_seen.lock().unwrap().contains(&seen) {
                self.cut();
            }
        }
        Box::pin(async { Ok(()) })
    }
}

async fn load(
    engine: &Engine,
    cache: &Cache,
    images: &[Image],
    around: Vec<Arc<dyn Around>>,
    events: &(dyn Fn(Event<'_>) + Send + Sync),
) -> Result<Vec<Result<Loaded, LoadError>>, RunError> {
    let options = LoadOptions { around, parallel: Some(2), ..LoadOptions::default() };
    let lease = cache.store.lease().unwrap();
    engine.load_all(&cache.store, &lease, images, &options, events).await
}

/// How many of the images that the engine lists are damaged.
async fn damaged(engine: &Engine, cache: &Cache, images: &[Image]) -> usize {
    let mut damaged = 0;
    for image in images {
        damaged += usize::from(engine.compare(&cache.store, image).await.unwrap().is_damaged());
    }
    damaged
}

async fn after_success(start: fn(DockerdOptions) -> std::io::Result<Dockerd>) {
    for durable in [false, true] {
        let mut device = Device::new(start);
        let (cache, docker) = (device.cache(), device.boot());
        let images = images(&cache, IMAGES);
        let engine = connect(docker.socket()).await;
        let guard = Arc::new(Durable::new(&cache.store, &[]));
        let around: Vec<Arc<dyn Around>> = if durable { vec![guard.clone()] } else { Vec::new() };
        let results = load(&engine, &cache, &images, around, &|_| {}).await.unwrap();
        let cut = device.disk.cut().unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        if durable {
            let report = guard.report();
            assert_eq!(report.images.len(), images.len());
            assert!(
                report.images.iter().all(|(_, durability)| *durability == Durability::Synced),
                "{report:?}"
            );
            assert_eq!((report.unprotected, report.recovered.len()), (None, 0));
        }
        drop((docker, cache));
        device.restore(&cut);

        let (cache, docker) = (device.cache(), device.boot());
        let engine = connect(docker.socket()).await;
        let damaged = damaged(&engine, &cache, &images).await;
        if durable {
            assert_eq!(damaged, 0);
            for image in &images {
                let compared = engine.compare(&cache.store, image).await.unwrap();
                assert!(matches!(compared, Compared::Whole(_)), "{compared:?}");
            }
            assert!(!device.disk.path().join("cache/state/unsettled").read_dir().unwrap().any(|_| true));
        } else {
            // Else this test shows nothing.
            assert!(damaged > 0, "a load that nobody synced outlived the cut");
        }
    }
}

async fn midway(start: fn(DockerdOptions) -> std::io::Result<Dockerd>) {
    let mut device = Device::new(start);
    let cuts = {
        let (cache, docker) = (device.cache(), device.boot());
        let images = images(&cache, IMAGES);
        let engine = connect(docker.socket()).await;
        // Before the sync of the first and of a later image, and while the engine unpacks another.
        let knife = Knife::new(&device.disk, &[1, 4]);
        let unpacking = Mutex::new(0);
        let events = |event: Event<'_>| {
            if let Event::Waiting { .. } = event {
                let mut unpacking = unpacking.lock().unwrap();
                *unpacking += 1;
                if *unpacking == 3 {
                    knife.cut();
                }
            }
        };
        let around: Vec<Arc<dyn Around>> = vec![knife.clone(), Arc::new(Durable::new(&cache.store, &[]))];
        let results = load(&engine, &cache, &images, around, &events).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        std::mem::take(&mut *knife.cuts.lock().unwrap())
    };
    assert!(cuts.len() >= 2);
    let mut repaired = 0;
    for cut in cuts {
        device.restore(&cut);
        let (cache, docker) = (device.cache(), device.boot());
        let images = images(&cache, IMAGES);
        assert!(device.disk.path().join("cache/state/unsettled").read_dir().unwrap().any(|_| true));
        let engine = connect(docker.socket()).await;
        let guard = Arc::new(Durable::new(&cache.store, &[]));
        let results = load(&engine, &cache, &images, vec![guard.clone()], &|_| {}).await.unwrap();
        let report = guard.report();
        repaired += report.recovered.iter().filter(|one| one.outcome == RecoveredAs::Repaired).count();
        for (result, image) in results.into_iter().zip(&images) {
            result.unwrap();
            let compared = engine.compare(&cache.store, image).await.unwrap();
            assert!(matches!(compared, Compared::Whole(_)), "{compared:?}, {report:?}");
        }
        assert!(!device.disk.path().join("cache/state/unsettled").read_dir().unwrap().any(|_| true));
        // And it is durable now.
        let cut = device.disk.cut().unwrap();
        drop((docker, cache));
        device.restore(&cut);
        let (cache, docker) = (device.cache(), device.boot());
        let engine = connect(docker.socket()).await;
        for image in &images {
            let compared = engine.compare(&cache.store, image).await.unwrap();
            assert!(matches!(compared, Compared::Whole(_)), "{compared:?}");
        }
    }
    assert!(repaired > 0, "no cut met an image between load and sync");
}

fn containerd(options: DockerdOptions) -> std::io::Result<Dockerd> {
    Dockerd::forky_with(Store::Containerd, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_is_safe_on_docker_20() {
    require_real!(Part::LoopMounts, Part::Docker20);
    after_success(Dockerd::debian_with).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_is_safe_on_docker_28() {
    require_real!(Part::LoopMounts, Part::Docker28);
    after_success(containerd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_midway_is_mended_by_the_next_run_on_docker_20() {
    require_real!(Part::LoopMounts, Part::Docker20);
    midway(Dockerd::debian_with).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_midway_is_mended_by_the_next_run_on_docker_28() {
    require_real!(Part::LoopMounts, Part::Docker28);
    midway(containerd).await;
}
