//! A directory of this machine, left through no symbolic link.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Kind, Status, outside};

pub(super) struct Dir {
    root: PathBuf,
    /// The root with links resolved: its comparison tells what is inside.
    real: OnceLock<PathBuf>,
}

impl Dir {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, real: OnceLock::new() }
    }

    /// Joins a clean name to the root.
    pub(super) fn full(&self, name: &str) -> PathBuf {
        if name == "." {
            return self.root.clone();
        }
        self.root.join(name)
    }

    /// The path with links resolved, which must lie inside of the root.
    fn inside(&self, name: &str) -> io::Result<PathBuf> {
        let full = self.full(name);
        let target = fs::canonicalize(&full)?;
        let root = self.real_root()?;
        if target.starts_with(root) {
            return Ok(target);
        }
        Err(outside(&full, &self.root))
    }

    fn real_root(&self) -> io::Result<&Path> {
        if let Some(root) = self.real.get() {
            return Ok(root);
        }
        let root = fs::canonicalize(&self.root)?;
        Ok(self.real.get_or_init(|| root))
    }

    pub(super) fn status(&self, name: &str) -> io::Result<Status> {
        Ok(status(&fs::metadata(self.inside(name)?)?))
    }

    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        let path = self.inside(name)?;
        // A pipe would wait for its writer, so the kind is asked for before opening.
        let found = fs::metadata(&path)?;
        if found.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        File::open(path)
    }

    pub(super) fn entries(&self, name: &str) -> io::Result<Vec<(String, Kind)>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(self.inside(name)?)? {
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
