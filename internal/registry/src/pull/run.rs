//! The loop that keeps everything going: resolving, transferring, publishing, all at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use palletjack_image::{Descriptor, Digest};
use palletjack_store::NewEntry;
use tokio::time::Instant;

use super::board::{Board, Stage};
use super::outcome::{ImageOutcome, PullError, PullSummary, Pulled, Reason};
use super::resolve::{Resolution, resolve};
use super::transfer::{End, transfer};
use super::{Job, Wanted, blocking};
use crate::event::Event;

/// How long to wait before a layer that another process fetches is looked at again: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The state of one run beside the board.
struct Run {
    job: Arc<Job>,
    board: Board,
    /// When what was parked is looked at again.
    look: Option<Instant>,
    /// Since when each parked layer has been busy.
    busy: Vec<(Digest, Instant)>,
    /// Layers that were there already, by digest; each counts once.
    reused: HashSet<Digest>,
    bytes_reused: u64,
}

/// Pulls everything. Whatever happens to one image, the others go on.
pub(super) async fn run(job: &Arc<Job>, wanted: Vec<Wanted>) -> PullSummary {
    let began = Instant::now();
    let before = job.remote.traffic();
    let mut run = Run {
        job: job.clone(),
        board: Board::new(wanted),
        look: None,
        busy: Vec::new(),
        reused: HashSet::new(),
        bytes_reused: 0,
    };
    run.drive().await;
    let after = job.remote.traffic();
    PullSummary {
        images: run.board.images.into_iter().map(outcome).collect(),
        requests: after.requests - before.requests,
        bytes_fetched: after.bytes - before.bytes,
        bytes_reused: run.bytes_reused,
        elapsed: began.elapsed(),
    }
}

fn outcome(image: super::board::ImageState) -> ImageOutcome {
    let Wanted { reference, requested, wanted_by } = image.wanted;
    let outcome = match image.stage {
        Stage::Settled(Ok(pulled)) => Ok(*pulled),
        Stage::Settled(Err(reason)) => Err(reason),
        _ => Err(Reason::Cancelled),
    };
    let outcome = outcome.map_err(|reason| PullError {
        image: reference.familiar(),
        wanted_by: wanted_by.clone(),
        reason,
    });
    ImageOutcome { reference, requested, wanted_by, outcome }
}

impl Run {
    async fn drive(&mut self) {
        let job = self.job.clone();
        let mut unresolved = 0..self.board.images.len();
        let mut resolving = FuturesUnordered::new();
        let mut transfers = FuturesUnordered::new();
        let mut publishing = FuturesUnordered::new();
        loop {
            let cancelled = job.cancel.is_cancelled();
            if cancelled {
                // Transfers end by themselves and leave what they have.
                resolving.clear();
                self.look = None;
            } else {
                while resolving.len() < job.options.manifests.max(1) {
                    let Some(image) = unresolved.next() else { break };
                    let (job, reference) = (job.clone(), self.board.images[image].wanted.reference.clone());
                    resolving.push(async move { (image, resolve(&job, &reference).await) });
                }
                // Twice the sockets: while one layer is made durable, another one comes in.
                while transfers.len() < job.options.blobs.max(1) * 2 {
                    let Some(due) = self.board.next() else { break };
                    let job = job.clone();
                    transfers.push(async move { (due.digest, due.size, transfer(job, due).await) });
                }
            }
            if publishing.is_empty()
                && let Some(image) = self.board.publishable()
            {
                self.board.images[image].stage = Stage::Publishing;
                let (job, entry) = (job.clone(), self.entry(image));
                publishing.push(async move {
                    let published = match entry {
                        Some(entry) => blocking(move || job.store.publish(&job.lease, entry)).await,
                        None => None,
                    };
                    (image, published)
                });
            }
            let look = self.look;
            let idle =
                resolving.is_empty() && transfers.is_empty() && publishing.is_empty() && look.is_none();
            tokio::select! {
                Some((image, resolution)) = resolving.next(), if !resolving.is_empty() => {
                    self.resolved(image, resolution);
                }
                Some((digest, size, end)) = transfers.next(), if !transfers.is_empty() => {
                    self.transferred(digest, size, end);
                }
                Some((image, published)) = publishing.next(), if !publishing.is_empty() => {
                    let fetched_bytes = self.board.images[image].fetched;
                    self.settle(image, match published {
                        None => Err(Reason::Cancelled),
                        Some(Err(error)) => Err(error.into()),
                        Some(Ok(entry)) => Ok(Pulled { entry, cached: false, fetched_bytes, unchecked: None }),
                    });
                }
                () = tokio::time::sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {
                    self.board.unpark();
                    self.look = None;
                }
                () = job.cancel.cancelled(), if !cancelled && !idle => {}
                else => return,
            }
        }
    }

