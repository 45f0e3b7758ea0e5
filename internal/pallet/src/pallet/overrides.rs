//! Directories that stand in for cached requirements while a pallet is developed.
//!
//! An override replaces exactly the version that the pallet under development itself requires; what the
//! directory really contains doesn't matter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Pallet, Requirements, imports, read_version};
use crate::definition::{GitDefinition, decode};
use crate::error::Error;
use crate::glob::{self, Find};
use crate::path;
use crate::tree::Tree;

/// Directories with pallets and repositories to use in place of cached ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Searched for pallets, which replace required pallets.
    pub pallets: Vec<PathBuf>,
    /// Searched for repositories and pallets, which replace required repositories.
    pub repositories: Vec<PathBuf>,
}

/// A tree in place of a cached repository.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) path: String,
    pub(crate) version: String,
    pub(crate) tree: Tree,
}

/// The directories of pallets by `<path>@<version>`, for what the unmerged pallet requires.
pub(super) fn pallets(directories: &[PathBuf], root: &Pallet) -> Result<BTreeMap<String, PathBuf>, Error> {
    let requirements = root.own.sub(Requirements::PALLETS);
    let mut out = BTreeMap::new();
    for directory in find(directories, GitDefinition::PALLET_FILE)? {
        let pallet = Pallet::shallow(Tree::directory(&directory), &root.cache)?;
        if let Some(version) = required(&requirements, &pallet.definition.path) {
            out.insert(format!("{}@{version}", pallet.definition.path), directory);
        }
    }
    Ok(out)
}

/// Repositories, and pallets as such, for what the merged pallet requires. Longest path first.
pub(super) fn repositories(directories: &[PathBuf], root: &Pallet) -> Result<Vec<Repository>, Error> {
    let requirements = root.tree.sub(Requirements::REPOSITORIES);
    let mut trees: BTreeMap<PathBuf, (Tree, String)> = BTreeMap::new();
    for directory in find(directories, GitDefinition::PALLET_FILE)? {
        let pallet = imports::merge(Pallet::shallow(Tree::directory(&directory), &root.cache)?)?;
        let path = pallet.definition.path.clone();
        trees.insert(directory, (pallet.tree, path));
    }
    for directory in find(directories, GitDefinition::REPOSITORY_FILE)? {
        let file = directory.join(GitDefinition::REPOSITORY_FILE);
        let tree = Tree::directory(&directory);
        let bytes = tree.read(GitDefinition::REPOSITORY_FILE).map_err(|e| Error::read(&file, e))?;
        let path = decode(&bytes, &file, GitDefinition::repository)?.path;
        // Beside a pallet's definition, that of a repository gives the path.
        trees.entry(directory).or_insert((tree, String::new())).1 = path;
    }
    let known = trees.into_values().filter_map(|(tree, path)| {
        let version = required(&requirements, &path)?;
        Some(Repository { path, version, tree })
    });
    let mut out: Vec<Repository> = known.collect();
    out.sort_by_key(|r| std::cmp::Reverse(r.path.len()));
    Ok(out)
}

/// The locked version of a requirement; none if there is no valid lock for exactly this path.
fn required(requirements: &Tree, path: &str) -> Option<String> {
    let named = !path.is_empty() && path::is_valid(path);
    named.then(|| read_version(&requirements.sub(path)).ok())?
}

/// The directories, at any depth, that have a certain file.
fn find(directories: &[PathBuf], file: &str) -> Result<Vec<PathBuf>, Error> {
    let mut out = Vec::new();
    for directory in directories {
        if !directory.is_dir() {
            return Err(Error::NoDirectory { what: "the override", path: directory.clone() });
        }
        let tree = Tree::directory(directory);
        for found in glob::search(&tree, &format!("**/{file}"), Find::Files)? {
            let found = directory.join(found);
            out.extend(found.parent().map(Path::to_owned));
        }
    }
    Ok(out)
}
