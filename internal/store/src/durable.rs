//! Files that are whole and stay so: temporary name, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{StoreError, io_error};

/// The prefix of temporary files, which a sweep may remove.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Whom new files belong to.
///
/// A program run as root (by `sudo`, by a unit) must not leave files in a user's cache that the user cannot replace,
/// so root gives new files to the owner of the cache directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner(Option<(u32, u32)>);

impl Owner {
    pub(crate) fn of(directory: &Path) -> Result<Self, StoreError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let metadata = fs::metadata(directory).map_err(io_error("look at", directory))?;
        Ok(Self((metadata.uid() != 0).then_some((metadata.uid(), metadata.gid()))))
    }

    pub(crate) fn give(self, file: &File, path: &Path) -> Result<(), StoreError> {
        match self.0 {
            None => Ok(()),
            Some((uid, gid)) => std::os::unix::fs::fchown(file, Some(uid), Some(gid))
                .map_err(io_error("give to its owner", path)),
        }
    }

    /// Creates a directory and its parents below an existing one.
    pub(crate) fn create_dir(self, path: &Path) -> Result<(), StoreError> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dir(parent)?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            other => other.map_err(io_error("create", path))?,
        }
        if let Some((uid, gid)) = self.0 {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(io_error("give to its owner", path))?;
        }
        match path.parent() {
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        }
    }
}

/// Never through a symbolic link, and never waiting for the other end of a FIFO: root writes into caches of users who
/// could put such things in the way.
fn careful() -> i32 {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    // The kernel's flags are an `int`.
    flags.bits().cast_signed()
}

/// Opens a regular file for reading.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(careful()).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a file of the cache's own for reading and writing, creating it where it is missing.
///
/// A file with a second name somewhere is refused: writing here would change it there.
pub(crate) fn open_own(path: &Path, owner: Owner) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o644).custom_flags(careful());
    loop {
        // Not in one step: only what was created here may be given away.
        match options.clone().create_new(true).open(path) {
            Ok(file) => {
                owner.give(&file, path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create", path)(error)),
        }
        let file = match options.open(path) {
            Ok(file) => file,
            // A partial that another process has just made a blob.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(StoreError::Strange { path: path.to_owned() });
            }
            Err(error) => return Err(io_error("open", path)(error)),
        };
        let metadata = file.metadata().map_err(io_error("look at", path))?;
        if !metadata.is_file() || metadata.nlink() > 1 {
            return Err(StoreError::Strange { path: path.to_owned() });
        }
        return Ok(file);
    }
}

/// Replaces `path` by a file with this content, durably and as a whole.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32, owner: Owner) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(io_error("create a file in", directory))?;
    owner.give(file.as_file(), path)?;
    file.write_all(content).map_err(io_error("write", path))?;
    // The umask may have narrowed it; what others only read must be readable.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))
        .map_err(io_error("set the mode of", path))?;
    file.as_file().sync_all().map_err(io_error("sync", path))?;
    file.persist(path).map_err(|error| io_error("rename to", path)(error.error))?;
    sync_dir(directory)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(directory: &Path) -> Result<(), StoreError> {
    let file = File::open(directory).map_err(io_error("open", directory))?;
    file.sync_all().map_err(io_error("sync", directory))
}
