//! Distrust that outlives a power cut: which loads into an engine began and were not yet made durable.
//!
//! ```text
//!   state/unsettled/<engine>-<random>.json     one per running load, locked by it
//!        begin ──► sending(image) ──► the engine has it, its file system is synced ──► settled(image) ──► finish
//!                       │ power cut, crash
//!                       └──► the next run finds the record unlocked: what it names is not believed
//! ```
//!
//! An engine that was cut off in the middle of a load, or seconds after it, lists images whose files are empty, and
//! says nothing of it. So what is being loaded is written down before the first byte goes out, and struck off when it
//! is safe. Nothing else about an engine is remembered.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use palletjack_image::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Owner, TEMPORARY};
use crate::error::{StoreError, io_error};
use crate::image::Image;
use crate::layout::Store;
use crate::lease::try_lock;

/// A record of a load of a thousand images is some hundred kilobytes.
const MAX_RECORD: u64 = 8 << 20;

/// Whose data an image was loaded into. An engine's own ID is none: Podman's changes with each request, and
/// Docker 20.10's is the machine's, so that it survives a wipe and is the same on cloned cards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineMark {
    /// What kind of engine and image store: they keep their images in different places of one data root.
    pub kind: String,
    /// Where the data lies.
    pub place: Place,
}

/// Where an engine's data lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// On this machine.
    Here {
        /// The data root.
        root: PathBuf,
        /// Its device number, which may be another one after a reboot.
        device: u64,
        /// Its inode.
        inode: u64,
        /// The file system's ID as `statvfs` tells it, which stays the same over reboots on most file systems.
        filesystem: u64,
    },
    /// On another machine, or out of sight.
    Elsewhere {
        /// How the engine is reached.
        endpoint: String,
    },
}

impl Place {
    /// The place of a data root, where it can be seen from here.
    pub fn of_root(root: &Path) -> Option<Self> {
        let metadata = fs::metadata(root).ok().filter(fs::Metadata::is_dir)?;
        let filesystem = rustix::fs::statvfs(root).map_or(0, |status| status.f_fsid);
        Some(Self::Here { root: root.to_owned(), device: metadata.dev(), inode: metadata.ino(), filesystem })
    }

    /// Whether both mean the same data. A wiped data root, or another disk mounted there, is not the same; after a
    /// reboot the same disk may have another device number.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Here { root, device, inode, filesystem },
                Self::Here { root: root_b, device: device_b, inode: inode_b, filesystem: filesystem_b },
            ) => root == root_b && inode == inode_b && (device == device_b || filesystem == filesystem_b),
            (Self::Elsewhere { endpoint }, Self::Elsewhere { endpoint: endpoint_b }) => {
                endpoint == endpoint_b
            }
            _ => false,
        }
    }
}

impl EngineMark {
    /// Whether both mean the same images.
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.place.is(&other.place)
    }

    /// The first part of a record's file name: the same whatever a reboot changes.
    fn name(&self) -> String {
        let place = match &self.place {
            Place::Here { root, .. } => root.display().to_string(),
            Place::Elsewhere { endpoint } => endpoint.clone(),
        };
        Digest::of(format!("{} {place}", self.kind).as_bytes()).hex()[..16].to_owned()
    }
}

/// An image that is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsettledImage {
    /// The normalised reference.
    pub reference: String,
    /// The platform of the cache's entry.
    pub platform: Platform,
    /// What the reference means: the image ID on a containerd store.
    pub target: Digest,
    /// The chosen manifest.
    pub manifest: Digest,
    /// The config: the image ID elsewhere.
    pub config: Digest,
    /// The uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

impl UnsettledImage {
    /// What has to be known of an image to find it again.
    pub fn of(image: &Image) -> Self {
        Self {
            reference: image.entry.reference.to_string(),
            platform: image.entry.platform.clone(),
            target: image.entry.target.digest,
            manifest: image.entry.manifest.digest,
            config: image.config_descriptor.digest,
            diff_ids: image.config.diff_ids.clone(),
        }
    }

    /// The reference, read.
    pub fn parsed(&self) -> Option<Reference> {
        self.reference.parse().ok()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    version: u32,
    engine: EngineMark,
    images: Vec<UnsettledImage>,
}

const VERSION: u32 = 1;

/// The directories in which records lie.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// New records go to the first that can be written; all are read.
    directories: Vec<PathBuf>,
}

