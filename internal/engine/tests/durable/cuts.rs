//! The power is cut while images are loaded, and after.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use palletjack_engine::{
    Around, Compared, Durability, Durable, Engine, EngineKind, Event, LoadError, LoadOptions, Loaded,
    RunError, Was,
};
use palletjack_store::Image;
use palletjack_testkit::powercut::{Cut, Disk};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Podman, Store};
use palletjack_testkit::require_real;

use crate::support::Cache;
use crate::{connect, images};

const IMAGES: u64 = 5;

/// A running engine.
pub(crate) enum Booted {
    Docker(Box<Dockerd>),
    Podman(Podman),
}

impl Booted {
    pub(crate) fn socket(&self) -> PathBuf {
        match self {
            Self::Docker(docker) => docker.socket(),
            Self::Podman(podman) => podman.socket(),
        }
    }

    /// The engine dies. Its memory goes with it, the kernel's does not.
    fn kill(&mut self) {
        match self {
            Self::Docker(docker) => docker.kill(),
            Self::Podman(podman) => podman.stop(),
        }
    }
}

/// Starts an engine with its data in a directory.
pub(crate) type Start = fn(&Path) -> Booted;

fn options(data_root: &Path) -> DockerdOptions {
    DockerdOptions { data_root: Some(data_root.to_owned()), ..DockerdOptions::default() }
}

pub(crate) fn docker_20(data_root: &Path) -> Booted {
    Booted::Docker(Box::new(Dockerd::debian_with(options(data_root)).unwrap()))
}

fn docker_28(data_root: &Path) -> Booted {
    Booted::Docker(Box::new(Dockerd::forky_with(Store::Containerd, options(data_root)).unwrap()))
}

fn podman(data_root: &Path) -> Booted {
    Booted::Podman(Podman::start_on(data_root).unwrap())
}

/// A device: engine and cache on a disk whose power can be cut.
pub(crate) struct Device {
    pub(crate) disk: Arc<Disk>,
    start: Start,
}

impl Device {
    pub(crate) fn new(start: Start) -> Self {
        Self { disk: Arc::new(Disk::new(768 << 20).unwrap()), start }
    }

    pub(crate) fn boot(&self) -> Booted {
        let data_root = self.disk.path().join("engine");
        std::fs::create_dir_all(&data_root).unwrap();
        (self.start)(&data_root)
    }

    fn cache(&self) -> Cache {
        Cache::at(&self.disk.path().join("cache"))
    }

