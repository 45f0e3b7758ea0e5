//! One run: the storage taken, a private engine on it, what is missing brought, all of it synced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palletjack_registry::serve::Served;
use palletjack_store::{Image, Lease, Store};
use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::device::{Device, StoreKind, nearest};
use super::error::SeedError;
use super::graph;
use super::plan::SeedPlan;
use super::private::Private;
use super::programs::Programs;
use super::way::{self, Way};
use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::durable::Durable;
use crate::error::{LoadError, RunError};
use crate::event::Event;
use crate::load::LoadOptions;
use crate::outcome::{Loaded, Was};
use crate::run::loaded;
use crate::sighting::Sighting;

/// How a run goes about it.
#[derive(Debug, Clone)]
pub struct SeedOptions {
    /// What the private engine is made of.
    pub programs: Programs,
    /// As for loads: how many at once, and where a layer lies while it is packed anew.
    pub load: LoadOptions,
    /// What makes it durable.
    pub durable: Arc<Durable>,
    /// Ends the run: the private engine is ended in order.
    pub cancel: CancellationToken,
}

/// What came of a run.
#[derive(Debug)]
pub struct Seeded {
    /// For each image, in the order of the list.
    pub images: Vec<Result<Loaded, LoadError>>,
    /// The engine that did it; `None` where nothing was left to do, and none was started.
    pub engine: Option<String>,
    /// What it asked of our server, where it pulled.
    pub served: Served,
    /// Bytes that were free on the storage's file system before.
    pub free_before: u64,
    /// Bytes that are free there now.
    pub free_after: u64,
}

/// How many images are brought at once where nobody says.
pub(super) const PARALLEL: usize = 2;

