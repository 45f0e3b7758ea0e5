//! Checking that the cache is what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use palletjack_image::{Descriptor, Digest};

use crate::durable::{self, TEMPORARY};
use crate::error::{StoreError, io_error};
use crate::index::{Entry, MAX_INDEX};
use crate::ingest::hash_file;
use crate::layout::Store;
use crate::lease::Lease;

/// How much of each blob is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Existence and size; manifests and configs are hashed.
    Shallow,
    /// Every byte is hashed.
    Deep,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Images in `index.json`.
    pub images: usize,
    /// Blobs looked at.
    pub blobs: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// What is wrong, in the order of the blobs' names.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, whether it exists or not.
    pub path: PathBuf,
    /// The blob, where it is one.
    pub digest: Option<Digest>,
    /// In what way.
    pub kind: ProblemKind,
    /// The images that cannot be used because of it, as they were asked for, with their platform.
    pub hurts: Vec<String>,
}

/// In what way something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// An image needs a blob that is not there.
    Missing,
    /// The file has another length than its descriptor says.
    WrongSize {
        /// The length that the descriptor gives, in bytes.
        expected: u64,
        /// The length of the file, in bytes.
        actual: u64,
    },
    /// The content's digest is not the file's name.
    WrongContent {
        /// The digest of what is there.
        actual: Digest,
    },
    /// The file cannot be read: a failing medium, or a lack of permission.
    Unreadable(String),
    /// A manifest or config whose bytes are right does not parse.
    Unusable(String),
    /// A file in `blobs/sha256` whose name is no digest.
    Stray,
    /// `manifest.json` is not the one that `index.json` gives.
    StaleDockerManifest,
    /// `index.json` has entries that cannot be read. What they need is not known, so nothing is swept.
    Strangers(usize),
    /// `oci-layout` is missing or wrong: other programs do not take the directory for an OCI layout.
    NotALayout,
}

impl std::fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::WrongSize { expected, actual } => write!(f, "has {actual} bytes instead of {expected}"),
            Self::WrongContent { actual } => write!(f, "has other content: its digest is {actual}"),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Unusable(why) => write!(f, "cannot be used: {why}"),
            Self::Stray => f.write_str("is no blob and does not belong here"),
            Self::StaleDockerManifest => f.write_str("does not list what index.json names"),
            Self::Strangers(entries) => {
                write!(f, "has {entries} entries that cannot be read: another program's, or damaged")
            }
            Self::NotALayout => f.write_str("is missing or wrong, so others do not read the directory"),
        }
    }
}

struct Item {
    digest: Digest,
    /// The size in its descriptor; none for a blob that no image needs.
    size: Option<u64>,
    hurts: Vec<String>,
}

