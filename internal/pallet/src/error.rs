//! Everything that can keep a pallet, bundle or stage store from being resolved.

use std::io;
use std::path::{Path, PathBuf};

use crate::{compose, glob, lock, yaml};

/// Why the images or downloads can't be listed. Each message is one line; causes follow by `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory that is needed can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A YAML file is malformed or has the wrong shape.
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    /// A Compose file, or all of a deployment together, isn't valid.
    #[error(transparent)]
    Compose(#[from] compose::Error),
    /// A file whose images were replaced by IDs, or the record of it, is not what it should be.
    #[error("{}: {message}", path.display())]
    Localized {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A search for files failed.
    #[error(transparent)]
    Glob(#[from] glob::Error),
    /// A version lock that gives no version.
    #[error("{}: bad version lock", path.display())]
    Lock {
        /// The lock file, or the bundle's manifest with the path of the requirement.
        path: PathBuf,
        /// What is wrong with it.
        source: lock::Error,
    },
    /// A deployment can't be resolved; one is enough to fail a list.
    #[error("deployment {name} ({})", file.display())]
    Deployment {
        /// Name of the deployment.
        name: String,
        /// Its definition.
        file: PathBuf,
        /// What is wrong.
        source: Box<Error>,
    },
    /// There is no pallet in a directory, nor in any above.
    #[error("no forklift-pallet.yml in {} or any directory above", path.display())]
    NoPalletAbove {
        /// Where the search began.
        path: PathBuf,
    },
    /// A package path, or an import group, for which no requirement is declared.
    #[error("{path} is not in the pallet, and no version lock for it or a path above is in {}", requirements.display())]
    NoRequirement {
        /// Path of the package, import group or feature.
        path: String,
        /// The directory that was searched.
        requirements: PathBuf,
        /// A lock that is there but can't be used.
        source: Option<Box<Error>>,
    },
    /// A requirement is declared, but its files are not in Forklift's cache.
    #[error("{what} {path}@{version} is not in the cache {}; cache the pallet's requirements first (`forklift plt cache-all`)", cache.display())]
    NotCached {
        /// `pallet` or `package`.
        what: &'static str,
        /// Path of what is missing.
        path: String,
        /// The locked version.
        version: String,
        /// The cache directory.
        cache: PathBuf,
    },
    /// Requirements are declared, but there is no cache directory at all.
    #[error("the pallet has requirements, but {} does not exist; cache the pallet's requirements first (`forklift plt cache-all`)", cache.display())]
    NoCache {
        /// The missing directory.
        cache: PathBuf,
    },
    /// A package path that begins with `/` and still isn't the pallet's: its `forklift-repository.yml` names
    /// another path than its `forklift-pallet.yml`, or the path leads out of the pallet.
    #[error(
        "package {package} is {full}, which is not below the pallet's path as a repository, {repository}"
    )]
    NotOwnPackage {
        /// The package path as written.
        package: String,
        /// The same below the path of `forklift-pallet.yml`.
        full: String,
        /// The path of `forklift-repository.yml`, or else of `forklift-pallet.yml`.
        repository: String,
    },
    /// A package path that leads to its repository itself, or out of it.
    #[error("package path {path:?} is not below the repository {}", repository.display())]
    NotBelowRepository {
        /// The package path.
        path: String,
        /// Root of the repository.
        repository: PathBuf,
    },
    /// A deployment enables features that its package doesn't have.
    #[error("package {package} has no feature {}", features.join(", "))]
    UnknownFeatures {
        /// The package path.
        package: String,
        /// Names that don't exist.
        features: Vec<String>,
    },
    /// The deployment's name can't be a Compose project's name.
    #[error(
        "the name {name:?} can't be a Compose project: only a-z, 0-9, '-', '_' and '/', beginning with a letter or digit"
    )]
    ProjectName {
        /// The deployment's name with `_` for `/`.
        name: String,
    },
    /// Import groups that contradict each other or themselves.
    #[error("import group {group}")]
    ImportGroup {
        /// The group's name.
        group: String,
        /// What is wrong.
        source: Box<Error>,
    },
    /// A rule of imports is broken.
    #[error("{0}")]
    Import(String),
    /// Pallets that import from each other in a circle.
    #[error("pallets import from each other in a circle: {}", chain.join(" -> "))]
    ImportCycle {
        /// The pallets, first and last the same.
        chain: Vec<String>,
    },
    /// A bundle identifier of a stage store that leads to no bundle.
    #[error("{0}")]
    Stage(String),
    /// A `forklift-version` that our Forklift can't work with.
    #[error(transparent)]
    Version(#[from] crate::compat::Error),
    /// A workspace or pallet directory that doesn't exist.
    #[error("{what} {} is no directory", path.display())]
    NoDirectory {
        /// What it should be.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn read(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Read { path: path.as_ref().to_owned(), source }
    }

    /// Whether a file just isn't there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
