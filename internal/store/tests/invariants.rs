//! The invariants of the cache, each a test by its name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use palletjack_image::{Descriptor, Digest, Platform, Reference, media_type};
use palletjack_store::{
    Access, CommitError, Depth, IngestState, Lease, NewEntry, ProblemKind, Snapshot, Store, StoreError,
};

struct Sample {
    index: Vec<u8>,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<Vec<u8>>,
    gzip: bool,
}

impl Sample {
    fn new(layers: &[&str]) -> Self {
        Self::packed(layers, true)
    }

    fn packed(layers: &[&str], gzip: bool) -> Self {
        let layers: Vec<Vec<u8>> = layers.iter().map(|text| text.as_bytes().to_vec()).collect();
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| Digest::of(&[layer, &b"raw"[..]].concat()).to_string()).collect();
        let config = serde_json::to_vec(&serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))
        .unwrap();
        let layer_type = if gzip { media_type::OCI_LAYER_GZIP } else { media_type::OCI_LAYER_ZSTD };
        let describe = |media_type: &str, bytes: &[u8]| {
            Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
        };
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": describe(media_type::OCI_CONFIG, &config),
            "layers": layers.iter().map(|layer| describe(layer_type, layer)).collect::<Vec<_>>(),
        }))
        .unwrap();
        let mut child = describe(media_type::OCI_MANIFEST, &manifest);
        child.platform = Some(amd64());
        let mut absent = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"absent"), 6);
        absent.platform = Some("linux/arm64".parse().unwrap());
        let index = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [child, absent],
        }))
        .unwrap();
        Self { index, manifest, config, layers, gzip }
    }

    fn target(&self) -> Descriptor {
        Descriptor::new(media_type::OCI_INDEX, Digest::of(&self.index), self.index.len() as u64)
    }

    fn child(&self) -> Descriptor {
        Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&self.manifest), self.manifest.len() as u64)
    }

    fn blobs(&self) -> Vec<&[u8]> {
        let mut blobs: Vec<&[u8]> = vec![&self.index, &self.manifest, &self.config];
        blobs.extend(self.layers.iter().map(Vec::as_slice));
        blobs
    }

    fn fill(&self, store: &Store, lease: &Lease) {
        for blob in self.blobs() {
            fetch(store, lease, blob);
        }
    }

    fn entry(&self, reference: &str, platform: &Platform) -> NewEntry {
        let pinned = format!("{reference}@{}", self.target().digest);
        let reference = if reference.contains('!') { reference.replace('!', "") } else { pinned };
        NewEntry {
            requested: reference.clone(),
            reference: reference.parse().unwrap(),
            platform: platform.clone(),
            target: self.target(),
            manifest: self.child(),
            upstream: "docker.io".to_owned(),
            pinned: false,
        }
    }

    fn publish(&self, store: &Store, reference: &str) -> palletjack_store::Entry {
        let lease = store.lease().unwrap();
        self.fill(store, &lease);
        store.publish(&lease, self.entry(reference, &amd64())).unwrap()
    }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn fetch(store: &Store, lease: &Lease, bytes: &[u8]) {
    let snapshot = store.snapshot().unwrap();
    match store.ingest(lease, &snapshot, Digest::of(bytes), bytes.len() as u64).unwrap() {
        IngestState::Present => {}
        IngestState::Busy => panic!("nobody else is fetching"),
        IngestState::Begin(mut ingest) => {
            let from = usize::try_from(ingest.offset()).unwrap();
            ingest.write(&bytes[from..]).unwrap();
            ingest.commit().unwrap();
        }
    }
}

fn cache() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("cache"), Access::Write, &amd64()).unwrap();
    (directory, store)
}

fn begin(store: &Store, lease: &Lease, bytes: &[u8]) -> Box<palletjack_store::Ingest> {
    match store.ingest(lease, &Snapshot::default(), Digest::of(bytes), bytes.len() as u64).unwrap() {
        IngestState::Begin(ingest) => ingest,
        other => panic!("{other:?}"),
    }
}

