//! What a run would do, told from the stopped storage: nothing is started and nothing is changed.

use std::collections::BTreeSet;

use palletjack_image::Digest;
use palletjack_store::{EngineMark, Image, Place};

use super::device::{Device, StoreKind, nearest};
use super::error::SeedError;
use super::stopped::Stopped;
use crate::capabilities::EngineKind;
use crate::claims::tag_holders;
use crate::disk::{Forecast, UNPACKED};
use crate::durable::Durable;

/// One image of a [`SeedPlan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedImage {
    /// Whether it is there under all its names, so that nothing is left to do. Of a containerd store that is known only
    /// to a running engine: never.
    pub is_done: bool,
    /// Bytes of its layers that are not there and that no image before it brings, as they are in the cache.
    pub missing: u64,
    /// Whether it gets the bare `name:tag`.
    pub tag: bool,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedPlan {
    /// In the order of the list.
    pub images: Vec<PlannedImage>,
    /// Images that an interrupted run may have damaged: an engine has to look at them.
    pub distrusted: bool,
    /// What the storage has to hold.
    pub disk: Forecast,
}

impl SeedPlan {
    /// Whether every image, every pin and every tag is there already.
    pub fn is_done(&self) -> bool {
        !self.distrusted && self.images.iter().all(|image| image.is_done)
    }

    /// Bytes of all layers that are missing.
    pub fn missing(&self) -> u64 {
        self.images.iter().map(|image| image.missing).sum()
    }
}

impl Device {
    /// Looks what of these images is missing. Cheap: some small files per image, none of them large.
    pub fn plan(&self, images: &[Image], durable: &Durable, parallel: usize) -> Result<SeedPlan, SeedError> {
        let stopped = Stopped::open(self)?;
        let mut brought: BTreeSet<Digest> = BTreeSet::new();
        let mut planned = Vec::with_capacity(images.len());
        for (image, tag) in images.iter().zip(tag_holders(images)) {
            let missing = stopped.missing(image);
            let missing = missing.into_iter().filter(|(blob, _)| brought.insert(*blob));
            let missing = missing.map(|(_, bytes)| bytes).sum();
            planned.push(PlannedImage { is_done: stopped.has(image, tag), missing, tag });
        }
        let distrusted = self.mark().is_some_and(|mark| !durable.left_nothing(&mark));
        let disk = self.forecast(&planned, parallel)?;
        Ok(SeedPlan { images: planned, distrusted, disk })
    }

    /// As the durability of loads knows this storage; `None` where it is not there yet.
    fn mark(&self) -> Option<EngineMark> {
        let kind = match self.store {
            StoreKind::Graph => EngineKind::DockerGraph,
            StoreKind::Containerd => EngineKind::DockerContainerd,
            StoreKind::Podman => EngineKind::Podman,
        };
        Some(EngineMark { kind: kind.mark().to_owned(), place: Place::of_root(&self.data_root)? })
    }

    /// Unpacked layers are hardly ever smaller than packed ones, so that much is needed for certain. While an image is
    /// unpacked a graph driver has its packed layers beside; a containerd store keeps all of them.
    fn forecast(&self, images: &[PlannedImage], parallel: usize) -> Result<Forecast, SeedError> {
        let mut sizes: Vec<u64> = images.iter().map(|image| image.missing).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let sum = |sizes: &[u64]| sizes.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let layers = sum(&sizes);
        let (certain, packed) = match self.store {
            StoreKind::Graph => (layers, sum(&sizes[..parallel.min(sizes.len())])),
            StoreKind::Podman => (layers, 0),
            StoreKind::Containerd => (layers, layers),
        };
        let estimated = layers.saturating_mul(UNPACKED).saturating_add(packed);
        let directory = self.image_root().to_owned();
        Ok(Forecast { free: self.free()?, directory, certain, estimated })
    }

    /// Bytes that are free where images come to lie.
    pub fn free(&self) -> Result<u64, SeedError> {
        let disk = rustix::fs::statvfs(nearest(self.image_root())).map_err(|errno| SeedError::System {
            what: format!("ask for the free space of {}", self.image_root().display()),
            source: errno.into(),
        })?;
        Ok(disk.f_bfree.saturating_mul(disk.f_frsize))
    }
}
