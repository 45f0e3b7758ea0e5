//! The archive as others read it: through a tar reader, and when the cache has gone bad underneath.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use palletjack_archive::{Export, ExportError, Item, Names, SinkClosed, Source, Written};
use palletjack_image::{Descriptor, Digest, Platform, Reference, media_type};
use palletjack_store::{Access, Image, IngestState, NewEntry, Rebuilt, Store};
use proptest::prelude::*;
use serde_json::{Value, json};

struct Cache {
    store: Store,
    _directory: tempfile::TempDir,
}

impl Cache {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Access::Write, &amd64()).unwrap();
        Self { store, _directory: directory }
    }

    fn put(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        let lease = self.store.lease().unwrap();
        let snapshot = self.store.snapshot().unwrap();
        match self.store.ingest(&lease, &snapshot, descriptor.digest, descriptor.size).unwrap() {
            IngestState::Begin(mut ingest) => {
                ingest.write(bytes).unwrap();
                ingest.commit().unwrap();
            }
            IngestState::Present => {}
            IngestState::Busy => panic!("nobody else writes to this cache"),
        }
        descriptor
    }

    /// Publishes an image of the given layers; `{digest}` in the reference becomes the digest of its index.
    fn publish(&self, reference: &str, layers: &[Vec<u8>]) -> Image {
        let layers: Vec<_> =
            layers.iter().map(|layer| (media_type::OCI_LAYER, layer.clone(), Digest::of(layer))).collect();
        self.publish_packed(reference, &layers)
    }

    /// The same of layers that are packed: media type, content, diff ID.
    fn publish_packed(&self, reference: &str, layers: &[(&str, Vec<u8>, Digest)]) -> Image {
        let diff_ids: Vec<Digest> = layers.iter().map(|(_, _, diff_id)| *diff_id).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.put(media_type::OCI_CONFIG, config.to_string().as_bytes());
        let layers: Vec<Descriptor> =
            layers.iter().map(|(media_type, layer, _)| self.put(media_type, layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
        });
        let mut manifest = self.put(media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
        manifest.platform = Some(amd64());
        let absent = Descriptor {
            platform: Some(Platform::new("linux", "arm64", None)),
            ..Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"not fetched"), 11)
        };
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [manifest, absent],
        });
        let target = self.put(media_type::OCI_INDEX, index.to_string().as_bytes());
        let requested = reference.replace("{digest}", &target.digest.to_string());
        let new = NewEntry {
            reference: requested.parse::<Reference>().unwrap(),
            requested,
            platform: amd64(),
            target,
            manifest,
            upstream: "docker.io".to_owned(),
            pinned: false,
        };
        let entry = self.store.publish(&self.store.lease().unwrap(), new).unwrap();
        self.store.image(&entry).unwrap()
    }

    /// Writes to a blob behind the store's back, as a failing medium does.
    fn damage(&self, digest: &Digest, damage: impl FnOnce(&mut fs::File)) {
        let path = self.store.blob_path(digest);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        damage(&mut fs::File::options().read(true).write(true).open(&path).unwrap());
    }
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

fn plan(cache: &Cache, images: &[&Image]) -> Export {
    let items: Vec<Item<'_>> = images.iter().map(|image| Item::whole(image)).collect();
    Export::plan(&cache.store, &items, Names::One).unwrap()
}

/// The archive up to where it ended, and how it ended.
fn collect(export: &Export) -> (Vec<u8>, Result<Written, ExportError>) {
    let mut bytes = Vec::new();
    let result = export.write(&mut |piece: Bytes| {
        bytes.extend_from_slice(&piece);
        Ok(())
    });
    (bytes, result)
}

fn whole(export: &Export) -> Vec<u8> {
    let (bytes, result) = collect(export);
    let expected = Written { bytes: export.length(), layer_bytes: export.layer_bytes() };
    assert_eq!(result.unwrap(), expected);
    assert_eq!(bytes.len() as u64, export.length());
    bytes
}

