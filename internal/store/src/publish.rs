//! Giving an image its name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palletjack_image::{Descriptor, Platform, Reference};

use crate::durable;
use crate::error::StoreError;
use crate::index::{Entry, Rebuilt, settle_tag};
use crate::layout::Store;
use crate::lease::Lease;

/// An image whose blobs are all in the cache, about to be named.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// The normalised reference; it has a tag, a digest or both.
    pub reference: Reference,
    /// The reference as it was written.
    pub requested: String,
    /// The platform that was asked for.
    pub platform: Platform,
    /// What the reference means upstream: an index or one image's manifest.
    pub target: Descriptor,
    /// The chosen platform's manifest.
    pub manifest: Descriptor,
    /// Who handed it out.
    pub upstream: String,
    /// Keep it whatever a prune decides. An image once kept by hand stays so when it is published again.
    pub pinned: bool,
}

impl Store {
    /// Publishes an image, replacing what the reference meant for that platform. Durable on return.
    ///
    /// # Errors
    /// [`StoreError::Missing`] or [`StoreError::Corrupt`] where a blob is not there with its size: nothing is
    /// published then.
    pub fn publish(&self, lease: &Lease, new: NewEntry) -> Result<Entry, StoreError> {
        self.publish_as(lease, new, None)
    }

    /// The same for an image that is not what the registry has: see [`Rebuilt`].
    pub fn publish_rebuilt(
        &self,
        lease: &Lease,
        new: NewEntry,
        rebuilt: Rebuilt,
    ) -> Result<Entry, StoreError> {
        self.publish_as(lease, new, Some(rebuilt))
    }

    fn publish_as(
        &self,
        _lease: &Lease,
        new: NewEntry,
        rebuilt: Option<Rebuilt>,
    ) -> Result<Entry, StoreError> {
        if new.reference.tag().is_none() && new.reference.digest().is_none() {
            return Err(StoreError::Unspecific(new.reference.to_string()));
        }
        let manifest = self.manifest_of(&new.manifest)?;
        for descriptor in [&new.target, &new.manifest, &manifest.config].into_iter().chain(&manifest.layers) {
            self.open_blob(descriptor)?;
        }
        durable::sync_dir(&self.blobs())?;

        let _lock = self.lock_index()?;
        let mut entries = self.read_index()?;
        let at = entries
            .iter()
            .position(|entry| entry.reference == new.reference && entry.platform == new.platform);
        let pinned = new.pinned || at.is_some_and(|at| entries[at].pinned);
        let entry = Entry {
            reference: new.reference,
            requested: new.requested,
            platform: new.platform,
            target: new.target,
            manifest: new.manifest,
            fetched: whole_seconds(SystemTime::now()),
            upstream: new.upstream,
            pinned,
            owns_tag: false,
            rebuilt,
        };
        let at = match at {
            Some(at) => {
                entries[at] = entry;
                at
            }
            None => {
                entries.push(entry);
                entries.len() - 1
            }
        };
        settle_tag(&mut entries, at, self.main_platform());
        let published = entries[at].clone();
        self.write_index(&mut entries)?;
        self.write_docker_manifest(&entries)?;
        Ok(published)
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    UNIX_EPOCH + Duration::from_secs(seconds)
}
