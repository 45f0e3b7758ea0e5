//! Bringing images to a graph driver: by pulls, each made durable, each with its names.

use futures_util::StreamExt;
use futures_util::stream;
use palletjack_image::LayerCompression;
use palletjack_store::{Image, Lease, Store};

use super::plan::SeedPlan;
use super::pull::Came;
use super::way;
use crate::connect::Engine;
use crate::error::{LoadError, RunError};
use crate::event::Event;
use crate::job::{Job, Looked};
use crate::load::LoadOptions;
use crate::outcome::{Loaded, RunsAs, Was};
use crate::repin::RepinError;
use crate::run::loaded;
use crate::sighting::Sighting;

type Results = Vec<Result<Loaded, LoadError>>;

#[expect(clippy::too_many_arguments, reason = "what a run consists of, each once")]
/// The same order of steps as in a run of loads ([`Engine::load_all`]), for those who take part.
pub(super) async fn bring(
    engine: &Engine,
    store: &Store,
    lease: &Lease,
    images: &[Image],
    plan: &SeedPlan,
    options: &LoadOptions,
    log: &(dyn Fn() -> String + Send + Sync),
    events: &(dyn Fn(Event<'_>) + Send + Sync),
) -> Result<Results, RunError> {
    let run = Bringing { engine, store, lease, plan, options, log, events };
    for around in &options.around {
        around.at_start(engine, images).await?;
    }
    let mut results: Vec<Option<Result<Loaded, LoadError>>> = images.iter().map(|_| None).collect();
    let mut waiting = Vec::new();
    for (at, looked) in engine.look_at_all(images, &|image| events(Event::Checking { image })).await {
        match looked {
            Ok(Looked { job, seen, .. }) if !has_all(&job, &seen) => waiting.push((at, job)),
            Ok(Looked { job, seen, .. }) => {
                results[at] = Some(run.complete(at, job, Ok(loaded(job.image, Was::Present, seen))).await);
            }
            Err(error) => results[at] = Some(Err(error)),
        }
    }
    if !waiting.is_empty() {
        let unsent: Vec<&Image> = waiting.iter().map(|(_, job)| job.image).collect();
        for around in &options.around {
            around.before_first_send(engine, &unsent).await?;
        }
        let parallel = options.parallel.unwrap_or(super::run::PARALLEL).max(1);
        let run = &run;
        let brought = stream::iter(waiting)
            .map(|(at, job)| async move { (at, run.complete(at, job, run.bring_one(at, &job).await).await) })
            .buffer_unordered(parallel)
            .collect::<Vec<_>>()
            .await;
        for (at, result) in brought {
            results[at] = Some(result);
        }
    }
    let mut results: Results = results
        .into_iter()
        .map(|result| result.expect("there, failed, or waiting and brought: each once"))
        .collect();
    for around in &options.around {
        around.at_end(engine, images, &mut results).await?;
    }
    for (result, (image, planned)) in results.iter_mut().zip(images.iter().zip(&plan.images)) {
        if result.is_ok() {
            let job = Job { image, tag: planned.tag };
            run.settle_names(&job, result).await;
        }
    }
    Ok(results)
}

#[derive(Clone, Copy)]
struct Bringing<'r> {
    engine: &'r Engine,
    store: &'r Store,
    lease: &'r Lease,
    plan: &'r SeedPlan,
    options: &'r LoadOptions,
    /// The end of the engine's log.
    log: &'r (dyn Fn() -> String + Send + Sync),
    events: &'r (dyn Fn(Event<'_>) + Send + Sync),
}

