//! Blobs on their way in: written under a temporary name, verified, then named by their content.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use palletjack_image::{Descriptor, Digest, Hasher};

use crate::durable;
use crate::error::{StoreError, io_error};
use crate::index::Snapshot;
use crate::layout::Store;
use crate::lease::{Lease, try_lock};

/// Where a blob stands when someone wants to fetch it.
#[derive(Debug)]
pub enum IngestState {
    /// It is there; nothing is to be done.
    Present,
    /// Another process or task is fetching it: work on something else and look again.
    Busy,
    /// It is ours to fetch, from [`Ingest::offset`] on.
    Begin(Box<Ingest>),
}

/// A blob that is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// The digest, and the file's name.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
}

/// A partial download, locked for this writer. Dropping it keeps what was written for the next attempt.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    file: File,
    path: PathBuf,
    digest: Digest,
    size: u64,
    hasher: Hasher,
}

/// Why a download did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// All bytes arrived and are the wrong ones. The partial is still held: restart it or drop it.
    #[error("the content has the digest {actual} instead of {expected}")]
    Digest {
        /// The partial; its content is worthless.
        ingest: Box<Ingest>,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what arrived.
        actual: Digest,
    },
    /// Bytes are still missing. The partial is still held and can be extended.
    #[error("only {have} of {size} bytes arrived")]
    Short {
        /// The partial.
        ingest: Box<Ingest>,
        /// Bytes that are there.
        have: u64,
        /// Bytes that are due.
        size: u64,
    },
    /// The file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Starts or continues the download of a blob of `size` bytes.
    ///
    /// A blob that `snapshot` names and whose size is right is trusted. A file that nothing names is re-hashed
    /// before it is adopted, and one of the wrong size is fetched again; its file is replaced when that is done.
    pub fn ingest(
        &self,
        _lease: &Lease,
        snapshot: &Snapshot,
        digest: Digest,
        size: u64,
    ) -> Result<IngestState, StoreError> {
        self.writable()?;
        let descriptor = Descriptor::new("", digest, size);
        if snapshot.names(&digest) && self.has_blob(&descriptor) {
            return Ok(IngestState::Present);
        }
        let path = self.ingest_dir().join(format!("sha256-{}", digest.hex()));
        let Some(file) = self.lock_partial(&path)? else { return Ok(IngestState::Busy) };
        // Only under the lock is it certain that nobody is about to commit it.
        if self.adopt(&descriptor)? {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            return Ok(IngestState::Present);
        }
        let mut ingest = Ingest { store: self.clone(), file, path, digest, size, hasher: Hasher::new() };
        ingest.take_up()?;
        Ok(IngestState::Begin(Box::new(ingest)))
    }

    /// Whether a blob is there and is what its name says: trusted where `snapshot` names it, else hashed.
    pub fn has_verified(&self, snapshot: &Snapshot, descriptor: &Descriptor) -> Result<bool, StoreError> {
        if snapshot.names(&descriptor.digest) {
            return Ok(self.has_blob(descriptor));
        }
        self.adopt(descriptor)
    }

    /// Stores small content that is already in memory. Nothing is written where it is there already.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where `bytes` are not what `descriptor` says.
    pub fn put(&self, lease: &Lease, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), StoreError> {
        let corrupt = |what| StoreError::Corrupt {
            digest: descriptor.digest,
            path: self.blob_path(&descriptor.digest),
            what,
        };
        if bytes.len() as u64 != descriptor.size || Digest::of(bytes) != descriptor.digest {
            return Err(corrupt("the bytes to store do not have this digest and size".to_owned()));
        }
        if self.read_small(descriptor).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        match self.ingest(lease, &Snapshot::default(), descriptor.digest, descriptor.size)? {
            IngestState::Present => Ok(()),
            // Whoever holds the partial writes these very bytes: writing them a second time under a name of our own
            // is harmless and saves the wait.
            IngestState::Busy => {
                let path = self.blob_path(&descriptor.digest);
                durable::replace(&path, bytes, 0o444, self.inner.owner)
            }
            IngestState::Begin(mut ingest) => {
                ingest.restart()?;
                ingest.write(bytes)?;
                match ingest.commit() {
                    Ok(_) => Ok(()),
                    Err(CommitError::Store(error)) => Err(error),
                    Err(error) => Err(corrupt(error.to_string())),
                }
            }
        }
    }

    fn read_small(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let path = self.blob_path(&descriptor.digest);
        self.open_blob(descriptor)?
            .take(descriptor.size)
            .read_to_end(&mut bytes)
            .map_err(io_error("read", &path))?;
        Ok(bytes)
    }

    /// Opens and locks a partial download; `None` where someone else has it.
    ///
    /// A partial is renamed away when it becomes a blob, so after locking, the open file must still be the one at
    /// that path. Just before, it becomes read-only, so who may not open it for writing may be late by a moment.
    fn lock_partial(&self, path: &Path) -> Result<Option<File>, StoreError> {
        /// More than the moments in which a file can be finished by one process after the other.
        const TRIES: u32 = 16;
        let mut tries = 0;
        loop {
            tries += 1;
            let file = match durable::open_own(path, self.inner.owner) {
                Ok(file) => file,
                Err(error) if error.is_permission() && tries < TRIES => match make_writable(path) {
                    Ok(true) => continue,
                    Ok(false) => return Ok(None),
                    Err(_) => return Err(error),
                },
                Err(error) => return Err(error),
            };
            if !try_lock(&file, path)? {
                return Ok(None);
            }
            if is_at(&file, path)? {
                return Ok(Some(file));
            }
        }
    }

    /// Takes a file in `blobs/` that nothing vouches for, if its content is right.
    fn adopt(&self, descriptor: &Descriptor) -> Result<bool, StoreError> {
        let path = self.blob_path(&descriptor.digest);
        if !self.has_blob(descriptor) {
            return Ok(false);
        }
        let mut file = durable::open_regular(&path).map_err(io_error("open", &path))?;
        if hash_file(&mut file, &path, &|_| true)?.finish() != descriptor.digest {
            return Ok(false);
        }
        file.set_permissions(Permissions::from_mode(0o444)).map_err(io_error("set the mode of", &path))?;
        file.sync_all().map_err(io_error("sync", &path))?;
        Ok(true)
    }
}

