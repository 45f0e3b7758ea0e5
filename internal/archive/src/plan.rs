//! Which members an archive has, in which order, and how long it gets.

use std::collections::HashSet;
use std::path::PathBuf;

use bytes::Bytes;
use palletjack_image::{Descriptor, Digest, LayerCompression};
use palletjack_store::{Image, Store};

use crate::error::ExportError;
use crate::header::{self, TRAILER};
use crate::metadata;

/// One image of an archive.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// The image, as the store reads it.
    pub image: &'a Image,
    /// Whether it gets the bare `name:tag`. A tag belongs to one image of an engine, so of two pins of one tag only
    /// one should have it; the other is then known by its digest alone.
    pub tag: bool,
    /// Layers (by the digest of their blob) that the receiver has already and that are left out. They stay in every
    /// manifest.
    pub omit: HashSet<Digest>,
    /// Whether layers that are compressed with Zstandard travel as gzip, for a receiver that does not read the former
    /// (Docker before version 23). An archive with such a layer is a docker-archive and nothing else, because the
    /// image's manifest names the layer as it was.
    pub gzip_only: bool,
}

impl<'a> Item<'a> {
    /// The whole image, under all its names.
    pub fn whole(image: &'a Image) -> Self {
        Self { image, tag: true, omit: HashSet::new(), gzip_only: false }
    }

    /// Whether this layer of the image has another packing in the archive than in the cache.
    pub(crate) fn recodes(&self, layer: &Descriptor) -> bool {
        self.gzip_only && LayerCompression::of(&layer.media_type) == Some(LayerCompression::Zstd)
    }
}

/// How many names an image gets in `index.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// One: `name:tag`, or `name@digest` where there is no tag to give. Podman keeps the digests of an archive only
    /// where `index.json` has one entry.
    One,
    /// `name@digest` as well, for a reference that is pinned: a containerd store then still finds the pin when the
    /// tag has moved on.
    EveryPin,
}

/// Where a member's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Bytes made or verified while planning.
    Bytes(Bytes),
    /// A layer in the cache, read and hashed while it is sent.
    Blob(Descriptor),
    /// A layer in the cache that is packed anew, as gzip, before it is sent.
    Recode(Descriptor),
    /// A layer that is not sent, because the receiver has it.
    Omit(Descriptor),
}

/// One file of an archive.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its path in the archive.
    pub name: String,
    /// Where its bytes come from.
    pub source: Source,
    /// The image that it is there for (the first, when several share it); empty for the archive's own files.
    pub image: String,
}

impl Member {
    /// How many bytes of content it has in the archive.
    fn size(&self) -> u64 {
        match &self.source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Blob(layer) | Source::Recode(layer) => layer.size,
            Source::Omit(_) => 0,
        }
    }
}

/// An archive that is planned and can be written, any number of times.
#[derive(Debug, Clone)]
pub struct Export {
    pub(crate) store: Store,
    pub(crate) members: Vec<Member>,
    pub(crate) scratch: PathBuf,
    length: u64,
    layer_bytes: u64,
    omitted_bytes: u64,
}