/// A record of the load that is going on. When it is dropped with images in it, they stay distrusted.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    /// Held for as long as the load lives: its lock says that it does.
    lock: File,
    owner: Owner,
    engine: EngineMark,
    images: Vec<UnsettledImage>,
}

/// What loads that are over left behind.
#[derive(Debug)]
pub struct Leftovers {
    /// The records, locked so that nobody else takes them up at the same time. What is no file has no lock.
    records: Vec<(PathBuf, Option<File>)>,
    /// The images that they name, each once.
    pub images: Vec<UnsettledImage>,
    /// Whether a record could not be read: then nothing that this cache may have loaded into the engine is believed.
    pub everything: bool,
}

impl Store {
    /// The ledger of the cache, and where to write instead when the cache cannot be written.
    pub fn ledger(&self, instead: &[PathBuf]) -> Ledger {
        Ledger::new([self.state().join("unsettled")].into_iter().chain(instead.iter().cloned()))
    }
}

impl Ledger {
    /// A ledger that writes to the first of these directories that can be written, and reads all. They are created
    /// when they are needed.
    pub fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { directories: directories.into_iter().collect() }
    }

    /// Begins a record without images.
    ///
    /// # Errors
    /// The first directory's, when none can be written: the load is then not protected.
    pub fn begin(&self, engine: &EngineMark) -> Result<Record, StoreError> {
        let mut failure = None;
        for directory in &self.directories {
            match Record::create(directory, engine) {
                Ok(record) => return Ok(record),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| StoreError::ReadOnly(PathBuf::from("unsettled"))))
    }

    /// What loads into this engine left behind that are over. Records of running loads are not among them.
    ///
    /// A directory that cannot be listed is as good as an empty one; a record that cannot be read is as bad as one
    /// that names everything.
    pub fn leftovers(&self, engine: &EngineMark) -> Leftovers {
        let mut found = Leftovers { records: Vec::new(), images: Vec::new(), everything: false };
        for directory in &self.directories {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.starts_with(TEMPORARY) {
                    remove_if_stale(&path);
                } else if path.extension().is_some_and(|extension| extension == "json") {
                    found.take_up(path, &name, engine);
                }
            }
        }
        found
    }
}

impl Leftovers {
    fn take_up(&mut self, path: PathBuf, name: &str, engine: &EngineMark) {
        let file = match durable::open_regular(&path) {
            Ok(file) => file,
            Err(_) if !name.starts_with(&engine.name()) => return,
            Err(_) => {
                // It went away, or is another user's: whoever may read it deals with it. What nobody may read is damage, and
                // a link or a FIFO is nobody's record.
                let there = fs::symlink_metadata(&path);
                self.everything |= there.is_ok();
                if there.is_ok_and(|metadata| !metadata.is_file()) {
                    self.records.push((path, None));
                }
                return;
            }
        };
        // Locked: its load is running. Gone or replaced meanwhile: its load has ended well, or goes on.
        if !matches!(try_lock(&file, &path), Ok(true)) || !is_at(&file, &path) {
            return;
        }
        match read(&file) {
            Some(wire) if wire.engine.is(engine) => {
                for image in wire.images {
                    if !self.images.contains(&image) {
                        self.images.push(image);
                    }
                }
                self.records.push((path, Some(file)));
            }
            None if name.starts_with(&engine.name()) => {
                self.everything = true;
                self.records.push((path, Some(file)));
            }
            Some(_) | None => {}
        }
    }

    /// Whether nothing was left behind.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && !self.everything
    }

    /// Removes the records, durably: all that they name is dealt with, or named by another record.
    pub fn forget(self) -> Result<(), StoreError> {
        self.records.iter().try_for_each(|(path, _)| remove(path))
    }
}

impl Record {
    fn create(directory: &Path, engine: &EngineMark) -> Result<Self, StoreError> {
        let existing = directory.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"));
        let owner = Owner::of(existing)?;
        owner.create_dir(directory)?;
        let wire = Wire { version: VERSION, engine: engine.clone(), images: Vec::new() };
        let (path, lock) = write(Target::New { directory, prefix: &engine.name() }, &wire, owner)?;
        Ok(Self { path, lock, owner, engine: wire.engine, images: Vec::new() })
    }

    /// The images that are named now.
    pub fn images(&self) -> &[UnsettledImage] {
        &self.images
    }

