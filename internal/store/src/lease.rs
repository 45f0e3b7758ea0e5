//! Locks: leases on the blobs, and the lock of `index.json`.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::durable;
use crate::error::{StoreError, io_error};
use crate::layout::{Access, Store};

/// Keeps every blob of the cache where it is for as long as it lives: a sweep waits for, or gives way to, all leases.
#[derive(Debug)]
pub struct Lease {
    _lock: Option<File>,
}

/// Exclusive: nobody holds a lease, and nobody gets one.
#[derive(Debug)]
pub(crate) struct Exclusive {
    _sweep: File,
    _lock: File,
}

impl Store {
    /// Takes a lease. Waits while a sweep deletes (milliseconds).
    ///
    /// A cache on a read-only medium has no lock files to take and no one who could sweep it; the lease is then
    /// empty.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let Some(sweep) = self.open_lock("sweep")? else { return Ok(Lease { _lock: None }) };
        let path = self.state().join("sweep");
        sweep.lock_shared().map_err(io_error("lock", &path))?;
        let path = self.state().join("lock");
        let Some(lock) = self.open_lock("lock")? else { return Ok(Lease { _lock: None }) };
        lock.lock_shared().map_err(io_error("lock", &path))?;
        Ok(Lease { _lock: Some(lock) })
    }

    /// Takes the place of all leases, or says with `None` that somebody holds one.
    ///
    /// `sweep` is taken first so that new leases queue behind this, instead of overlapping for ever.
    pub(crate) fn exclusive(&self) -> Result<Option<Exclusive>, StoreError> {
        self.writable()?;
        let (Some(sweep), Some(lock)) = (self.open_lock("sweep")?, self.open_lock("lock")?) else {
            return Err(StoreError::ReadOnly(self.root().to_owned()));
        };
        if !try_lock(&sweep, &self.state().join("sweep"))? || !try_lock(&lock, &self.state().join("lock"))? {
            return Ok(None);
        }
        Ok(Some(Exclusive { _sweep: sweep, _lock: lock }))
    }

    /// Serialises changes of `index.json`. Held for milliseconds, so it is waited for.
    pub(crate) fn lock_index(&self) -> Result<File, StoreError> {
        self.writable()?;
        let path = self.state().join("index.lock");
        let Some(file) = self.open_lock("index.lock")? else {
            return Err(StoreError::ReadOnly(self.root().to_owned()));
        };
        file.lock().map_err(io_error("lock", &path))?;
        Ok(file)
    }

    /// Keeps `index.json` and `manifest.json` as they are while they are compared. `None` on a medium without lock
    /// files, where nobody changes them.
    pub(crate) fn share_index(&self) -> Result<Option<File>, StoreError> {
        let path = self.state().join("index.lock");
        let file = self.open_lock("index.lock")?;
        if let Some(file) = &file {
            file.lock_shared().map_err(io_error("lock", &path))?;
        }
        Ok(file)
    }

    fn open_lock(&self, name: &str) -> Result<Option<File>, StoreError> {
        let path = self.state().join(name);
        match self.inner.access {
            Access::Write => durable::open_own(&path, self.inner.owner).map(Some),
            // A shared lock needs no more than a readable file.
            Access::Read => match durable::open_regular(&path) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(io_error("open", &path)(error)),
            },
        }
    }
}

pub(crate) fn try_lock(file: &File, path: &Path) -> Result<bool, StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
    }
}
