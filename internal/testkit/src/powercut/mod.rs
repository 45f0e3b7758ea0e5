//! Power cuts: crash images of a file system, taken at any moment.
//!
//! ```text
//!   xfs (loop) ─┬─ disk.img ── ext4 (loop) ──► Disk::path()    the place under test
//!               │     │ cut(): FICLONE, atomic, milliseconds
//!               └─ cut-N.img ── Disk::look(&cut)               mounted beside it: the journal replays
//!                             └ Disk::restore(&cut)            mounted in its place: the machine is back
//! ```
//!
//! A copy holds what the kernel had written to the device, and nothing that was only in memory: what a disk has after
//! the plug was pulled. So a forgotten `fsync` shows every time, as empty or missing files. What it does not show is
//! a device that loses or reorders writes which it has confirmed, as a bad SD card does.
//!
//! Needs root, loop devices and `mkfs.ext4` ([`Part::LoopMounts`](crate::real::Part::LoopMounts)). Without `mkfs.xfs` (package
//! xfsprogs) a copy is a plain sparse one, which takes longer and is not atomic: [`Disk::is_atomic`] says which it is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use crate::run::Ran;

/// A file system whose power can be cut. Unmounted and removed when dropped.
#[derive(Debug)]
pub struct Disk {
    // In the order in which they are dropped: what is mounted inside goes before what it lies on.
    point: Mount,
    backing: Option<Mount>,
    cuts: AtomicUsize,
    directory: TempDir,
}

/// What was on the device at one moment.
#[derive(Debug)]
pub struct Cut {
    image: PathBuf,
}

impl Drop for Cut {
    fn drop(&mut self) {
        // It may be mounted still; the blocks go when that ends.
        let _ = fs::remove_file(&self.image);
    }
}

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
}

impl Mount {
    fn new(image: &Path, point: PathBuf, options: &str) -> io::Result<Self> {
        fs::create_dir_all(&point)?;
        let mut command = Command::new("mount");
        command.arg("-o").arg(options).arg(image).arg(&point);
        Ran::run(&mut command)?.ok()?;
        Ok(Self { point })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Detached, so that a file still open somewhere does not keep it in the way.
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

impl Disk {
    /// Makes an ext4 file system of about this many bytes and mounts it.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("cut-").tempdir()?;
        let backing = backing(directory.path(), bytes);
        let home = backing.as_ref().map_or(directory.path(), Mount::path);
        let image = home.join("disk.img");
        File::create(&image)?.set_len(bytes)?;
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-F", "-m", "0"]).arg(&image);
        Ran::run(&mut command)?.ok()?;
        let point = Mount::new(&image, directory.path().join("disk"), EXT4_OPTIONS)?;
        Ok(Self { point, backing, cuts: AtomicUsize::new(0), directory })
    }

    /// The mounted file system. It stays the same path over [`Self::restore`].
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// Whether a cut is one moment. Else what is written while it is copied may be in it in part.
    pub fn is_atomic(&self) -> bool {
        self.backing.is_some()
    }

    fn home(&self) -> &Path {
        self.backing.as_ref().map_or(self.directory.path(), Mount::path)
    }

    /// Copies the device as it is now. Whoever uses the file system goes on and notices nothing.
    pub fn cut(&self) -> io::Result<Cut> {
        let number = self.cuts.fetch_add(1, Ordering::Relaxed);
        let (from, image) = (self.home().join("disk.img"), self.home().join(format!("cut-{number}.img")));
        if self.is_atomic() {
            let (source, target) = (File::open(&from)?, File::create(&image)?);
            rustix::fs::ioctl_ficlone(&target, &source)?;
        } else {
            let mut command = Command::new("cp");
            command.arg("--sparse=always").arg(&from).arg(&image);
            Ran::run(&mut command)?.ok()?;
        }
        Ok(Cut { image })
    }

    /// Mounts a cut beside the living file system, to look at it. The journal is replayed in the copy.
    pub fn look(&self, cut: &Cut) -> io::Result<Mount> {
        let number = self.cuts.fetch_add(1, Ordering::Relaxed);
        Mount::new(&cut.image, self.directory.path().join(format!("look-{number}")), EXT4_OPTIONS)
    }

    /// Puts a cut in the place of the living file system: the power is back. Whoever uses it must have ended.
    pub fn restore(&mut self, cut: &Cut) -> io::Result<()> {
        let point = self.path().to_owned();
        // Not detached: a leftover user would go on writing to a file system that nobody sees any more.
        unmount(&point, UnmountFlags::empty())?;
        let image = self.home().join("disk.img");
        fs::remove_file(&image)?;
        fs::rename(&cut.image, &image)?;
        // The old value's drop unmounts nothing: its place is free, and the new one is made after it.
        let restored = Mount::new(&image, point, EXT4_OPTIONS)?;
        std::mem::forget(std::mem::replace(&mut self.point, restored));
        Ok(())
    }
}

/// Without the background thread that fills inode tables: its writes are not the test's.
const EXT4_OPTIONS: &str = "loop,noinit_itable";

/// A file system with reflinks to keep the images on, or `None` where there is no `mkfs.xfs`.
fn backing(directory: &Path, bytes: u64) -> Option<Mount> {
    const SMALLEST_XFS: u64 = 300 << 20;
    let image = directory.join("xfs.img");
    let made = || -> io::Result<Mount> {
        // Room for some wholly different copies; the file is sparse.
        File::create(&image)?.set_len(bytes.saturating_mul(6).max(SMALLEST_XFS) + SMALLEST_XFS)?;
        let mut command = Command::new("mkfs.xfs");
        command.args(["-q", "-m", "reflink=1"]).arg(&image);
        Ran::run(&mut command)?.ok()?;
        Mount::new(&image, directory.join("xfs"), "loop")
    };
    match made() {
        Ok(mount) => Some(mount),
        Err(_) => {
            let _ = fs::remove_file(&image);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::real::Part;

    #[test]
    fn a_cut_has_what_was_synced_and_not_what_was_only_written() {
        crate::require_real!(Part::LoopMounts);
        let mut disk = Disk::new(64 << 20).unwrap();
        let write = |name: &str, sync: bool| {
            let mut file = File::create(disk.path().join(name)).unwrap();
            file.write_all(&vec![7; 300_000]).unwrap();
            if sync {
                file.sync_all().unwrap();
                File::open(disk.path()).unwrap().sync_all().unwrap();
            }
        };
        write("synced", true);
        write("written", false);
        let cut = disk.cut().unwrap();
        let seen = disk.look(&cut).unwrap();
        let size = |root: &Path, name: &str| fs::metadata(root.join(name)).map_or(0, |file| file.len());
        assert_eq!(size(seen.path(), "synced"), 300_000);
        assert_eq!(size(seen.path(), "written"), 0);
        assert_eq!(size(disk.path(), "written"), 300_000);
        let looked = seen.path().to_owned();
        drop(seen);
        assert!(!looked.join("synced").exists());

        disk.restore(&cut).unwrap();
        assert_eq!(size(disk.path(), "synced"), 300_000);
        assert_eq!(size(disk.path(), "written"), 0);
        let place = disk.directory.path().to_owned();
        drop(disk);
        assert!(!place.exists());
    }
}