    /// How many loads are written down as unsettled. What a cut left of one that was being written does not count.
    fn records(&self) -> usize {
        let directory = self.disk.path().join("cache/state/unsettled");
        let names = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| !name.to_string_lossy().starts_with(".tmp-")).count()
    }

    /// The disk is what it was at the cut.
    pub(crate) fn restore(&mut self, cut: &Cut) {
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

pub(crate) async fn load(
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

/// Whoever syncs all file systems while a control runs (another test, another program) makes it safe by accident.
const CONTROLS: usize = 5;

async fn after_success(start: Start) {
    after_load(start, true).await;
    for _ in 0..CONTROLS {
        if after_load(start, false).await > 0 {
            return;
        }
    }
    panic!("loads that nobody synced outlived the cut each time: this test shows nothing");
}

/// Loads, cuts the power and looks: how many images are damaged.
async fn after_load(start: Start, durable: bool) -> usize {
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
        assert!(report.images.iter().all(|(_, durability)| *durability == Durability::Synced), "{report:?}");
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
        assert_eq!(device.records(), 0);
    }
    damaged
}

/// Ends the leases of interrupted loads, as the error says. A container keeps its files.
async fn reset_store(engine: &Engine, docker: &Booted, error: &str) {
    assert!(error.contains("--reset-store"), "{error}");
    let Booted::Docker(docker) = docker else { panic!("{error}") };
    let client = docker.docker().unwrap();
    let archive = docker.data_root().join("files.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    tar.append_path_with_name("/etc/hostname", "f").unwrap();
    tar.into_inner().unwrap();
    client.run(&["import", archive.to_str().unwrap(), "somebody/else:1"]).unwrap().assert_success();
    client
        .run(&["create", "--network", "none", "--name", "else", "somebody/else:1", "/f"])
        .unwrap()
        .assert_success();

    let leases = engine.leases().await.unwrap();
    assert!(!leases.stale.is_empty(), "no lease was there: {leases:?}");
    leases.end_stale().await.unwrap();
    let left = engine.leases().await.unwrap();
    assert!(left.stale.is_empty(), "{left:?}");
    assert_eq!(left.in_use, leases.in_use);
    // Its writable layer is held by a lease, too.
    client.run(&["cp", "else:/f", "-"]).unwrap().assert_success();
    client.run(&["rm", "else"]).unwrap().assert_success();
    client.run(&["rmi", "somebody/else:1"]).unwrap().assert_success();
}

async fn midway(start: Start) {
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
    for cut in cuts {
        device.restore(&cut);
        let (cache, docker) = (device.cache(), device.boot());
        let images = images(&cache, IMAGES);
        assert!(device.records() > 0);
        let engine = connect(docker.socket()).await;
        let guard = Arc::new(Durable::new(&cache.store, &[]));
        let results = load(&engine, &cache, &images, vec![guard.clone()], &|_| {}).await.unwrap();
        let report = guard.report();
        let mut results = results;
        if let Some(Err(error)) = results.iter().find(|result| result.is_err()) {
            // A cut while containerd unpacks leaves a lease. It is said what to do, and that it does.
            assert_eq!(engine.capabilities().kind, EngineKind::DockerContainerd, "{error}");
            reset_store(&engine, &docker, &error.to_string()).await;
            let around: Vec<Arc<dyn Around>> = vec![Arc::new(Durable::new(&cache.store, &[]))];
            results = load(&engine, &cache, &images, around, &|_| {}).await.unwrap();
        }
        for (result, image) in results.into_iter().zip(&images) {
            result.unwrap();
            let compared = engine.compare(&cache.store, image).await.unwrap();
            assert!(matches!(compared, Compared::Whole(_)), "{compared:?}, {report:?}");
        }
        assert_eq!(device.records(), 0, "{report:?}");
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
}

/// The engine dies in the middle of a load; the machine goes on.
async fn killed(start: Start) {
    let device = Device::new(start);
    let (cache, engine) = (device.cache(), Mutex::new(device.boot()));
    let images = images(&cache, IMAGES);
    let socket = engine.lock().unwrap().socket();
    let connected = connect(socket).await;
    let unpacking = Mutex::new(0);
    let events = |event: Event<'_>| {
        if let Event::Waiting { .. } = event {
            let mut unpacking = unpacking.lock().unwrap();
            *unpacking += 1;
            if *unpacking == 3 {
                engine.lock().unwrap().kill();
            }
        }
    };
    let around: Vec<Arc<dyn Around>> = vec![Arc::new(Durable::new(&cache.store, &[]))];
    let results = load(&connected, &cache, &images, around, &events).await.unwrap();
    assert!(results.iter().any(Result::is_err), "{results:?}");
    drop(engine);
    assert!(device.records() > 0);

    let booted = device.boot();
    let engine = connect(booted.socket()).await;
    let results = load(&engine, &cache, &images, vec![Arc::new(Durable::new(&cache.store, &[]))], &|_| {});
    for (result, image) in results.await.unwrap().into_iter().zip(&images) {
        result.unwrap();
        let compared = engine.compare(&cache.store, image).await.unwrap();
        assert!(matches!(compared, Compared::Whole(_)), "{compared:?}");
    }
    assert_eq!(device.records(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_is_safe_on_docker_20() {
    require_real!(Part::LoopMounts, Part::Docker20);
    after_success(docker_20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_is_safe_on_docker_28() {
    require_real!(Part::LoopMounts, Part::Docker28);
    after_success(docker_28).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_midway_is_mended_by_the_next_run_on_docker_20() {
    require_real!(Part::LoopMounts, Part::Docker20);
    midway(docker_20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_midway_is_mended_by_the_next_run_on_docker_28() {
    require_real!(Part::LoopMounts, Part::Docker28);
    midway(docker_28).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_is_safe_on_podman() {
    require_real!(Part::LoopMounts, Part::Podman);
    after_success(podman).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_midway_is_mended_by_the_next_run_on_podman() {
    require_real!(Part::LoopMounts, Part::Podman);
    midway(podman).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_midway_is_mended_by_the_next_run() {
    require_real!(Part::LoopMounts, Part::Docker20, Part::Docker28);
    for start in [docker_20 as Start, docker_28] {
        killed(start).await;
    }
}