impl Export {
    /// Plans the archive of `items`. Reads no layer; manifests and configs, which are in memory, are verified here,
    /// so that nothing is sent when one of them is bad.
    pub fn plan(store: &Store, items: &[Item<'_>], names: Names) -> Result<Self, ExportError> {
        let own = |name: &str, bytes: Bytes| Member {
            name: name.to_owned(),
            source: Source::Bytes(bytes),
            image: String::new(),
        };
        let recodes = |item: &Item<'_>| item.image.layers.iter().any(|layer| item.recodes(layer));
        let is_layout = !items.iter().any(recodes);
        let mut members = Vec::new();
        if is_layout {
            members.push(own("oci-layout", Bytes::from_static(metadata::OCI_LAYOUT)));
            members.push(own("index.json", metadata::index_json(items, names)));
        }
        members.push(own("manifest.json", metadata::manifest_json(items)));
        let mut seen = HashSet::new();
        for item in items {
            small_blobs(store, item.image, is_layout, &mut seen, &mut members)?;
        }
        // A layer that one image may leave out is still sent when another needs it.
        let needed: HashSet<Digest> = items
            .iter()
            .flat_map(|item| item.image.layers.iter().map(move |layer| (item, layer.digest)))
            .filter(|(item, digest)| !item.omit.contains(digest))
            .map(|(_, digest)| digest)
            .collect();
        for item in items {
            for layer in &item.image.layers {
                if seen.insert(layer.digest) {
                    let source = match (needed.contains(&layer.digest), item.recodes(layer)) {
                        (false, _) => Source::Omit(layer.clone()),
                        (true, false) => Source::Blob(layer.clone()),
                        (true, true) => Source::Recode(layer.clone()),
                    };
                    let image = item.image.entry.reference.familiar();
                    members.push(Member { name: metadata::layer_name(item, layer), source, image });
                }
            }
        }
        Self::measure(store.clone(), members)
    }

    fn measure(store: Store, members: Vec<Member>) -> Result<Self, ExportError> {
        let (mut length, mut layer_bytes, mut omitted_bytes) = (TRAILER, 0_u64, 0_u64);
        for member in &members {
            let too_large = || ExportError::TooLarge { image: member.image.clone() };
            match &member.source {
                Source::Omit(layer) => {
                    omitted_bytes = omitted_bytes.checked_add(layer.size).ok_or_else(too_large)?;
                    continue;
                }
                Source::Blob(layer) | Source::Recode(layer) => {
                    layer_bytes = layer_bytes.checked_add(layer.size).ok_or_else(too_large)?;
                }
                Source::Bytes(_) => {}
            }
            let framed = header::framed(member.size()).ok_or_else(too_large)?;
            length = length.checked_add(framed).ok_or_else(too_large)?;
        }
        // On the cache's own file system there is room for a layer: it holds them all.
        let scratch = store.root().join("state");
        Ok(Self { store, members, scratch, length, layer_bytes, omitted_bytes })
    }

    /// Keeps a recoded layer in this directory while it is sent, unnamed, instead of in the cache's `state`.
    #[must_use]
    pub fn with_scratch(mut self, directory: PathBuf) -> Self {
        self.scratch = directory;
        self
    }

    /// The length of the archive in bytes. Exact, but that a layer to be recoded counts as long as it is in the cache:
    /// how long it gets is known when it is sent ([`Written`](crate::Written)).
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes of it are layers, without the tar's frame.
    pub fn layer_bytes(&self) -> u64 {
        self.layer_bytes
    }

    /// How many bytes of layers are left out.
    pub fn omitted_bytes(&self) -> u64 {
        self.omitted_bytes
    }

    /// The files of the archive in their order, those left out among them.
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

/// Index, manifest and config of an image, each once per archive; a docker-archive has only configs.
fn small_blobs(
    store: &Store,
    image: &Image,
    with_manifests: bool,
    seen: &mut HashSet<Digest>,
    members: &mut Vec<Member>,
) -> Result<(), ExportError> {
    let name = image.entry.reference.familiar();
    let index = image.index.as_ref().map(|index| (image.entry.target.digest, index.bytes()));
    let manifest = (image.entry.manifest.digest, image.manifest.bytes());
    let config = (image.config_descriptor.digest, &image.config_bytes);
    let manifests = index.into_iter().chain([manifest]).filter(|_| with_manifests);
    for (digest, bytes) in manifests.chain([config]) {
        if !seen.insert(digest) {
            continue;
        }
        let actual = Digest::of(bytes);
        if actual != digest {
            return Err(ExportError::Corrupt {
                digest,
                path: store.blob_path(&digest),
                image: name,
                what: format!("its content is {actual}"),
            });
        }
        let source = Source::Bytes(bytes.clone());
        members.push(Member { name: metadata::blob_name(&digest), source, image: name.clone() });
    }
    Ok(())
}
