//! Files of an OS image's tree, never outside of it: links are followed as the tree's own system would follow them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// A tree. Every path that it is given is one of the tree's system: `/etc/passwd`.
#[derive(Debug)]
pub(crate) struct Inside {
    root: OwnedFd,
    path: PathBuf,
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);
/// Not to hang at a pipe.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl Inside {
    /// Opens a tree by its path on this machine.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let path = std::fs::canonicalize(root)?;
        Ok(Self { root: openat(CWD, &path, DIRECTORY, Mode::empty())?, path })
    }

    /// Where the tree is on this machine.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path == Path::new("/") { Path::new(".") } else { path };
        openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// A regular file; `None` where there is none.
    pub(crate) fn file(&self, path: &Path) -> io::Result<Option<File>> {
        match self.resolve(path, FILE) {
            Ok(file) => {
                let file = File::from(file);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            // A socket, or what a masked unit leads to.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The beginning of a regular file, at most this many bytes.
    pub(crate) fn head(&self, path: &Path, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut head = Vec::new();
        file.take(bytes).read_to_end(&mut head)?;
        Ok(Some(head))
    }

    pub(crate) fn has_file(&self, path: impl AsRef<Path>) -> bool {
        matches!(self.file(path.as_ref()), Ok(Some(_)))
    }

    /// Where a directory of the tree is on this machine, after its links; `None` where there is none.
    pub(crate) fn locate(&self, path: &Path) -> Option<PathBuf> {
        use std::os::fd::AsRawFd;
        let directory = self.resolve(path, DIRECTORY).ok()?;
        std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()
    }

    /// The names in a directory, sorted; none where there is none.
    pub(crate) fn names(&self, path: &Path) -> Vec<String> {
        let Some(directory) = self.resolve(path, DIRECTORY).ok().and_then(|fd| Dir::read_from(fd).ok())
        else {
            return Vec::new();
        };
        let names = directory.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort();
        names
    }

    /// Opens a directory, and makes it and those above it where they are missing.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<Directory> {
        let mut so_far = PathBuf::from("/");
        let mut fd = self.resolve(&so_far, DIRECTORY)?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            so_far.push(name);
            let next = match self.resolve(&so_far, DIRECTORY) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o755))?;
                    self.resolve(&so_far, DIRECTORY)
                }
                other => other,
            };
            fd = next?;
        }
        Ok(Directory { fd })
    }
}

/// An open directory of a tree. Names are single ones.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
}

impl Directory {
    /// Where a name that is a link leads to, as it is written; `None` where it is none.
    pub(crate) fn link(&self, name: &str) -> Option<PathBuf> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new()).ok()?;
        Some(PathBuf::from(target.to_string_lossy().into_owned()))
    }

    /// Writes a file: under another name, to the disk, and then in the place of what has the name.
    pub(crate) fn write(&self, name: &str, mut content: impl Read, mode: u32) -> io::Result<()> {
        let temporary = format!(".{name}.palletjack-new");
        self.unlink(&temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, &temporary, flags, Mode::from_raw_mode(mode))?;
        let mut file = File::from(fd);
        let written = io::copy(&mut content, &mut file)
            .and_then(|_| Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?));
        if written.is_err() {
            // The failure before it is the one to tell.
            let _ = self.unlink(&temporary);
        }
        written?;
        self.sync()
    }

    /// Makes a symbolic link in the place of what has the name.
    pub(crate) fn symlink(&self, name: &str, target: impl AsRef<OsStr>) -> io::Result<()> {
        let target = Path::new(target.as_ref());
        if self.link(name).as_deref() == Some(target) {
            return Ok(());
        }
        let temporary = format!(".{name}.palletjack-new");
        self.unlink(&temporary)?;
        rustix::fs::symlinkat(target, &self.fd, &temporary)?;
        rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?;
        self.sync()
    }

    /// Removes a file or link. Whether there was one.
    pub(crate) fn unlink(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_stay_in_the_tree() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        fs::write(root.join("usr/lib/file"), "inside").unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink(outside.path(), root.join("etc/out")).unwrap();
        symlink("../../../secret", root.join("etc/up")).unwrap();
        let tree = Inside::open(&root).unwrap();
        let head = |path: &str| tree.head(Path::new(path), 6).unwrap();
        assert_eq!(head("/lib/file").unwrap(), b"inside");
        assert_eq!(head("/etc/up"), None);
        assert_eq!(head("/etc/out/secret"), None);
        assert_eq!(head("/usr"), None);
        let real = fs::canonicalize(&root).unwrap();
        assert_eq!(tree.locate(Path::new("/lib")), Some(real.join("usr/lib")));
        assert_eq!(tree.locate(Path::new("/etc/out")), None);

        // What is made goes inside as well: an absolute link means the tree's own directory.
        tree.directory(Path::new("/lib/new/deep")).unwrap().write("f", &b"x"[..], 0o755).unwrap();
        let made = root.join("usr/lib/new/deep/f");
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(tree.directory(Path::new("/etc/out/new")).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    }

    #[test]
    fn files_and_links_are_put_in_the_place_of_others() {
        let root = tempfile::tempdir().unwrap();
        let tree = Inside::open(root.path()).unwrap();
        let etc = tree.directory(Path::new("/etc")).unwrap();
        fs::write(root.path().join("victim"), "as it was").unwrap();
        symlink("../victim", root.path().join("etc/unit")).unwrap();
        etc.write("unit", &b"new"[..], 0o644).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("etc/unit")).unwrap(), "new");
        assert_eq!(fs::read_to_string(root.path().join("victim")).unwrap(), "as it was");
        for _ in 0..2 {
            etc.symlink("wanted", "/etc/unit").unwrap();
        }
        assert_eq!(etc.link("wanted").unwrap(), Path::new("/etc/unit"));
        assert_eq!(tree.names(Path::new("/etc")), ["unit", "wanted"]);
        assert!(etc.unlink("wanted").unwrap() && !etc.unlink("wanted").unwrap());
    }
}
