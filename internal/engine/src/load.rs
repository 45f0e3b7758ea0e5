//! Loading images: one request each, and a look before and after.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use palletjack_archive::{Export, Item, Names};
use palletjack_image::{Digest, LayerCompression};
use palletjack_store::{Image, Lease, Store};

use crate::answer::is_no_space;
use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::error::{LoadError, Phase};
use crate::event::Event;
use crate::outcome::{Loaded, RunsAs, Was};
use crate::sighting::{Listing, Sighting};
use crate::upload::{Ended, upload};

/// How long a load may stand still.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Without a byte taken, while the archive is sent. Five minutes unless set: an SD card under write pressure
    /// stops for a minute and more.
    pub stall: Duration,
    /// Without a word, when all was sent and the engine unpacks. An hour unless set: a graph driver says little, and
    /// unpacks only then.
    pub answer: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { stall: Duration::from_mins(5), answer: Duration::from_hours(1) }
    }
}

/// What is to be done for an image. Sending only the layers that the engine lacks will be a case between these.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Nothing,
    Send { omit: HashSet<Digest> },
}

/// One image of a run.
struct Job<'a> {
    index: usize,
    image: &'a Image,
    /// Whether it gets the bare `name:tag`.
    tag: bool,
}

type Events<'a> = &'a (dyn Fn(Event<'_>) + Send + Sync);

impl Engine {
    /// Loads what the engine lacks of `images`, one request per image, and says for each what came of it, in the
    /// order of the list. One failure does not stop the others.
    ///
    /// The lease keeps the blobs in the cache for as long as they are read. Where two images of the list want one
    /// tag, it goes to the one that owns it in the cache.
    pub async fn load_all(
        &self,
        store: &Store,
        _lease: &Lease,
        images: &[Image],
        options: &LoadOptions,
        events: &(dyn Fn(Event<'_>) + Send + Sync),
    ) -> Vec<Result<Loaded, LoadError>> {
        // Listed once before anything is loaded: what is found complete now stays so.
        let listing = self.listing().await.ok();
        let mut results = Vec::with_capacity(images.len());
        for job in jobs(images) {
            let result = self.load_one(store, &job, listing.as_ref(), options, events).await;
            if let Err(error) = &result {
                events(Event::Failed { image: job.index, error });
            }
            results.push(result);
        }
        results
    }

    async fn load_one(
        &self,
        store: &Store,
        job: &Job<'_>,
        before: Option<&Listing>,
        options: &LoadOptions,
        events: Events<'_>,
    ) -> Result<Loaded, LoadError> {
        let Job { index, image, .. } = *job;
        let name = || image.entry.reference.familiar();
        let unknown = |source| LoadError::Unknown { image: name(), source };

        events(Event::Checking { image: index });
        let seen = match before {
            Some(listing) => self.look_with(image, listing).await,
            None => self.look(image).await,
        };
        let seen = seen.map_err(unknown)?;
        let Plan::Send { omit } = self.plan(job, &seen) else {
            let loaded = loaded(image, Was::Present, seen);
            events(Event::Skipped { image: index, loaded: &loaded });
            return Ok(loaded);
        };
        self.readable(image)?;

        let item = Item { image, tag: job.tag, omit };
        let export = Export::plan(store, &[item], self.names())
            .map_err(|source| LoadError::Export { image: name(), source: Box::new(source) })?;
        let (bytes, layer_bytes) = (export.length(), export.layer_bytes());
        let progress = |phase, taken| match phase {
            Phase::Sending => events(Event::Sending { image: index, bytes: taken, total: bytes }),
            Phase::Waiting => events(Event::Waiting { image: index }),
        };
        let ended = upload(&self.docker, export, options, &progress).await;
        accepted(&name(), ended, bytes)?;

        let seen = self.look(image).await.map_err(unknown)?;
        if !(seen.content && (seen.exact || seen.tag != Some(false) || !job.tag)) {
            return Err(LoadError::NotThere { image: name(), what: what_is_missing(&seen).to_owned() });
        }
        let loaded = loaded(image, Was::Sent { bytes, layer_bytes }, seen);
        events(Event::Loaded { image: index, loaded: &loaded });
        Ok(loaded)
    }

    fn plan(&self, job: &Job<'_>, seen: &Sighting) -> Plan {
        if seen.is_enough(self.capabilities().kind, job.tag) {
            return Plan::Nothing;
        }
        Plan::Send { omit: HashSet::new() }
    }

    /// How an archive for this kind of engine names its image.
    fn names(&self) -> Names {
        match self.capabilities().kind {
            EngineKind::DockerContainerd => Names::EveryPin,
            EngineKind::DockerGraph | EngineKind::Podman => Names::One,
        }
    }

    /// Refuses by name what the engine would refuse with a riddle.
    fn readable(&self, image: &Image) -> Result<(), LoadError> {
        let is_zstd = |media_type: &str| LayerCompression::of(media_type) == Some(LayerCompression::Zstd);
        let layers = image.layers.iter().filter(|layer| is_zstd(&layer.media_type)).count();
        if layers == 0 || self.capabilities().reads_zstd() {
            return Ok(());
        }
        let engine = format!("{}", self.capabilities());
        Err(LoadError::Zstd { image: image.entry.reference.familiar(), engine, layers })
    }
}

fn loaded(image: &Image, was: Was, seen: Sighting) -> Loaded {
    let reference = image.entry.reference.clone();
    let runs_as = RunsAs::of(&reference, &seen);
    Loaded { reference, was, resolves: seen, runs_as }
}

fn what_is_missing(seen: &Sighting) -> &'static str {
    match (seen.content, seen.tag) {
        (true, _) => "its tag means another image",
        (false, Some(true)) => "it is listed, but its content is not complete",
        (false, _) => "no image by its name or ID",
    }
}

fn accepted(image: &str, ended: Ended, total: u64) -> Result<(), LoadError> {
    let image = image.to_owned();
    match ended {
        Ended::Answered(answer) => match answer.failure {
            None => Ok(()),
            Some(message) if is_no_space(&message) => {
                Err(LoadError::NoSpace { image, message, bytes: total })
            }
            Some(message) => Err(LoadError::Refused { image, message }),
        },
        Ended::Export(source) => Err(LoadError::Export { image, source: Box::new(source) }),
        Ended::Stalled { phase, after, sent } => Err(LoadError::Stalled { image, after, phase, sent, total }),
        Ended::Lost(source) => Err(LoadError::Lost { image, source: source.into() }),
    }
}

/// The images in the order of the list, each with its claim to its tag.
fn jobs(images: &[Image]) -> Vec<Job<'_>> {
    let claims: Vec<_> =
        images.iter().map(|image| (image.entry.reference.tagged(), image.entry.owns_tag)).collect();
    let holders = tag_holders(&claims);
    images.iter().enumerate().map(|(index, image)| Job { index, image, tag: holders[index] }).collect()
}

/// Who gets its tag: of several that share one, the first that owns it in the cache, else the last. Each claim is
/// the tag, if any, and whether it is owned.
fn tag_holders(claims: &[(Option<String>, bool)]) -> Vec<bool> {
    let mut holders: HashMap<&str, usize> = HashMap::new();
    for (index, (tag, _)) in claims.iter().enumerate() {
        let Some(tag) = tag.as_deref() else { continue };
        let held_by_owner = holders.get(tag).is_some_and(|&holder| claims[holder].1);
        if !held_by_owner {
            holders.insert(tag, index);
        }
    }
    let holds = |index: usize, tag: &Option<String>| {
        tag.as_deref().is_some_and(|tag| holders.get(tag) == Some(&index))
    };
    claims.iter().enumerate().map(|(index, (tag, _))| holds(index, tag)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_to_one_image() {
        let claim = |tag: &str, owns| ((!tag.is_empty()).then(|| tag.to_owned()), owns);
        for (claims, want) in [
            (vec![claim("a:1", true), claim("b:1", false)], vec![true, true]),
            (vec![claim("a:1", true), claim("a:1", false)], vec![true, false]),
            (vec![claim("a:1", false), claim("a:1", true), claim("a:1", false)], vec![false, true, false]),
            (vec![claim("a:1", false), claim("a:1", false)], vec![false, true]),
            // Two platforms of one tag, each its platform's owner.
            (vec![claim("a:1", true), claim("a:1", true)], vec![true, false]),
            (vec![claim("", false), claim("", true)], vec![false, false]),
        ] {
            assert_eq!(tag_holders(&claims), want, "{claims:?}");
        }
    }
}
