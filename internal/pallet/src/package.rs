//! Finding and loading the package that a deployment names.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::bundle::Bundle;
use crate::definition::{GitDefinition, PackageFile, decode};
use crate::error::Error;
use crate::pallet::{Pallet, Requirements};
use crate::path;
use crate::tree::Tree;

/// A loaded package.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    pub(crate) tree: Tree,
    pub(crate) file: PackageFile,
}

/// Where the packages of a source are. Repositories and locks are read once.
pub(crate) enum Packages<'a> {
    Pallet {
        pallet: &'a Pallet,
        /// The path of the pallet as a repository of packages; empty if it has none.
        repository: String,
        requirements: Requirements,
        cached: RefCell<HashMap<String, bool>>,
    },
    Bundle(&'a Bundle),
}

impl<'a> Packages<'a> {
    pub(crate) fn of_pallet(pallet: &'a Pallet) -> Self {
        // Beside a pallet's definition, one of a repository wins.
        let repository = match load_repository(pallet.tree()) {
            Ok(repository) => repository.path,
            Err(_) => pallet.definition().path.clone(),
        };
        Self::Pallet {
            pallet,
            repository,
            requirements: Requirements::new(pallet.tree(), Requirements::REPOSITORIES),
            cached: RefCell::default(),
        }
    }

    /// Loads the package with the path that a deployment gives.
    pub(crate) fn load(&self, package: &str) -> Result<Package, Error> {
        match self {
            Self::Bundle(bundle) => {
                let packages = bundle.tree().sub("packages");
                load_package(&packages, package.trim_start_matches('/'))
            }
            Self::Pallet { pallet, repository, requirements, cached } => {
                let (full, version) = if package.starts_with('/') {
                    let own = path::join([pallet.path(), package.trim_start_matches('/')]);
                    (own, String::new())
                } else {
                    let (requirement, version) = requirements.containing(package)?;
                    let rest = path::trim_prefix(package, &format!("{requirement}/")).to_owned();
                    (path::join([&requirement, &rest]), version)
                };
                for other in &pallet.cache().other_repositories {
                    if other.version == version
                        && let Some(rest) = full.strip_prefix(&format!("{}/", other.path))
                    {
                        return load_package(&other.tree, rest);
                    }
                }
                if version.is_empty() {
                    if repository.is_empty() {
                        return load_package(pallet.tree(), &full);
                    }
                    if let Some(rest) = full.strip_prefix(&format!("{repository}/")) {
                        return load_package(pallet.tree(), rest);
                    }
                }
                let found = from_cache(pallet, cached, &full, &version);
                match found {
                    // A package of the pallet that the pallet, as a repository, doesn't answer for.
                    Err(Error::NotCached { .. }) if version.is_empty() => Err(Error::NotOwnPackage {
                        package: package.to_owned(),
                        full,
                        repository: repository.clone(),
                    }),
                    found => found,
                }
            }
        }
    }
}

/// The repository with the longest path in the cache has the package, or nobody has.
fn from_cache(
    pallet: &Pallet,
    known: &RefCell<HashMap<String, bool>>,
    package: &str,
    version: &str,
) -> Result<Package, Error> {
    let cache = &pallet.cache().repositories;
    let (mut repository, mut rest) = (path::parent(package), path::last(package).to_owned());
    while repository != "." && repository != "/" {
        let name = format!("{repository}@{version}");
        if path::is_valid(&name) {
            let tree = Tree::directory(cache.join(&name));
            let loadable = *known.borrow_mut().entry(name).or_insert_with(|| load_repository(&tree).is_ok());
            if loadable {
                return load_package(&tree, &rest);
            }
        }
        rest = path::join([path::last(&repository), &rest]);
        repository = path::parent(&repository);
    }
    Err(Error::NotCached {
        what: "package",
        path: package.to_owned(),
        version: version.to_owned(),
        cache: cache.clone(),
    })
}

fn load_repository(tree: &Tree) -> Result<GitDefinition, Error> {
    let file = tree.location(GitDefinition::REPOSITORY_FILE);
    let bytes = tree.read(GitDefinition::REPOSITORY_FILE).map_err(|e| Error::read(&file, e))?;
    Ok(decode(&bytes, &file, GitDefinition::repository)?)
}

fn load_package(repository: &Tree, name: &str) -> Result<Package, Error> {
    let tree = repository.sub(name);
    if !tree.is_below(repository) {
        return Err(Error::NotBelowRepository { path: name.to_owned(), repository: repository.root() });
    }
    let file = tree.location(PackageFile::FILE);
    let bytes = tree.read(PackageFile::FILE).map_err(|e| Error::read(&file, e))?;
    Ok(Package { file: decode(&bytes, &file, PackageFile::decode)?, tree })
}
