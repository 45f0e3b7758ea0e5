//! A staged pallet bundle: a pallet with all its packages in one directory, ready to be applied.

use std::path::{Path, PathBuf};

use crate::compose::Substitutes;
use crate::definition::{BundleManifest, decode};
use crate::error::Error;
use crate::localize;
use crate::lock::VersionLock;
use crate::tree::Tree;

/// A bundle whose manifest was read.
#[derive(Debug, Clone)]
pub struct Bundle {
    tree: Tree,
    manifest: BundleManifest,
    originals: Substitutes,
}

impl Bundle {
    /// Loads the bundle in a directory. One whose images were replaced by IDs ([`localize`]) is what it was before. Manifests from before Forklift v0.8.0-alpha.6 are read as well.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let tree = Tree::directory(directory);
        let file = tree.location(BundleManifest::FILE);
        let bytes = tree.read(BundleManifest::FILE).map_err(|e| Error::read(&file, e))?;
        let manifest = decode(&bytes, &file, BundleManifest::decode)?;
        let locks = manifest.pallets.iter().chain(&manifest.repositories);
        for (requirement, lock) in locks {
            lock.version().map_err(|source| Error::Lock {
                path: format!("{}: includes {requirement}", file.display()).into(),
                source,
            })?;
        }
        let originals = localize::originals(directory)?;
        Ok(Self { tree, manifest, originals })
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// What its Compose files are to be read as, where their images were replaced by IDs.
    pub(crate) fn originals(&self) -> &Substitutes {
        &self.originals
    }

    /// The bundle's directory.
    pub fn directory(&self) -> PathBuf {
        self.tree.root()
    }

    /// The manifest.
    pub fn manifest_file(&self) -> PathBuf {
        self.tree.location(BundleManifest::FILE)
    }

    /// The version of Forklift which made the bundle, or which it asks for.
    pub fn forklift_version(&self) -> &str {
        &self.manifest.forklift_version
    }

    /// Path of the bundled pallet, such as `github.com/o/r`; may be empty.
    pub fn pallet_path(&self) -> &str {
        &self.manifest.pallet.path
    }

    /// Version of the bundled pallet; may be empty.
    pub fn pallet_version(&self) -> &str {
        &self.manifest.pallet.version
    }

    /// Whether the pallet had no uncommitted changes when it was bundled.
    pub fn is_clean(&self) -> bool {
        self.manifest.pallet.clean
    }

    /// Locks of the repositories and pallets that the pallet requires directly, by path.
    pub fn includes(&self) -> impl Iterator<Item = (&str, &VersionLock)> {
        let locks = self.manifest.pallets.iter().chain(&self.manifest.repositories);
        locks.map(|(path, lock)| (&**path, lock))
    }
}