/// Whether an open file is the one at this path.
fn is_at(file: &File, path: &Path) -> Result<bool, StoreError> {
    let ours = file.metadata().map_err(io_error("look at", path))?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("look at", path)(error)),
    }
}

/// Lets a partial be written that was read-only when a crash kept it from its name. `false` where somebody is giving
/// it its name right now. A file that is gone meanwhile is fine.
fn make_writable(path: &Path) -> Result<bool, StoreError> {
    let file = match durable::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    if !try_lock(&file, path)? {
        return Ok(false);
    }
    if is_at(&file, path)? {
        file.set_permissions(Permissions::from_mode(0o644)).map_err(io_error("set the mode of", path))?;
    }
    Ok(true)
}

/// Hashes a file from where it stands. `progress` is told the bytes of each piece, and ends it by saying `false`.
pub(crate) fn hash_file(
    file: &mut File,
    path: &Path,
    progress: &dyn Fn(u64) -> bool,
) -> Result<Hasher, StoreError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                if !progress(read as u64) {
                    return Err(StoreError::Stopped);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error("read", path)(error)),
        }
    }
}

impl Ingest {
    /// Re-hashes what an earlier attempt left (I5). A partial longer than the blob is worthless.
    fn take_up(&mut self) -> Result<(), StoreError> {
        let there = self.file.metadata().map_err(io_error("look at", &self.path))?.len();
        if there > self.size {
            return self.restart();
        }
        self.hasher = hash_file(&mut self.file, &self.path, &|_| true)?;
        Ok(())
    }

    /// The digest of the blob.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of the whole blob in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes are there and hashed: where the next request starts.
    pub fn offset(&self) -> u64 {
        self.hasher.length()
    }

    /// Appends bytes. Pieces of 64 to 512 KiB are fastest.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() as u64 > self.size - self.offset() {
            return Err(StoreError::TooLong { digest: self.digest, size: self.size });
        }
        if let Err(error) = self.file.write_all(bytes) {
            // What was written of the piece is not hashed: cut it off, so that file and hash agree.
            let _ = self.file.set_len(self.offset());
            let _ = self.file.seek(SeekFrom::Start(self.offset()));
            return Err(io_error("write", &self.path)(error));
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Throws away what is there and starts from nothing.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(io_error("truncate", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(io_error("rewind", &self.path))?;
        self.hasher = Hasher::new();
        Ok(())
    }

    /// Makes it a blob: length and digest checked, content durable, then the name.
    ///
    /// The name itself becomes durable when an image is published that needs it.
    pub fn commit(self) -> Result<Blob, CommitError> {
        if self.offset() < self.size {
            let (have, size) = (self.offset(), self.size);
            return Err(CommitError::Short { ingest: Box::new(self), have, size });
        }
        let actual = self.hasher.clone().finish();
        if actual != self.digest {
            let expected = self.digest;
            return Err(CommitError::Digest { ingest: Box::new(self), expected, actual });
        }
        self.file
            .set_permissions(Permissions::from_mode(0o444))
            .map_err(io_error("set the mode of", &self.path))?;
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        let name = self.store.blob_path(&self.digest);
        fs::rename(&self.path, &name).map_err(io_error("rename to", &name))?;
        Ok(Blob { digest: self.digest, size: self.size })
    }
}
