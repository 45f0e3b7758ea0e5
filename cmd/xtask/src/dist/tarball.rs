//! The files as a tarball: to be unpacked below `/usr` or `/usr/local`, or to be looked into.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use palletjack_testkit::real::Target;
use tar::{Builder, EntryType, Header};

use super::Release;

/// Writes `palletjack-<version>-<triple>.tar.gz`.
pub(super) fn write(release: &Release, target: Target, tree: &Path, out: &Path) -> Result<()> {
    let name = format!("palletjack-{}-{}", release.version, target.triple());
    let path = out.join(format!("{name}.tar.gz"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let packed = GzBuilder::new().write(file, Compression::best());
    let mut archive = Builder::new(packed);
    directory(&mut archive, release.time, tree, Path::new(&name))
        .and_then(|()| archive.into_inner()?.finish()?.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Entries in the order of their names, owned by root, without anything of the machine that made them.
fn directory(archive: &mut Builder<impl Write>, time: u64, from: &Path, name: &Path) -> io::Result<()> {
    archive.append_data(&mut header(EntryType::Directory, 0o755, time), name, io::empty())?;
    let mut paths: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = name.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            directory(archive, time, &path, &name)?;
            continue;
        }
        let file = File::open(&path)?;
        let mode = if path.parent().is_some_and(|parent| parent.ends_with("bin")) { 0o755 } else { 0o644 };
        let mut header = header(EntryType::Regular, mode, time);
        header.set_size(file.metadata()?.len());
        archive.append_data(&mut header, name, file)?;
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let packed = |modes: u32| {
            let directory = tempfile::tempdir().unwrap();
            let tree = directory.path().join("tree");
            fs::create_dir_all(tree.join("bin")).unwrap();
            fs::create_dir_all(tree.join("share/doc")).unwrap();
            for (name, text) in
                [("bin/palletjack", "program"), ("share/doc/b", "two"), ("share/doc/a", "one")]
            {
                fs::write(tree.join(name), text).unwrap();
                fs::set_permissions(tree.join(name), fs::Permissions::from_mode(modes)).unwrap();
            }
            let release = Release { version: "1.2.3", time: 1_700_000_000 };
            write(&release, Target::Aarch64, &tree, directory.path()).unwrap();
            fs::read(directory.path().join("palletjack-1.2.3-aarch64-unknown-linux-gnu.tar.gz")).unwrap()
        };
        let bytes = packed(0o600);
        assert!(bytes == packed(0o777));

        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let seen: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let (header, path) = (entry.header(), entry.path().unwrap().display().to_string());
                assert_eq!(header.mtime().unwrap(), 1_700_000_000);
                (path, header.mode().unwrap(), header.size().unwrap())
            })
            .collect();
        let top = "palletjack-1.2.3-aarch64-unknown-linux-gnu";
        let expected = [
            ("", 0o755, 0),
            ("/bin", 0o755, 0),
            ("/bin/palletjack", 0o755, 7),
            ("/share", 0o755, 0),
            ("/share/doc", 0o755, 0),
            ("/share/doc/a", 0o644, 3),
            ("/share/doc/b", 0o644, 3),
        ];
        assert_eq!(seen, expected.map(|(path, mode, size)| (format!("{top}{path}"), mode, size)));
    }
}