fn read(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(files.insert(name.clone(), content).is_none(), "{name} is in the archive twice");
    }
    files
}

fn json_of(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap()
}

fn names(index: &Value) -> Vec<&str> {
    let manifests = index["manifests"].as_array().unwrap();
    manifests.iter().map(|entry| entry["annotations"]["io.containerd.image.name"].as_str().unwrap()).collect()
}

/// Content that compresses to nothing and differs by seed.
fn filler(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| seed ^ u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn a_tar_reader_finds_a_layout_and_a_docker_archive() {
    let cache = Cache::new();
    let image =
        cache.publish("caddy:2.6.2@{digest}", &[filler(1, 700_000), filler(2, 10), filler(1, 700_000)]);
    let export = plan(&cache, &[&image]);
    let archive = whole(&export);
    let files = read(&archive);

    assert_eq!(json_of(&files, "oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let index = json_of(&files, "index.json");
    assert_eq!(
        index["manifests"],
        json!([{
            "mediaType": media_type::OCI_INDEX,
            "digest": image.entry.target.digest,
            "size": image.entry.target.size,
            "annotations": {
                "io.containerd.image.name": "docker.io/library/caddy:2.6.2",
                "org.opencontainers.image.ref.name": image.entry.reference.to_string(),
            },
        }])
    );
    let layer = |at: usize| format!("blobs/sha256/{}", image.layers[at].digest.hex());
    assert_eq!(
        json_of(&files, "manifest.json"),
        json!([{
            "Config": format!("blobs/sha256/{}", image.config_descriptor.digest.hex()),
            "RepoTags": ["docker.io/library/caddy:2.6.2"],
            "Layers": [layer(0), layer(1), layer(0)],
        }])
    );
    // Index, manifest, config and two distinct layers.
    let blobs: Vec<_> = files.iter().filter(|(name, _)| name.starts_with("blobs/")).collect();
    assert_eq!(blobs.len(), 5);
    for (name, content) in blobs {
        assert_eq!(*name, format!("blobs/sha256/{}", Digest::of(content).hex()));
    }
    assert_eq!(export.layer_bytes(), 700_010);
    assert_eq!(whole(&plan(&cache, &[&image])), archive, "the same images give the same bytes");

    let mut written = Vec::new();
    export.write_to(&mut written).unwrap();
    assert_eq!(written, archive);
}

#[test]
fn a_pin_is_a_name_of_its_own_where_that_is_asked_for() {
    let cache = Cache::new();
    let old = cache.publish("ghcr.io/acme/two:1@{digest}", &[filler(1, 10)]);
    let new = cache.publish("ghcr.io/acme/two:1@{digest}", &[filler(2, 10)]);
    let digest_only = cache.publish("ghcr.io/acme/three@{digest}", &[filler(3, 10)]);
    let items = [Item { tag: false, ..Item::whole(&old) }, Item::whole(&new), Item::whole(&digest_only)];
    let pin = |image: &Image| image.entry.reference.pinned().unwrap();

    let export = Export::plan(&cache.store, &items, Names::EveryPin).unwrap();
    let files = read(&whole(&export));
    let index = json_of(&files, "index.json");
    assert_eq!(names(&index), [&*pin(&old), "ghcr.io/acme/two:1", &*pin(&new), &*pin(&digest_only)]);
    let manifest = json_of(&files, "manifest.json");
    let tags: Vec<&Value> = manifest.as_array().unwrap().iter().map(|image| &image["RepoTags"]).collect();
    assert_eq!(tags, [&json!([]), &json!(["ghcr.io/acme/two:1"]), &json!([])]);

    let export = Export::plan(&cache.store, &items, Names::One).unwrap();
    let index = json_of(&read(&whole(&export)), "index.json");
    assert_eq!(names(&index), [&*pin(&old), "ghcr.io/acme/two:1", &*pin(&digest_only)]);
}

#[test]
fn what_was_rebuilt_never_has_the_name_of_its_pin() {
    let cache = Cache::new();
    let mut image = cache.publish("ghcr.io/acme/two:1", &[filler(1, 100)]);
    let pin = Digest::of(b"what the registry has");
    image.entry.reference = format!("ghcr.io/acme/two:1@{pin}").parse().unwrap();
    image.entry.rebuilt = Some(Rebuilt { vouched: vec![pin] });
    let own = format!("ghcr.io/acme/two@{}", image.entry.target.digest);
    for kind in [Names::One, Names::EveryPin] {
        for (tag, want) in [(true, "ghcr.io/acme/two:1"), (false, &*own)] {
            let item = Item { tag, ..Item::whole(&image) };
            let files = read(&whole(&Export::plan(&cache.store, &[item], kind).unwrap()));
            assert_eq!(names(&json_of(&files, "index.json")), [want]);
            let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
            assert!(!text("index.json").contains(&pin.hex()), "{}", text("index.json"));
        }
    }
}

#[test]
fn layers_that_the_receiver_has_are_left_out_and_stay_in_the_manifests() {
    let cache = Cache::new();
    let base = filler(1, 5000);
    let first = cache.publish("a:1", &[base.clone(), filler(2, 100)]);
    let second = cache.publish("b:1", &[base, filler(3, 100)]);
    let shared = first.layers[0].digest;
    let omit = HashSet::from([shared]);
    let name = format!("blobs/sha256/{}", shared.hex());

    let items = [Item { omit: omit.clone(), ..Item::whole(&second) }];
    let export = Export::plan(&cache.store, &items, Names::One).unwrap();
    let files = read(&whole(&export));
    assert!(!files.contains_key(&name));
    assert_eq!(json_of(&files, "manifest.json")[0]["Layers"][0], *name);
    assert_eq!((export.layer_bytes(), export.omitted_bytes()), (100, 5000));
    let omitted = |member: &&palletjack_archive::Member| matches!(member.source, Source::Omit(_));
    assert_eq!(export.members().iter().filter(omitted).count(), 1);

    // The other image needs it: what one may leave out is then sent all the same.
    for items in [
        [Item { omit: omit.clone(), ..Item::whole(&second) }, Item::whole(&first)],
        [Item::whole(&first), Item { omit, ..Item::whole(&second) }],
    ] {
        let export = Export::plan(&cache.store, &items, Names::One).unwrap();
        assert!(read(&whole(&export)).contains_key(&name));
    }
}

#[test]
fn a_corrupt_layer_is_named_and_never_completed() {
    // One piece, exactly one piece, several pieces.
    for length in [10, 512 << 10, (512 << 10) + 1, 3 << 20] {
        let cache = Cache::new();
        let image = cache.publish("caddy:2", &[filler(1, 600), filler(2, length)]);
        let bad = image.layers[1].digest;
        cache.damage(&bad, |file| {
            file.seek(SeekFrom::Start(7)).unwrap();
            file.write_all(b"X").unwrap();
        });
        let export = plan(&cache, &[&image]);
        let (bytes, result) = collect(&export);
        let error = result.unwrap_err();
        assert!(error.is_corrupt());
        let ExportError::Corrupt { digest, path, image: named, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*digest, &**named), (bad, "caddy:2"));
        assert_eq!(*path, cache.store.blob_path(&bad));
        assert!(error.to_string().contains(&bad.to_string()), "{error}");

        let tail = 1024 + (length as u64).next_multiple_of(512) - length as u64;
        assert!((bytes.len() as u64) < export.length() - tail, "the layer was completed");
        let cut = tar::Archive::new(&*bytes)
            .entries()
            .unwrap()
            .any(|entry| entry.and_then(|mut entry| entry.read_to_end(&mut Vec::new())).is_err());
        assert!(cut, "a reader takes the archive for whole");
    }
}

#[test]
fn a_layer_of_another_length_is_named() {
    let cache = Cache::new();
    let image = cache.publish("caddy:2", &[filler(1, 2000)]);
    let bad = image.layers[0].digest;
    let export = plan(&cache, &[&image]);
    for length in [0, 1999, 2001] {
        cache.damage(&bad, |file| file.set_len(length).unwrap());
        let error = collect(&export).1.unwrap_err();
        assert!(error.is_corrupt(), "{error:?}");
        let told = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(told.contains("caddy:2") && told.contains(&bad.to_string()), "{told}");
    }
    fs::remove_file(cache.store.blob_path(&bad)).unwrap();
    assert!(collect(&export).1.unwrap_err().is_corrupt());
}

#[test]
fn a_bad_config_is_found_before_anything_is_sent() {
    let cache = Cache::new();
    let mut image = cache.publish("caddy:2", &[filler(1, 10)]);
    image.config_bytes = Bytes::from_static(b"{}");
    let error = Export::plan(&cache.store, &[Item::whole(&image)], Names::One).unwrap_err();
    let ExportError::Corrupt { digest, .. } = error else { panic!("{error:?}") };
    assert_eq!(digest, image.config_descriptor.digest);
}

#[test]
fn a_receiver_that_has_enough_ends_the_stream() {
    let cache = Cache::new();
    let image = cache.publish("caddy:2", &[filler(1, 3 << 20)]);
    let mut pieces = 0;
    let result = plan(&cache, &[&image]).write(&mut |_| {
        pieces += 1;
        if pieces == 4 { Err(SinkClosed) } else { Ok(()) }
    });
    assert!(matches!(result, Err(ExportError::Closed(SinkClosed))));
    assert_eq!(pieces, 4);
}

fn zstd_layer(content: &[u8]) -> (&'static str, Vec<u8>, Digest) {
    // Two frames, as a parallel packer makes them.
    let (first, second) = content.split_at(content.len() / 2);
    let mut packed = zstd::encode_all(first, 3).unwrap();
    packed.extend(zstd::encode_all(second, 3).unwrap());
    (media_type::OCI_LAYER_ZSTD, packed, Digest::of(content))
}

fn gzip_only(image: &Image) -> Item<'_> {
    Item { gzip_only: true, ..Item::whole(image) }
}

#[test]
fn zstandard_travels_as_gzip_where_that_is_asked_for() {
    let cache = Cache::new();
    let (plain, content) = (filler(1, 700), filler(2, 1_500_000));
    let image = cache.publish_packed(
        "caddy:2",
        &[(media_type::OCI_LAYER, plain.clone(), Digest::of(&plain)), zstd_layer(&content)],
    );
    let before = fs::read(cache.store.blob_path(&image.layers[1].digest)).unwrap();
    let export = Export::plan(&cache.store, &[gzip_only(&image)], Names::One).unwrap();
    let (archive, result) = collect(&export);
    let written = result.unwrap();
    let files = read(&archive);

    let recoded = format!("recoded/{}.tar.gz", image.layers[1].digest.hex());
    let untouched = format!("blobs/sha256/{}", image.layers[0].digest.hex());
    let config = format!("blobs/sha256/{}", image.config_descriptor.digest.hex());
    let mut names: Vec<&str> = files.keys().map(String::as_str).collect();
    let mut expected = vec!["manifest.json", &recoded, &untouched, &config];
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected, "what names the layer as it was is left out");
    assert_eq!(json_of(&files, "manifest.json")[0]["Layers"], json!([untouched, recoded]));
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(&files[&recoded][..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == content);
    assert_eq!(written.bytes, archive.len() as u64);
    assert_eq!(written.layer_bytes, 700 + files[&recoded].len() as u64);

    assert_eq!(fs::read(cache.store.blob_path(&image.layers[1].digest)).unwrap(), before);
    assert_eq!(fs::read_dir(cache.store.root().join("state/ingest")).unwrap().count(), 0);

    // Left out like any other.
    let omit = HashSet::from([image.layers[1].digest]);
    let export = Export::plan(&cache.store, &[Item { omit, ..gzip_only(&image) }], Names::One).unwrap();
    let files = read(&whole(&export));
    assert!(!files.contains_key(&recoded));
    // Asked for, and nothing to recode: the archive is what it always is.
    let gzip = cache.publish("other:1", &[plain]);
    let export = Export::plan(&cache.store, &[gzip_only(&gzip)], Names::One).unwrap();
    assert_eq!(whole(&export), whole(&plan(&cache, &[&gzip])));
}

#[test]
fn a_corrupt_layer_is_not_recoded() {
    let cache = Cache::new();
    let image = cache.publish_packed("caddy:2", &[zstd_layer(&filler(2, 900_000))]);
    let bad = image.layers[0].digest;
    let length = image.layers[0].size;
    let export = Export::plan(&cache.store, &[gzip_only(&image)], Names::One).unwrap();
    // In the first frame's header, in the middle, in the last checksum.
    for at in [0, length / 2, length - 1] {
        cache.damage(&bad, |file| {
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte[0] ^ 0x10]).unwrap();
        });
        let (bytes, result) = collect(&export);
        let error = result.unwrap_err();
        assert!(matches!(&error, ExportError::Corrupt { digest, .. } if *digest == bad), "{error:?}");
        assert!(!read_names(&bytes).iter().any(|name| name.starts_with("recoded/")), "it was begun");
    }
}