    /// Names images, durably on return: they are about to be sent, or were found distrusted.
    pub fn sending(&mut self, images: impl IntoIterator<Item = UnsettledImage>) -> Result<(), StoreError> {
        let before = self.images.len();
        for image in images {
            if !self.images.contains(&image) {
                self.images.push(image);
            }
        }
        if self.images.len() == before { Ok(()) } else { self.write() }
    }

    /// Strikes an image off, durably on return: its files are safe, or it is not in the engine any more.
    pub fn settled(&mut self, image: &UnsettledImage) -> Result<(), StoreError> {
        let before = self.images.len();
        self.images.retain(|named| named != image);
        if self.images.len() == before { Ok(()) } else { self.write() }
    }

    /// Ends the record: it is removed if it names nothing, else it stays for the next run.
    pub fn finish(self) -> Result<(), StoreError> {
        if self.images.is_empty() { remove(&self.path) } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let wire = Wire { version: VERSION, engine: self.engine.clone(), images: self.images.clone() };
        // The old version's lock goes when the new one has the name.
        self.lock = write(Target::Replace(&self.path), &wire, self.owner)?.1;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Target<'a> {
    New { directory: &'a Path, prefix: &'a str },
    Replace(&'a Path),
}

/// Writes a record durably. It is locked before it gets its name, so that there is no moment in which it looks left
/// behind.
fn write(target: Target<'_>, wire: &Wire, owner: Owner) -> Result<(PathBuf, File), StoreError> {
    let directory = match target {
        Target::New { directory, .. } => directory,
        Target::Replace(path) => path.parent().unwrap_or(Path::new("/")),
    };
    let damaged = |source| StoreError::Damaged { path: directory.to_owned(), source };
    let text = serde_json::to_vec_pretty(wire).map_err(damaged)?;
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(io_error("create a file in", directory))?;
    let path = match target {
        Target::Replace(path) => path.to_owned(),
        Target::New { prefix, .. } => {
            let name = file.path().file_name().unwrap_or_default().to_string_lossy();
            let random = name.strip_prefix(TEMPORARY).unwrap_or(&name);
            directory.join(format!("{prefix}-{random}.json"))
        }
    };
    owner.give(file.as_file(), &path)?;
    file.write_all(&text).map_err(io_error("write", &path))?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))
        .map_err(io_error("set the mode of", &path))?;
    file.as_file().sync_all().map_err(io_error("sync", &path))?;
    file.as_file().lock().map_err(io_error("lock", &path))?;
    let lock = file.persist(&path).map_err(|error| io_error("rename to", &path)(error.error))?;
    durable::sync_dir(directory)?;
    Ok((path, lock))
}

/// What a crash left of a record that was being written. One that is being written now is seconds old.
fn remove_if_stale(temporary: &Path) {
    const STALE: Duration = Duration::from_hours(24);
    let modified = fs::metadata(temporary).and_then(|metadata| metadata.modified());
    let is_stale = modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > STALE));
    if is_stale {
        // Whoever may, does; it disturbs nobody.
        let _ = fs::remove_file(temporary);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => identity(open) == identity(named),
        _ => false,
    }
}

/// `None` for whatever is not a record of this version: half of one, a directory, a newer version's.
fn read(file: &File) -> Option<Wire> {
    let mut text = Vec::new();
    file.take(MAX_RECORD + 1).read_to_end(&mut text).ok()?;
    if text.len() as u64 > MAX_RECORD {
        return None;
    }
    serde_json::from_slice::<Wire>(&text).ok().filter(|wire| wire.version == VERSION)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error("remove", path))?,
    }
    durable::sync_dir(path.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]
mod tests {
    use super::*;

    fn image(name: &str) -> UnsettledImage {
        let digest = Digest::of(name.as_bytes());
        UnsettledImage {
            reference: format!("docker.io/library/{name}:1"),
            platform: Platform::new("linux", "arm64", None),
            target: digest,
            manifest: digest,
            config: digest,
            diff_ids: vec![digest],
        }
    }

    fn mark(root: &Path) -> EngineMark {
        EngineMark { kind: "docker-graph".to_owned(), place: Place::of_root(root).unwrap() }
    }

    #[test]
    fn a_load_that_is_over_leaves_what_it_did_not_settle() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new([directory.path().join("state/unsettled")]);
        let engine = mark(directory.path());
        assert!(ledger.leftovers(&engine).is_empty());

