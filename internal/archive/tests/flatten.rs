//! The files of images, against what layers mean.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use palletjack_archive::{FlattenError, Kind, TarError, Tarball, Tree, flatten};
use palletjack_image::{Descriptor, Digest, Manifest, ManifestKind, Platform};
use palletjack_store::{Access, Image, NewEntry, Store};
use palletjack_testkit::image::{Compression, ImageBuilder, Layer, LayerBuilder};
use proptest::prelude::*;

struct Cache {
    store: Store,
    _directory: tempfile::TempDir,
}

impl Cache {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let platform = Platform::new("linux", "amd64", None);
        let store = Store::open(directory.path(), Access::Write, &platform).unwrap();
        Self { store, _directory: directory }
    }

    fn publish(&self, layers: Vec<Layer>) -> Image {
        let image = ImageBuilder::new("acme/x:1").platform("linux/amd64", layers).build().unwrap();
        let manifest = Manifest::parse(image.top.bytes.clone(), Some(image.top.media_type)).unwrap();
        let lease = self.store.lease().unwrap();
        let put = |descriptor: &Descriptor, bytes: &[u8]| self.store.put(&lease, descriptor, bytes).unwrap();
        put(&manifest.descriptor(), manifest.bytes());
        let ManifestKind::Image(parts) = manifest.kind() else { panic!() };
        for blob in parts.layers.iter().chain([&parts.config]) {
            let mut bytes = Vec::new();
            image.blobs[&blob.digest].reader(0).unwrap().read_to_end(&mut bytes).unwrap();
            put(blob, &bytes);
        }
        let new = NewEntry {
            reference: "acme/x:1".parse().unwrap(),
            requested: "acme/x:1".to_owned(),
            platform: Platform::new("linux", "amd64", None),
            target: manifest.descriptor(),
            manifest: manifest.descriptor(),
            upstream: String::new(),
            pinned: false,
        };
        let entry = self.store.publish(&lease, new).unwrap();
        self.store.image(&entry).unwrap()
    }

    fn flatten(&self, layers: Vec<Layer>) -> BTreeMap<String, String> {
        show(&flatten(&self.store, &self.publish(layers)).unwrap())
    }
}

/// A tree as text: `dir`, `-> target`, or a file's content by its digest.
fn show(tree: &Tree) -> BTreeMap<String, String> {
    let known = ["", "one", "two", "three", "#!/bin/sh"].map(|text| (Digest::of(text.as_bytes()), text));
    tree.iter()
        .map(|(path, node)| {
            let text = match &node.kind {
                Kind::Directory => "dir".to_owned(),
                Kind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
                Kind::File { size, digest } => known
                    .iter()
                    .find(|(known, text)| known == digest && text.len() as u64 == *size)
                    .map_or_else(|| format!("{size} bytes"), |(_, text)| (*text).to_owned()),
                other => format!("{other:?}"),
            };
            (String::from_utf8(path.to_vec()).unwrap(), text)
        })
        .collect()
}

fn tree<const N: usize>(nodes: [(&str, &str); N]) -> BTreeMap<String, String> {
    nodes.into_iter().map(|(path, what)| (path.to_owned(), what.to_owned())).collect()
}

fn layer(build: impl FnOnce(LayerBuilder) -> LayerBuilder) -> Layer {
    build(LayerBuilder::new()).build().unwrap()
}

#[test]
fn higher_layers_replace_and_hide() {
    let cache = Cache::new();
    let base = layer(|l| {
        l.directory("etc")
            .file("etc/a", "one")
            .file("etc/b", "one")
            .directory("opt")
            .file("opt/x/deep/file", "one")
            .file("opt/y", "one")
            .symlink("lib", "usr/lib")
            .program("bin/sh", "#!/bin/sh")
            .hardlink("bin/ash", "bin/sh")
    });
    let next = layer(|l| {
        l.file("etc/a", "two")
            .whiteout("etc/b")
            // Files of the same layer stay, whichever comes first.
            .file("opt/new", "two")
            .opaque("opt")
            .file("opt/newer", "three")
    });
    let seen = cache.flatten(vec![base.clone(), next.clone()]);
    let want = tree([
        ("bin", "dir"),
        ("bin/ash", "#!/bin/sh"),
        ("bin/sh", "#!/bin/sh"),
        ("etc", "dir"),
        ("etc/a", "two"),
        ("lib", "-> usr/lib"),
        ("opt", "dir"),
        ("opt/new", "two"),
        ("opt/newer", "three"),
    ]);
    assert_eq!(seen, want);

    // A name changes what it is: a directory goes with all that is in it.
    let swap = layer(|l| l.file("opt", "three").directory("etc/a").file("etc/a/in", "two").whiteout("bin"));
    let seen = cache.flatten(vec![base, next, swap]);
    let want = tree([
        ("etc", "dir"),
        ("etc/a", "dir"),
        ("etc/a/in", "two"),
        ("lib", "-> usr/lib"),
        ("opt", "three"),
    ]);
    assert_eq!(seen, want);
}

