//! Podman's storage: where it is, and what is in it while nobody looks (containers-storage.conf(5)).

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use palletjack_image::Digest;
use serde::Deserialize;

use super::error::SeedError;
use super::tree::Tree;

/// The storage driver that Podman takes first.
pub(super) const DRIVER: &str = "overlay";
const ROOT: &str = "/var/lib/containers/storage";
/// The administrator's file, then the distribution's.
const FILES: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
const LARGEST_CONFIG: u64 = 1 << 20;
/// Of a thousand layers it has less than a megabyte.
const LARGEST_LAYERS: u64 = 32 << 20;

/// What the tree's files say of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PodmanStorage {
    /// As the tree's system calls it.
    pub(super) root: PathBuf,
    pub(super) driver: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Toml {
    storage: Storage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Storage {
    graphroot: Option<PathBuf>,
    driver: Option<String>,
}

impl PodmanStorage {
    pub(super) fn read(tree: &Tree) -> Result<Self, SeedError> {
        let mut storage = Storage::default();
        for path in FILES.map(PathBuf::from) {
            let text = tree.text(&path, LARGEST_CONFIG);
            let text = text.map_err(|source| SeedError::Unreadable { path: path.clone(), source })?;
            if let Some(text) = text {
                let read: Toml = toml::from_str(&text)
                    .map_err(|error| SeedError::Settings { path, what: error.message().to_owned() })?;
                storage = read.storage;
                break;
            }
        }
        let driver = storage.driver.filter(|driver| !driver.is_empty()).unwrap_or_else(|| DRIVER.to_owned());
        Ok(Self { root: storage.graphroot.unwrap_or_else(|| ROOT.into()), driver })
    }
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "diff-digest")]
    diff_digest: Option<Digest>,
}

/// The uncompressed layers that a storage lists; none where its list cannot be read.
pub(super) fn layers(root: &Path, driver: &str) -> HashSet<Digest> {
    let read = || -> Option<Vec<Layer>> {
        let file = File::open(root.join(format!("{driver}-layers/layers.json"))).ok()?;
        let mut text = Vec::new();
        file.take(LARGEST_LAYERS).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    read().into_iter().flatten().filter_map(|layer| layer.diff_digest).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_administrators_file_counts_before_the_distributions() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        let storage = || PodmanStorage::read(&tree).map(|storage| (storage.root, storage.driver));
        let as_set = |root: &str, driver: &str| (PathBuf::from(root), driver.to_owned());
        assert_eq!(storage().unwrap(), as_set(ROOT, DRIVER));
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/share/containers/storage.conf", "[storage]\ngraphroot = \"/a\"\ndriver = \"vfs\"\n");
        assert_eq!(storage().unwrap(), as_set("/a", "vfs"));
        let text = "[storage]\ngraphroot = \"/b\"\ndriver = \"\"\n[storage.options]\nx = 1\n";
        write("etc/containers/storage.conf", text);
        assert_eq!(storage().unwrap(), as_set("/b", "overlay"));
        write("etc/containers/storage.conf", "[");
        assert!(storage().is_err());
    }

    #[test]
    fn layers_are_listed_by_what_they_are_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        assert!(layers(directory.path(), DRIVER).is_empty());
        fs::create_dir(directory.path().join("overlay-layers")).unwrap();
        let digest = Digest::of(b"layer");
        let text = format!(r#"[{{"id":"x","diff-digest":"{digest}"}},{{"id":"y"}}]"#);
        fs::write(directory.path().join("overlay-layers/layers.json"), text).unwrap();
        assert_eq!(layers(directory.path(), DRIVER), HashSet::from([digest]));
    }
}
