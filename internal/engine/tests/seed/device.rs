//! Which image store a device's engine will use.

use palletjack_engine::seed::{Device, SeedError, StoreKind, Target, Wishes};

use crate::tree::FakeTree;

fn tree(version: &str, daemon_json: &str) -> FakeTree {
    let tree = FakeTree::new("arm64");
    tree.docker(version);
    if !daemon_json.is_empty() {
        tree.write("etc/docker/daemon.json", daemon_json);
    }
    tree
}

fn find(tree: &FakeTree, store: Option<StoreKind>) -> Result<Device, SeedError> {
    let wishes = Wishes { store, ..Wishes::default() };
    Device::find(&Target::Root(tree.root().to_owned()), &wishes)
}

#[test]
fn settings_then_what_is_there_then_the_version_decide() {
    use StoreKind::{Containerd, Graph};
    const ON: &str = r#"{"features":{"containerd-snapshotter":true}}"#;
    const OFF: &str = r#"{"features":{"containerd-snapshotter":false}}"#;
    const USED: &str = "overlay2/l/x";
    for (version, json, there, want, driver) in [
        ("20.10.24", "", "", Graph, "overlay2"),
        ("28.5.2", "", "", Graph, "overlay2"),
        ("28.5.2", ON, "", Containerd, "overlayfs"),
        ("29.0.1", "", "", Containerd, "overlayfs"),
        ("29.0.1", OFF, "", Graph, "overlay2"),
        ("29.0.1", "", USED, Graph, "overlay2"),
        ("29.0.1", r#"{"storage-driver":"overlay2"}"#, "", Graph, "overlay2"),
        ("29.0.1", r#"{"storage-driver":"native"}"#, "", Containerd, "native"),
        ("20.10.24", r#"{"storage-driver":"vfs"}"#, "", Graph, "vfs"),
        ("20.10.24", "", "btrfs/subvolumes/x", Graph, "btrfs"),
    ] {
        let tree = tree(version, json);
        if !there.is_empty() {
            tree.write(&format!("var/lib/docker/{there}"), "");
        }
        let device = find(&tree, None).unwrap();
        assert_eq!((device.store, &*device.storage_driver), (want, driver), "{version} {json} {there}");
        let root = std::fs::canonicalize(tree.root()).unwrap();
        assert_eq!(device.data_root, root.join("var/lib/docker"));
        assert_eq!(device.containerd_root, root.join("var/lib/docker/private-containerd"));
        assert_eq!(device.version.as_deref(), Some(version));
        assert_eq!(device.platform.unwrap().to_string(), "linux/arm64");
        // The same said again is no matter; the other one is.
        assert!(find(&tree, Some(want)).is_ok());
        let other = if want == Graph { Containerd } else { Graph };
        let error = find(&tree, Some(other)).unwrap_err();
        assert!(matches!(&error, SeedError::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains("containerd-snapshotter"), "{error}");
    }
}

#[test]
fn images_that_the_engine_would_not_see_are_told() {
    let tree = tree("28.5.2", r#"{"features":{"containerd-snapshotter":true}}"#);
    tree.write("var/lib/docker/overlay2/l/x", "");
    assert!(find(&tree, None).is_ok());
    tree.write("var/lib/docker/image/overlay2/imagedb/content/sha256/00", "");
    let error = find(&tree, None).unwrap_err().to_string();
    assert!(
        error.contains("has images of a graph driver") && error.contains("or remove that directory"),
        "{error}"
    );

    let tree = self::tree("28.5.2", "");
    tree.write("var/lib/docker/private-containerd/io.containerd.content.v1.content/blobs/sha256/00", "");
    let error = find(&tree, None).unwrap_err().to_string();
    assert!(error.contains("has images of containerd's"), "{error}");
}

#[test]
fn a_data_root_alone_goes_by_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let target = Target::DataRoot(directory.path().join("docker"));
    let find = |wishes: &Wishes| Device::find(&target, wishes);
    let none = Wishes::default();
    assert!(matches!(find(&none), Err(SeedError::UnknownStore { .. })));
    let here = Wishes { version: Some("28.5.2".to_owned()), ..Wishes::default() };
    assert_eq!(find(&here).unwrap().store, StoreKind::Graph);
    let asked = Wishes { store: Some(StoreKind::Containerd), ..here.clone() };
    let device = find(&asked).unwrap();
    assert_eq!(device.store, StoreKind::Containerd);
    assert!(device.containerd_root.ends_with("docker/containerd/daemon"));
    let content = "docker/containerd/daemon/io.containerd.content.v1.content/blobs/sha256/00";
    std::fs::create_dir_all(directory.path().join(content)).unwrap();
    assert_eq!(find(&here).unwrap().store, StoreKind::Containerd);
    let other = Wishes { store: Some(StoreKind::Graph), ..Wishes::default() };
    assert!(matches!(find(&other), Err(SeedError::Mismatch { .. })));
    let nowhere = Target::DataRoot("/no/such/place/docker".into());
    assert!(matches!(Device::find(&nowhere, &none), Err(SeedError::NoDirectory { .. })));
}
