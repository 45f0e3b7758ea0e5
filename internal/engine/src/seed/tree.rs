//! Files of an OS image's tree: found as that system would find them, and never outside of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use palletjack_image::Platform;
use rustix::fs::OFlags;

use super::elf;

/// Links in one path, as in Linux (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// Files of one directory of drop-ins.
const MOST_DROP_INS: usize = 256;
/// Programs that every system has one of, Docker's first.
const PROGRAMS: [&str; 11] = [
    "usr/bin/dockerd",
    "usr/sbin/dockerd",
    "usr/local/bin/dockerd",
    "usr/local/sbin/dockerd",
    "usr/bin/podman",
    "bin/sh",
    "usr/bin/env",
    "sbin/init",
    "usr/lib/systemd/systemd",
    "bin/busybox",
    "usr/bin/dpkg",
];
/// The first of [`PROGRAMS`] that are Docker; Podman comes next.
const DOCKER_PROGRAMS: usize = 4;

/// A tree with all that belongs to a system.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        if root.is_dir() { Ok(Self { root }) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// Where a path of the tree's system is on this machine. Links are followed as that system would follow them: an
    /// absolute one begins at the tree's root, and `..` does not lead out. What does not exist stays as it is written.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut rest: VecDeque<OsString> = VecDeque::new();
        let mut inside = PathBuf::new();
        let mut links = 0;
        push_front(&mut rest, path);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                inside.pop();
                continue;
            }
            let here = self.root.join(&inside).join(&name);
            match fs::symlink_metadata(&here) {
                Ok(metadata) if metadata.is_symlink() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(io::Error::from(rustix::io::Errno::LOOP));
                    }
                    let target = fs::read_link(&here)?;
                    if target.is_absolute() {
                        inside = PathBuf::new();
                    }
                    push_front(&mut rest, &target);
                }
                Ok(_) => inside.push(name),
                Err(error) if is_absent(&error) => inside.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(self.root.join(inside))
    }

    /// A text file; `None` where there is none, or something else has its name (a unit that is masked is `/dev/null`).
    pub(super) fn text(&self, path: &Path, limit: u64) -> io::Result<Option<String>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let what = format!("it is longer than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// An open regular file.
    pub(super) fn file(&self, path: &Path) -> io::Result<Option<fs::File>> {
        // Not to hang at a pipe, and not to follow what became a link meanwhile.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let flags = i32::try_from(flags).unwrap_or_default();
        let path = self.resolve(path)?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => return Ok(None),
            Err(error) if is_absent(&error) => return Ok(None),
            _ => {}
        }
        let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(file.metadata()?.is_file().then_some(file))
    }

    /// The names in a directory of drop-ins, sorted.
    pub(super) fn drop_ins(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let entries = match fs::read_dir(self.resolve(directory)?) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<OsString> =
            names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "conf")).collect();
        names.sort();
        names.truncate(MOST_DROP_INS);
        Ok(names)
    }

    /// Whether dockerd is in it.
    pub(super) fn has_docker(&self) -> bool {
        PROGRAMS[..DOCKER_PROGRAMS].iter().any(|path| matches!(self.file(Path::new(path)), Ok(Some(_))))
    }

    /// Whether Podman is in it.
    pub(super) fn has_podman(&self) -> bool {
        matches!(self.file(Path::new(PROGRAMS[DOCKER_PROGRAMS])), Ok(Some(_)))
    }

    /// What its programs run on; `None` where there are none that can be read.
    pub(super) fn platform(&self) -> Option<Platform> {
        PROGRAMS.iter().find_map(|path| {
            let file = self.file(Path::new(path)).ok()??;
            elf::platform(file)
        })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn push_front(rest: &mut VecDeque<OsString>, path: &Path) {
    let names: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect();
    for name in names.into_iter().rev() {
        rest.push_front(name);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_in_the_tree() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("usr/lib/file"), "inside").unwrap();
        fs::write(directory.path().join("secret"), "outside").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib/file", root.join("etc/absolute")).unwrap();
        symlink("../../../../secret", root.join("etc/up")).unwrap();
        symlink(directory.path().join("secret"), root.join("etc/out")).unwrap();
        symlink("loop", root.join("etc/loop")).unwrap();
        symlink("/dev/null", root.join("etc/masked")).unwrap();
        let tree = Tree::open(&root).unwrap();
        let text = |path: &str| tree.text(Path::new(path), 100);
        assert_eq!(text("/lib/file").unwrap().as_deref(), Some("inside"));
        assert_eq!(text("/etc/absolute").unwrap().as_deref(), Some("inside"));
        assert_eq!(text("/lib/../lib/file").unwrap().as_deref(), Some("inside"));
        for nothing in ["/etc/up", "/etc/out", "/etc/masked", "/etc", "/absent", "/usr/lib/file/x"] {
            assert_eq!(text(nothing).unwrap(), None, "{nothing}");
        }
        assert!(text("/etc/loop").is_err());
        assert!(tree.text(Path::new("/lib/file"), 5).is_err());
        let real = fs::canonicalize(&root).unwrap();
        assert_eq!(tree.resolve(Path::new("/lib/new/deep")).unwrap(), real.join("usr/lib/new/deep"));
        assert_eq!(tree.resolve(Path::new("../../x")).unwrap(), real.join("x"));
        assert!(Tree::open(&root.join("usr/lib/file")).is_err());
    }
}
