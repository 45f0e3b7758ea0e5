//! What the cache has under a name.

use std::fs::File;

use bytes::Bytes;
use palletjack_image::{Descriptor, Digest, Manifest, Platform};
use palletjack_store::{Entry, Image, Lease, Store, StoreError};

use super::answer::Refusal;
use super::question::{Question, Wanted, What, canonical};

/// What was asked for, with the lease that keeps it where it is.
#[derive(Debug)]
pub(super) enum Found {
    Version,
    Manifest { media_type: String, digest: Digest, bytes: Bytes },
    Blob { descriptor: Descriptor, file: File, lease: Lease },
    Tags { repository: String, tags: Vec<String>, more: bool },
    Referrers,
}

#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) store: Store,
    pub(super) platform: Option<Platform>,
    /// What a question means that names no registry.
    pub(super) registry: Option<String>,
}

impl Catalog {
    /// Answers from one version of `index.json`. Blocks.
    pub(super) fn look_up(&self, question: &Question) -> Result<Found, Refusal> {
        let registry = question.registry.as_deref().or(self.registry.as_deref());
        match &question.what {
            What::Version => Ok(Found::Version),
            What::Referrers => Ok(Found::Referrers),
            What::Manifest { repository, wanted } => {
                let _lease = self.store.lease()?;
                let manifest = match wanted {
                    Wanted::Digest(digest) => self.by_digest(&self.named(registry, repository)?, *digest),
                    Wanted::Tag(tag) => self.by_tag(self.named(registry, repository)?, tag, &question.accept),
                }?;
                Ok(Found::Manifest {
                    media_type: manifest.media_type().to_owned(),
                    digest: manifest.descriptor().digest,
                    bytes: manifest.bytes().clone(),
                })
            }
            What::Blob { repository, digest } => {
                let lease = self.store.lease()?;
                let descriptor = self.blob(&self.named(registry, repository)?, *digest)?;
                let file = self.store.open_blob(&descriptor)?;
                Ok(Found::Blob { descriptor, file, lease })
            }
            What::Tags { repository, limit, last } => {
                let _lease = self.store.lease()?;
                self.tags(registry, repository, *limit, last.as_deref())
            }
        }
    }

    /// The entries of a repository, Docker Hub's first where no registry was named. An entry that was rebuilt from an
    /// engine is not what the registry has, under its tag either, and is not for others.
    fn named(&self, registry: Option<&str>, repository: &str) -> Result<Vec<Entry>, Refusal> {
        let snapshot = self.store.snapshot()?;
        let is_meant = |entry: &&Entry| {
            let reference = &entry.reference;
            entry.rebuilt.is_none()
                && reference.path() == repository
                && registry.is_none_or(|registry| canonical(reference.domain()) == registry)
                && reference.digest().is_none_or(|digest| digest == entry.target.digest)
        };
        let mut entries: Vec<Entry> = snapshot.entries().iter().filter(is_meant).cloned().collect();
        if entries.is_empty() {
            return Err(Refusal::name_unknown(repository));
        }
        entries.sort_by_key(|entry| entry.reference.domain() != "docker.io");
        Ok(entries)
    }

    /// An image with all of its blobs; `None` where something is missing, damaged or no image.
    fn complete(&self, entry: &Entry) -> Option<Image> {
        let image = match self.store.image(entry) {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!(reference = %entry.reference, %error, "not served");
                return None;
            }
        };
        let missing = image.layers.iter().find(|layer| !self.store.has_blob(layer));
        if let Some(layer) = missing {
            tracing::warn!(reference = %entry.reference, layer = %layer.digest, "not served: the layer is missing");
            return None;
        }
        Some(image)
    }

    fn by_digest(&self, entries: &[Entry], digest: Digest) -> Result<Manifest, Refusal> {
        entries
            .iter()
            .filter(|entry| entry.target.digest == digest || entry.manifest.digest == digest)
            .find_map(|entry| self.complete(entry))
            .and_then(|image| {
                [image.index, Some(image.manifest)]
                    .into_iter()
                    .flatten()
                    .find(|manifest| manifest.descriptor().digest == digest)
            })
            .ok_or_else(|| Refusal::manifest_unknown(&digest.to_string()))
    }

    /// The tag's owner, unless images of one platform were asked for: then its, the youngest first.
    fn by_tag(&self, mut entries: Vec<Entry>, tag: &str, accept: &[String]) -> Result<Manifest, Refusal> {
        entries.retain(|entry| entry.reference.tag() == Some(tag));
        match &self.platform {
            Some(platform) => entries.retain(|entry| entry.platform == *platform),
            None => entries.retain(|entry| entry.owns_tag),
        }
        // Stable: Docker Hub's stay first.
        entries.sort_by_key(|entry| {
            (entry.reference.domain() != "docker.io", !entry.owns_tag, std::cmp::Reverse(entry.fetched))
        });
        let image = entries
            .iter()
            .find_map(|entry| self.complete(entry))
            .ok_or_else(|| Refusal::manifest_unknown(tag))?;
        Ok(negotiated(image, accept))
    }

    fn blob(&self, entries: &[Entry], digest: Digest) -> Result<Descriptor, Refusal> {
        entries
            .iter()
            .filter_map(|entry| self.complete(entry))
            .find_map(|image| {
                image
                    .layers
                    .iter()
                    .chain([&image.config_descriptor])
                    .find(|blob| blob.digest == digest)
                    .cloned()
            })
            .ok_or_else(|| Refusal::blob_unknown(&digest.to_string()))
    }

    /// In the order and by the pages of the distribution specification ("Listing Tags").
    fn tags(
        &self,
        registry: Option<&str>,
        repository: &str,
        limit: Option<usize>,
        last: Option<&str>,
    ) -> Result<Found, Refusal> {
        let mut tags: Vec<String> = self
            .named(registry, repository)?
            .iter()
            .filter(|entry| self.complete(entry).is_some())
            .filter_map(|entry| entry.reference.tag())
            .filter(|tag| last.is_none_or(|last| *tag > last))
            .map(str::to_owned)
            .collect();
        tags.sort();
        tags.dedup();
        let more = limit.is_some_and(|limit| limit > 0 && tags.len() > limit);
        tags.truncate(limit.unwrap_or(usize::MAX));
        Ok(Found::Tags { repository: repository.to_owned(), tags, more })
    }
}

/// The index, unless the client reads manifests of single images only and there is one to give.
fn negotiated(image: Image, accept: &[String]) -> Manifest {
    let reads = |media_type: &str| {
        accept.is_empty()
            || accept.iter().any(|one| one == media_type || one == "*/*" || one == "application/*")
    };
    match image.index {
        Some(index) if reads(index.media_type()) || !reads(image.manifest.media_type()) => index,
        _ => image.manifest,
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::internal(error.to_string())
    }
}
