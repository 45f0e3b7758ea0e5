//! `index.json`: the one place that says which images the cache has.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palletjack_image::{Descriptor, Digest, Platform, Reference, media_type};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{StoreError, io_error};
use crate::layout::Store;

/// One image of the cache: a reference for a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The normalised reference, with the digest where whoever asked for it pins one.
    pub reference: Reference,
    /// The reference as it was written by whoever asked for it last.
    pub requested: String,
    /// The platform that was asked for. The chosen manifest may be of an older variant.
    pub platform: Platform,
    /// What the reference means upstream, byte for byte: usually a multi-platform index whose other children are
    /// absent on purpose, else one image's manifest.
    pub target: Descriptor,
    /// The manifest of the chosen platform; the same as `target` where that is no index.
    pub manifest: Descriptor,
    /// When it was fetched, in whole seconds.
    pub fetched: SystemTime,
    /// Who handed it out: a registry's name, or a mirror's URL.
    pub upstream: String,
    /// Kept by hand: no prune takes it.
    pub pinned: bool,
    /// Whether the bare `name:tag` means this entry; it belongs to the one published last.
    pub owns_tag: bool,
    /// Set where the image was put together from what an engine keeps, which is not what the registry hands out.
    pub rebuilt: Option<Rebuilt>,
}

impl Entry {
    /// Whether the digest that its reference pins is that of its content, or it pins none. Not so where it was rebuilt.
    pub fn has_pin(&self) -> bool {
        self.rebuilt.is_none() || self.reference.digest().is_none()
    }
}

/// What is known of an image that was rebuilt from an engine which had lost the registry's manifest or compressed layers.
///
/// Its config, and with it the image ID of engines that go by that, is the original; its manifest is ours, and so is
/// [`Entry::target`], whatever digest [`Entry::reference`] pins. It is loaded like any other, but must never be handed
/// out as what the registry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// The digests that the engine vouched for: it had them of this image from a registry.
    pub vouched: Vec<Digest>,
}

/// One whole version of `index.json` and what it reaches.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    entries: Vec<Entry>,
    named: HashSet<Digest>,
}

impl Snapshot {
    /// All images, ordered by reference, then platform (the cache's main platform first).
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The image of this very reference for this very platform.
    pub fn find(&self, reference: &Reference, platform: &Platform) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.reference == *reference && entry.platform == *platform)
    }

    /// Whether some image needs the blob with this digest.
    pub fn names(&self, digest: &Digest) -> bool {
        self.named.contains(digest)
    }

    /// All digests that some image needs.
    pub(crate) fn named(&self) -> &HashSet<Digest> {
        &self.named
    }
}

/// The end of the year 9999, where RFC 3339 ends, in seconds since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// The largest `index.json` or `manifest.json` that is read, in bytes: some 50,000 images.
pub(crate) const MAX_INDEX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const REQUESTED: &str = "io.palletjack.requested";
const PLATFORM: &str = "io.palletjack.platform";
const MANIFEST: &str = "io.palletjack.manifest";
const MANIFEST_TYPE: &str = "io.palletjack.manifest.type";
const MANIFEST_SIZE: &str = "io.palletjack.manifest.size";
const FETCHED: &str = "io.palletjack.fetched";
const UPSTREAM: &str = "io.palletjack.upstream";
const PINNED: &str = "io.palletjack.pinned";
/// The target is ours, made from what an engine keeps. The digests that it vouched for, one space between them.
const REBUILT: &str = "io.palletjack.rebuilt";
/// The target is an index and children of it are absent on purpose.
const SPARSE: &str = "io.palletjack.sparse";

impl Store {
    /// Reads `index.json` and everything small that it reaches.
    ///
    /// An image whose manifest is missing or damaged is still listed; what cannot be told is left out of
    /// [`Snapshot::names`].
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let entries = self.read_index()?;
        let mut named = HashSet::new();
        for entry in &entries {
            named.insert(entry.target.digest);
            named.insert(entry.manifest.digest);
            if let Ok(manifest) = self.manifest_of(&entry.manifest) {
                named.insert(manifest.config.digest);
                named.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
        Ok(Snapshot { entries, named })
    }

    pub(crate) fn read_index(&self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.read_descriptors()?.iter().filter_map(entry_of).collect())
    }

    /// The descriptors that are no entries of ours: damaged by hand, or another program's. They are kept as they are,
    /// and while there are any, nothing is swept, because what they need is not known.
    pub(crate) fn strangers(&self) -> Result<Vec<Descriptor>, StoreError> {
        let mut descriptors = self.read_descriptors()?;
        descriptors.retain(|descriptor| entry_of(descriptor).is_none());
        Ok(descriptors)
    }

    fn read_descriptors(&self) -> Result<Vec<Descriptor>, StoreError> {
        let path = self.index_json();
        let text = match durable::read_regular(&path, MAX_INDEX) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Absent(self.root().to_owned()));
            }
            // What is written here is never so large.
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(StoreError::Damaged { path, source: serde::de::Error::custom(error) });
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let wire: Wire = serde_json::from_slice(&text)
            .map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        Ok(wire.manifests)
    }

    /// Writes `index.json` as a whole. The caller holds the index lock and has made the blobs durable.
    pub(crate) fn write_index(&self, entries: &mut [Entry]) -> Result<(), StoreError> {
        let strangers = self.strangers()?;
        sort(entries, self.main_platform());
        let wire = Wire {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            manifests: entries.iter().map(descriptor_of).chain(strangers).collect(),
        };
        let path = self.index_json();
        let mut text = serde_json::to_vec_pretty(&wire)
            .map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        text.push(b'\n');
        durable::replace(&path, &text, 0o644, self.inner.owner)
    }
}

