//! Where a containerd on this machine keeps its content and its layers, of which no engine tells.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::repin::process_behind;

/// Below containerd's root: its database, which it has open for as long as it runs.
const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// The same of a snapshotter, which may have a root of its own.
const SNAPSHOTTER: &str = "metadata.db";

/// A directory on each file system that a containerd writes images to; `None` where not all of them are seen: it is not
/// here, may not be looked at, or has not written any yet.
pub(super) fn places(socket: &Path) -> Option<Vec<File>> {
    let process = PathBuf::from(format!("/proc/{}", process_behind(socket)?));
    // It may see other files at these paths than we do.
    let seen = |path: &Path| process.join("root").join(path.strip_prefix("/").unwrap_or(path));
    let mut directories = Vec::new();
    let (mut has_content, mut has_layers) = (false, false);
    for entry in fs::read_dir(process.join("fd")).ok()? {
        let Ok(file) = fs::read_link(entry.ok()?.path()) else { continue };
        if file.ends_with(DATABASE) {
            let root = file.ancestors().nth(2)?;
            directories.extend([seen(root), seen(&root.join("io.containerd.content.v1.content"))]);
            has_content = true;
        } else if file.file_name().is_some_and(|name| name == SNAPSHOTTER) {
            let root = file.parent()?;
            directories.extend([seen(root), seen(&root.join("snapshots"))]);
            has_layers = true;
        }
    }
    if !has_content || !has_layers {
        return None;
    }
    let mut by_device = BTreeMap::new();
    for directory in directories {
        let opened = File::open(directory).ok()?;
        by_device.entry(opened.metadata().ok()?.dev()).or_insert(opened);
    }
    Some(by_device.into_values().collect())
}

#[cfg(test)]
mod tests {
    use palletjack_testkit::powercut::Disk;
    use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Store};
    use palletjack_testkit::require_real;

    use super::*;

    #[test]
    fn a_containerd_is_found_with_all_that_it_writes_to() {
        require_real!(Part::LoopMounts, Part::Docker28);
        let (disk, layers) = (Disk::new(256 << 20).unwrap(), Disk::new(256 << 20).unwrap());
        let directory = tempfile::tempdir().unwrap();
        // Docker's own data is elsewhere, and so are containerd's layers.
        let (data, root) = (directory.path().join("data"), disk.path().join("root"));
        let snapshots = layers.path().join("overlay");
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(root.join("io.containerd.snapshotter.v1.overlayfs")).unwrap();
        fs::create_dir_all(&snapshots).unwrap();
        std::os::unix::fs::symlink(&root, data.join("private-containerd")).unwrap();
        let link = root.join("io.containerd.snapshotter.v1.overlayfs");
        fs::remove_dir(&link).unwrap();
        std::os::unix::fs::symlink(&snapshots, link).unwrap();
        let options = DockerdOptions { data_root: Some(data), ..DockerdOptions::default() };
        let docker = Dockerd::forky_with(Store::Containerd, options).unwrap();
        let info = docker.info().unwrap();
        let socket = PathBuf::from(info["Containerd"]["Address"].as_str().unwrap());
        assert!(docker.pids().contains(&process_behind(&socket).unwrap()));

        let archive = directory.path().join("files.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        tar.append_path_with_name("/etc/hostname", "f").unwrap();
        tar.into_inner().unwrap();
        let client = docker.docker().unwrap();
        client.run(&["import", archive.to_str().unwrap(), "acme/x:1"]).unwrap().assert_success();
        client.run(&["create", "--network", "none", "acme/x:1", "/f"]).unwrap().assert_success();
        let devices: Vec<u64> =
            places(&socket).unwrap().iter().map(|place| place.metadata().unwrap().dev()).collect();
        for path in [disk.path(), layers.path()] {
            assert!(devices.contains(&fs::metadata(path).unwrap().dev()), "{}: {devices:?}", path.display());
        }
        assert_eq!(devices.len(), 2);
        assert!(places(&docker.socket()).is_none(), "dockerd is no containerd");
        assert!(places(Path::new("/nowhere")).is_none());
    }
}
