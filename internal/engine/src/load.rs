//! Loading images: what is missing of each, one request each, and a look before and after.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use palletjack_archive::{Export, Item, Names};
use palletjack_store::{Image, Lease, Store};

use crate::around::Around;
use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::error::{LoadError, RunError};
use crate::event::Event;
use crate::job::{Job, Looked, Waiting};
use crate::order::default_parallel;
use crate::outcome::Loaded;
use crate::plan::Delta;
use crate::run::Run;

/// How a run of loads goes about it.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// How many requests may be in flight at once; `None` is what the engine's cores and memory suggest.
    pub parallel: Option<usize>,
    /// How long a load may stand still without a byte taken, while the archive is sent. Five minutes unless set: an SD
    /// card under write pressure stops for a minute and more.
    pub stall: Duration,
    /// How long without a word, when all was sent and the engine unpacks. An hour unless set: a graph driver says
    /// little, and unpacks only then.
    pub answer: Duration,
    /// Where a layer lies while it is packed anew and sent, for an engine that does not read Zstandard; unset, the
    /// cache's own `state`.
    pub scratch: Option<PathBuf>,
    /// Who else takes part.
    pub around: Vec<Arc<dyn Around>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            parallel: None,
            stall: Duration::from_mins(5),
            answer: Duration::from_hours(1),
            scratch: None,
            around: Vec::new(),
        }
    }
}

impl Engine {
    /// Loads what the engine lacks of `images`, one request per image, and says for each what came of it, in the
    /// order of the list. One failure does not stop the others; a [`RunError`] means that nothing was sent, or that
    /// the run as a whole cannot be vouched for.
    ///
    /// The lease keeps the blobs in the cache for as long as they are read. Where several images of the list want
    /// one tag, it goes to the one whose reference has no digest, else to the one that owns it in the cache; the
    /// others get what names the engine allows for their digests.
    pub async fn load_all(
        &self,
        store: &Store,
        _lease: &Lease,
        images: &[Image],
        options: &LoadOptions,
        events: &(dyn Fn(Event<'_>) + Send + Sync),
    ) -> Result<Vec<Result<Loaded, LoadError>>, RunError> {
        for around in &options.around {
            around.at_start(self, images).await?;
        }
        let mut results: Vec<Option<Result<Loaded, LoadError>>> = images.iter().map(|_| None).collect();
        let run = Run { engine: self, store, options, events };
        let mut waiting = Vec::new();
        for (index, seen) in self.look_at_all(images, &|image| events(Event::Checking { image })).await {
            match seen {
                Ok(Looked { enough: false, job, seen }) => waiting.push(Waiting { index, job, seen }),
                Ok(Looked { job, seen, .. }) => {
                    results[index] = Some(run.is_present(index, &job, seen).await);
                }
                Err(error) => {
                    events(Event::Failed { image: index, error: &error });
                    results[index] = Some(Err(error));
                }
            }
        }
        if !waiting.is_empty() {
            let mut known = self.known_or_nothing(store).await;
            let mut parallel = self.parallel(options);
            if let Some(forecast) = self.forecast(&waiting, &known, &mut parallel) {
                if forecast.is_short() {
                    return Err(RunError::NoSpace(forecast));
                }
                if forecast.may_be_short() {
                    events(Event::DiskMayBeShort { forecast: &forecast });
                }
            }
            let unsent: Vec<&Image> = waiting.iter().map(|waiting| waiting.job.image).collect();
            for around in &options.around {
                around.before_first_send(self, &unsent).await?;
            }
            run.send(waiting, &mut known, parallel, &mut results).await;
        }
        let mut results: Vec<_> =
            results.into_iter().map(|result| result.expect("present, failed, or sent: each once")).collect();
        for around in &options.around {
            around.at_end(self, images, &mut results).await?;
        }
        Ok(results)
    }

    pub(crate) fn parallel(&self, options: &LoadOptions) -> usize {
        options.parallel.unwrap_or_else(|| default_parallel(self.capabilities())).max(1)
    }

    /// The archive of one image for this engine.
    pub(crate) fn export(&self, store: &Store, job: &Job<'_>, delta: Delta) -> Result<Export, LoadError> {
        let names = match self.capabilities().kind {
            EngineKind::DockerContainerd => Names::EveryPin,
            EngineKind::DockerGraph | EngineKind::Podman => Names::One,
        };
        let gzip_only = !self.capabilities().reads_zstd();
        let item = Item { image: job.image, tag: job.tag, omit: delta.omit, gzip_only };
        Export::plan(store, &[item], names)
            .map_err(|source| LoadError::Export { image: job.name(), source: Box::new(source) })
    }
}
