//! What the tools and daemons of the field make of it.

use palletjack_registry::serve::MirrorOptions;
use palletjack_store::Image;
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Skopeo, Store};
use palletjack_testkit::require_real;

use crate::support::{Cache, PATIENCE, image};

/// Runs what waits for a process on a thread of its own, so that the server goes on.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn skopeo(skopeo: Skopeo) {
    let cache = Cache::new();
    // Docker's types and OCI's.
    for seed in [101, 102] {
        let built = image(&format!("ghcr.io/acme/skopeo{seed}:1"), seed);
        cache.publish(&built, &built.pinned());
    }
    let mirror = cache.serve().await;
    let host = mirror.address().to_string();
    let snapshot = cache.store.snapshot().unwrap();
    let images: Vec<Image> =
        snapshot.entries().iter().map(|entry| cache.store.image(entry).unwrap()).collect();
    let store = cache.store.clone();
    beside(move || {
        for image in images {
            let (path, target) = (image.entry.reference.path().to_owned(), image.entry.target.clone());
            for reference in [format!("{path}:1"), format!("{path}@{}", target.digest)] {
                let reference = format!("docker://{host}/{reference}");
                let raw = skopeo.raw_manifest(&reference).unwrap();
                assert_eq!(raw.as_bytes(), store.read(&target).unwrap());
                let platform = ["--override-os=linux", "--override-arch=amd64"];
                let directory = tempfile::tempdir().unwrap();
                let to = format!("oci:{}:copied", directory.path().display());
                let plain = ["copy", "--quiet", "--src-tls-verify=false", &reference, &to];
                skopeo.run(&[&platform[..], &plain[..]].concat()).unwrap().assert_success();
                for layer in &image.layers {
                    let copied = directory.path().join("blobs/sha256").join(layer.digest.hex());
                    assert_eq!(std::fs::metadata(copied).unwrap().len(), layer.size);
                }
            }
            let tags = skopeo
                .run(&["list-tags", "--tls-verify=false", &format!("docker://{host}/{path}")])
                .unwrap()
                .ok()
                .unwrap();
            assert!(tags.contains("\"1\""), "{tags}");
            let other = format!("docker://{host}/{path}:2");
            let refused = skopeo.run(&["inspect", "--tls-verify=false", &other]).unwrap();
            assert!(!refused.success());
            assert!(refused.stderr.contains("not in the cache"), "{}", refused.stderr);
        }
    })
    .await;
    let served = mirror.stop(PATIENCE).await;
    assert!(served.blobs > 0 && served.blob_bytes > 0, "{served:?}");
}

#[tokio::test]
async fn skopeo_1_9_copies_from_it() {
    require_real!(Part::Skopeo);
    skopeo(Skopeo::debian().unwrap()).await;
}

#[tokio::test]
async fn skopeo_1_22_copies_from_it() {
    require_real!(Part::Skopeo122);
    skopeo(beside(Skopeo::forky).await.unwrap()).await;
}

/// A daemon that has it as its mirror for docker.io pulls by tag and by digest; what the cache lacks it does not get
/// from us.
async fn docker(start: impl FnOnce(DockerdOptions) -> std::io::Result<Dockerd> + Send + 'static) {
    let cache = Cache::new();
    let images = [
        ("acme/deep/er/tagged:1", 111, false),
        ("caddy:2.6.2", 112, true),
        ("acme/pinned:1", 113, true),
        ("acme/pinned:1", 114, true),
    ]
    .map(|(name, seed, pin)| {
        let built = image(name, seed);
        cache.publish(&built, &if pin { built.pinned() } else { built.tagged() })
    });
    let elsewhere = image("ghcr.io/acme/elsewhere:1", 115);
    cache.publish(&elsewhere, &elsewhere.pinned());
    let hub = Some("docker.io".to_owned());
    let mirror = cache.serve_with(MirrorOptions { registry: hub, ..MirrorOptions::default() }).await;
    let url = format!("http://{}", mirror.address());
    let engine = beside(move || {
        let args = vec!["--registry-mirror".to_owned(), url];
        // Nothing but the mirror may answer.
        let env = ["HTTP_PROXY", "HTTPS_PROXY"]
            .map(|name| (name.to_owned(), "http://127.0.0.1:9".to_owned()))
            .into_iter()
            .chain([("NO_PROXY".to_owned(), "127.0.0.1".to_owned())])
            .collect();
        start(DockerdOptions { args, env, ..DockerdOptions::default() }).unwrap()
    })
    .await;
    let docker = engine.docker().unwrap();
    let before = mirror.served();
    let docker = beside(move || {
        for image in &images {
            let reference = image.entry.reference.familiar();
            docker.run(&["pull", "--quiet", &reference]).unwrap().assert_success();
            docker.create_never(&reference).unwrap().assert_success();
        }
        docker
    })
    .await;
    let pulled = mirror.served();
    assert!(pulled.blobs > before.blobs, "{pulled:?}");
    let refused = beside(move || docker.run(&["pull", "--quiet", "acme/elsewhere:1"]).unwrap()).await;
    assert!(!refused.success());
    assert_eq!(mirror.served().blobs, pulled.blobs);
    beside(move || drop(engine)).await;
}

#[tokio::test]
async fn docker_20_pulls_through_it() {
    require_real!(Part::Docker20);
    docker(Dockerd::debian_with).await;
}

#[tokio::test]
async fn docker_28_pulls_through_it_with_both_stores() {
    require_real!(Part::Docker28);
    for store in [Store::GraphDriver, Store::Containerd] {
        docker(move |options| Dockerd::forky_with(store, options)).await;
    }
}
