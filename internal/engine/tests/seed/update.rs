//! What a device does online, later.

use palletjack_testkit::image::ImageBuilder;
use palletjack_testkit::real::Part;
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;

use crate::support::{Cache, layer};
use crate::{Kit, amd64, device, run};

/// A pull of the next version finds the layers that were seeded.
async fn exercise(kit: Kit) {
    let (base, own, changed) = (layer(1, 500_000), layer(2, 100_000), layer(3, 100_000));
    let build = |top| {
        ImageBuilder::new("docker.io/acme/app:1")
            .platform("linux/amd64", [base.clone(), top])
            .index()
            .build()
            .unwrap()
    };
    let (old, new) = (build(own), build(changed.clone()));
    let cache = Cache::new();
    let image = cache.publish(&old, &old.pinned());
    let tree = kit.tree("amd64");
    let device = device(&tree);
    assert_eq!(run(&cache, &device, &[image], kit.programs()).await.assert_whole(), 1);
    assert_eq!(device.platform, Some(amd64()));

    let registry = Registry::start().unwrap();
    registry.publish(&new);
    let engine = kit.ordinary(&tree, &["--registry-mirror".to_owned(), registry.url()]);
    let docker = engine.docker().unwrap();
    let pulled = docker.run(&["pull", &new.pinned()]).unwrap();
    pulled.assert_success();
    // A containerd store does not speak of layers that it has.
    if kit != Kit::Docker28Containerd {
        assert!(pulled.stdout.contains("Already exists"), "{}", pulled.stdout);
    }
    let config = new.platform("linux/amd64").unwrap().config;
    let blobs: Vec<String> = registry
        .requests()
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains("/blobs/"))
        .map(|request| request.path.rsplit('/').next().unwrap().to_owned())
        .collect();
    for blob in &blobs {
        assert!([config.to_string(), changed.digest.to_string()].contains(blob), "{blobs:?}");
    }
    assert_eq!(blobs.len(), 2, "{blobs:?}");
    docker.create_never(&new.pinned()).unwrap().assert_success();
    docker.create_never(&old.pinned()).unwrap().assert_success();
}

#[tokio::test]
async fn docker_20_finds_the_seeded_layers() {
    require_real!(Part::Docker20);
    exercise(Kit::Docker20).await;
}

#[tokio::test]
async fn docker_28_with_a_graph_driver_finds_the_seeded_layers() {
    require_real!(Part::Docker28);
    exercise(Kit::Docker28Graph).await;
}

#[tokio::test]
async fn docker_28_with_a_containerd_store_finds_the_seeded_layers() {
    require_real!(Part::Docker28);
    exercise(Kit::Docker28Containerd).await;
}
