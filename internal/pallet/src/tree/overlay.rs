//! A pallet's own files above those that it imports from others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;

use super::{Kind, Status, Tree};
use crate::path;

pub(super) struct Overlay {
    own: Tree,
    /// Target path -> the tree and name which provide it.
    imports: BTreeMap<String, (Tree, String)>,
    /// Directories that only the imports' targets need.
    implied: BTreeSet<String>,
}

impl Overlay {
    pub(super) fn new(own: Tree, imports: BTreeMap<String, (Tree, String)>) -> Self {
        let mut implied = BTreeSet::new();
        for target in imports.keys() {
            let mut dir = path::parent(target);
            while dir != "." && dir != "/" && !implied.contains(&dir) && own.status(&dir).is_err() {
                let above = path::parent(&dir);
                implied.insert(dir);
                dir = above;
            }
        }
        Self { own, imports, implied }
    }

    /// What an import provides, if the pallet's own answer was "not there". Any other error stays one.
    fn below(&self, name: &str, own: io::Error) -> io::Result<Option<&(Tree, String)>> {
        if own.kind() != io::ErrorKind::NotFound {
            return Err(own);
        }
        Ok(self.imports.get(name))
    }

    fn missing(name: &str) -> io::Error {
        let message = format!("{name} is neither in the pallet nor in what it imports");
        io::Error::new(io::ErrorKind::NotFound, message)
    }

    pub(super) fn own_location(&self, name: &str) -> PathBuf {
        self.own.location(name)
    }

    pub(super) fn location(&self, name: &str) -> PathBuf {
        match (self.own.status(name), self.imports.get(name)) {
            (Err(_), Some((tree, source))) => tree.location(source),
            _ => self.own.location(name),
        }
    }

    pub(super) fn status(&self, name: &str) -> io::Result<Status> {
        let own = match self.own.status(name) {
            Ok(status) => return Ok(status),
            Err(e) => e,
        };
        if let Some((tree, source)) = self.below(name, own)? {
            return tree.status(source);
        }
        if name == "." || self.implied.contains(name) {
            return Ok(Status { is_dir: true, is_file: false, size: 0, mode: 0o755 });
        }
        Err(Self::missing(name))
    }

    pub(super) fn open(&self, name: &str) -> io::Result<(File, u64)> {
        match self.own.open(name) {
            Ok(file) => Ok(file),
            Err(own) => match self.below(name, own)? {
                Some((tree, source)) => tree.open(source),
                None => Err(Self::missing(name)),
            },
        }
    }

    pub(super) fn entries(&self, name: &str) -> io::Result<Vec<(String, Kind)>> {
        let mut all: BTreeMap<String, Kind> = self.own.entries(name)?.into_iter().collect();
        let prefix = match name {
            "." => String::new(),
            name => format!("{name}/"),
        };
        let mut add = |target: &str, kind: Kind| {
            let entry = target.strip_prefix(&prefix).filter(|e| !e.contains('/'));
            if let Some(entry) = entry {
                all.entry(entry.to_owned()).or_insert(kind);
            }
        };
        let from = prefix.as_str();
        for (target, _) in self.imports.range::<str, _>((Bound::Included(from), Bound::Unbounded)) {
            if !target.starts_with(from) {
                break;
            }
            // An import may be a link in its own pallet, so whoever cares has to ask.
            add(target, Kind::Link);
        }
        for target in self.implied.range::<str, _>((Bound::Included(from), Bound::Unbounded)) {
            if !target.starts_with(from) {
                break;
            }
            add(target, Kind::Directory);
        }
        Ok(all.into_iter().collect())
    }

    pub(super) fn provider(&self, name: &str) -> io::Result<(Tree, String)> {
        let Err(own) = self.own.status(name) else {
            return Ok((self.own.clone(), name.to_owned()));
        };
        match self.below(name, own)? {
            Some((tree, source)) => {
                tree.status(source)?;
                Ok((tree.clone(), source.clone()))
            }
            None => Err(Self::missing(name)),
        }
    }
}