#[test]
fn a_whiteout_hides_a_name_and_not_its_neighbours() {
    let cache = Cache::new();
    let base =
        layer(|l| l.file("a/b/file", "one").file("a/b.txt", "one").file("a/b0", "one").file("a/bb/c", "one"));
    let seen = cache.flatten(vec![base, layer(|l| l.whiteout("a/b").whiteout("a/absent"))]);
    let want = tree([("a", "dir"), ("a/b.txt", "one"), ("a/b0", "one"), ("a/bb", "dir"), ("a/bb/c", "one")]);
    assert_eq!(seen, want);
}

#[test]
fn every_compression_gives_the_same_files() {
    let cache = Cache::new();
    let build = |compression| layer(|l| l.filler("f", 1, 300_000).file("a", "one").compression(compression));
    let trees = [Compression::Gzip, Compression::Zstd, Compression::None]
        .map(|compression| flatten(&cache.store, &cache.publish(vec![build(compression)])).unwrap());
    assert_eq!(trees[0], trees[1]);
    assert_eq!(trees[0], trees[2]);
    assert_eq!(trees[0].len(), 2);

    // gzip in several members, as pigz and eStargz write it.
    let plain = build(Compression::None);
    let mut tar = Vec::new();
    plain.blob.reader(0).unwrap().read_to_end(&mut tar).unwrap();
    let mut packed = Vec::new();
    for piece in tar.chunks(70_000) {
        let mut gzip = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        gzip.write_all(piece).unwrap();
        gzip.finish().unwrap();
    }
    let members = Layer {
        digest: Digest::of(&packed),
        size: packed.len() as u64,
        compression: Compression::Gzip,
        blob: packed.into(),
        ..plain
    };
    assert_eq!(flatten(&cache.store, &cache.publish(vec![members])).unwrap(), trees[0]);
}

#[test]
fn files_below_a_symbolic_link_depend_on_the_engine() {
    let cache = Cache::new();
    let base = layer(|l| l.file("usr/lib/a", "one").symlink("lib", "usr/lib"));
    let image = cache.publish(vec![base, layer(|l| l.file("lib/b", "two"))]);
    let tree = flatten(&cache.store, &image).unwrap();
    assert_eq!(tree.ambiguous(), [b"lib".to_vec().into_boxed_slice()]);
    assert_eq!(tree.get(b"lib").unwrap().kind, Kind::Directory);
}

#[test]
fn what_is_no_layer_is_said_by_name() {
    let cache = Cache::new();
    let image = cache.publish(vec![layer(|l| l.filler("f", 3, 200_000))]);
    let digest = image.layers[0].digest;
    let path = cache.store.blob_path(&digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, &bytes).unwrap();
    let error = flatten(&cache.store, &image).unwrap_err();
    assert!(matches!(&error, FlattenError::Corrupt { digest: named, .. } if *named == digest), "{error:?}");
    assert!(error.is_corrupt() && error.to_string().contains("acme/x:1"), "{error}");

    let junk = b"this is no tar at all".repeat(100);
    let not_a_tar = Layer {
        digest: Digest::of(&junk),
        diff_id: Digest::of(&junk),
        size: junk.len() as u64,
        unpacked_size: junk.len() as u64,
        compression: Compression::None,
        blob: junk.into(),
    };
    let error = flatten(&cache.store, &cache.publish(vec![not_a_tar])).unwrap_err();
    assert!(!error.is_corrupt());
    assert!(matches!(error, FlattenError::Layer { source: TarError::Malformed(_), .. }), "{error:?}");
}

