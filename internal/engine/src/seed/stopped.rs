//! A data root whose engine does not run, read from outside and never written.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palletjack_image::{Digest, chain_ids};
use palletjack_store::Image;
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use super::device::{Device, StoreKind};
use super::error::SeedError;
use super::podman;
use super::private::PREFIX;
use super::way::leads;

/// Directories of graph drivers below a data root. vfs is nobody's choice, but a fall-back.
const DRIVERS: [&str; 8] =
    ["overlay2", "fuse-overlayfs", "btrfs", "zfs", "overlay", "devicemapper", "aufs", "vfs"];
/// Databases (bbolt) of dockerd that are locked for as long as it runs, all versions.
const DATABASES: [&str; 6] = [
    "volumes/metadata.db",
    "network/files/local-kv.db",
    "buildkit/history.db",
    "buildkit/cache.db",
    "buildkit/snapshots.db",
    "buildkit/metadata_v2.db",
];
const CONTAINERDS_DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
const CONTENT: &str = "io.containerd.content.v1.content/blobs/sha256";
/// Of a thousand images it has less than a megabyte.
const LARGEST_REPOSITORIES: u64 = 32 << 20;
/// How long a private engine of a run that was killed may take to end.
const LAST_RUN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// The graph driver that a data root was used with.
pub(super) fn prior_driver(data_root: &Path) -> Option<String> {
    DRIVERS.into_iter().find(|driver| has_entries(&data_root.join(driver))).map(str::to_owned)
}

/// Whether a containerd has kept blobs there.
pub(super) fn has_content(containerd_root: &Path) -> bool {
    has_entries(&containerd_root.join(CONTENT))
}

/// Whether a graph driver's data root has images.
pub(super) fn has_images(data_root: &Path, driver: &str) -> bool {
    has_entries(&data_root.join("image").join(driver).join("imagedb/content/sha256"))
}

