//! Version locks below `requirements/`, found by the longest path that has a valid one.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::definition::decode;
use crate::error::Error;
use crate::lock::{self, VersionLock};
use crate::path;
use crate::tree::Tree;

/// The requirements of a pallet, on pallets or on repositories. Each lock is read once.
pub(crate) struct Requirements {
    tree: Tree,
    known: RefCell<HashMap<String, String>>,
}

impl Requirements {
    pub(crate) const PALLETS: &'static str = "requirements/pallets";
    pub(crate) const REPOSITORIES: &'static str = "requirements/repositories";

    /// The requirements in a directory of a pallet's tree.
    pub(crate) fn new(pallet: &Tree, directory: &str) -> Self {
        Self { tree: pallet.sub(directory), known: RefCell::default() }
    }

    /// The requirement for a path and its version: walks up until a directory has a valid lock. A lock that
    /// can't be read or used counts as not there.
    pub(crate) fn containing(&self, wanted: &str) -> Result<(String, String), Error> {
        let mut candidate = wanted.to_owned();
        let mut unusable = None;
        loop {
            match self.version(&candidate) {
                Ok(version) => return Ok((candidate, version)),
                // Forklift crashes on a commit that is too short, whatever locks are above.
                Err(e @ Error::Lock { source: lock::Error::ShortCommit(_), .. }) => return Err(e),
                Err(e) if e.is_not_found() => {}
                Err(e) => unusable = unusable.or(Some(Box::new(e))),
            }
            candidate = path::parent(&candidate);
            if candidate == "/" || candidate == "." {
                return Err(Error::NoRequirement {
                    path: wanted.to_owned(),
                    requirements: self.tree.location("."),
                    source: unusable,
                });
            }
        }
    }

    fn version(&self, candidate: &str) -> Result<String, Error> {
        if let Some(version) = self.known.borrow().get(candidate) {
            return Ok(version.clone());
        }
        let version = read_version(&self.tree.sub(candidate))?;
        self.known.borrow_mut().insert(candidate.to_owned(), version.clone());
        Ok(version)
    }
}

/// The version that the lock in a directory gives.
pub(crate) fn read_version(directory: &Tree) -> Result<String, Error> {
    let path = directory.location(lock::FILE);
    let bytes = directory.read(lock::FILE).map_err(|e| Error::read(&path, e))?;
    let lock = decode(&bytes, &path, VersionLock::decode)?;
    lock.version().map_err(|source| Error::Lock { path, source })
}
