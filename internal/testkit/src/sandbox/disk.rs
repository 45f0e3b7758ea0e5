//! A file system that is soon full.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// A tmpfs of a chosen size; needs root ([`Part::Root`](crate::real::Part::Root)). Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    point: PathBuf,
    _directory: TempDir,
}

impl SmallDisk {
    /// Mounts a tmpfs that holds this many bytes, rounded up to pages.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("disk-").tempdir()?;
        let point = directory.path().join("mounted");
        std::fs::create_dir(&point)?;
        let options = CString::new(format!("size={bytes},mode=755"))?;
        mount("tmpfs", &point, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
        Ok(Self { point, _directory: directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Bytes that still fit.
    pub fn free(&self) -> io::Result<u64> {
        let status = rustix::fs::statvfs(&self.point)?;
        Ok(status.f_bavail * status.f_frsize)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached, so that a file still open somewhere does not keep it in the way.
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::Part;

    #[test]
    fn it_fills_up_and_goes_away() {
        crate::require_real!(Part::Root);
        let disk = SmallDisk::new(1 << 20).unwrap();
        assert_eq!(disk.free().unwrap(), 1 << 20);
        let error = std::fs::write(disk.path().join("file"), vec![0; 2 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let point = disk.path().to_owned();
        drop(disk);
        assert!(!point.exists());
    }
}
