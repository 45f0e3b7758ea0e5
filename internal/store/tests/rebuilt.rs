//! Images that were put together from an engine: how they are written, read and replaced.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use palletjack_image::{Descriptor, Digest, Platform, media_type};
use palletjack_store::{Access, Depth, NewEntry, Rebuilt, Store};
use serde_json::Value;

fn put(store: &Store, media_type: &str, bytes: &[u8]) -> Descriptor {
    let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
    store.put(&store.lease().unwrap(), &descriptor, bytes).unwrap();
    descriptor
}

/// An image with one raw layer.
fn image(store: &Store, layer: &str) -> Descriptor {
    let layer = put(store, media_type::OCI_LAYER, layer.as_bytes());
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        layer.digest
    );
    let config = put(store, media_type::OCI_CONFIG, config.as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer],
    });
    put(store, media_type::OCI_MANIFEST, manifest.to_string().as_bytes())
}

fn entry(reference: &str, target: &Descriptor) -> NewEntry {
    NewEntry {
        reference: reference.parse().unwrap(),
        requested: reference.to_owned(),
        platform: Platform::new("linux", "amd64", None),
        target: target.clone(),
        manifest: target.clone(),
        upstream: "unix:///run/docker.sock".to_owned(),
        pinned: false,
    }
}

#[test]
fn it_keeps_its_mark_and_never_has_the_pin_as_a_name() {
    let root = tempfile::tempdir().unwrap();
    let platform = Platform::new("linux", "amd64", None);
    let store = Store::open(root.path(), Access::Write, &platform).unwrap();
    let lease = store.lease().unwrap();
    let (upstream, other) = (Digest::of(b"the registry's index"), Digest::of(b"its manifest"));
    let reference = format!("docker.io/library/caddy:2@{upstream}");
    let rebuilt = Rebuilt { vouched: vec![upstream, other] };
    let target = image(&store, "a layer");
    let published = store.publish_rebuilt(&lease, entry(&reference, &target), rebuilt.clone()).unwrap();
    assert_eq!(published.rebuilt.as_ref(), Some(&rebuilt));

    // Something else is published; the mark stays, and what a newer program may have added to the line does no harm.
    store.publish(&lease, entry("docker.io/library/caddy:3", &image(&store, "another"))).unwrap();
    let path = root.path().join("docker-archives/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    index["manifests"][0]["annotations"]["io.palletjack.newer"] = "x".into();
    std::fs::write(&path, index.to_string()).unwrap();
    let snapshot = store.snapshot().unwrap();
    let found = snapshot.find(&reference.parse().unwrap(), &platform).unwrap();
    assert_eq!((found, found.target.digest), (&published, target.digest));
    assert_eq!(snapshot.entries().iter().filter(|entry| entry.rebuilt.is_some()).count(), 1);
    let names = |index: &Value| {
        let names = index["manifests"].as_array().unwrap().iter();
        names
            .map(|one| one["annotations"]["io.containerd.image.name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(names(&index).iter().all(|name| !name.contains(&upstream.to_string())), "{index}");

    let report = store.check(&lease, Depth::Deep, &|_| true).unwrap();
    assert_eq!(report.problems, []);

    // What the registry has takes its place, and its layer is then nobody's.
    store.publish(&lease, entry(&reference, &image(&store, "the real one"))).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.find(&reference.parse().unwrap(), &platform).unwrap().rebuilt, None);
    drop(lease);
    assert_eq!(store.sweep().unwrap().unwrap().blobs, 3);
}
