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
    ) -> Vec<Result<Loaded, LoadError>> {
        let mut listing = self.listing().await.ok();
        let mut results = Vec::with_capacity(images.len());
        for job in jobs(images) {
            let result = self.load_one(store, &job, listing.as_ref(), options, events).await;
            if let Err(error) = &result {
                events(Event::Failed { image: job.index, error });
            }
            // A later image of the list may have the same content, and sending it twice leaves debris in a
            // containerd store (moby#53561).
            if !matches!(&result, Ok(loaded) if loaded.was == Was::Present) {
                listing = self.listing().await.ok();
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

        let item = Item { image, tag: job.tag, omit, gzip_only: false };
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

/// The images in the order of the list, each with or without its tag.
fn jobs(images: &[Image]) -> Vec<Job<'_>> {
    let claims: Vec<Claim> = images.iter().map(Claim::of).collect();
    let holders = tag_holders(&claims);
    images.iter().enumerate().map(|(index, image)| Job { index, image, tag: holders[index] }).collect()
}

/// What decides who gets a tag that several images want.
#[derive(Debug, Clone)]
struct Claim {
    tag: Option<String>,
    target: Digest,
    /// Without a digest in its reference it can be found by the tag alone.
    only_tag: bool,
    owns_tag: bool,
}

impl Claim {
    fn of(image: &Image) -> Self {
        let reference = &image.entry.reference;
        Self {
            tag: reference.tagged(),
            target: image.entry.target.digest,
            only_tag: reference.digest().is_none(),
            owns_tag: image.entry.owns_tag,
        }
    }
}

/// Who gets its tag. Of several images under one tag that is the first that has no other name, else the first that
/// owns it in the cache, else the last; and whoever means the same content.
fn tag_holders(claims: &[Claim]) -> Vec<bool> {
    let mut holders: HashMap<&str, &Claim> = HashMap::new();
    let rank = |claim: &Claim| (claim.only_tag, claim.owns_tag);
    for claim in claims {
        let Some(tag) = claim.tag.as_deref() else { continue };
        let holder = holders.entry(tag).or_insert(claim);
        if rank(claim) > rank(holder) || rank(claim) == (false, false) && rank(holder) == (false, false) {
            *holder = claim;
        }
    }
    let holds = |claim: &Claim| {
        claim
            .tag
            .as_deref()
            .and_then(|tag| holders.get(tag))
            .is_some_and(|holder| holder.target == claim.target)
    };
    claims.iter().map(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_to_one_content() {
        let claim = |tag: &str, target: &str, only_tag, owns_tag| Claim {
            tag: (!tag.is_empty()).then(|| tag.to_owned()),
            target: Digest::of(target.as_bytes()),
            only_tag,
            owns_tag,
        };
        let pinned = |tag: &str, target: &str, owns| claim(tag, target, false, owns);
        let bare = |tag: &str, target: &str| claim(tag, target, true, true);
        for (claims, want) in [
            (vec![pinned("a:1", "x", true), pinned("b:1", "y", false)], vec![true, true]),
            (vec![pinned("a:1", "x", true), pinned("a:1", "y", false)], vec![true, false]),
            (
                vec![pinned("a:1", "x", false), pinned("a:1", "y", true), pinned("a:1", "z", false)],
                vec![false, true, false],
            ),
            (vec![pinned("a:1", "x", false), pinned("a:1", "y", false)], vec![false, true]),
            // Two platforms of one tag, each its platform's owner.
            (vec![bare("a:1", "x"), bare("a:1", "y")], vec![true, false]),
            // One deployment pins it and another does not: only the pin has a second name to be found by.
            (vec![pinned("a:1", "x", true), bare("a:1", "y")], vec![false, true]),
            (vec![bare("a:1", "y"), pinned("a:1", "x", true)], vec![true, false]),
            // They mean the same.
            (vec![pinned("a:1", "x", true), bare("a:1", "x")], vec![true, true]),
            (vec![pinned("", "x", false), pinned("", "y", true)], vec![false, false]),
        ] {
            assert_eq!(tag_holders(&claims), want, "{claims:?}");
        }
    }
}
