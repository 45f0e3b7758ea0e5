//! The images of a run, each with what the engine says of it.

use palletjack_store::Image;

use crate::capabilities::EngineKind;
use crate::claims::tag_holders;
use crate::connect::Engine;
use crate::error::LoadError;
use crate::known::Known;
use crate::order::Candidate;
use crate::plan::Delta;
use crate::sighting::{Listing, Sighting};

/// One image of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'i> {
    pub(crate) image: &'i Image,
    /// Whether it gets the bare `name:tag`.
    pub(crate) tag: bool,
}

impl Job<'_> {
    pub(crate) fn name(&self) -> String {
        self.image.entry.reference.familiar()
    }

    pub(crate) fn delta(&self, known: &Known) -> Delta {
        Delta::of(known, &self.image.layers, &known.keys_of(self.image))
    }

    pub(crate) fn is_same_image(&self, other: &Self) -> bool {
        self.image.entry.target.digest == other.image.entry.target.digest
    }

    /// Whether loading `other` makes this image present under its names as well.
    pub(crate) fn comes_with(&self, other: &Self, kind: EngineKind) -> bool {
        let (reference, others) = (&self.image.entry.reference, &other.image.entry.reference);
        let same_tag = other.tag && reference.tagged().is_some() && reference.tagged() == others.tagged();
        let same_pin = reference.pinned().is_some() && reference.pinned() == others.pinned();
        let named = match (kind, reference.digest()) {
            (EngineKind::DockerGraph, Some(_)) => same_tag || !self.tag || reference.tagged().is_none(),
            (_, None) => same_tag,
            // Either name leads to the digest: the pin's own, or that of a tag in the same repository.
            (_, Some(_)) => same_pin || same_tag,
        };
        self.is_same_image(other) && named
    }
}

pub(crate) struct Looked<'i> {
    pub(crate) job: Job<'i>,
    pub(crate) seen: Sighting,
    /// Whether nothing has to be sent.
    pub(crate) enough: bool,
}

pub(crate) struct Waiting<'i> {
    pub(crate) index: usize,
    pub(crate) job: Job<'i>,
    pub(crate) seen: Sighting,
}

impl Waiting<'_> {
    pub(crate) fn candidate(&self, known: &Known) -> Candidate {
        Candidate { image: self.job.image.config_descriptor.digest, missing: self.job.delta(known).missing }
    }
}

impl Engine {
    /// Looks at every image, with one listing for all.
    pub(crate) async fn look_at_all<'i>(
        &self,
        images: &'i [Image],
        checking: &(dyn Fn(usize) + Send + Sync),
    ) -> Vec<(usize, Result<Looked<'i>, LoadError>)> {
        let listing = self.listing().await.ok();
        let mut seen = Vec::with_capacity(images.len());
        for (index, (image, tag)) in images.iter().zip(tag_holders(images)).enumerate() {
            checking(index);
            let job = Job { image, tag };
            seen.push((index, self.look_at(job, listing.as_ref()).await));
        }
        seen
    }

    pub(crate) async fn look_at<'i>(
        &self,
        job: Job<'i>,
        listing: Option<&Listing>,
    ) -> Result<Looked<'i>, LoadError> {
        let seen = match listing {
            Some(listing) => self.look_with(job.image, listing).await,
            None => self.look(job.image).await,
        };
        let seen = seen.map_err(|source| LoadError::Unknown { image: job.name(), source })?;
        let enough =
            seen.is_enough(self.capabilities().resolves_pins() && job.image.entry.has_pin(), job.tag);
        Ok(Looked { job, seen, enough })
    }
}