/// What an engine would export, as a tar.
fn export(build: impl FnOnce(LayerBuilder) -> LayerBuilder) -> Vec<u8> {
    let layer = layer(|l| build(l.directory("bin")).compression(Compression::None));
    let mut bytes = Vec::new();
    layer.blob.reader(0).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn differences_are_found_and_named() {
    let cache = Cache::new();
    let base = |l: LayerBuilder| {
        l.directory("etc")
            .file("etc/a", "one")
            .program("etc/run", "two")
            .program("bin/sh", "#!/bin/sh")
            .hardlink("bin/ash", "bin/sh")
            .symlink("lib", "usr/lib")
            .file("dev/null", "")
    };
    let image = cache.publish(vec![layer(base)]);
    let ignore = |path: &[u8]| path == b".dockerenv" || path.starts_with(b"dev");
    let compare = |exported: Vec<u8>| {
        let tree = flatten(&cache.store, &image).unwrap();
        let found = tree.compare(&mut Tarball::new(&exported[..]), &ignore).unwrap();
        let told: Vec<String> = found.first.iter().map(ToString::to_string).collect();
        assert_eq!(found.different, told.len() as u64);
        assert_eq!(found.is_whole(), told.is_empty());
        told
    };
    // What the engine adds is no difference, nor which of two names is the link.
    let whole = |l: LayerBuilder| l.file(".dockerenv", "x").directory("dev/pts").directory("proc");
    assert_eq!(compare(export(|l| base(whole(l)))), [""; 0]);
    let other_way = export(|l| {
        l.directory("etc")
            .file("etc/a", "one")
            .program("etc/run", "two")
            .program("bin/ash", "#!/bin/sh")
            .hardlink("bin/sh", "bin/ash")
            .symlink("lib", "usr/lib")
    });
    assert_eq!(compare(other_way), [""; 0]);

    let emptied = export(|l| {
        l.directory("etc")
            .file("etc/a", "")
            .program("etc/run", "two")
            .program("bin/sh", "")
            .hardlink("bin/ash", "bin/sh")
            .symlink("lib", "usr/lib")
    });
    assert_eq!(
        compare(emptied),
        ["/etc/a has 0 bytes instead of 3", "/bin/sh has 0 bytes instead of 9", "/bin/ash has other content"]
    );
    let changed = export(|l| {
        l.directory("etc")
            .directory("etc/a")
            .file("etc/run", "two")
            .file("bin/sh", "#!/bin/sh")
            .file("extra", "one")
            .symlink("lib", "usr/lib64")
    });
    assert_eq!(
        compare(changed),
        [
            "/etc/a is another kind of file",
            "/etc/run has the mode 644 instead of 755",
            "/extra should not be there",
            "/lib is another kind of file",
            "/bin/ash is missing",
        ]
    );
    let one_byte = export(|l| base(l).file("etc/a", "two"));
    assert_eq!(compare(one_byte), ["/etc/a has other content"]);
}

#[derive(Debug, Clone)]
enum Step {
    File(&'static str, &'static str),
    Directory(&'static str),
    Whiteout(&'static str),
    Opaque(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let path = prop::sample::select(vec!["a", "b", "a/x", "a/y", "a/x/1", "a/x/2", "b/x"]);
    let text = prop::sample::select(vec!["one", "two", "three"]);
    prop_oneof![
        (path.clone(), text).prop_map(|(path, text)| Step::File(path, text)),
        path.clone().prop_map(Step::Directory),
        path.clone().prop_map(Step::Whiteout),
        path.prop_map(Step::Opaque),
    ]
}

/// The plainest reading of the specification: a layer's whiteouts act on what is below, then its files are put there.
fn model(layers: &[Vec<Step>]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let below = |path: &str, of: &str| path.starts_with(&format!("{of}/"));
    for layer in layers {
        for step in layer {
            match step {
                Step::Whiteout(path) => all.retain(|known, _| known != path && !below(known, path)),
                Step::Opaque(path) => all.retain(|known, _| !below(known, path)),
                _ => {}
            }
        }
        for step in layer {
            let (path, what) = match step {
                Step::File(path, text) => (*path, (*text).to_owned()),
                Step::Directory(path) => (*path, "dir".to_owned()),
                _ => continue,
            };
            for (slash, _) in path.match_indices('/') {
                all.insert(path[..slash].to_owned(), "dir".to_owned());
            }
            if what != "dir" {
                all.retain(|known, _| !below(known, path));
            }
            all.insert(path.to_owned(), what);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers_mean_what_the_specification_says(
        layers in prop::collection::vec(prop::collection::vec(step(), 0..6), 1..4)
    ) {
        let cache = Cache::new();
        let built = layers.iter().enumerate().map(|(index, steps)| {
            // Each layer another one, also where the steps are the same.
            let mut layer = LayerBuilder::new().file("layer", "x".repeat(index + 10));
            for step in steps {
                layer = match step {
                    Step::File(path, text) => layer.file(path, *text),
                    Step::Directory(path) => layer.directory(path),
                    Step::Whiteout(path) => layer.whiteout(path),
                    Step::Opaque(path) => layer.opaque(path),
                };
            }
            layer.build().unwrap()
        }).collect();
        let mut seen = cache.flatten(built);
        seen.remove("layer");
        prop_assert_eq!(seen, model(&layers));
    }
}