/// Brings what the device's engine lacks of these images, with a private engine that ends before this returns. All of
/// it is on the disk then.
///
/// The lease keeps the blobs in the cache for as long as they are read. Where several images want one tag, it goes to
/// the one that owns it; the others are kept by a tag of ours.
///
/// # Errors
/// A [`SeedError`] before the engine was started means that nothing was changed.
pub async fn seed(
    store: &Store,
    lease: &Lease,
    device: &Device,
    images: &[Image],
    options: &SeedOptions,
    events: &(dyn Fn(Event<'_>) + Send + Sync),
) -> Result<Seeded, SeedError> {
    device.check_architecture(images)?;
    let checked = {
        let device = device.clone();
        spawn_blocking(move || device.check_storage()).await
    };
    checked.map_err(|panic| lost("look at the storage", panic))??;
    let parallel = options.load.parallel.unwrap_or(PARALLEL);
    let free_before = device.free()?;
    let mut plan = device.plan(images, &options.durable, parallel)?;
    if plan.is_done() {
        return Ok(nothing_to_do(images, &plan, free_before, events));
    }
    if plan.disk.is_short() {
        return Err(SeedError::NoSpace(plan.disk));
    }
    if plan.disk.may_be_short() {
        events(Event::DiskMayBeShort { forecast: &plan.disk });
    }
    let taken = Taken::take(device)?;
    // Nobody can have come between, but for what came before.
    plan = device.plan(images, &options.durable, parallel)?;

    let way = match device.store {
        StoreKind::Graph => Some(Way::open(store, images).await?),
        StoreKind::Containerd | StoreKind::Podman => None,
    };
    // What loads needs no network at all.
    let programs = if way.is_some() { options.programs.clone() } else { options.programs.offline() };
    let started = tokio::select! {
        started = Private::start(device, &programs, way.as_ref()) => started,
        () = options.cancel.cancelled() => Err(SeedError::Interrupted),
    };
    let private = match started {
        Ok(private) => private,
        Err(error) => {
            taken.give_back();
            return Err(error);
        }
    };
    let engine = private.engine.capabilities().to_string();
    let work = async {
        is_as_expected(device, &private)?;
        bring(store, lease, device, images, &plan, options, &private, events).await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = options.cancel.cancelled() => Err(SeedError::Interrupted),
    };
    private.end().await;
    let served = match way {
        Some(way) => way.close().await,
        None => Served::default(),
    };
    sync(device).await?;
    drop(taken);
    Ok(Seeded { images: outcome?, engine: Some(engine), served, free_before, free_after: device.free()? })
}

#[expect(clippy::too_many_arguments, reason = "what a run consists of, each once")]
async fn bring(
    store: &Store,
    lease: &Lease,
    device: &Device,
    images: &[Image],
    plan: &SeedPlan,
    options: &SeedOptions,
    private: &Private,
    events: &(dyn Fn(Event<'_>) + Send + Sync),
) -> Result<Vec<Result<Loaded, LoadError>>, SeedError> {
    let mut load = options.load.clone();
    load.around.push(options.durable.clone());
    load.parallel = Some(load.parallel.unwrap_or(PARALLEL));
    let engine = &private.engine;
    let results = match device.store {
        StoreKind::Graph => {
            let log = || private.log();
            graph::bring(engine, store, lease, images, plan, &load, &log, events).await
        }
        StoreKind::Containerd => engine.load_all(store, lease, images, &load, events).await,
        StoreKind::Podman => podman(engine, store, lease, images, &load, events).await,
    };
    if results.is_err() {
        tracing::warn!(log = private.last_words(), "the private engine's last words");
    }
    Ok(results?)
}

/// Loaded, and what has lost its tag kept from a prune.
async fn podman(
    engine: &Engine,
    store: &Store,
    lease: &Lease,
    images: &[Image],
    load: &LoadOptions,
    events: &(dyn Fn(Event<'_>) + Send + Sync),
) -> Result<Vec<Result<Loaded, LoadError>>, RunError> {
    let mut results = engine.load_all(store, lease, images, load, events).await?;
    for (image, result) in images.iter().zip(&mut results).filter(|(_, result)| result.is_ok()) {
        if let Some(Err(error)) = engine.keep_pins(&[image]).await.pop() {
            let image = image.entry.reference.familiar();
            *result = Err(LoadError::Refused { image, message: error.to_string() });
        }
    }
    Ok(results)
}

/// dockerd takes another storage driver in silence where it was not told which.
fn is_as_expected(device: &Device, private: &Private) -> Result<(), SeedError> {
    let is = private.engine.capabilities();
    let kind = match device.store {
        StoreKind::Graph => EngineKind::DockerGraph,
        StoreKind::Containerd => EngineKind::DockerContainerd,
        StoreKind::Podman => EngineKind::Podman,
    };
    if is.kind == kind && is.storage_driver == device.storage_driver {
        return Ok(());
    }
    let what = format!("came up as {is}, in place of {} on a {} store", device.storage_driver, device.store);
    Err(SeedError::Start { program: "engine", what, log: private.last_words() })
}

fn nothing_to_do(
    images: &[Image],
    plan: &SeedPlan,
    free: u64,
    events: &(dyn Fn(Event<'_>) + Send + Sync),
) -> Seeded {
    let mut results = Vec::with_capacity(images.len());
    for (at, (image, planned)) in images.iter().zip(&plan.images).enumerate() {
        let reference = &image.entry.reference;
        let tag = reference.tag().map(|_| planned.tag);
        let exact = reference.digest().is_none() || way::leads(image);
        let resolves = Sighting { id: image.config_descriptor.digest, content: true, tag, exact };
        let loaded = loaded(image, Was::Present, resolves);
        events(Event::Skipped { image: at, loaded: &loaded });
        results.push(Ok(loaded));
    }
    Seeded { images: results, engine: None, served: Served::default(), free_before: free, free_after: free }
}

/// The storage, ours alone as long as other runs are concerned; a running dockerd has locks of its own.
struct Taken {
    directory: PathBuf,
    _lock: File,
    /// What an engine that did not come up may have left, in directories that were empty or not there before.
    fresh: Vec<PathBuf>,
    /// Directories that were made.
    made: Vec<PathBuf>,
}

impl Taken {
    fn take(device: &Device) -> Result<Self, SeedError> {
        let directory = device.data_root.clone();
        let mut roots = vec![directory.clone()];
        if device.store == StoreKind::Containerd {
            roots.push(device.containerd_root.clone());
        }
        let fresh: Vec<PathBuf> = roots.iter().filter(|root| is_empty(root)).cloned().collect();
        let mut made = Vec::new();
        for root in &roots {
            if root.is_dir() {
                continue;
            }
            let first = root.ancestors().take_while(|above| *above != nearest(root)).last();
            made.extend(first.map(Path::to_owned));
            let created = fs::DirBuilder::new().recursive(true).mode(0o711).create(root);
            created.map_err(|source| SeedError::ReadOnly { directory: root.clone(), source })?;
        }
        let failed = |source| SeedError::System { what: format!("open {}", directory.display()), source };
        let lock = File::open(&directory).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory, _lock: lock, fresh, made }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(SeedError::Busy { directory, holder: "another palletjack seed".to_owned() })
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// After an engine that did not come up: all is as before.
    fn give_back(self) {
        for root in &self.fresh {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                if let Err(error) = removed {
                    tracing::warn!(path = %path.display(), %error, "left behind by an engine that did not come up");
                }
            }
        }
        for made in self.made.iter().rev() {
            // With what is in it by now, all of it ours, as its first directory was.
            if let Err(error) = fs::remove_dir_all(made) {
                tracing::debug!(path = %made.display(), %error, "stays");
            }
        }
        tracing::debug!(directory = %self.directory.display(), "given back");
    }
}

fn is_empty(directory: &Path) -> bool {
    match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The engine's own databases were written until its end.
async fn sync(device: &Device) -> Result<(), SeedError> {
    let roots = [device.data_root.clone(), device.containerd_root.clone()];
    let synced = spawn_blocking(move || -> io::Result<()> {
        for root in roots.iter().filter(|root| root.is_dir()) {
            rustix::fs::syncfs(File::open(root)?)?;
        }
        // A directory that is new is found by the one above.
        for above in roots.iter().filter_map(|root| root.parent()).filter(|above| above.is_dir()) {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    });
    let failed = |source| SeedError::System { what: "write the storage out to the disk".to_owned(), source };
    synced.await.map_err(|panic| failed(io::Error::other(panic)))?.map_err(failed)
}

fn lost(what: &str, panic: tokio::task::JoinError) -> SeedError {
    SeedError::System { what: what.to_owned(), source: io::Error::other(panic) }
}