        let mut record = ledger.begin(&engine).unwrap();
        record.sending([image("a"), image("b"), image("a")]).unwrap();
        let mut second = ledger.begin(&engine).unwrap();
        second.sending([image("c")]).unwrap();
        assert!(ledger.leftovers(&engine).is_empty(), "running loads leave nothing behind");
        record.settled(&image("a")).unwrap();
        second.settled(&image("c")).unwrap();
        second.finish().unwrap();
        drop(record);

        let left = ledger.leftovers(&engine);
        assert_eq!((&left.images[..], left.everything), (&[image("b")][..], false));
        assert!(ledger.leftovers(&engine).is_empty(), "one run at a time takes them up");
        drop(left);
        let left = ledger.leftovers(&engine);
        assert_eq!(left.images, [image("b")], "whoever took them up and gave up changes nothing");
        left.forget().unwrap();
        assert!(ledger.leftovers(&engine).is_empty());
        assert_eq!(fs::read_dir(directory.path().join("state/unsettled")).unwrap().count(), 0);
    }

    #[test]
    fn engines_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new([directory.path().join("unsettled")]);
        let engine = mark(directory.path());
        let mut record = ledger.begin(&engine).unwrap();
        record.sending([image("a")]).unwrap();
        drop(record);
        let Place::Here { root, device, inode, filesystem } = engine.place.clone() else { panic!() };
        let here = |root: &Path, device, inode, filesystem| EngineMark {
            kind: engine.kind.clone(),
            place: Place::Here { root: root.to_owned(), device, inode, filesystem },
        };
        let other_root = directory.path().join("x");
        for (other, is_same) in [
            (engine.clone(), true),
            (here(&root, device + 1, inode, filesystem), true),
            (here(&root, device, inode, filesystem + 1), true),
            (here(&root, device + 1, inode, filesystem + 1), false),
            (here(&root, device, inode + 1, filesystem), false),
            (here(&other_root, device, inode, filesystem), false),
            (EngineMark { kind: "podman".to_owned(), place: engine.place.clone() }, false),
            (
                EngineMark {
                    kind: engine.kind.clone(),
                    place: Place::Elsewhere { endpoint: "tcp://pi:2375".to_owned() },
                },
                false,
            ),
        ] {
            assert_eq!(!ledger.leftovers(&other).is_empty(), is_same, "{other:?}");
        }
    }

    #[test]
    fn a_damaged_record_is_distrust_of_everything() {
        let directory = tempfile::tempdir().unwrap();
        let engine = mark(directory.path());
        let unsettled = directory.path().join("unsettled");
        let ledger = Ledger::new([unsettled.clone()]);
        for damage in ["", "{\"version\":1", "{\"version\":2,\"engine\":{},\"images\":[]}", "\0\0\0\0"] {
            let mut record = ledger.begin(&engine).unwrap();
            record.sending([image("a")]).unwrap();
            let path = record.path.clone();
            drop(record);
            fs::write(&path, damage).unwrap();
            let left = ledger.leftovers(&engine);
            assert!(left.everything && !left.is_empty() && left.images.is_empty(), "{damage}");
            let other = EngineMark { kind: "podman".to_owned(), ..engine.clone() };
            assert!(ledger.leftovers(&other).is_empty(), "it was another engine's");
            left.forget().unwrap();
            assert!(!path.exists());
        }
        // One that could be read, and is larger than any that was written.
        let record = ledger.begin(&engine).unwrap();
        let path = record.path.clone();
        drop(record);
        let mut text = fs::read(&path).unwrap();
        text.resize(usize::try_from(MAX_RECORD).unwrap() + 1, b' ');
        fs::write(&path, text).unwrap();
        let left = ledger.leftovers(&engine);
        assert!(left.everything);
        left.forget().unwrap();
        // What is no file of ours is not touched.
        fs::write(unsettled.join("notes.txt"), "x").unwrap();
        fs::create_dir(unsettled.join("folder.json")).unwrap();
        assert!(ledger.leftovers(&engine).is_empty());
    }

    #[test]
    fn another_directory_stands_in_for_one_that_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let engine = mark(directory.path());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let (bad, good) = (file.join("unsettled"), directory.path().join("instead"));
        assert!(Ledger::new([bad.clone()]).begin(&engine).is_err());
        let ledger = Ledger::new([bad, good.clone()]);
        let mut record = ledger.begin(&engine).unwrap();
        record.sending([image("a")]).unwrap();
        drop(record);
        assert_eq!(fs::read_dir(&good).unwrap().count(), 1);
        assert_eq!(ledger.leftovers(&engine).images.len(), 1);
    }
}
