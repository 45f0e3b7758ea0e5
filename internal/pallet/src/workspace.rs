//! Where Forklift keeps its things below a workspace, by default the user's home.

use std::path::{Path, PathBuf};

/// A Forklift workspace. Nothing in it is created by looking at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace in a directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The workspace's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The local pallet: a git work tree.
    pub fn pallet(&self) -> PathBuf {
        self.root.join(".local/share/forklift/pallet")
    }

    /// The stage store.
    pub fn stages(&self) -> PathBuf {
        self.root.join(".local/share/forklift/stages")
    }

    /// Forklift's cache as a whole.
    pub fn cache(&self) -> PathBuf {
        self.root.join(".cache/forklift")
    }

    /// Bare mirrors of git repositories, by their path.
    pub fn mirrors(&self) -> PathBuf {
        self.cache().join("mirrors")
    }

    /// Trees of required pallets, as `<path>@<version>`.
    pub fn cached_pallets(&self) -> PathBuf {
        self.cache().join("pallets")
    }

    /// Trees of required package repositories, as `<path>@<version>`.
    pub fn cached_repositories(&self) -> PathBuf {
        self.cache().join("repositories")
    }

    /// Downloads for file exports.
    pub fn downloads(&self) -> PathBuf {
        self.cache().join("downloads")
    }
}
