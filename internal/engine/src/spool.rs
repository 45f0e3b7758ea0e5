//! Where Podman keeps the archives that it is sent until it has read them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::endpoint::Endpoint;
use crate::repin::process_behind;

/// What a Podman takes that was told nothing else (its `image_copy_tmp_dir`). Seen with 4.3: `libpod-images-load.tar…`.
const DEFAULT: &str = "/var/tmp";

/// The directory in which a Podman on this machine spools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spool {
    pub(crate) directory: PathBuf,
    /// What is free there, in bytes.
    pub(crate) free: u64,
    /// Whether that is another file system than the one with the images.
    pub(crate) is_apart: bool,
}

impl Spool {
    /// The `TMPDIR` of the process behind the socket, where that is a Podman and lets itself be looked at (systemd
    /// is behind a socket that nobody has used yet), else the default. `None` where it cannot be measured.
    pub(crate) fn of(endpoint: &Endpoint, images: &Path) -> Option<Self> {
        let Endpoint::Unix(socket) = endpoint else { return None };
        let directory = told(socket).unwrap_or_else(|| PathBuf::from(DEFAULT));
        let disk = rustix::fs::statvfs(&directory).ok()?;
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        Some(Self {
            free: disk.f_bfree.saturating_mul(disk.f_frsize),
            is_apart: device(&directory)? != device(images)?,
            directory,
        })
    }
}

fn told(socket: &Path) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{}", process_behind(socket)?));
    if fs::read(process.join("comm")).ok()?.trim_ascii() != b"podman" {
        return None;
    }
    Some(PathBuf::from(variable(&fs::read(process.join("environ")).ok()?, b"TMPDIR")?))
}

/// A variable that is not empty, of an environment as `/proc` shows it.
fn variable(environment: &[u8], name: &[u8]) -> Option<OsString> {
    environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
        .find(|value| !value.is_empty())
        .map(|value| OsStr::from_bytes(value).to_owned())
}

#[cfg(test)]
mod tests {
    use palletjack_testkit::real::{Part, Podman};
    use palletjack_testkit::require_real;

    use super::*;

    #[test]
    fn a_variable_is_read_whole() {
        let environment = b"XTMPDIR=/x\0TMPDIR=\0HOME=/root\0TMPDIR=/a=b\0";
        assert_eq!(variable(environment, b"TMPDIR").unwrap(), "/a=b");
        assert_eq!(variable(environment, b"TMP"), None);
    }

    #[test]
    fn the_spool_of_a_podman_is_on_a_disk() {
        require_real!(Part::Podman);
        let podman = Podman::start().unwrap();
        let endpoint = Endpoint::Unix(podman.socket());
        let spool = Spool::of(&endpoint, Path::new("/proc")).unwrap();
        assert!(spool.directory.is_dir() && spool.free > 0 && spool.is_apart, "{spool:?}");
        assert_eq!(Spool::of(&endpoint, &spool.directory).map(|spool| spool.is_apart), Some(false));
    }
}
