//! The part that durability takes in a run of loads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use palletjack_store::{EngineMark, Image, Ledger, Leftovers, Record, Store, StoreError, UnsettledImage};
use tokio::task::spawn_blocking;

use crate::around::Around;
use crate::connect::{Engine, innermost};
use crate::error::{EngineError, ErrorKind, LoadError, RunError};
use crate::load::LoadOptions;
use crate::outcome::{Loaded, Was};

use super::compare::Compared;
use super::place::DataRoot;
use super::recover::{self, Fate};
use super::remove::Removal;
use super::report::{DurableReport, Recovered, RecoveredAs};

const CANNOT_EXAMINE: &str = "what an interrupted load left in the engine cannot be examined";

/// Makes the loads of a run durable, and mends what an earlier one left behind. One per run:
/// put it into [`LoadOptions::around`], and ask for its [`report`](Self::report) afterwards.
#[derive(Debug)]
pub struct Durable {
    store: Store,
    ledger: Ledger,
    /// Whether every image of the run is compared and mended, whoever loaded it.
    repair: bool,
    /// Written on blocking threads, by several images at once.
    record: Arc<Mutex<Option<Record>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    root: Option<DataRoot>,
    report: DurableReport,
    /// An earlier run was interrupted: what is sent now is compared, because layers that nobody lists may be damaged.
    distrust: bool,
    /// Images that were damaged and removed, with the tags that they had.
    removed: Vec<(Image, Vec<String>)>,
    /// Images that this run sent and that are damaged all the same.
    damaged: Vec<Image>,
}

impl Durable {
    /// Takes part in a run of loads from this cache. `instead` are directories for the record where the cache cannot be
    /// written.
    pub fn new(store: &Store, instead: &[PathBuf]) -> Self {
        Self {
            store: store.clone(),
            ledger: store.ledger(instead),
            repair: false,
            record: Arc::default(),
            state: Mutex::default(),
        }
    }

    /// The same for a run that believes nothing: each of its images that is there is compared with the cache, and is
    /// removed and loaded again where it is damaged.
    #[must_use]
    pub fn repairing(mut self) -> Self {
        self.repair = true;
        self
    }

    /// The images that an interrupted load has left in this engine, as a person writes them: nobody knows whether
    /// they are whole. Changes nothing; the next run deals with them.
    pub async fn distrusted(&self, engine: &Engine) -> Result<Vec<String>, RunError> {
        let mark = self.find_root(engine).await?.mark;
        let (_, images) = self.left_behind(&mark).await?;
        let mut names: Vec<String> = Vec::new();
        for named in images {
            let there = engine.lists(&recover::id_of(engine, &named)).await;
            if there.map_err(|source| around(CANNOT_EXAMINE, ErrorKind::Engine, source))? {
                names.push(recover::name_of(&named));
            }
        }
        Ok(names)
    }

    /// Whether no interrupted load has left anything in this engine.
    pub(crate) fn left_nothing(&self, mark: &EngineMark) -> bool {
        self.ledger.leftovers(mark).is_empty()
    }

    /// What is to be told when the run is over.
    pub fn report(&self) -> DurableReport {
        self.state().report.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(&self) -> Option<DataRoot> {
        self.state().root.clone()
    }

    /// Changes the record on a blocking thread. A failure is told once, and does not stop the loads.
    async fn write_down(
        &self,
        change: impl FnOnce(&mut Option<Record>) -> Result<(), StoreError> + Send + 'static,
    ) {
        let record = Arc::clone(&self.record);
        let changed =
            spawn_blocking(move || change(&mut record.lock().unwrap_or_else(PoisonError::into_inner)));
        let failure = match changed.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => match std::error::Error::source(&error) {
                Some(_) => format!("{error}: {}", innermost(&error)),
                None => error.to_string(),
            },
            Err(panic) => panic.to_string(),
        };
        self.state().report.unprotected.get_or_insert(failure);
    }

    async fn strike_off(&self, image: &Image) {
        let image = UnsettledImage::of(image);
        self.strike_off_named(image).await;
    }

    async fn strike_off_named(&self, image: UnsettledImage) {
        self.write_down(move |record| record.as_mut().map_or(Ok(()), |record| record.settled(&image))).await;
    }

    async fn find_root(&self, engine: &Engine) -> Result<DataRoot, RunError> {
        let found = DataRoot::find(engine).await;
        found.map_err(|source| around("the engine does not say where its data is", ErrorKind::Engine, source))
    }

    async fn left_behind(&self, mark: &EngineMark) -> Result<(Leftovers, Vec<UnsettledImage>), RunError> {
        const UNREADABLE: &str = "what an interrupted load left behind cannot be read";
        let (ledger, store, mark) = (self.ledger.clone(), self.store.clone(), mark.clone());
        let found = spawn_blocking(move || {
            let leftovers = ledger.leftovers(&mark);
            recover::distrusted(&store, &leftovers).map(|images| (leftovers, images))
        });
        let found = found.await.map_err(|panic| around(UNREADABLE, ErrorKind::Cache, panic))?;
        found.map_err(|error| around(UNREADABLE, ErrorKind::Cache, error))
    }

