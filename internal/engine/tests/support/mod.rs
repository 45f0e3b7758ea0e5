//! A cache with generated images in it, and what a load told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

use std::fs::{self, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use palletjack_engine::{Engine, Event, LoadError, LoadOptions, Loaded};
use palletjack_image::{Descriptor, Digest, Manifest, ManifestKind, Platform};
use palletjack_store::{Access, Image, IngestState, NewEntry, Store};
use palletjack_testkit::image as built;

pub(crate) struct Cache {
    pub(crate) store: Store,
    _directory: Option<tempfile::TempDir>,
}

pub(crate) fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// A layer of about this many bytes, another one for each number.
#[allow(dead_code, reason = "each file of tests is built with this one, and not all need it")]
pub(crate) fn layer(number: u64, size: u64) -> built::Layer {
    let layer = built::LayerBuilder::new().file("number", number.to_string());
    layer.filler("filler", number, size).build().unwrap()
}

impl Cache {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Access::Write, &amd64()).unwrap();
        Self { store, _directory: Some(directory) }
    }

    /// A cache in a directory that stays.
    #[allow(dead_code, reason = "each file of tests is built with this one, and not all need it")]
    pub(crate) fn at(directory: &std::path::Path) -> Self {
        let store = Store::open(directory, Access::Write, &amd64()).unwrap();
        Self { store, _directory: None }
    }

    fn put(&self, descriptor: &Descriptor, mut from: impl Read) {
        let (lease, snapshot) = (self.store.lease().unwrap(), self.store.snapshot().unwrap());
        let state = self.store.ingest(&lease, &snapshot, descriptor.digest, descriptor.size).unwrap();
        let IngestState::Begin(mut ingest) = state else { return };
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        ingest.write(&bytes).unwrap();
        ingest.commit().unwrap();
    }

    /// Publishes what an image has for amd64, as a fetch does. `reference` is how a pallet asks for it.
    pub(crate) fn publish(&self, image: &built::Image, reference: &str) -> Image {
        self.publish_for(image, reference, &amd64())
    }

    /// The same for another platform.
    pub(crate) fn publish_for(&self, image: &built::Image, reference: &str, platform: &Platform) -> Image {
        let manifests: Vec<Manifest> = image
            .manifests()
            .map(|manifest| Manifest::parse(manifest.bytes.clone(), Some(manifest.media_type)).unwrap())
            .collect();
        let of = |digest: &Digest| manifests.iter().find(|m| m.descriptor().digest == *digest).unwrap();
        let top = of(&image.top.digest);
        let chosen = match top.kind() {
            ManifestKind::Index(index) => of(&index.choose(platform).unwrap().digest),
            ManifestKind::Image(_) => top,
        };
        for manifest in [top, chosen] {
            self.put(&manifest.descriptor(), &manifest.bytes()[..]);
        }
        let ManifestKind::Image(parts) = chosen.kind() else { panic!("an index in an index") };
        for blob in parts.layers.iter().chain([&parts.config]) {
            self.put(blob, image.blobs[&blob.digest].reader(0).unwrap());
        }
        let new = NewEntry {
            reference: reference.parse().unwrap(),
            requested: reference.to_owned(),
            platform: platform.clone(),
            target: top.descriptor(),
            manifest: chosen.descriptor(),
            upstream: "docker.io".to_owned(),
            pinned: false,
        };
        let entry = self.store.publish(&self.store.lease().unwrap(), new).unwrap();
        self.store.image(&entry).unwrap()
    }

    /// Flips one bit in the middle of a blob, as a failing medium does.
    #[allow(dead_code, reason = "each file of tests is built with this one, and not all need it")]
    pub(crate) fn damage(&self, digest: &Digest) {
        let path = self.store.blob_path(digest);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let middle = file.metadata().unwrap().len() / 2;
        let mut byte = [0];
        file.seek(SeekFrom::Start(middle)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(middle)).unwrap();
        file.write_all(&[byte[0] ^ 1]).unwrap();
    }
}

#[allow(dead_code, reason = "each file of tests is built with this one, and not all need it")]
/// A load and its events, as `0 sending`, `0 waiting`, `0 loaded`; repeated progress is told once.
pub(crate) async fn load(
    engine: &Engine,
    cache: &Cache,
    images: &[Image],
    options: &LoadOptions,
) -> (Vec<Result<Loaded, LoadError>>, Vec<String>) {
    let told = Mutex::new(Vec::new());
    let events = |event: Event<'_>| {
        let line = match event {
            Event::DiskMayBeShort { .. } => "disk".to_owned(),
            Event::WholeAgain { image, .. } => format!("{image} whole again"),
            Event::Checking { image } => format!("{image} checking"),
            Event::Skipped { image, .. } => format!("{image} skipped"),
            Event::Sending { image, bytes, total } => {
                assert!(bytes <= total, "{bytes} of {total}");
                format!("{image} sending")
            }
            Event::Waiting { image } => format!("{image} waiting"),
            Event::Loaded { image, .. } => format!("{image} loaded"),
            Event::Failed { image, .. } => format!("{image} failed"),
        };
        let mut told = told.lock().unwrap();
        if told.last() != Some(&line) {
            told.push(line);
        }
    };
    let lease = cache.store.lease().unwrap();
    let results = engine.load_all(&cache.store, &lease, images, options, &events).await.unwrap();
    (results, told.into_inner().unwrap())
}
