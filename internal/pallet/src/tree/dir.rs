//! A directory of this machine, left through no symbolic link.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Kind, Status, outside};
use crate::path;

/// Most links that a name may go through, as for the kernel: a link to its own directory would lead on for ever.
const MAX_LINKS: usize = 40;

pub(super) struct Dir {
    root: PathBuf,
    /// Directories by name, with links resolved: all of them inside of the root. Each is looked up once.
    known: Mutex<HashMap<String, Resolved>>,
}

/// A directory with links resolved.
#[derive(Clone)]
struct Resolved {
    path: PathBuf,
    /// How many links its name goes through.
    links: usize,
}

/// Where a name leads, and what is there.
struct Found {
    path: PathBuf,
    links: usize,
    metadata: Metadata,
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

    /// Where a name leads, which must be inside of the root.
    fn inside(&self, name: &str) -> io::Result<Found> {
        if name == "." {
            let Resolved { path, links } = self.directory(".")?;
            let metadata = fs::metadata(&path)?;
            return Ok(Found { path, links, metadata });
        }
        let Resolved { path, links } = self.directory(&path::parent(name))?;
        let path = path.join(path::last(name));
        let metadata = fs::symlink_metadata(&path)?;
        if !metadata.is_symlink() {
            return Ok(Found { path, links, metadata });
        }
        if links >= MAX_LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        let target = fs::canonicalize(&path)?;
        if !target.starts_with(self.directory(".")?.path) {
            return Err(outside(&self.full(name), &self.root));
        }
        Ok(Found { metadata: fs::metadata(&target)?, path: target, links: links + 1 })
    }

    /// The map stays whole if a thread that held it has panicked.
    fn known(&self) -> MutexGuard<'_, HashMap<String, Resolved>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, name: &str) -> io::Result<Resolved> {
        if let Some(known) = self.known().get(name) {
            return Ok(known.clone());
        }
        let resolved = match name {
            "." => Resolved { path: fs::canonicalize(&self.root)?, links: 0 },
            name => {
                let Found { path, links, .. } = self.inside(name)?;
                Resolved { path, links }
            }
        };
        self.known().insert(name.to_owned(), resolved.clone());
        Ok(resolved)
    }

    pub(super) fn status(&self, name: &str) -> io::Result<Status> {
        Ok(status(&self.inside(name)?.metadata))
    }

    /// Opens a regular file. Also returns its size in bytes.
    pub(super) fn open(&self, name: &str) -> io::Result<(File, u64)> {
        let Found { path, metadata: found, .. } = self.inside(name)?;
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
        for entry in fs::read_dir(self.inside(name)?.path)? {
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
