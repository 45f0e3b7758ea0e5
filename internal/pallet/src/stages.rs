//! Forklift's stage store: the bundles that were staged, and which of them the next apply can need.

use std::io;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::definition::{StoreManifest, decode};
use crate::error::Error;
use crate::tree::{Kind, Tree};

/// A stage store whose manifest was read.
#[derive(Debug, Clone)]
pub struct StageStore {
    tree: Tree,
    manifest: StoreManifest,
    indices: Vec<u64>,
}

impl StageStore {
    /// Opens the store in a directory. A store or manifest that doesn't exist yet is empty.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let tree = Tree::directory(directory);
        let file = tree.location(StoreManifest::FILE);
        let manifest = match tree.read(StoreManifest::FILE) {
            Ok(bytes) => decode(&bytes, &file, StoreManifest::decode)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => StoreManifest::default(),
            Err(e) => return Err(Error::read(&file, e)),
        };
        let entries = tree.entries(".").map_err(|e| Error::read(directory, e))?;
        let mut indices: Vec<u64> = entries
            .iter()
            .filter(|(_, kind)| *kind == Kind::Directory)
            .filter_map(|(name, _)| name.parse().ok())
            .filter(|index| *index > 0)
            .collect();
        indices.sort_unstable();
        indices.dedup();
        Ok(Self { tree, manifest, indices })
    }

    /// The store's directory.
    pub fn directory(&self) -> PathBuf {
        self.tree.root()
    }

    /// The version of Forklift that wrote the store; empty for a new one.
    pub fn forklift_version(&self) -> &str {
        &self.manifest.forklift_version
    }

    /// Numbers of the bundles in the store, ascending.
    pub fn indices(&self) -> &[u64] {
        &self.indices
    }

    /// The bundle that the next apply uses.
    pub fn next(&self) -> Option<u64> {
        positive(self.manifest.next)
    }

    /// Whether applying the next bundle has failed, so that the current one is used.
    pub fn next_failed(&self) -> bool {
        self.manifest.next_failed
    }

    /// The bundles that were applied, oldest first.
    pub fn history(&self) -> &[i64] {
        &self.manifest.history
    }

    /// The bundle that was applied last.
    pub fn current(&self) -> Option<u64> {
        self.manifest.history.last().copied().and_then(positive)
    }

    /// The bundle that was applied before the current one.
    pub fn rollback(&self) -> Option<u64> {
        let history = &self.manifest.history;
        let before = history.len().checked_sub(2)?;
        positive(history[before])
    }

    /// The next bundle, unless it is the current one.
    pub fn pending(&self) -> Option<u64> {
        self.next().filter(|next| Some(*next) != self.current())
    }

    /// Names that were given to bundles.
    pub fn names(&self) -> impl Iterator<Item = (&str, i64)> {
        self.manifest.names.iter().map(|(n, i)| (&**n, *i))
    }

    /// The bundle that an apply would use now.
    pub fn applicable(&self) -> Option<u64> {
        let next = self.next()?;
        if self.next_failed() { self.current() } else { Some(next) }
    }

    /// The bundles whose images the next apply can need: the current one if it isn't next, then the next.
    /// An apply falls back to the current one when the next one fails.
    pub fn needed(&self) -> Vec<u64> {
        let current = self.current().filter(|c| Some(*c) != self.next());
        current.into_iter().chain(self.next()).collect()
    }

    /// The number behind an identifier: a number, `next`, `current`, `rollback`, `pending`, or a name.
    pub fn index_of(&self, identifier: &str) -> Result<u64, Error> {
        let none = |what: &str| Error::Stage(format!("the stage store has no {what} bundle"));
        if let Ok(number) = identifier.parse::<i64>() {
            return positive(number)
                .ok_or_else(|| Error::Stage(format!("{number} is no bundle: numbers begin with 1")));
        }
        match identifier {
            "next" => self.next().ok_or_else(|| none("next")),
            "current" => self.current().ok_or_else(|| none("current")),
            "rollback" => self.rollback().ok_or_else(|| none("rollback")),
            "pending" => self.pending().ok_or_else(|| none("pending")),
            name => match self.manifest.names.get(name).copied() {
                Some(index) => positive(index).ok_or_else(|| none(name)),
                None => {
                    let known: Vec<&str> = self.manifest.names.keys().map(|n| &**n).collect();
                    let known = match known.len() {
                        0 => "no bundle has a name".to_owned(),
                        _ => format!("names are {}", known.join(", ")),
                    };
                    Err(Error::Stage(format!("the stage store has no bundle {name:?}; {known}")))
                }
            },
        }
    }

    /// The directory of a bundle.
    pub fn bundle_directory(&self, index: u64) -> PathBuf {
        self.directory().join(index.to_string())
    }

    /// Loads a bundle by its number.
    pub fn bundle(&self, index: u64) -> Result<Bundle, Error> {
        Bundle::load(&self.bundle_directory(index))
    }
}

fn positive(index: i64) -> Option<u64> {
    u64::try_from(index).ok().filter(|i| *i > 0)
}
