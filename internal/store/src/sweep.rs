//! Removing names, then the blobs that nothing names any more.

use std::fs;
use std::path::Path;

use palletjack_image::{Digest, Platform, Reference};

use crate::durable::{self, TEMPORARY};
use crate::error::{StoreError, io_error};
use crate::index::{Entry, adopt_orphan_tags};
use crate::layout::Store;
use crate::lease::Lease;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes images by name, durably. Their blobs stay until [`Store::sweep`].
    ///
    /// Gives back the entries that were removed; a name that is not there is not an error here.
    pub fn remove(&self, _lease: &Lease, names: &[(Reference, Platform)]) -> Result<Vec<Entry>, StoreError> {
        let _lock = self.lock_index()?;
        let (removed, mut kept): (Vec<Entry>, Vec<Entry>) =
            self.read_index()?.into_iter().partition(|entry| {
                names
                    .iter()
                    .any(|(reference, platform)| entry.reference == *reference && entry.platform == *platform)
            });
        if !removed.is_empty() {
            adopt_orphan_tags(&mut kept, self.main_platform());
            self.write_index(&mut kept)?;
            self.write_docker_manifest(&kept)?;
        }
        Ok(removed)
    }

    /// Deletes every blob that no image needs, and what killed runs left. Partial downloads stay.
    ///
    /// `None` where somebody holds a lease: the blobs are then left to the next sweep. The caller must have given its
    /// own lease back.
    pub fn sweep(&self) -> Result<Option<Swept>, StoreError> {
        let Some(_exclusive) = self.exclusive()? else { return Ok(None) };
        // An image whose manifest cannot be read may need any blob: its layers are not known.
        let entries = self.read_index()?;
        if let Some(error) = entries.iter().find_map(|entry| self.manifest_of(&entry.manifest).err()) {
            return Err(error);
        }
        let strangers = self.strangers()?.len();
        if strangers > 0 {
            return Err(StoreError::Strangers { path: self.index_json(), entries: strangers });
        }
        let snapshot = self.snapshot()?;
        let mut swept = Swept::default();
        let blobs = self.blobs();
        for file in fs::read_dir(&blobs).map_err(io_error("list", &blobs))? {
            let file = file.map_err(io_error("list", &blobs))?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_unnamed = Digest::from_hex(name).is_ok_and(|digest| !snapshot.named().contains(&digest));
            if !is_unnamed && !name.starts_with(TEMPORARY) {
                continue;
            }
            let size = file.metadata().map_err(io_error("look at", &file.path()))?.len();
            fs::remove_file(file.path()).map_err(io_error("remove", &file.path()))?;
            swept.blobs += u64::from(is_unnamed);
            swept.bytes += size;
        }
        durable::sync_dir(&blobs)?;
        for directory in [self.root().to_owned(), self.archives(), self.state()] {
            remove_temporaries(&directory)?;
        }
        self.clear_scratch()?;
        Ok(Some(swept))
    }

    /// Deletes blobs that a check found to be corrupt, so that the next fetch brings them again.
    ///
    /// `false` where somebody holds a lease, and nothing was deleted.
    pub fn discard(&self, digests: &[Digest]) -> Result<bool, StoreError> {
        let Some(_exclusive) = self.exclusive()? else { return Ok(false) };
        for digest in digests {
            let path = self.blob_path(digest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        }
        durable::sync_dir(&self.blobs())?;
        Ok(true)
    }
}

fn remove_temporaries(directory: &Path) -> Result<(), StoreError> {
    for file in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let file = file.map_err(io_error("list", directory))?;
        if file.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY)) {
            fs::remove_file(file.path()).map_err(io_error("remove", &file.path()))?;
        }
    }
    Ok(())
}
