//! A directory of this machine, left through no symbolic link.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Kind, Status, outside};
use crate::path;

pub(super) struct Dir {
    root: PathBuf,
    /// Directories by name, with links resolved: all of them inside of the root. Each is looked up once.
    known: Mutex<HashMap<String, PathBuf>>,
}

impl Dir {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, known: Mutex::default() }
    }

    /// Joins a clean name to the root.
    pub(super) fn full(&self, name: &str) -> PathBuf {
        if name == "." {
            return self.root.clone();
        }
        self.root.join(name)
    }

    /// The path with links resolved, which must lie inside of the root, and what is there.
    fn inside(&self, name: &str) -> io::Result<(PathBuf, Metadata)> {
        if name == "." {
            let root = self.directory(".")?;
            let found = fs::metadata(&root)?;
            return Ok((root, found));
        }
        let path = self.directory(&path::parent(name))?.join(path::last(name));
        let found = fs::symlink_metadata(&path)?;
        if !found.is_symlink() {
            return Ok((path, found));
        }
        let target = fs::canonicalize(&path)?;
        if !target.starts_with(self.directory(".")?) {
            return Err(outside(&self.full(name), &self.root));
        }
        let found = fs::metadata(&target)?;
        Ok((target, found))
    }

    /// The map stays whole if a thread that held it has panicked.
    fn known(&self) -> MutexGuard<'_, HashMap<String, PathBuf>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, name: &str) -> io::Result<PathBuf> {
        if let Some(path) = self.known().get(name) {
            return Ok(path.clone());
        }
        let path = match name {
            "." => fs::canonicalize(&self.root)?,
            name => self.inside(name)?.0,
        };
        self.known().insert(name.to_owned(), path.clone());
        Ok(path)
    }

    pub(super) fn status(&self, name: &str) -> io::Result<Status> {
        Ok(status(&self.inside(name)?.1))
    }

    /// Opens a regular file. Also returns its size in bytes.
    pub(super) fn open(&self, name: &str) -> io::Result<(File, u64)> {
        let (path, found) = self.inside(name)?;
        // A pipe would wait for its writer, so the kind is known before opening.
        if found.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        Ok((File::open(path)?, found.len()))
    }

    pub(super) fn entries(&self, name: &str) -> io::Result<Vec<(String, Kind)>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(self.inside(name)?.0)? {
            let entry = entry?;
            let found = entry.file_type()?;
            let kind = if found.is_symlink() {
                Kind::Link
            } else if found.is_dir() {
                Kind::Directory
            } else {
                Kind::File
            };
            // A name that isn't UTF-8 can be seen but not opened: an error where it matters.
            out.push((entry.file_name().to_string_lossy().into_owned(), kind));
        }
        out.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(out)
    }
}

fn status(metadata: &Metadata) -> Status {
    Status {
        is_dir: metadata.is_dir(),
        is_file: metadata.is_file(),
        size: metadata.len(),
        mode: metadata.permissions().mode() & 0o777,
    }
}
