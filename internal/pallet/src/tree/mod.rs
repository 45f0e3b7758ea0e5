//! The files of a pallet, wherever they come from.
//!
//! All reading goes through a [`Tree`]: either a directory, or a pallet's own directory above the files that
//! it imports from other pallets. Names are slash-separated and relative; nothing outside of the tree's root
//! is ever read, also not through symbolic links.

mod dir;
mod overlay;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::path;
use dir::Dir;
use overlay::Overlay;

/// Largest file that is read as a whole, in bytes.
pub(crate) const MAX_FILE: u64 = crate::yaml::MAX_BYTES;

/// What an entry of a directory is, symbolic links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Link,
    File,
}

/// What a name leads to, symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) is_dir: bool,
    pub(crate) is_file: bool,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// A view on files below some root.
#[derive(Clone)]
pub(crate) struct Tree {
    base: Base,
    /// Clean path of this view's root below the base; `.` for the base itself.
    at: String,
}

#[derive(Clone)]
enum Base {
    Dir(Arc<Dir>),
    Overlay(Arc<Overlay>),
}

impl Tree {
    /// The files below a directory of this machine.
    pub(crate) fn directory(root: impl Into<PathBuf>) -> Self {
        Self { base: Base::Dir(Arc::new(Dir::new(root.into()))), at: ".".into() }
    }

    /// `own` above imported files: a path that exists in `own` always wins.
    pub(crate) fn overlay(own: Tree, imports: BTreeMap<String, (Tree, String)>) -> Self {
        Self { base: Base::Overlay(Arc::new(Overlay::new(own, imports))), at: ".".into() }
    }

    /// The part of this tree below `name`, which need not exist.
    pub(crate) fn sub(&self, name: &str) -> Self {
        Self { base: self.base.clone(), at: path::join([&self.at, name]) }
    }

    /// Whether this tree's root lies strictly below that of `other`, in the same base.
    pub(crate) fn is_below(&self, other: &Tree) -> bool {
        if self.at.starts_with("..") {
            return false;
        }
        match &*other.at {
            "." => self.at != ".",
            at => self.at.strip_prefix(at).is_some_and(|rest| rest.starts_with('/')),
        }
    }

    /// Whether files of other pallets are part of this tree.
    pub(crate) fn has_imports(&self) -> bool {
        matches!(self.base, Base::Overlay(_))
    }

    /// Where a name lies on this machine. For messages, and for what has to work on real directories.
    pub(crate) fn location(&self, name: &str) -> PathBuf {
        match (&self.base, self.resolve(name)) {
            (Base::Dir(dir), Ok(full)) => dir.full(&full),
            (Base::Dir(dir), Err(_)) => dir.full(&self.at).join(name),
            (Base::Overlay(overlay), Ok(full)) => overlay.location(&full),
            (Base::Overlay(overlay), Err(_)) => overlay.location(&self.at).join(name),
        }
    }

    /// This tree's root directory; of a merged pallet the pallet's own.
    pub(crate) fn root(&self) -> PathBuf {
        match &self.base {
            Base::Dir(dir) => dir.full(&self.at),
            Base::Overlay(overlay) => overlay.own_location(&self.at),
        }
    }

    pub(crate) fn status(&self, name: &str) -> io::Result<Status> {
        let full = self.resolve(name)?;
        match &self.base {
            Base::Dir(dir) => dir.status(&full),
            Base::Overlay(overlay) => overlay.status(&full),
        }
    }

    /// Whether the name leads to a directory. What isn't there is none; what may not be read is an error.
    pub(crate) fn is_dir(&self, name: &str) -> io::Result<bool> {
        match self.status(name) {
            Ok(status) => Ok(status.is_dir),
            Err(e) if is_forbidden(&e) => Err(e),
            Err(_) => Ok(false),
        }
    }

    /// Names and kinds in a directory, sorted by bytes. A directory that isn't there, or can't be named, is empty.
    pub(crate) fn entries(&self, name: &str) -> io::Result<Vec<(String, Kind)>> {
        let Ok(full) = self.resolve(name) else {
            return Ok(Vec::new());
        };
        let listed = match &self.base {
            Base::Dir(dir) => dir.entries(&full),
            Base::Overlay(overlay) => overlay.entries(&full),
        };
        match listed {
            Err(e) if is_forbidden(&e) => Err(e),
            Err(_) => Ok(Vec::new()),
            Ok(entries) => Ok(entries),
        }
    }

    /// A whole file; one that is larger than [`MAX_FILE`] or no regular file is an error.
    pub(crate) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (file, size) = self.open(name)?;
        // One byte more than there is, so that the end is seen without another buffer.
        let size = usize::try_from(size.min(MAX_FILE)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(size + 1);
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            let message = format!("larger than {MAX_FILE} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(bytes)
    }

    /// Opens a regular file for reading. Also returns its size in bytes.
    pub(crate) fn open(&self, name: &str) -> io::Result<(File, u64)> {
        let full = self.resolve(name)?;
        match &self.base {
            Base::Dir(dir) => dir.open(&full),
            Base::Overlay(overlay) => overlay.open(&full),
        }
    }

    /// The tree and name that really provide a file. It must be there: links are followed.
    pub(crate) fn provider(&self, name: &str) -> io::Result<(Tree, String)> {
        match &self.base {
            Base::Dir(_) => {
                self.status(name)?;
                Ok((self.clone(), name.to_owned()))
            }
            Base::Overlay(overlay) => overlay.provider(&self.resolve(name)?),
        }
    }

    /// The name below the base. A plain directory takes only clean names; a merged tree cleans them.
    fn resolve(&self, name: &str) -> io::Result<String> {
        let cleaned;
        let name = match &self.base {
            Base::Dir(_) => name,
            Base::Overlay(_) => {
                cleaned = path::clean(name);
                &cleaned
            }
        };
        if !path::is_valid(name) || !path::is_valid(&self.at) || name.contains('\0') {
            let message = "not a clean relative path inside of the pallet";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(path::join([&self.at, name]))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.has_imports() { "merged" } else { "plain" };
        write!(f, "Tree({kind} {})", self.root().display())
    }
}

/// Errors that must not be taken for "there is nothing".
fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The error for a link that leads out of a tree.
fn outside(path: &Path, root: &Path) -> io::Error {
    let message = format!("{} is a symbolic link that leads out of {}", path.display(), root.display());
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

#[cfg(test)]
mod tests;
