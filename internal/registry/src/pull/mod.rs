//! Pulling images into the cache: all of them at once.
//!
//! ```text
//!   Wanted ──► resolve (16 at a time) ──► Plan ──► Board: each digest once, largest first
//!                │ published, pinned, complete?      │
//!                └──► no request at all              ▼
//!                                  transfer (8 sockets): socket ─► pieces ─► one thread: hash, write, commit
//!                                                    │
//!                              last blob committed   ▼
//!   ImageOutcome ◄───────────────────────────── publish
//! ```

mod board;
mod outcome;
mod resolve;
mod run;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use palletjack_image::{Platform, Reference};
use palletjack_store::{Lease, Snapshot, Store, StoreError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use outcome::{ImageOutcome, PullError, PullSummary, Pulled, Reason};

use crate::remote::Remote;

/// The most bytes of layers that are held in memory at one time, over all transfers: what sockets delivered and no
/// thread has written yet. Together with the sockets' own buffers (about half a MiB each) it is what a pull needs,
/// whatever the size of the layers.
const MEMORY: usize = 8 << 20;

/// One image that is to be in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which image; with a tag, a digest or both.
    pub reference: Reference,
    /// The reference as it was written.
    pub requested: String,
    /// The deployments (or whatever else) that need it, for messages.
    pub wanted_by: Vec<String>,
}

/// Whether tags that the cache has are asked for again. Digests never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// What is cached is used.
    #[default]
    Missing,
    /// The registry is asked what the tag means now. Where it cannot be asked, what is cached is used, with a warning.
    Always,
}

/// What is pulled, and how hard.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// What the images are to run on.
    pub platform: Platform,
    /// Whether tags that are there are asked for again.
    pub refresh: Refresh,
    /// Layers in flight at one time; at least 1.
    pub blobs: usize,
    /// Images being resolved at one time; at least 1.
    pub manifests: usize,
    /// How long to wait for another process that is fetching a layer which is needed here.
    pub busy: Duration,
}

impl PullOptions {
    /// The defaults for a platform: 8 layers and 16 manifests at one time, an hour for other processes.
    pub fn new(platform: Platform) -> Self {
        Self { platform, refresh: Refresh::Missing, blobs: 8, manifests: 16, busy: Duration::from_hours(1) }
    }
}

/// Pulls images from registries into a cache.
#[derive(Debug, Clone)]
pub struct Puller {
    store: Store,
    remote: Remote,
    options: PullOptions,
}

impl Puller {
    /// A puller. It is told what happens through the events of `remote`.
    pub fn new(store: Store, remote: Remote, options: PullOptions) -> Self {
        Self { store, remote, options }
    }

    /// Has all these images in the cache, if that can be done.
    ///
    /// An image that fails stops no other; each has its outcome in the summary, in the order in which they were given
    /// (a reference given twice counts once). When `cancel` fires, images that are complete are still published, the
    /// others end as cancelled and what was fetched of them is kept for the next run.
    ///
    /// # Errors
    /// Only where the cache cannot be read or leased at all.
    pub async fn pull(
        &self,
        wanted: Vec<Wanted>,
        cancel: &CancellationToken,
    ) -> Result<PullSummary, StoreError> {
        let store = self.store.clone();
        let opened = blocking(move || Ok::<_, StoreError>((store.lease()?, store.snapshot()?))).await;
        let Some(opened) = opened else { return Ok(PullSummary::default()) };
        let (lease, snapshot) = opened?;
        let job = Arc::new(Job {
            store: self.store.clone(),
            lease,
            snapshot,
            remote: self.remote.clone(),
            options: self.options.clone(),
            sockets: Semaphore::new(self.options.blobs.max(1)),
            memory: Arc::new(Semaphore::new(MEMORY)),
            cancel: cancel.clone(),
        });
        Ok(run::run(&job, wanted).await)
    }
}

/// What all parts of one pull share.
struct Job {
    store: Store,
    lease: Lease,
    snapshot: Snapshot,
    remote: Remote,
    options: PullOptions,
    /// One permit per layer in flight.
    sockets: Semaphore,
    /// One permit per byte that is in memory.
    memory: Arc<Semaphore>,
    cancel: CancellationToken,
}

/// Runs file work on a blocking thread. `None` where the runtime is shutting down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}
