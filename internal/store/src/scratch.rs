//! Content on its way in whose digest is known only after its last byte: what an engine hands out.
//!
//! ```text
//!   state/scratch/<random>/lock       held for as long as the content is in use
//!                         /0, 1, …    written and hashed in one pass ──keep──► blobs/sha256/<digest>
//! ```
//!
//! Nothing of it is extended by a later run: a directory that nobody holds is removed by the next one.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use palletjack_image::{Digest, Hasher};
use tempfile::TempDir;

use crate::durable;
use crate::error::{StoreError, io_error};
use crate::ingest::Blob;
use crate::layout::Store;
use crate::lease::{Lease, try_lock};

const LOCK: &str = "lock";

/// A place for content that has no name yet. Dropping it removes what was not kept.
#[derive(Debug)]
pub struct Scratch {
    store: Store,
    directory: TempDir,
    files: u64,
    _lock: File,
}

/// Content being written.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

/// Content that was written as a whole and hashed while that was done. Not durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    path: PathBuf,
    /// The digest of what was written.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Store {
    /// Makes a place for content, and removes the places of runs that were killed.
    pub fn scratch(&self, _lease: &Lease) -> Result<Scratch, StoreError> {
        let owner = self.inner.owner;
        let parent = self.scratch_dir();
        // So that nobody takes a place whose lock is not held yet for one that was left behind.
        let _index = self.lock_index()?;
        self.clear_scratch()?;
        owner.create_dir(&parent)?;
        let directory = TempDir::new_in(&parent).map_err(io_error("create a directory in", &parent))?;
        let path = directory.path().join(LOCK);
        let lock = durable::open_own(&path, owner)?;
        lock.lock().map_err(io_error("lock", &path))?;
        let handle = File::open(directory.path()).map_err(io_error("open", directory.path()))?;
        owner.give(&handle, directory.path())?;
        Ok(Scratch { store: self.clone(), directory, files: 0, _lock: lock })
    }

    fn scratch_dir(&self) -> PathBuf {
        self.state().join("scratch")
    }

    /// Removes what killed runs left. The caller holds a lock that keeps new places from being made meanwhile.
    pub(crate) fn clear_scratch(&self) -> Result<(), StoreError> {
        let parent = self.scratch_dir();
        let places = match fs::read_dir(&parent) {
            Ok(places) => places,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("list", &parent)(error)),
        };
        for place in places {
            let place = place.map_err(io_error("list", &parent))?.path();
            if is_abandoned(&place)? {
                fs::remove_dir_all(&place).map_err(io_error("remove", &place))?;
            }
        }
        Ok(())
    }
}

fn is_abandoned(place: &Path) -> Result<bool, StoreError> {
    let path = place.join(LOCK);
    match durable::open_regular(&path) {
        Ok(lock) => try_lock(&lock, &path),
        // Killed before it had one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(place.is_dir()),
        Err(error) => Err(io_error("open", &path)(error)),
    }
}

impl Scratch {
    /// Begins to write some content.
    pub fn begin(&mut self) -> Result<Draft, StoreError> {
        let path = self.directory.path().join(self.files.to_string());
        self.files += 1;
        let file = durable::open_own(&path, self.store.inner.owner)?;
        Ok(Draft { path, file, hasher: Hasher::new() })
    }

    /// Opens content for reading.
    pub fn open(&self, spooled: &Spooled) -> Result<File, StoreError> {
        durable::open_regular(&spooled.path).map_err(io_error("open", &spooled.path))
    }

    /// Makes it a blob: its content durable, then the name. It counts once, and is not in this place any more.
    ///
    /// The name itself becomes durable when an image is published that needs it.
    pub fn keep(&self, spooled: &Spooled) -> Result<Blob, StoreError> {
        let path = &spooled.path;
        let file = self.open(spooled)?;
        file.set_permissions(Permissions::from_mode(0o444)).map_err(io_error("set the mode of", path))?;
        file.sync_data().map_err(io_error("sync", path))?;
        let name = self.store.blob_path(&spooled.digest);
        fs::rename(path, &name).map_err(io_error("rename to", &name))?;
        Ok(Blob { digest: spooled.digest, size: spooled.size })
    }
}

impl Draft {
    /// Writes and hashes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(io_error("write", &self.path))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// All is written.
    pub fn finish(self) -> Spooled {
        Spooled { path: self.path, size: self.hasher.length(), digest: self.hasher.finish() }
    }
}

#[cfg(test)]
mod tests {
    use palletjack_image::{Descriptor, Platform};

    use super::*;
    use crate::layout::Access;

    fn store(root: &Path) -> Store {
        Store::open(root, Access::Write, &Platform::new("linux", "amd64", None)).unwrap()
    }

    fn places(store: &Store) -> usize {
        fs::read_dir(store.scratch_dir()).map_or(0, Iterator::count)
    }

    #[test]
    fn what_is_kept_becomes_a_blob_and_the_rest_goes() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let lease = store.lease().unwrap();
        let mut scratch = store.scratch(&lease).unwrap();
        let mut spool = |pieces: &[&[u8]]| {
            let mut draft = scratch.begin().unwrap();
            for piece in pieces {
                draft.write(piece).unwrap();
            }
            draft.finish()
        };
        let (kept, dropped) = (spool(&[b"pallet", b"jack"]), spool(&[b"other"]));
        assert_eq!((kept.digest, kept.size), (Digest::of(b"palletjack"), 10));
        let blob = scratch.keep(&kept).unwrap();
        drop(scratch);
        let descriptor = Descriptor::new("", blob.digest, blob.size);
        assert_eq!(&store.read(&descriptor).unwrap()[..], b"palletjack");
        assert!(!store.has_blob(&Descriptor::new("", dropped.digest, dropped.size)));
        assert_eq!(places(&store), 0);
    }

    #[test]
    fn only_what_nobody_holds_is_cleared() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let lease = store.lease().unwrap();
        let held = store.scratch(&lease).unwrap();
        for (name, lock) in [("killed-early", false), ("killed-late", true)] {
            let place = store.scratch_dir().join(name);
            fs::create_dir(&place).unwrap();
            fs::write(place.join("0"), b"half").unwrap();
            if lock {
                fs::write(place.join(LOCK), b"").unwrap();
            }
        }
        let other = store.scratch(&lease).unwrap();
        assert_eq!(places(&store), 2);
        assert!(held.directory.path().is_dir());
        drop((held, other, lease));
        fs::create_dir(store.scratch_dir().join("killed-again")).unwrap();
        store.sweep().unwrap().unwrap();
        assert_eq!(places(&store), 0);
    }
}