    /// Takes up what earlier runs left behind.
    async fn recover(&self, engine: &Engine, of_run: &[Image]) -> Result<(), RunError> {
        let root = self.find_root(engine).await?;
        let mark = root.mark.clone();
        self.state().root = Some(root.clone());
        let (leftovers, mut images) = self.left_behind(&mark).await?;
        if self.repair {
            for image in of_run.iter().map(UnsettledImage::of) {
                if !images.contains(&image) {
                    images.push(image);
                }
            }
        } else if leftovers.is_empty() {
            return Ok(());
        }
        self.state().distrust = true;

        // This run takes the distrust over before the old record goes.
        let (ledger, named) = (self.ledger.clone(), images.clone());
        self.write_down(move |record| {
            let mut new = ledger.begin(&mark)?;
            new.sending(named)?;
            *record = Some(new);
            leftovers.forget()
        })
        .await;
        for named in images {
            self.recover_one(engine, &root, named)
                .await
                .map_err(|source| around(CANNOT_EXAMINE, ErrorKind::Engine, source))?;
        }
        Ok(())
    }

    async fn recover_one(
        &self,
        engine: &Engine,
        root: &DataRoot,
        named: UnsettledImage,
    ) -> Result<(), EngineError> {
        let name = recover::name_of(&named);
        let outcome = match recover::examine(engine, &self.store, &named).await? {
            Fate::Absent => {
                self.strike_off_named(named).await;
                return Ok(());
            }
            // Compared in memory: only what is synced as well is believed from now on.
            Fate::Whole(image) => match root.settle(engine, &image).await {
                Ok(_) => {
                    self.strike_off_named(named).await;
                    RecoveredAs::Whole
                }
                Err(error) => RecoveredAs::Doubtful {
                    todo: format!("its files are whole, and cannot be made durable: {error}"),
                },
            },
            Fate::Removed { image, tags } => {
                self.state().removed.push((*image, tags));
                RecoveredAs::Removed
            }
            Fate::Stays(outcome) => outcome,
        };
        self.state().report.recovered.push(Recovered { image: name, outcome });
        Ok(())
    }

    /// Syncs after a load, and compares where there is distrust. Whether the image is whole as far as is known.
    async fn settle(&self, engine: &Engine, image: &Image) -> Result<bool, LoadError> {
        let Some(root) = self.root() else { return Ok(true) };
        let name = image.entry.reference.familiar();
        let durability = root
            .settle(engine, image)
            .await
            .map_err(|source| LoadError::NotDurable { image: name.clone(), source })?;
        let distrust = self.state().distrust;
        if distrust {
            match engine.compare(&self.store, image).await {
                Ok(Compared::Whole(_)) => {}
                // It was seen a moment ago: whatever the engine means, nothing is known of the files.
                Ok(Compared::NotThere) => {
                    let todo =
                        "nobody knows whether it is whole: the engine has it and makes no container of it"
                            .to_owned();
                    let outcome = RecoveredAs::Doubtful { todo };
                    self.state().report.recovered.push(Recovered { image: name, outcome });
                    return Ok(true);
                }
                Ok(compared) => {
                    tracing::info!(name, trouble = compared.trouble(), "damaged after a load");
                    return Ok(false);
                }
                Err(error) => {
                    let what = format!("its files could not be checked: {}", innermost(&error));
                    let todo = "load again".to_owned();
                    return Err(LoadError::Damaged { image: name, what, todo });
                }
            }
        }
        {
            let images = &mut self.state().report.images;
            images.retain(|(known, _)| *known != name);
            images.push((name, durability));
        }
        self.strike_off(image).await;
        Ok(true)
    }

    /// The second time, for what was sent and is damaged: layers that nobody listed went with the first removal.
    async fn second_time(&self, engine: &Engine, image: &Image) -> Result<Loaded, LoadError> {
        let name = image.entry.reference.familiar();
        let unknown = |source| LoadError::Unknown { image: name.clone(), source };
        let id = engine.id_of(image);
        let removal = engine.remove_image(&id).await.map_err(unknown)?;
        if let Removal::InUse { .. } | Removal::Refused { .. } = removal {
            let todo = recover::advice(engine, &name, &id, &removal);
            return Err(LoadError::Damaged {
                image: name,
                what: "found by comparing its files".to_owned(),
                todo,
            });
        }
        self.load_plainly(engine, image).await
    }

    /// Loads one image outside of the run, settles it and compares it.
    async fn load_plainly(&self, engine: &Engine, image: &Image) -> Result<Loaded, LoadError> {
        let name = || image.entry.reference.familiar();
        let lost = |what: String| LoadError::Unknown {
            image: name(),
            source: EngineError::Ask { what, source: "its cache cannot be read".into() },
        };
        let lease = self.store.lease().map_err(|error| lost(error.to_string()))?;
        let options = LoadOptions::default();
        let one = std::slice::from_ref(image);
        let results = engine.load_all(&self.store, &lease, one, &options, &|_| {}).await;
        let mut results = results.map_err(|error| lost(error.to_string()))?;
        let loaded = results.pop().ok_or_else(|| lost("nothing".to_owned()))??;
        if self.settle(engine, image).await? {
            return Ok(loaded);
        }
        Err(LoadError::Damaged {
            image: name(),
            what: "its files are not what was sent, also after it was removed and sent again".to_owned(),
            todo: self.root().map_or_else(String::new, |data| recover::still_damaged(engine, &data)),
        })
    }

