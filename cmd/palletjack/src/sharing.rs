//! What images come to in bytes, and what they save by sharing layers.

use std::collections::BTreeMap;

use palletjack_image::Digest;
use palletjack_store::{Entry, Image};
use serde::Serialize;

use crate::context::Context;
use crate::printer::human_bytes;

/// Layers of several images, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Sharing {
    /// Layers of all images, each once, as they are in the cache.
    pub(crate) layers: u64,
    /// How much more it would be if no image shared one.
    pub(crate) shared_saved: u64,
}

impl Sharing {
    pub(crate) fn of(images: &[Image]) -> Self {
        let mut distinct: BTreeMap<Digest, u64> = BTreeMap::new();
        let mut sum: u64 = 0;
        for image in images {
            let mut own: BTreeMap<Digest, u64> = BTreeMap::new();
            own.extend(image.layers.iter().map(|layer| (layer.digest, layer.size)));
            sum = own.values().fold(sum, |sum, bytes| sum.saturating_add(*bytes));
            distinct.extend(own);
        }
        let layers = distinct.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        Self { layers, shared_saved: sum.saturating_sub(layers) }
    }
}

/// What the cache has of images after a run, and what is left of its file system.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct InCache {
    #[serde(flatten)]
    sharing: Sharing,
    /// Bytes that this user may still fill.
    space_free: u64,
}

impl InCache {
    /// Nothing where the cache cannot be read: a run's own verdicts say why, this is only a summary.
    pub(crate) fn of(context: &Context, entries: &[Entry]) -> Option<Self> {
        let store = context.filled_store().ok()?;
        let _lease = store.lease().ok()?;
        let images: Vec<Image> = entries.iter().filter_map(|entry| store.image(entry).ok()).collect();
        let disk = rustix::fs::statvfs(store.root()).ok()?;
        let space_free = disk.f_bavail.saturating_mul(disk.f_frsize);
        Some(Self { sharing: Sharing::of(&images), space_free })
    }

    /// For people.
    pub(crate) fn note(self, context: &Context) {
        context.printer.note(&format!(
            "{} of layers, {} saved by sharing; {} free where the cache is",
            human_bytes(self.sharing.layers),
            human_bytes(self.sharing.shared_saved),
            human_bytes(self.space_free)
        ));
    }
}