fn docker_manifest(store: &Store) -> serde_json::Value {
    serde_json::from_slice(&fs::read(store.archives().join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn i1_a_blob_has_the_content_its_name_says() {
    let (_directory, store) = cache();
    let lease = store.lease().unwrap();
    let mut ingest = begin(&store, &lease, b"good");
    ingest.write(b"evil").unwrap();
    let Err(CommitError::Digest { mut ingest, expected, actual }) = ingest.commit() else {
        panic!("wrong content was committed")
    };
    assert_eq!((expected, actual), (Digest::of(b"good"), Digest::of(b"evil")));
    assert!(!store.blob_path(&expected).exists());
    ingest.restart().unwrap();
    ingest.write(b"good").unwrap();
    ingest.commit().unwrap();
    let path = store.blob_path(&expected);
    assert_eq!(fs::read(&path).unwrap(), b"good");
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o444);
}

#[test]
fn i1_more_bytes_than_announced_are_refused() {
    let (_directory, store) = cache();
    let lease = store.lease().unwrap();
    let mut ingest = begin(&store, &lease, b"four");
    assert!(matches!(ingest.write(b"fives"), Err(StoreError::TooLong { size: 4, .. })));
    ingest.write(b"fo").unwrap();
    assert!(matches!(ingest.commit(), Err(CommitError::Short { have: 2, size: 4, .. })));
}

#[test]
fn i2_only_complete_images_are_named() {
    let (_directory, store) = cache();
    let lease = store.lease().unwrap();
    let sample = Sample::new(&["base", "app"]);
    for missing in 1..sample.blobs().len() {
        let (_directory, store) = cache();
        for (at, blob) in sample.blobs().into_iter().enumerate() {
            if at != missing {
                fetch(&store, &lease, blob);
            }
        }
        let error = store.publish(&lease, sample.entry("caddy:2", &amd64())).unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert!(store.snapshot().unwrap().entries().is_empty());
    }
    sample.publish(&store, "caddy:2");
    assert_eq!(store.snapshot().unwrap().entries().len(), 1);
}

#[test]
fn i3_the_index_is_always_one_whole_version() {
    let (_directory, store) = cache();
    let samples: Vec<Sample> = (0..8).map(|n| Sample::new(&["base", &format!("app {n}")])).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = samples
            .iter()
            .enumerate()
            .map(|(n, sample)| {
                let store = &store;
                scope.spawn(move || {
                    let lease = store.lease().unwrap();
                    for blob in sample.blobs() {
                        let size = blob.len() as u64;
                        let descriptor = Descriptor::new("", Digest::of(blob), size);
                        store.put(&lease, &descriptor, blob).unwrap();
                    }
                    store.publish(&lease, sample.entry(&format!("app{n}:1"), &amd64())).unwrap();
                })
            })
            .collect();
        let (store, done) = (&store, &done);
        scope.spawn(move || {
            let mut seen = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let now = store.snapshot().unwrap().entries().len();
                assert!(now >= seen, "a published image vanished");
                seen = now;
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(store.snapshot().unwrap().entries().len(), 8);
    let lease = store.lease().unwrap();
    assert_eq!(store.check(&lease, Depth::Deep, &|_| true).unwrap().problems, []);
}

#[test]
fn i4_the_docker_manifest_follows_from_the_index() {
    let (_directory, store) = cache();
    Sample::packed(&["z"], false).publish(&store, "a-zstd:1");
    Sample::new(&["g"]).publish(&store, "b-gzip:1");
    let manifest = docker_manifest(&store);
    assert_eq!(manifest[0]["RepoTags"][0], "docker.io/library/b-gzip:1");
    assert_eq!(
        manifest[1]["RepoTags"][0], "docker.io/library/a-zstd:1",
        "images that are not gzip come last"
    );

    fs::write(store.archives().join("manifest.json"), "[]").unwrap();
    let lease = store.lease().unwrap();
    let report = store.check(&lease, Depth::Shallow, &|_| true).unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].kind, ProblemKind::StaleDockerManifest);
    drop(lease);
    Sample::new(&["g"]).publish(&store, "b-gzip:1");
    assert_eq!(docker_manifest(&store), manifest);
}

#[test]
fn i5_partial_data_is_hashed_again_before_it_is_extended() {
    let (_directory, store) = cache();
    let lease = store.lease().unwrap();
    let mut ingest = begin(&store, &lease, b"some bytes");
    ingest.write(b"some ").unwrap();
    drop(ingest);
    let mut ingest = begin(&store, &lease, b"some bytes");
    assert_eq!(ingest.offset(), 5);
    ingest.write(b"bytes").unwrap();
    ingest.commit().unwrap();

    let mut ingest = begin(&store, &lease, b"other bytes");
    ingest.write(b"other ").unwrap();
    drop(ingest);
    let partial = store.root().join(format!("state/ingest/sha256-{}", Digest::of(b"other bytes").hex()));
    fs::write(&partial, b"OTHER ").unwrap();
    let mut ingest = begin(&store, &lease, b"other bytes");
    ingest.write(b"bytes").unwrap();
    assert!(matches!(ingest.commit(), Err(CommitError::Digest { .. })), "a changed partial was trusted");
    fs::write(&partial, b"far more than there should be").unwrap();
    assert_eq!(begin(&store, &lease, b"other bytes").offset(), 0);
}

#[test]
fn i6_an_unnamed_file_is_hashed_before_it_is_adopted() {
    let (_directory, store) = cache();
    let lease = store.lease().unwrap();
    fs::write(store.blob_path(&Digest::of(b"good")), b"evil").unwrap();
    let mut ingest = begin(&store, &lease, b"good");
    ingest.write(b"good").unwrap();
    ingest.commit().unwrap();
    assert_eq!(fs::read(store.blob_path(&Digest::of(b"good"))).unwrap(), b"good");

    fs::write(store.blob_path(&Digest::of(b"left by a crash")), b"left by a crash").unwrap();
    let state = store.ingest(&lease, &Snapshot::default(), Digest::of(b"left by a crash"), 15).unwrap();
    assert!(matches!(state, IngestState::Present));
}

#[test]
fn i7_two_writers_never_have_one_blob() {
    let (_directory, store) = cache();
    let lease = store.lease().unwrap();
    let ingest = begin(&store, &lease, b"blob");
    let again = store.ingest(&lease, &Snapshot::default(), Digest::of(b"blob"), 4).unwrap();
    assert!(matches!(again, IngestState::Busy));
    drop(ingest);
    begin(&store, &lease, b"blob");
}

#[test]
fn i8_a_sweep_never_removes_a_blob_under_a_lease() {
    let (_directory, store) = cache();
    let (keep, lose) = (Sample::new(&["base", "keep"]), Sample::new(&["base", "lose"]));
    keep.publish(&store, "keep:1");
    lose.publish(&store, "lose:1");
    let lease = store.lease().unwrap();
    let gone: Reference = format!("lose:1@{}", lose.target().digest).parse().unwrap();
    let removed = store.remove(&lease, &[(gone, amd64())]).unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(store.sweep().unwrap(), None, "a lease is held");
    assert!(store.blob_path(&Digest::of(b"lose")).exists());
    drop(lease);
    let swept = store.sweep().unwrap().unwrap();
    assert_eq!(swept.blobs, 4, "index, manifest, config and one layer");
    assert!(!store.blob_path(&Digest::of(b"lose")).exists());
    let lease = store.lease().unwrap();
    assert_eq!(store.check(&lease, Depth::Deep, &|_| true).unwrap().problems, []);
}

#[test]
fn a_tag_belongs_to_the_image_published_last() {
    let (_directory, store) = cache();
    let (old, new) = (Sample::new(&["old"]), Sample::new(&["new"]));
    old.publish(&store, "app:1");
    let entry = new.publish(&store, "app:1");
    assert!(entry.owns_tag);
    let owners: Vec<bool> = store.snapshot().unwrap().entries().iter().map(|entry| entry.owns_tag).collect();
    assert_eq!(owners.iter().filter(|owns| **owns).count(), 1);
    let tags: Vec<serde_json::Value> =
        docker_manifest(&store).as_array().unwrap().iter().map(|item| item["RepoTags"].clone()).collect();
    assert_eq!(tags.iter().filter(|tags| tags.is_array()).count(), 1, "{tags:?}");
    assert_eq!(tags.len(), 2, "the other pin's content is loaded as well");

    let lease = store.lease().unwrap();
    store.remove(&lease, &[(entry.reference, amd64())]).unwrap();
    assert!(store.snapshot().unwrap().entries()[0].owns_tag, "the tag passes to the one that is left");
}

#[test]
fn the_main_platform_keeps_the_tag() {
    let (_directory, store) = cache();
    let arm64: Platform = "linux/arm64".parse().unwrap();
    let sample = Sample::new(&["main"]);
    let other = Sample::new(&["other"]);
    sample.publish(&store, "app:1!");
    let lease = store.lease().unwrap();
    other.fill(&store, &lease);
    let entry = store.publish(&lease, other.entry("app:1!", &arm64)).unwrap();
    assert!(!entry.owns_tag);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.entries()[0].platform, amd64(), "readers by name find the main platform first");
    let manifest = docker_manifest(&store);
    assert_eq!(manifest.as_array().unwrap().len(), 1);
    assert_eq!(manifest[0]["Config"], format!("blobs/sha256/{}", Digest::of(&sample.config).hex()));
    assert!(sample.gzip);
}

#[test]
fn a_check_finds_damage_and_says_whom_it_hurts() {
    let (_directory, store) = cache();
    let sample = Sample::new(&["base", "one"]);
    sample.publish(&store, "one:1");
    Sample::new(&["base", "two"]).publish(&store, "two:1");
    let overwrite = |bytes: &[u8], with: &[u8]| {
        let path = store.blob_path(&Digest::of(bytes));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, with).unwrap();
    };
    overwrite(b"base", b"bass");
    overwrite(b"one", b"on");
    fs::remove_file(store.blob_path(&Digest::of(b"two"))).unwrap();
    fs::write(store.archives().join("blobs/sha256/notes.txt"), "hello").unwrap();
    let lease = store.lease().unwrap();
    let report = store.check(&lease, Depth::Deep, &|_| true).unwrap();
    let of = |bytes: &[u8]| {
        report.problems.iter().find(|problem| problem.digest == Some(Digest::of(bytes))).unwrap()
    };
    assert_eq!(of(b"base").kind, ProblemKind::WrongContent { actual: Digest::of(b"bass") });
    assert_eq!(of(b"base").hurts.len(), 2);
    assert_eq!(of(b"one").kind, ProblemKind::WrongSize { expected: 3, actual: 2 });
    assert_eq!(of(b"two").kind, ProblemKind::Missing);
    assert!(of(b"two").hurts[0].starts_with("two:1@"));
    assert_eq!(report.problems.iter().filter(|problem| problem.kind == ProblemKind::Stray).count(), 1);
    assert_eq!(report.problems.len(), 4);

    let shallow = store.check(&lease, Depth::Shallow, &|_| true).unwrap();
    assert_eq!(shallow.problems.len(), 3, "a shallow check does not see changed bytes");
    drop(lease);
    assert!(store.discard(&[Digest::of(b"base")]).unwrap());
    let lease = store.lease().unwrap();
    fetch(&store, &lease, b"base");
    assert_eq!(fs::read(store.blob_path(&Digest::of(b"base"))).unwrap(), b"base");
}