impl Store {
    /// Checks names and blobs. `progress` is told the bytes hashed since the last call, from several threads, and stops
    /// the check by saying `false`.
    ///
    /// # Errors
    /// Only where the check itself cannot go on (`index.json` unreadable, stopped); what it finds is in the report.
    pub fn check(
        &self,
        _lease: &Lease,
        depth: Depth,
        progress: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<CheckReport, StoreError> {
        let entries = self.read_index()?;
        let mut problems = Vec::new();
        let mut needed = BTreeMap::new();
        for entry in &entries {
            self.collect(entry, &mut needed, &mut problems);
        }
        self.check_top(&entries, &mut problems)?;
        let mut items: Vec<Item> = needed
            .into_iter()
            .map(|(digest, (size, hurts))| Item {
                digest,
                size: Some(size),
                hurts: hurts.into_iter().collect(),
            })
            .collect();
        self.collect_unnamed(&mut items, &mut problems)?;

        let report = Mutex::new((CheckReport::default(), problems));
        let next = AtomicUsize::new(0);
        let stopped = AtomicBool::new(false);
        let progress = |bytes| {
            let goes_on = progress(bytes);
            stopped.fetch_or(!goes_on, Ordering::Relaxed);
            goes_on
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !stopped.load(Ordering::Relaxed)
                        && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let found = self.check_blob(item, depth, &progress);
                        let mut report = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        report.0.blobs += 1;
                        match found {
                            Ok(size) => report.0.bytes += size,
                            Err(kind) => report.1.push(Problem {
                                path: self.blob_path(&item.digest),
                                digest: Some(item.digest),
                                kind,
                                hurts: item.hurts.clone(),
                            }),
                        }
                    }
                });
            }
        });
        if stopped.into_inner() {
            return Err(StoreError::Stopped);
        }
        let (mut report, mut problems) =
            report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        report.problems = problems;
        report.images = entries.len();
        Ok(report)
    }

    /// Notes every blob that an image needs.
    fn collect(
        &self,
        entry: &Entry,
        needed: &mut BTreeMap<Digest, (u64, BTreeSet<String>)>,
        problems: &mut Vec<Problem>,
    ) {
        let name = format!("{} ({})", entry.requested, entry.platform);
        let mut need = |descriptor: &Descriptor| {
            let item = needed.entry(descriptor.digest).or_insert((descriptor.size, BTreeSet::new()));
            item.1.insert(name.clone());
        };
        need(&entry.target);
        need(&entry.manifest);
        let unusable = |digest: Digest, error: &StoreError| Problem {
            path: self.blob_path(&digest),
            digest: Some(digest),
            kind: ProblemKind::Unusable(chain(error)),
            hurts: vec![name.clone()],
        };
        match self.image(entry) {
            Ok(image) => {
                need(&image.config_descriptor);
                image.layers.iter().for_each(&mut need);
            }
            // Wrong bytes are found when the blob is looked at; here only right bytes of a wrong shape are.
            Err(StoreError::Missing { .. } | StoreError::Corrupt { .. } | StoreError::Io { .. }) => {
                if let Ok(manifest) = self.manifest_of(&entry.manifest) {
                    need(&manifest.config);
                    manifest.layers.iter().for_each(&mut need);
                }
            }
            Err(error) => problems.push(unusable(entry.manifest.digest, &error)),
        }
    }

    fn check_top(&self, entries: &[Entry], problems: &mut Vec<Problem>) -> Result<(), StoreError> {
        let mut top = |name: &str, good: bool, kind: ProblemKind| {
            if !good {
                problems.push(Problem {
                    path: self.archives().join(name),
                    digest: None,
                    kind,
                    hurts: Vec::new(),
                });
            }
        };
        let read =
            |name: &str| durable::read_regular(&self.archives().join(name), MAX_INDEX).unwrap_or_default();
        let is_right = |entries: &[Entry]| Ok(read("manifest.json") == self.docker_manifest(entries)?);
        // Whoever publishes writes `index.json` first: a difference counts only while nobody does.
        let is_settled = || {
            let _lock = self.share_index()?;
            is_right(&self.read_index()?)
        };
        top("manifest.json", is_right(entries)? || is_settled()?, ProblemKind::StaleDockerManifest);
        let is_layout = serde_json::from_slice::<serde_json::Value>(&read("oci-layout"))
            .is_ok_and(|layout| layout["imageLayoutVersion"] == "1.0.0");
        top("oci-layout", is_layout, ProblemKind::NotALayout);
        let strangers = self.strangers()?.len();
        top("index.json", strangers == 0, ProblemKind::Strangers(strangers));
        Ok(())
    }

    /// Blobs that no image needs are checked too (I1): the next image may need them.
    fn collect_unnamed(&self, items: &mut Vec<Item>, problems: &mut Vec<Problem>) -> Result<(), StoreError> {
        let named: BTreeSet<Digest> = items.iter().map(|item| item.digest).collect();
        let blobs = self.blobs();
        for file in fs::read_dir(&blobs).map_err(io_error("list", &blobs))? {
            let file = file.map_err(io_error("list", &blobs))?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            match Digest::from_hex(&name) {
                Ok(digest) if named.contains(&digest) => {}
                Ok(digest) => items.push(Item { digest, size: None, hurts: Vec::new() }),
                Err(_) if name.starts_with(TEMPORARY) => {}
                Err(_) => problems.push(Problem {
                    path: file.path(),
                    digest: None,
                    kind: ProblemKind::Stray,
                    hurts: Vec::new(),
                }),
            }
        }
        Ok(())
    }

    fn check_blob(
        &self,
        item: &Item,
        depth: Depth,
        progress: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<u64, ProblemKind> {
        let path = self.blob_path(&item.digest);
        let unreadable = |error: std::io::Error| ProblemKind::Unreadable(error.to_string());
        let mut file = match durable::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(ProblemKind::Missing),
            Err(error) => return Err(unreadable(error)),
        };
        let actual = file.metadata().map_err(unreadable)?.len();
        if let Some(expected) = item.size.filter(|size| *size != actual) {
            return Err(ProblemKind::WrongSize { expected, actual });
        }
        if depth == Depth::Deep {
            let digest = hash(&mut file, &path, progress)?;
            if digest != item.digest {
                return Err(ProblemKind::WrongContent { actual: digest });
            }
        }
        Ok(actual)
    }
}

fn hash(file: &mut File, path: &Path, progress: &dyn Fn(u64) -> bool) -> Result<Digest, ProblemKind> {
    hash_file(file, path, progress)
        .map(palletjack_image::Hasher::finish)
        .map_err(|error| ProblemKind::Unreadable(chain(&error)))
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