/// The members of an archive that may end early.
fn read_names(archive: &[u8]) -> Vec<String> {
    let mut reader = tar::Archive::new(archive);
    let entries = reader.entries().unwrap().map_while(Result::ok);
    entries.map(|entry| entry.path().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn what_only_calls_itself_zstandard_is_named() {
    let cache = Cache::new();
    let content = filler(3, 5000);
    let diff_id = Digest::of(&content);
    let image = cache.publish_packed("caddy:2", &[(media_type::OCI_LAYER_ZSTD, content, diff_id)]);
    let export = Export::plan(&cache.store, &[gzip_only(&image)], Names::One).unwrap();
    let error = collect(&export).1.unwrap_err();
    assert!(matches!(error, ExportError::Recode { .. }), "{error:?}");
    assert!(!error.is_corrupt());
    let nowhere = export.with_scratch("/proc/no/such/place".into());
    assert!(matches!(collect(&nowhere).1.unwrap_err(), ExportError::Scratch { .. }));
}

#[test]
fn a_receiver_that_went_away_ends_the_recoding() {
    let cache = Cache::new();
    let image = cache.publish_packed("caddy:2", &[zstd_layer(&filler(2, 3 << 20))]);
    let export = Export::plan(&cache.store, &[gzip_only(&image)], Names::One).unwrap();
    let mut questions = 0;
    let result = export.write(&mut |piece| {
        questions += usize::from(piece.is_empty());
        if questions == 3 { Err(SinkClosed) } else { Ok(()) }
    });
    assert!(matches!(result, Err(ExportError::Closed(SinkClosed))));
    assert_eq!(questions, 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_length_is_exact_and_every_byte_arrives(
        sizes in prop::collection::vec(
            prop_oneof![0_usize..3, 510_usize..515, 1022_usize..1027, 524_286_usize..524_291],
            1..5,
        )
    ) {
        let cache = Cache::new();
        let layers: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(seed, size)| filler(u8::try_from(seed).unwrap(), *size))
            .collect();
        let image = cache.publish("caddy:2", &layers);
        let files = read(&whole(&plan(&cache, &[&image])));
        for (layer, content) in image.layers.iter().zip(&layers) {
            prop_assert_eq!(&files[&format!("blobs/sha256/{}", layer.digest.hex())], content);
        }
    }
}