    fn resolved(&mut self, image: usize, resolution: Result<Resolution, Reason>) {
        match resolution {
            Ok(Resolution::Cached { entry, layers, unchecked }) => {
                for layer in &layers {
                    self.reuse(layer.digest, layer.size);
                }
                self.settle(image, Ok(Pulled { entry: *entry, cached: true, fetched_bytes: 0, unchecked }));
            }
            Ok(Resolution::Plan(plan)) => {
                if let Err(reason) = self.board.plan(image, *plan) {
                    self.settle(image, Err(reason));
                }
            }
            Err(reason) => self.settle(image, Err(reason)),
        }
    }

    fn transferred(&mut self, digest: Digest, size: u64, end: End) {
        match end {
            End::Busy => return self.busy(digest),
            End::Present => {
                self.reuse(digest, size);
                self.board.blob_done(&digest, 0);
            }
            End::Fetched(bytes) => self.board.blob_done(&digest, bytes),
            End::Failed(reason) => {
                for image in self.board.blob_failed(&digest, &reason) {
                    self.settle(image, Err(reason.clone()));
                }
                return;
            }
        }
        (self.job.remote.events())(Event::BlobDone { digest });
    }

    /// Somebody else has a layer's partial: it is put aside, and looked at again later and later, but not for ever.
    fn busy(&mut self, digest: Digest) {
        let limit = self.job.options.busy;
        let since = match self.busy.iter().find(|(busy, _)| *busy == digest) {
            Some((_, since)) => *since,
            None => {
                let warning = format!("another process is fetching layer {}: waiting for it", digest.short());
                (self.job.remote.events())(Event::Warning(warning));
                self.busy.push((digest, Instant::now()));
                Instant::now()
            }
        };
        if since.elapsed() >= limit {
            return self.transferred(digest, 0, End::Failed(Reason::Busy { digest, limit }));
        }
        self.board.park(digest);
        if self.look.is_none() {
            let delay = (since.elapsed() / 2).clamp(FIRST_LOOK, LAST_LOOK);
            self.look = Some(Instant::now() + delay);
        }
    }

    fn reuse(&mut self, digest: Digest, size: u64) {
        if self.reused.insert(digest) {
            self.bytes_reused = self.bytes_reused.saturating_add(size);
        }
    }

    fn entry(&self, image: usize) -> Option<NewEntry> {
        let state = &self.board.images[image];
        let plan = state.plan.as_ref()?;
        Some(NewEntry {
            reference: state.wanted.reference.clone(),
            requested: state.wanted.requested.clone(),
            platform: self.job.options.platform.clone(),
            target: plain(&plan.target),
            manifest: plain(&plan.manifest),
            upstream: plan.upstream.clone(),
            pinned: false,
        })
    }

    fn settle(&mut self, image: usize, outcome: Result<Pulled, Reason>) {
        let state = &mut self.board.images[image];
        let name = state.wanted.reference.familiar();
        let event = match &outcome {
            Ok(pulled) => Event::ImageDone { image: name, cached: pulled.cached },
            Err(reason) => Event::ImageFailed { image: name, error: reason.to_string() },
        };
        state.stage = Stage::Settled(outcome.map(Box::new));
        (self.job.remote.events())(event);
    }
}

/// Type, digest and size alone.
fn plain(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size)
}