#[test]
fn formats_of_the_future_are_left_alone() {
    let (_directory, store) = cache();
    let path = store.root().join("state/format.json");
    let open = |access| Store::open(store.root(), access, &amd64());
    fs::write(&path, r#"{"version":2,"anything":"else"}"#).unwrap();
    assert!(matches!(open(Access::Read), Err(StoreError::NewerFormat { .. })));
    fs::write(
        &path,
        r#"{"version":1,"mainPlatform":{"os":"linux","architecture":"arm64"},"readOnlyCompatible":["x"]}"#,
    )
    .unwrap();
    assert!(matches!(open(Access::Write), Err(StoreError::NewerFormat { .. })));
    assert_eq!(open(Access::Read).unwrap().main_platform().to_string(), "linux/arm64");
    fs::write(
        &path,
        r#"{"version":1,"mainPlatform":{"os":"linux","architecture":"arm64"},"compatible":["x"]}"#,
    )
    .unwrap();
    assert!(open(Access::Write).is_ok());
    fs::write(&path, "{").unwrap();
    assert!(matches!(open(Access::Write), Err(StoreError::Damaged { .. })));
}

#[test]
fn an_index_that_is_larger_than_any_that_is_written_is_damaged() {
    let (_directory, store) = cache();
    let index =
        fs::OpenOptions::new().write(true).open(store.root().join("docker-archives/index.json")).unwrap();
    index.set_len(1 << 40).unwrap();
    let error = store.snapshot().unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }) && error.is_corrupt(), "{error:?}");
}

#[test]
fn reading_needs_no_write() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none");
    assert!(matches!(Store::open(&missing, Access::Read, &amd64()), Err(StoreError::Absent(_))));
    assert!(!missing.exists());
    let (_directory, store) = cache();
    let entry = Sample::new(&["base"]).publish(&store, "app:1");
    fs::remove_dir_all(store.root().join("state")).unwrap();
    let reader = Store::open(store.root(), Access::Read, &amd64()).unwrap();
    let _lease = reader.lease().unwrap();
    assert_eq!(reader.snapshot().unwrap().entries(), std::slice::from_ref(&entry));
    let image = reader.image(&entry).unwrap();
    assert_eq!(image.config.platform, amd64());
    assert!(image.index.is_some());
    assert!(!store.root().join("state").exists());
}