/// Readers that look an image up by name take the first that fits, so the main platform comes first.
fn sort(entries: &mut [Entry], main: &Platform) {
    entries.sort_by_cached_key(|entry| {
        (entry.reference.to_string(), entry.platform != *main, entry.platform.to_string())
    });
}

/// `None` for another program's descriptor, or one of ours that was damaged by hand.
fn entry_of(descriptor: &Descriptor) -> Option<Entry> {
    let note = |key: &str| descriptor.annotations.get(key);
    let reference: Reference = note(REF_NAME)?.parse().ok()?;
    let manifest = match note(MANIFEST) {
        None => Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size),
        Some(digest) => {
            Descriptor::new(note(MANIFEST_TYPE)?, digest.parse().ok()?, note(MANIFEST_SIZE)?.parse().ok()?)
        }
    };
    // A clock that is far off must not make a time that nobody can print.
    let seconds = note(FETCHED).and_then(|text| text.parse().ok()).unwrap_or(0).min(LAST_SECOND);
    Some(Entry {
        requested: note(REQUESTED).cloned().unwrap_or_else(|| reference.to_string()),
        platform: note(PLATFORM)?.parse().ok()?,
        manifest,
        fetched: UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH),
        upstream: note(UPSTREAM).cloned().unwrap_or_default(),
        pinned: note(PINNED).is_some(),
        owns_tag: reference.tag().is_some() && note(CONTAINERD_NAME).cloned() == reference.tagged(),
        target: Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size),
        rebuilt: note(REBUILT).map(|vouched| Rebuilt {
            vouched: vouched.split_whitespace().filter_map(|digest| digest.parse().ok()).collect(),
        }),
        reference,
    })
}

fn descriptor_of(entry: &Entry) -> Descriptor {
    let mut notes = BTreeMap::new();
    let mut note = |key: &str, value: String| notes.insert(key.to_owned(), value);
    note(REF_NAME, entry.reference.to_string());
    note(CONTAINERD_NAME, containerd_name(entry));
    note(REQUESTED, entry.requested.clone());
    note(PLATFORM, entry.platform.to_string());
    let seconds = entry.fetched.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    note(FETCHED, seconds.to_string());
    note(UPSTREAM, entry.upstream.clone());
    if entry.pinned {
        note(PINNED, "true".to_owned());
    }
    if let Some(rebuilt) = &entry.rebuilt {
        let vouched: Vec<String> = rebuilt.vouched.iter().map(Digest::to_string).collect();
        note(REBUILT, vouched.join(" "));
    }
    if entry.manifest.digest != entry.target.digest {
        note(MANIFEST, entry.manifest.digest.to_string());
        note(MANIFEST_TYPE, entry.manifest.media_type.clone());
        note(MANIFEST_SIZE, entry.manifest.size.to_string());
        note(SPARSE, "true".to_owned());
    }
    Descriptor { annotations: notes, ..entry.target.clone() }
}

/// The name that `ctr images import` and a containerd-store Docker give the image.
fn containerd_name(entry: &Entry) -> String {
    match entry.reference.tagged() {
        Some(tagged) if entry.owns_tag => tagged,
        _ => format!("{}@{}", entry.reference.name(), entry.target.digest),
    }
}

/// Gives the bare tag of `entries[newest]` to it, and takes it from whichever had it.
///
/// A tag can belong to one digest only. The main platform's image keeps it against other platforms', since the tag in
/// `manifest.json` and in an engine can mean one of them only.
pub(crate) fn settle_tag(entries: &mut [Entry], newest: usize, main: &Platform) {
    let Some(tag) = entries[newest].reference.tagged() else { return };
    let newest_is_main = entries[newest].platform == *main;
    let same_tag = |entry: &Entry| entry.reference.tagged().as_deref() == Some(&tag);
    let main_owns = entries
        .iter()
        .enumerate()
        .any(|(at, e)| at != newest && e.owns_tag && e.platform == *main && same_tag(e));
    let takes = newest_is_main || !main_owns;
    for (at, entry) in entries.iter_mut().enumerate() {
        if at == newest {
            entry.owns_tag = takes;
        } else if takes && same_tag(entry) {
            entry.owns_tag = false;
        }
    }
}

/// After a removal: a tag without an owner goes to the image fetched last, the main platform's first.
pub(crate) fn adopt_orphan_tags(entries: &mut [Entry], main: &Platform) {
    let mut heirs: BTreeMap<String, usize> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        let Some(tag) = entry.reference.tagged() else { continue };
        let rank = |e: &Entry| (e.owns_tag, e.platform == *main, e.fetched);
        let heir = heirs.entry(tag).or_insert(at);
        if rank(entry) > rank(&entries[*heir]) {
            *heir = at;
        }
    }
    for at in heirs.into_values() {
        entries[at].owns_tag = true;
    }
}
