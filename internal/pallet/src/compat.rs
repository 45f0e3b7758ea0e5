//! Which versions of Forklift's files we work with.
//!
//! Listing never checks; commands that fetch or load do. Our measure is the version of Forklift that we
//! follow, never our own. Older than Forklift's minimum is an error. Newer is only a warning: a list that
//! might be incomplete helps more than none, and the reader refuses what it doesn't understand.

use std::cmp::Ordering;
use std::path::PathBuf;

use crate::definition::{GitDefinition, decode};
use crate::glob::{self, Find};
use crate::pallet::Requirements;
use crate::semver::compare;
use crate::source::Source;
use crate::tree::Tree;
use crate::{lock, path};

/// The version of Forklift whose behaviour this crate follows.
pub const FORKLIFT_VERSION: &str = "v0.8.0";
/// Oldest pallets and repositories that Forklift still reads.
pub const MIN_PALLET_VERSION: &str = "v0.4.0";
/// Oldest bundles that Forklift still reads.
pub const MIN_BUNDLE_VERSION: &str = "v0.7.0";

/// A file that is too old, or doesn't say how old it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `forklift-version`.
    #[error("{}: `forklift-version` is missing, so nobody knows how to read it", file.display())]
    Missing {
        /// The definition or manifest.
        file: PathBuf,
    },
    /// Older than the minimum, or no version at all.
    #[error("{}: made for Forklift {found}, but at least {minimum} is needed", file.display())]
    TooOld {
        /// The definition or manifest.
        file: PathBuf,
        /// Its `forklift-version`.
        found: String,
        /// The oldest that works.
        minimum: &'static str,
    },
    /// A requirement asks for a newer Forklift than the pallet which requires it.
    #[error("{}: needs Forklift {found}, more than the {pallet} of the pallet that requires it", file.display())]
    NewerThanPallet {
        /// The requirement's definition.
        file: PathBuf,
        /// Its `forklift-version`.
        found: String,
        /// The pallet's.
        pallet: String,
    },
}

/// A file that was made for a newer Forklift than the one that we follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    /// The definition or manifest.
    pub file: PathBuf,
    /// Its `forklift-version`.
    pub found: String,
    /// What we follow.
    pub tool: String,
}

impl std::fmt::Display for Newer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, found, tool } = self;
        let file = file.display();
        write!(f, "{file}: made for Forklift {found}; this program follows {tool}")
    }
}

/// Checks a pallet with the pallets and repositories that it requires directly, or a bundle, against a
/// version of Forklift (normally [`FORKLIFT_VERSION`]). Requirements that aren't cached are skipped.
pub fn check(source: &Source, tool: &str) -> Result<Vec<Newer>, crate::Error> {
    let mut warnings = Vec::new();
    match source {
        Source::Bundle(bundle) => {
            let file = bundle.manifest_file();
            let found = bundle.forklift_version();
            warnings.extend(check_version(&file, found, MIN_BUNDLE_VERSION, tool)?);
        }
        Source::Pallet(pallet) => {
            let own = pallet.forklift_version();
            let file = pallet.directory().join(GitDefinition::PALLET_FILE);
            warnings.extend(check_version(&file, own, MIN_PALLET_VERSION, tool)?);
            let cache = pallet.cache();
            let kinds = [
                (Requirements::PALLETS, &cache.pallets, GitDefinition::PALLET_FILE),
                (Requirements::REPOSITORIES, &cache.repositories, GitDefinition::REPOSITORY_FILE),
            ];
            for (directory, cache, name) in kinds {
                let requirements = pallet.tree().sub(directory);
                for (file, found) in required_versions(&requirements, cache, name)? {
                    if compare(&found, own) == Ordering::Greater {
                        let pallet = own.to_owned();
                        return Err(Error::NewerThanPallet { file, found, pallet }.into());
                    }
                    warnings.extend(check_version(&file, &found, MIN_PALLET_VERSION, tool)?);
                }
            }
        }
    }
    Ok(warnings)
}

/// Checks one `forklift-version`: an error if it is missing or older than `minimum`, a warning if newer than `tool`.
pub fn check_version(
    file: &std::path::Path,
    found: &str,
    minimum: &'static str,
    tool: &str,
) -> Result<Option<Newer>, Error> {
    let file = file.to_owned();
    if found.is_empty() {
        return Err(Error::Missing { file });
    }
    let found = found.to_owned();
    if compare(&found, minimum) == Ordering::Less {
        return Err(Error::TooOld { file, found, minimum });
    }
    let newer = compare(&found, tool) == Ordering::Greater;
    let tool = tool.to_owned();
    Ok(newer.then_some(Newer { file, found, tool }))
}

/// The `forklift-version` of each cached requirement in a directory of locks.
fn required_versions(
    requirements: &Tree,
    cache: &std::path::Path,
    name: &str,
) -> Result<Vec<(PathBuf, String)>, crate::Error> {
    let mut out = Vec::new();
    let pattern = format!("**/{}", lock::FILE);
    for found in glob::search(requirements, &pattern, Find::Files)? {
        let required = path::parent(&found);
        let Ok(version) = crate::pallet::read_version(&requirements.sub(&required)) else {
            continue;
        };
        let directory = format!("{required}@{version}");
        if !path::is_valid(&directory) {
            continue;
        }
        let tree = Tree::directory(cache.join(directory));
        let file = tree.location(name);
        let read = if name == GitDefinition::PALLET_FILE {
            GitDefinition::pallet
        } else {
            GitDefinition::repository
        };
        if let Ok(bytes) = tree.read(name) {
            out.push((file.clone(), decode(&bytes, &file, read)?.forklift_version));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_with_minimum_and_tool() {
        let check = |found| check_version("f".as_ref(), found, MIN_BUNDLE_VERSION, "v0.8.0");
        assert!(matches!(check(""), Err(Error::Missing { .. })));
        assert!(matches!(check("v0.6.9"), Err(Error::TooOld { .. })));
        assert!(matches!(check("v0.7.0-alpha.1"), Err(Error::TooOld { .. })));
        assert!(matches!(check("nonsense"), Err(Error::TooOld { .. })));
        assert_eq!(check("v0.7.0"), Ok(None));
        assert_eq!(check("v0.8.0-alpha.6"), Ok(None));
        assert_eq!(check("v0.8.0"), Ok(None));
        assert!(matches!(check("v0.8.1-alpha.1"), Ok(Some(_))));
        assert!(matches!(check("v1.0.0"), Ok(Some(_))));
    }
}
