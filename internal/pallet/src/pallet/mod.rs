//! A pallet: its definition, and its files merged with those that it imports.

mod imports;
mod overrides;
mod requirements;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use overrides::Overrides;
pub(crate) use requirements::{Requirements, read_version};

use crate::Workspace;
use crate::definition::{GitDefinition, decode};
use crate::error::Error;
use crate::glob::{self, Find};
use crate::lock;
use crate::tree::Tree;

/// A pallet with everything that resolving needs.
#[derive(Debug, Clone)]
pub struct Pallet {
    /// The pallet's own files.
    own: Tree,
    /// The same with imports.
    tree: Tree,
    definition: GitDefinition,
    cache: Cache,
}

/// The directories with the trees of requirements.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub(crate) pallets: PathBuf,
    pub(crate) repositories: PathBuf,
    /// Directories in place of pallets, by `<path>@<version>`.
    other_pallets: BTreeMap<String, PathBuf>,
    pub(crate) other_repositories: Vec<overrides::Repository>,
}

impl Cache {
    fn of(workspace: &Workspace) -> Self {
        Self {
            pallets: workspace.cached_pallets(),
            repositories: workspace.cached_repositories(),
            other_pallets: BTreeMap::new(),
            other_repositories: Vec::new(),
        }
    }
}

impl Pallet {
    /// Loads the pallet in a directory; its requirements are looked for in the workspace's cache.
    pub fn load(directory: &Path, workspace: &Workspace) -> Result<Self, Error> {
        Self::load_with(directory, workspace, &Overrides::default())
    }

    fn load_with(directory: &Path, workspace: &Workspace, overrides: &Overrides) -> Result<Self, Error> {
        let cache = Cache::of(workspace);
        let mut shallow = Self::shallow(Tree::directory(directory), &cache)?;
        shallow.cache.other_pallets = overrides::pallets(&overrides.pallets, &shallow)?;
        require_cache(&cache.pallets, &shallow.own.sub(Requirements::PALLETS))?;
        let mut pallet = imports::merge(shallow)?;
        pallet.cache.other_repositories = overrides::repositories(&overrides.repositories, &pallet)?;
        require_cache(&cache.repositories, &pallet.tree.sub(Requirements::REPOSITORIES))?;
        Ok(pallet)
    }

    /// Loads the pallet of the nearest directory, from `start` upwards, which has a loadable one.
    /// Overrides stand in for requirements from the cache.
    pub fn load_above(start: &Path, workspace: &Workspace, overrides: &Overrides) -> Result<Self, Error> {
        let start = std::path::absolute(start).map_err(|e| Error::read(start, e))?;
        let cache = Cache::of(workspace);
        let mut broken = None;
        for directory in start.ancestors() {
            match Self::shallow(Tree::directory(directory), &cache) {
                Ok(_) => return Self::load_with(directory, workspace, overrides),
                Err(e) if e.is_not_found() => {}
                Err(e) => broken = broken.or(Some(e)),
            }
        }
        Err(broken.unwrap_or(Error::NoPalletAbove { path: start }))
    }

    /// The pallet without its imports.
    fn shallow(tree: Tree, cache: &Cache) -> Result<Self, Error> {
        let file = tree.location(GitDefinition::PALLET_FILE);
        let bytes = tree.read(GitDefinition::PALLET_FILE).map_err(|e| Error::read(&file, e))?;
        Ok(Self {
            definition: decode(&bytes, &file, GitDefinition::pallet)?,
            own: tree.clone(),
            tree,
            cache: cache.clone(),
        })
    }

    /// A required pallet, without its imports.
    fn cached(cache: &Cache, path: &str, version: &str) -> Result<Self, Error> {
        let missing = || Error::NotCached {
            what: "pallet",
            path: path.to_owned(),
            version: version.to_owned(),
            cache: cache.pallets.clone(),
        };
        let name = format!("{path}@{version}");
        if !crate::path::is_valid(&name) {
            return Err(missing());
        }
        let directory = cache.other_pallets.get(&name).cloned();
        let tree = Tree::directory(directory.unwrap_or_else(|| cache.pallets.join(name)));
        Self::shallow(tree, cache).map_err(|e| if e.is_not_found() { missing() } else { e })
    }

    /// The files, imports included.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What `forklift-pallet.yml` says.
    pub(crate) fn definition(&self) -> &GitDefinition {
        &self.definition
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The pallet's directory.
    pub fn directory(&self) -> PathBuf {
        self.own.root()
    }

    /// The path that the pallet declares, such as `github.com/o/r`; may be empty.
    pub fn path(&self) -> &str {
        &self.definition.path
    }

    /// The version of Forklift that the pallet declares.
    pub fn forklift_version(&self) -> &str {
        &self.definition.forklift_version
    }

    /// Whether files of other pallets are merged into this one.
    pub fn is_layered(&self) -> bool {
        self.tree.has_imports()
    }

    /// What identifies the pallet among others: its declared path, or else its directory.
    fn identity(&self) -> String {
        match &*self.definition.path {
            "" => self.own.root().display().to_string(),
            path => path.to_owned(),
        }
    }
}

/// Without the cache directory there may be no requirement at all, not even one that isn't used.
fn require_cache(directory: &Path, requirements: &Tree) -> Result<(), Error> {
    if directory.is_dir() {
        return Ok(());
    }
    let pattern = format!("**/{}", lock::FILE);
    match glob::search(requirements, &pattern, Find::Everything)?.first() {
        None => Ok(()),
        Some(_) => Err(Error::NoCache { cache: directory.to_owned() }),
    }
}
