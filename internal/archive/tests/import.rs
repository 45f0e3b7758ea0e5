//! Reading what an engine hands out, or what pretends to be that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{self, Read};

use palletjack_archive::{Contents, Found, ImportError, KnownLayers, Shelf, TarError};
use palletjack_image::{Descriptor, Digest, Platform, media_type};
use palletjack_store::{Access, NewEntry, Store};
use tar::{Builder, EntryType, Header};

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

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

    fn read(&self, archive: impl Read) -> Result<Contents, ImportError> {
        let lease = self.store.lease().unwrap();
        Contents::read(&self.store, &lease, archive, &|_| false, &mut |_| true)
    }

    /// What an archive makes of a config, published; or what it lacks.
    fn rebuild(&self, archive: &[u8], config: &Digest) -> Result<Found, ImportError> {
        let snapshot = self.store.snapshot().unwrap();
        let lease = self.store.lease().unwrap();
        let mut shelf =
            Shelf { store: &self.store, snapshot: &snapshot, contents: Some(self.read(archive)?) };
        let found = shelf.rebuilt(config, &amd64(), &KnownLayers::default())?;
        if let Found::All(parts) = &found {
            shelf.keep(&lease, parts)?;
            for blob in parts.layers.iter().chain([&parts.config, &parts.manifest]) {
                let bytes = std::fs::read(self.store.blob_path(&blob.digest)).unwrap();
                assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest, blob.size));
            }
        }
        Ok(found)
    }

    /// Nothing was kept but what an image got, and nothing is on its way.
    fn assert_clean(&self, blobs: usize) {
        let count = |path: &str| std::fs::read_dir(self.store.root().join(path)).map_or(0, Iterator::count);
        assert_eq!(count("docker-archives/blobs/sha256"), blobs);
        assert_eq!(count("state/scratch"), 0);
        assert_eq!(count("state/ingest"), 0);
    }
}

/// Two layers, one of them larger than what is kept in memory, and the config that describes them.
struct Made {
    layers: [Vec<u8>; 2],
    config: Vec<u8>,
}

impl Made {
    fn new() -> Self {
        let layers = [vec![b'a'; 300_000], b"small".to_vec()];
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Self { layers, config: config.to_string().into_bytes() }
    }

    fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// As Docker 20.10 writes it, without what nobody needs.
    fn members(&self) -> Vec<(String, Vec<u8>)> {
        vec![
            ("1/layer.tar".to_owned(), self.layers[0].clone()),
            (format!("{}.json", self.id().hex()), self.config.clone()),
            ("2/layer.tar".to_owned(), self.layers[1].clone()),
            ("manifest.json".to_owned(), b"[]".to_vec()),
        ]
    }
}

fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in members {
        builder.append(&header(name, EntryType::Regular, bytes.len() as u64), &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A header with any name, also one that a tar writer refuses.
fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

#[test]
fn an_image_is_put_together_whatever_the_order_and_the_names() {
    let made = Made::new();
    let mut members = made.members();
    for round in 0..4 {
        members.rotate_left(1);
        if round == 3 {
            for (number, (name, _)) in members.iter_mut().enumerate() {
                *name = format!("file-{number}");
            }
        }
        let cache = Cache::new();
        let Found::All(parts) = cache.rebuild(&tar(&members), &made.id()).unwrap() else { panic!() };
        assert_eq!(parts.layers[0].digest, Digest::of(&made.layers[0]));
        assert_eq!(parts.layers[0].media_type, media_type::OCI_LAYER);
        // Both layers, the config, the manifest; what nobody needs is gone.
        cache.assert_clean(4);
    }
}

#[test]
fn what_is_missing_or_another_is_told_and_nothing_stays() {
    let made = Made::new();
    let cache = Cache::new();
    let lacks = |members: &[(String, Vec<u8>)]| match cache.rebuild(&tar(members), &made.id()) {
        Ok(Found::Lacks(what)) => what,
        other => panic!("{other:?}"),
    };
    let mut members = made.members();
    // One bit of a layer.
    members[0].1[70_000] ^= 1;
    assert!(lacks(&members).starts_with("layer 1 of 2"), "{}", lacks(&members));
    members.remove(0);
    assert!(lacks(&members).starts_with("layer 1 of 2"));
    let mut members = made.members();
    members[2].1.push(b'x');
    assert!(lacks(&members).starts_with("layer 2 of 2"));
    let mut members = made.members();
    members[1].1.push(b' ');
    assert!(lacks(&members).starts_with("the image config"));
    assert!(lacks(&[]).starts_with("the image config"));
    cache.assert_clean(0);
}

#[test]
fn another_platforms_config_and_what_is_none_are_refused() {
    let cache = Cache::new();
    for (config, want) in [
        (
            r#"{"architecture":"arm64","os":"linux","rootfs":{"diff_ids":[]}}"#,
            "for linux/arm64, not for linux/amd64",
        ),
        (r#"{"architecture":"amd64","os":"linux"}"#, "cannot be used"),
        (r#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["md5:00"]}}"#, "cannot be used"),
        ("[]", "cannot be used"),
    ] {
        let archive = tar(&[("x".to_owned(), config.as_bytes().to_vec())]);
        let error = cache.rebuild(&archive, &Digest::of(config.as_bytes())).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert!(!error.is_corrupt() && !error.is_no_space());
    }
    // A layer of many zeros that is named as the config.
    let huge = vec![b' '; 5 << 20];
    let archive = tar(&[("x".to_owned(), huge.clone())]);
    let found = cache.rebuild(&archive, &Digest::of(&huge)).unwrap();
    assert!(matches!(found, Found::Lacks(_)), "{found:?}");
    cache.assert_clean(0);
}

/// A connection that breaks.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn a_stream_that_ends_early_is_no_image() {
    let made = Made::new();
    let archive = tar(&made.members());
    for cut in [1, 511, 512, 700, 200_000, 301_000] {
        let cache = Cache::new();
        match cache.rebuild(&archive[..cut], &made.id()) {
            Err(ImportError::Tar(TarError::Read(_))) | Ok(Found::Lacks(_)) => {}
            other => panic!("{cut}: {other:?}"),
        }
        cache.assert_clean(0);
    }
    // One that breaks after all of the archive has come.
    let cache = Cache::new();
    let error = cache.read((&archive[..]).chain(Broken)).unwrap_err();
    assert!(matches!(error, ImportError::Tar(TarError::Read(_))), "{error}");
    cache.assert_clean(0);
}

#[test]
fn hostile_archives_end_in_an_error_and_leave_nothing() {
    let one = |name: &str, kind, size: u64, content: &[u8]| {
        let mut bytes = header(name, kind, size).as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        bytes
    };
    let file = |name: &str| one(name, EntryType::Regular, 4, b"evil");
    let unframed = |bytes: &[u8]| bytes[..bytes.len() - 1024].to_vec();
    let twice = [unframed(&file("./a/b")), file("a/b")].concat();
    let cache = Cache::new();
    for (what, archive, want) in [
        ("a path out of the root", file("../../etc/passwd"), "leaves its root"),
        ("the same in the middle", file("blobs/../../x"), "leaves its root"),
        ("a hard link out of it", one("x", EntryType::Link, 0, b""), ""),
        ("a size that no file has", one("x", EntryType::Regular, u64::MAX - 5, b""), "cannot be used"),
        ("a size that is not there", one("x", EntryType::Regular, 1 << 40, b"short"), "cannot be used"),
        (
            "a name of 2 MiB",
            one("././@LongLink", EntryType::GNULongName, 2 << 20, &[b'a'; 4096]),
            "too large",
        ),
        ("two files of one name", twice, "twice"),
        ("no tar", vec![b'x'; 2048], "not a tar"),
        ("a web page", b"<html>captive portal</html>".to_vec(), "cannot be"),
    ] {
        match cache.read(&archive[..]) {
            Ok(_) => assert_eq!(want, "", "{what} was taken"),
            Err(error) => {
                let text = format!("{error}");
                assert!(!want.is_empty() && text.contains(want), "{what}: {text}");
            }
        }
        cache.assert_clean(0);
    }
    // An absolute path is one below the archive's root, and no file gets the name of a member anyway.
    assert!(cache.read(&file("/etc/palletjack-test")[..]).is_ok());
    assert!(!std::path::Path::new("/etc/palletjack-test").exists());
}

#[test]
fn links_are_not_followed() {
    let made = Made::new();
    let mut builder = Builder::new(Vec::new());
    for (name, target) in [("3/layer.tar", "../1/layer.tar"), ("x", "/etc/passwd"), ("loop", "loop")] {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }
    for (name, bytes) in made.members() {
        builder.append(&header(&name, EntryType::Regular, bytes.len() as u64), &bytes[..]).unwrap();
    }
    let cache = Cache::new();
    let found = cache.rebuild(&builder.into_inner().unwrap(), &made.id()).unwrap();
    assert!(matches!(found, Found::All(_)));
    let passwd = Digest::of(&std::fs::read("/etc/passwd").unwrap());
    assert_eq!(cache.store.blob(&passwd), None);
    cache.assert_clean(4);
}

#[test]
fn thousands_of_files_are_too_many() {
    let members = |count: usize| {
        let mut bytes = Vec::with_capacity(count * 1024);
        for number in 0..count {
            bytes.extend_from_slice(header(&number.to_string(), EntryType::Regular, 1).as_bytes());
            bytes.push(b'x');
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes
    };
    let cache = Cache::new();
    assert!(cache.read(&members(16_384)[..]).is_ok());
    assert!(matches!(cache.read(&members(16_385)[..]).unwrap_err(), ImportError::TooMany(_)));
    cache.assert_clean(0);
}

#[test]
fn much_that_is_small_goes_to_disk() {
    // 200 files of 60 kB: more than is kept in memory.
    let members: Vec<(String, Vec<u8>)> =
        (0..200_u32).map(|n| (n.to_string(), n.to_le_bytes().repeat(15_000))).collect();
    let cache = Cache::new();
    let contents = cache.read(&tar(&members)[..]).unwrap();
    for (_, bytes) in &members {
        assert_eq!(contents.size(&Digest::of(bytes)), Some(60_000));
    }
    assert!(contents.bytes_written() > 3_000_000 && contents.bytes_written() < 8_000_000);
    assert!(contents.bytes_read() > 12_000_000);
}

#[test]
fn whoever_asked_can_stop_it() {
    let made = Made::new();
    let cache = Cache::new();
    let archive = tar(&made.members());
    let lease = cache.store.lease().unwrap();
    let stopped =
        Contents::read(&cache.store, &lease, &archive[..], &|_| false, &mut |bytes| bytes < 100_000);
    assert!(matches!(stopped.unwrap_err(), ImportError::Stopped));
    cache.assert_clean(0);
}

/// A name's claim is believed where the cache has the content, and then it is the cache's content that counts.
#[test]
fn what_the_cache_has_is_let_pass() {
    let made = Made::new();
    let cache = Cache::new();
    let big = Digest::of(&made.layers[0]);
    let members = [
        (format!("{}.tar", big.hex()), b"not at all that layer".to_vec()),
        (format!("blobs/sha256/{}", Digest::of(b"y").hex()), vec![0; 100_000]),
        ("other".to_owned(), b"z".to_vec()),
    ];
    let lease = cache.store.lease().unwrap();
    let skip = |digest: &Digest| *digest == big || *digest == Digest::of(b"y");
    let contents = Contents::read(&cache.store, &lease, &tar(&members)[..], &skip, &mut |_| true).unwrap();
    assert_eq!(contents.bytes_written(), 0);
    assert_eq!(contents.size(&big), None);
    assert_eq!(contents.size(&Digest::of(b"not at all that layer")), None);
    assert_eq!(contents.size(&Digest::of(b"z")), Some(1));
}

/// A config may lie about what a layer unpacks to: such a blob is not taken for another image.
#[test]
fn a_blob_is_known_by_what_it_unpacks_to_and_not_by_what_is_said_of_it() {
    let cache = Cache::new();
    let lease = cache.store.lease().unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        cache.store.put(&lease, &descriptor, bytes).unwrap();
        descriptor
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let wanted = Digest::of(b"the base layer");
    let publish = |name: &str, layer: &Descriptor| {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "diff_ids": [wanted] },
        });
        let config = put(media_type::OCI_CONFIG, config.to_string().as_bytes());
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer],
        });
        let target = put(media_type::OCI_MANIFEST, manifest.to_string().as_bytes());
        let new = NewEntry {
            reference: name.parse().unwrap(),
            requested: name.to_owned(),
            platform: amd64(),
            manifest: target.clone(),
            target,
            upstream: String::new(),
            pinned: false,
        };
        cache.store.publish(&lease, new).unwrap();
    };
    let known = || {
        let mut known = KnownLayers::default();
        known.learn(&cache.store, &cache.store.snapshot().unwrap(), &[wanted]).unwrap();
        known.get(&wanted).cloned()
    };
    publish("evil/image:1", &put(media_type::OCI_LAYER_GZIP, &gzip(b"something else")));
    publish("evil/image:2", &put(media_type::OCI_LAYER_ZSTD, b"no Zstandard at all"));
    assert_eq!(known(), None);
    let raw = put(media_type::OCI_LAYER, b"the base layer");
    publish("good/image:1", &raw);
    assert_eq!(known(), Some(raw));
    let packed = put(media_type::DOCKER_LAYER, &gzip(b"the base layer"));
    publish("zgood/image:2", &packed);
    assert_eq!(known(), Some(packed), "what is smaller was not preferred");
}