fn has_entries(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// Fails where an engine runs on the device's storage. One that a killed run of ours has left is about to end: it is
/// waited for.
pub(super) fn check_idle(device: &Device) -> Result<(), SeedError> {
    let mut databases: Vec<(&Path, PathBuf)> =
        DATABASES.iter().map(|name| (&*device.data_root, device.data_root.join(name))).collect();
    if device.store == StoreKind::Containerd {
        databases.push((&device.containerd_root, device.containerd_root.join(CONTAINERDS_DATABASE)));
    }
    // Podman has no daemon; its storage has locks for each change.
    if device.store == StoreKind::Podman {
        databases.clear();
    }
    let start = Instant::now();
    for (directory, path) in databases {
        while let Some(holder) = holder(&path) {
            if !holder.is_leaving || start.elapsed() > LAST_RUN {
                return Err(SeedError::Busy { directory: directory.to_owned(), holder: holder.name });
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

struct Holder {
    name: String,
    /// It ends by itself: one of a run of ours that was killed, or one that is just ending.
    is_leaving: bool,
}

/// Who has a database locked.
fn holder(database: &Path) -> Option<Holder> {
    let file = File::open(database).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        _ => return None,
    }
    let inode = file.metadata().ok()?.ino();
    let pid = fs::read_to_string("/proc/locks").ok().and_then(|locks| locked_by(&locks, inode));
    let Some(pid) = pid else {
        // It went away meanwhile, or is in a place that cannot be seen from here.
        return match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => None,
            Err(_) => Some(Holder { name: "another program".to_owned(), is_leaving: false }),
        };
    };
    let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
    let command = read("cmdline");
    // A process that ends has no command line any more, and still its files.
    let is_leaving = command.is_empty() || String::from_utf8_lossy(&command).contains(PREFIX);
    Some(Holder { name: format!("{name} (process {pid})"), is_leaving })
}

/// The process that holds an flock on an inode, from the text of `/proc/locks` (proc_locks(5)).
fn locked_by(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "->").collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
        is_it.then(|| pid.parse().ok())?
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Repositories {
    #[serde(default)]
    repositories: BTreeMap<String, BTreeMap<String, Digest>>,
}

/// What a stopped engine has, as far as its files say it.
#[derive(Debug)]
pub(super) struct Stopped<'d> {
    device: &'d Device,
    repositories: Repositories,
    /// The diff IDs that Podman's storage lists.
    podmans: HashSet<Digest>,
}

impl<'d> Stopped<'d> {
    pub(super) fn open(device: &'d Device) -> Result<Self, SeedError> {
        let mut stopped = Self { device, repositories: Repositories::default(), podmans: HashSet::new() };
        if device.store == StoreKind::Podman {
            stopped.podmans = podman::layers(&device.data_root, &device.storage_driver);
        }
        if device.store == StoreKind::Graph {
            let path = stopped.image_path("repositories.json");
            let unknown = |what: String| SeedError::UnknownFormat { path: path.clone(), what };
            match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(unknown(error.to_string())),
                Ok(file) => {
                    let mut text = Vec::new();
                    let read = file.take(LARGEST_REPOSITORIES).read_to_end(&mut text);
                    read.map_err(|error| unknown(error.to_string()))?;
                    // A power cut has emptied it; dockerd begins anew then.
                    if !text.is_empty() {
                        stopped.repositories =
                            serde_json::from_slice(&text).map_err(|error| unknown(error.to_string()))?;
                    }
                }
            }
        }
        Ok(stopped)
    }

    fn image_path(&self, name: &str) -> PathBuf {
        self.device.data_root.join("image").join(&self.device.storage_driver).join(name)
    }

    /// Whether a graph driver has an image with all of its layers, its pin, and its tag, or another one that keeps it
    /// from a prune. A containerd store keeps its names where nobody but containerd reads them, and Podman makes them up:
    /// never there.
    pub(super) fn has(&self, image: &Image, tag: bool) -> bool {
        let entry = &image.entry;
        let reference = &entry.reference;
        let id = image.config_descriptor.digest;
        let Some(names) = self.repositories.repositories.get(&reference.familiar_name()) else {
            return false;
        };
        let means = |name: &str| names.get(name) == Some(&id);
        let is_pinned = match reference.digest() {
            Some(digest) if leads(image) => means(&format!("{}@{digest}", reference.familiar_name())),
            // Nobody can give it that name.
            _ => true,
        };
        let is_kept = match reference.tag() {
            Some(name) if tag => means(&format!("{}:{name}", reference.familiar_name())),
            _ => names.iter().any(|(name, other)| !name.contains('@') && *other == id),
        };
        is_pinned && is_kept && self.has_config(image) && self.missing(image).is_empty()
    }

    fn has_config(&self, image: &Image) -> bool {
        let config = &image.config_descriptor;
        let path = self.image_path("imagedb/content/sha256").join(config.digest.hex());
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(config.size + 1).read_to_end(&mut bytes)).is_ok()
            && Digest::of(&bytes) == config.digest
    }

    /// The layers of an image that are not there: each blob with its size.
    pub(super) fn missing(&self, image: &Image) -> BTreeSet<(Digest, u64)> {
        let blobs = image.layers.iter().map(|layer| (layer.digest, layer.size));
        match self.device.store {
            StoreKind::Graph => {
                let chain = chain_ids(&image.config.diff_ids);
                let places = chain.iter().map(Some).chain(std::iter::repeat(None));
                blobs
                    .zip(places)
                    .filter(|(_, chain_id)| chain_id.is_none_or(|chain_id| !self.has_layer(chain_id)))
                    .map(|(blob, _)| blob)
                    .collect()
            }
            StoreKind::Podman => {
                let places = image.config.diff_ids.iter().map(Some).chain(std::iter::repeat(None));
                blobs
                    .zip(places)
                    .filter(|(_, diff_id)| diff_id.is_none_or(|diff_id| !self.podmans.contains(diff_id)))
                    .map(|(blob, _)| blob)
                    .collect()
            }
            StoreKind::Containerd => blobs
                .filter(|(digest, size)| {
                    let path = self.device.containerd_root.join(CONTENT).join(digest.hex());
                    !fs::metadata(path).is_ok_and(|metadata| metadata.len() == *size)
                })
                .collect(),
        }
    }

    fn has_layer(&self, chain_id: &Digest) -> bool {
        let cache_id = self.image_path("layerdb/sha256").join(chain_id.hex()).join("cache-id");
        let Ok(file) = File::open(cache_id) else { return false };
        let mut name = String::new();
        // 64 hexadecimal digits, nothing that leads anywhere else.
        if file.take(128).read_to_string(&mut name).is_err() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        let layer = self.device.data_root.join(&self.device.storage_driver).join(&name);
        !name.is_empty() && (self.device.storage_driver != "overlay2" || layer.join("diff").is_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 fe:00:77 0 EOF\n\
            2: FLOCK  ADVISORY  WRITE 4711 fe:00:77 0 EOF\n2: -> FLOCK  ADVISORY  READ 5 fe:00:78 0 EOF\n";
        assert_eq!(locked_by(locks, 77), Some(4711));
        assert_eq!(locked_by(locks, 79), None);
        assert_eq!(locked_by("garbage\n\n", 77), None);
    }

    #[test]
    fn a_locked_database_has_a_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        fs::write(&path, "x").unwrap();
        assert!(holder(&path).is_none() && holder(&directory.path().join("absent")).is_none());
        let file = File::open(&path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        let holder = holder(&path).unwrap();
        assert!(
            !holder.is_leaving && holder.name.contains(&format!("(process {})", std::process::id())),
            "{}",
            holder.name
        );
    }
}