impl Bringing<'_> {
    async fn bring_one(&self, at: usize, job: &Job<'_>) -> Result<Loaded, LoadError> {
        let total = self.plan.images.get(at).map_or(0, |planned| planned.missing);
        if !way::leads(job.image) {
            return self.load_one(job).await;
        }
        let progress = |came: Came| {
            if came.all {
                (self.events)(Event::Waiting { image: at });
            } else {
                (self.events)(Event::Sending { image: at, bytes: came.bytes, total: total.max(came.bytes) });
            }
        };
        // What a pull cannot unpack is loaded, packed anew; the pull after it brings no layer, only the pin.
        let before = if self.has_unreadable(job.image) { Some(self.load_one(job).await?) } else { None };
        let pulled = self.engine.seed_one(self.store, job, self.log, &progress).await?;
        Ok(match before {
            Some(before) => Loaded { was: before.was, ..pulled },
            None => pulled,
        })
    }

    /// Whether a layer is packed as the engine does not read it.
    fn has_unreadable(&self, image: &Image) -> bool {
        let is_zstd = |media_type: &str| LayerCompression::of(media_type) == Some(LayerCompression::Zstd);
        !self.engine.capabilities().reads_zstd()
            && image.layers.iter().any(|layer| is_zstd(&layer.media_type))
    }

    /// For an image whose registry cannot be led to us: it has a tag then, and no digest.
    async fn load_one(&self, job: &Job<'_>) -> Result<Loaded, LoadError> {
        let one = std::slice::from_ref(job.image);
        let options = LoadOptions { around: Vec::new(), parallel: Some(1), ..self.options.clone() };
        let unknown = |error: RunError| LoadError::Refused { image: job.name(), message: error.to_string() };
        let results = self.engine.load_all(self.store, self.lease, one, &options, &|_| {}).await;
        results.map_err(unknown)?.pop().expect("one result for each image, and there was one")
    }

    /// Lets those who take part do theirs, and tells what came of it.
    async fn complete(
        &self,
        at: usize,
        job: Job<'_>,
        brought: Result<Loaded, LoadError>,
    ) -> Result<Loaded, LoadError> {
        let result = self.after_seen(&job, brought).await;
        (self.events)(match &result {
            Ok(loaded) if loaded.was == Was::Present => Event::Skipped { image: at, loaded },
            Ok(loaded) => Event::Loaded { image: at, loaded },
            Err(error) => Event::Failed { image: at, error },
        });
        result
    }

    async fn after_seen(
        &self,
        job: &Job<'_>,
        brought: Result<Loaded, LoadError>,
    ) -> Result<Loaded, LoadError> {
        let mut loaded = brought?;
        for around in &self.options.around {
            around.after_seen(self.engine, job.image, &mut loaded).await?;
        }
        Ok(loaded)
    }

    /// When nothing moves any more: an image that was repaired has lost its names, and one whose tag is another's needs
    /// a tag of ours.
    async fn settle_names(&self, job: &Job<'_>, result: &mut Result<Loaded, LoadError>) {
        let settled = async {
            let unknown = |source| LoadError::Unknown { image: job.name(), source };
            let mut seen = self.engine.look(job.image).await.map_err(unknown)?;
            if !has_all(job, &seen) && way::leads(job.image) {
                seen = self.engine.seed_one(self.store, job, self.log, &|_| {}).await?.resolves;
            }
            match self.engine.keep_pins(&[job.image]).await.pop() {
                None | Some(Ok(_)) => Ok(seen),
                Some(Err(RepinError::Kept { source, .. } | RepinError::Unknown { source, .. })) => {
                    Err(unknown(source))
                }
                Some(Err(error)) => Err(LoadError::Refused { image: job.name(), message: error.to_string() }),
            }
        };
        match (settled.await, &mut *result) {
            (Ok(seen), Ok(loaded)) => {
                loaded.resolves = seen;
                loaded.runs_as = RunsAs::of(&job.image.entry.reference, &seen);
            }
            (Err(error), _) => *result = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
}

/// Whether nothing is missing: content, pin and tag.
fn has_all(job: &Job<'_>, seen: &Sighting) -> bool {
    let is_pinned = seen.exact || !way::leads(job.image);
    seen.content && is_pinned && (!job.tag || seen.tag != Some(false))
}