    async fn end(
        &self,
        engine: &Engine,
        images: &[Image],
        results: &mut [Result<Loaded, LoadError>],
    ) -> Result<(), RunError> {
        let mut damaged = std::mem::take(&mut self.state().damaged);
        if self.state().distrust {
            // An engine stumbles over what it has half of, and has done away with it by that.
            let failed = images.iter().zip(results.iter()).filter(|(_, result)| {
                matches!(result, Err(LoadError::Refused { .. } | LoadError::NotThere { .. }))
            });
            damaged.extend(failed.map(|(image, _)| image.clone()));
        }
        // All are removed before the first is sent again: they may share what is damaged.
        for image in &damaged {
            let id = engine.id_of(image);
            if let Err(error) = engine.remove_image(&id).await {
                tracing::warn!(error = innermost(&error), "a damaged image was not removed");
            }
        }
        for image in &damaged {
            let again = self.second_time(engine, image).await;
            let at = images.iter().position(|other| other.entry == image.entry);
            if let Some(result) = at.and_then(|at| results.get_mut(at)) {
                *result = again;
            }
        }
        let removed = std::mem::take(&mut self.state().removed);
        for (image, tags) in removed {
            let at = images.iter().position(|other| engine.id_of(other) == engine.id_of(&image));
            let whole = match at {
                Some(at) => results.get(at).is_some_and(Result::is_ok),
                None => self.load_plainly(engine, &image).await.is_ok(),
            };
            if whole {
                self.repaired(engine, &image, &tags).await;
            }
        }
        for (image, result) in images.iter().zip(results.iter()) {
            // The engine refused it and has undone what it did: nothing of it can be damaged.
            if let Err(LoadError::Export { .. } | LoadError::Refused { .. } | LoadError::NoSpace { .. }) =
                result
                && let Some(root) = self.root()
                && root.sync_only().await.is_ok()
            {
                self.strike_off(image).await;
            }
        }
        // What could not be examined in the disorder at the start may be by now.
        for (image, result) in images.iter().zip(results.iter_mut()) {
            if result.is_ok() && self.is_named(image) {
                match self.settle(engine, image).await {
                    Ok(true) => {}
                    Ok(false) => *result = self.second_time(engine, image).await,
                    Err(error) => *result = Err(error),
                }
            }
        }
        self.write_down(|record| record.take().map_or(Ok(()), Record::finish)).await;
        Ok(())
    }

    fn is_named(&self, image: &Image) -> bool {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.as_ref().is_some_and(|record| record.images().contains(&UnsettledImage::of(image)))
    }

    async fn repaired(&self, engine: &Engine, image: &Image, tags: &[String]) {
        let name = image.entry.reference.familiar();
        for tag in tags {
            if let Err(error) = engine.tag_again(&engine.id_of(image), tag).await {
                tracing::warn!(tag, error = innermost(&error), "a tag of a damaged image was lost");
            }
        }
        for recovered in &mut self.state().report.recovered {
            if recovered.image == name && recovered.outcome == RecoveredAs::Removed {
                recovered.outcome = RecoveredAs::Repaired;
            }
        }
    }
}

impl Around for Durable {
    fn at_start<'a>(
        &'a self,
        engine: &'a Engine,
        images: &'a [Image],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(self.recover(engine, images))
    }

    fn before_first_send<'a>(
        &'a self,
        _: &'a Engine,
        images: &'a [&'a Image],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async move {
            let Some(root) = self.root() else { return Ok(()) };
            let ledger = self.ledger.clone();
            let named: Vec<UnsettledImage> = images.iter().map(|image| UnsettledImage::of(image)).collect();
            self.write_down(move |record| {
                if record.is_none() {
                    *record = Some(ledger.begin(&root.mark)?);
                }
                record.as_mut().map_or(Ok(()), |record| record.sending(named))
            })
            .await;
            Ok(())
        })
    }

    fn after_seen<'a>(
        &'a self,
        engine: &'a Engine,
        image: &'a Image,
        loaded: &'a mut Loaded,
    ) -> BoxFuture<'a, Result<(), LoadError>> {
        Box::pin(async move {
            if loaded.was != Was::Present && !self.settle(engine, image).await? {
                self.state().damaged.push(image.clone());
            }
            Ok(())
        })
    }

    fn at_end<'a>(
        &'a self,
        engine: &'a Engine,
        images: &'a [Image],
        results: &'a mut [Result<Loaded, LoadError>],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(self.end(engine, images, results))
    }
}

fn around(
    what: &str,
    kind: ErrorKind,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> RunError {
    RunError::Around { what: what.to_owned(), kind, source: source.into() }
}
