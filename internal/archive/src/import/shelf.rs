//! Putting an image together from what the cache and an archive have.

use std::collections::HashSet;

use bytes::Bytes;
use palletjack_image::{Config, Descriptor, Digest, Manifest, ManifestKind, Platform, media_type};
use palletjack_store::{Lease, Snapshot, Store};

use super::contents::Contents;
use super::error::ImportError;
use super::known::KnownLayers;
use super::rebuild;

/// Where the parts of an image are looked for: in the cache, and in an archive where one was read.
#[derive(Debug)]
pub struct Shelf<'a> {
    /// The cache.
    pub store: &'a Store,
    /// What its images name, which is trusted.
    pub snapshot: &'a Snapshot,
    /// What was read.
    pub contents: Option<Contents>,
}

/// The parts of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// What the reference means: an index, or the manifest.
    pub target: Descriptor,
    /// The platform's manifest.
    pub manifest: Descriptor,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest's bytes, where it is ours.
    ours: Option<Bytes>,
}

/// What came of looking for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All of it is there.
    All(Box<Parts>),
    /// Something is not: what, for people.
    Lacks(String),
}

impl Shelf<'_> {
    /// The image that a digest means, for a platform: everything by its digest, byte for byte.
    pub fn whole(&self, target: &Digest, platform: &Platform) -> Result<Found, ImportError> {
        let Some(top) = self.manifest(target)? else {
            return Ok(Found::Lacks(format!("the index or manifest {target}")));
        };
        let (manifest, is_child) = match top.kind() {
            ManifestKind::Image(_) => (top.clone(), false),
            ManifestKind::Index(index) => {
                let child = index.choose(platform)?;
                let Some(manifest) = self.manifest(&child.digest)? else {
                    return Ok(Found::Lacks(format!("the manifest {} for {platform}", child.digest)));
                };
                same_size(child, manifest.descriptor().size)?;
                (manifest, child.platform.is_some())
            }
        };
        let ManifestKind::Image(image) = manifest.kind() else {
            return Err(ImportError::NestedIndex(manifest.descriptor().digest));
        };
        let Some(config) = self.config(&image.config.digest)? else {
            return Ok(Found::Lacks(format!("the image config {}", image.config.digest)));
        };
        if image.layers.len() != config.diff_ids.len() {
            let (layers, diff_ids) = (image.layers.len(), config.diff_ids.len());
            return Err(ImportError::LayerCount { layers, diff_ids });
        }
        // What an index says of its child was believed already.
        if !is_child {
            fits(&config, platform)?;
        }
        for blob in image.layers.iter().chain([&image.config]) {
            if !self.has(blob)? {
                return Ok(Found::Lacks(format!("the layer {}", blob.digest)));
            }
        }
        Ok(Found::All(Box::new(Parts {
            target: top.descriptor(),
            manifest: manifest.descriptor(),
            config: image.config.clone(),
            layers: image.layers.clone(),
            ours: None,
        })))
    }

    /// The image of a config, for a platform, with a manifest of ours: each layer by what it unpacks to, from `known` blobs
    /// of the cache or as a bare tar from the archive.
    pub fn rebuilt(
        &self,
        config: &Digest,
        platform: &Platform,
        known: &KnownLayers,
    ) -> Result<Found, ImportError> {
        let Some(bytes) = self.small(config)? else {
            return Ok(Found::Lacks(format!("the image config {config}")));
        };
        let read = parse_config(config, &bytes)?;
        fits(&read, platform)?;
        let config = Descriptor::new(media_type::OCI_CONFIG, *config, bytes.len() as u64);
        let mut layers = Vec::with_capacity(read.diff_ids.len());
        for (number, diff_id) in read.diff_ids.iter().enumerate() {
            let raw = || self.contents.as_ref().and_then(|contents| contents.size(diff_id));
            let layer = match known.get(diff_id) {
                Some(blob) => rebuild::layer(blob),
                None => match raw() {
                    Some(size) => Descriptor::new(media_type::OCI_LAYER, *diff_id, size),
                    None => {
                        let (number, all) = (number + 1, read.diff_ids.len());
                        let what = format!("layer {number} of {all}, whose content is {diff_id}");
                        return Ok(Found::Lacks(what));
                    }
                },
            };
            layers.push(layer);
        }
        let (manifest, ours) = rebuild::manifest(&config, &layers);
        let parts = Parts { target: manifest.clone(), manifest, config, layers, ours: Some(ours) };
        Ok(Found::All(Box::new(parts)))
    }

    /// The config that a digest leads to, for a platform, where the index and manifest on the way are there.
    pub fn config_of(&self, target: &Digest, platform: &Platform) -> Result<Option<Digest>, ImportError> {
        let mut target = *target;
        // An index, and what it names.
        for _ in 0..2 {
            let Some(manifest) = self.manifest(&target)? else { return Ok(None) };
            match manifest.kind() {
                ManifestKind::Image(image) => return Ok(Some(image.config.digest)),
                ManifestKind::Index(index) => target = index.choose(platform)?.digest,
            }
        }
        Ok(None)
    }

    /// Makes every part a blob of the cache, so that the image can be published.
    pub fn keep(&mut self, lease: &Lease, parts: &Parts) -> Result<(), ImportError> {
        if let Some(ours) = &parts.ours {
            self.store.put(lease, &parts.manifest, ours)?;
        }
        let mut kept_before = HashSet::new();
        for blob in [&parts.target, &parts.manifest, &parts.config].into_iter().chain(&parts.layers) {
            if !kept_before.insert(blob.digest) {
                continue;
            }
            if self.store.has_verified(self.snapshot, blob)? {
                continue;
            }
            let kept = match &mut self.contents {
                Some(contents) => contents.keep(self.store, lease, blob)?,
                None => false,
            };
            if !kept {
                return Err(ImportError::Lacks(blob.digest.to_string()));
            }
        }
        Ok(())
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, ImportError> {
        if let Some(size) = self.contents.as_ref().and_then(|contents| contents.size(&blob.digest)) {
            same_size(blob, size)?;
            return Ok(true);
        }
        Ok(self.store.has_verified(self.snapshot, blob)?)
    }

    /// Content that is small enough for a manifest or a config, verified.
    fn small(&self, digest: &Digest) -> Result<Option<Bytes>, ImportError> {
        if let Some(contents) = &self.contents
            && let Some(bytes) = contents.small(digest)?
        {
            return Ok(Some(bytes));
        }
        // Whatever is wrong with it in the cache: it is as if it were not there.
        Ok(self.store.blob(digest).and_then(|blob| self.store.read(&blob).ok()))
    }

    fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, ImportError> {
        let Some(bytes) = self.small(digest)? else { return Ok(None) };
        let manifest = Manifest::parse(bytes, None)
            .map_err(|source| ImportError::Manifest { digest: *digest, source })?;
        Ok(Some(manifest))
    }

    fn config(&self, digest: &Digest) -> Result<Option<Config>, ImportError> {
        self.small(digest)?.map(|bytes| parse_config(digest, &bytes)).transpose()
    }
}

fn parse_config(digest: &Digest, bytes: &[u8]) -> Result<Config, ImportError> {
    Config::parse(bytes).map_err(|source| ImportError::Config { digest: *digest, source })
}

/// A variant alone decides nothing: many images were built without saying theirs.
fn fits(config: &Config, wanted: &Platform) -> Result<(), ImportError> {
    let has = &config.platform;
    if has.os == wanted.os && has.architecture == wanted.architecture {
        return Ok(());
    }
    Err(ImportError::OtherPlatform { wanted: Box::new(wanted.clone()), has: Box::new(has.clone()) })
}

fn same_size(blob: &Descriptor, actual: u64) -> Result<(), ImportError> {
    if blob.size == actual {
        return Ok(());
    }
    Err(ImportError::Size { digest: blob.digest, expected: blob.size, actual })
}
