//! A daemon with a mirror on loopback.

use std::net::{SocketAddr, TcpListener};

use palletjack_engine::repin::Way;
use palletjack_engine::{Endpoint, Engine};
use palletjack_registry::serve::{Mirror, MirrorOptions, Served};
use palletjack_store::Rebuilt;
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Store};
use palletjack_testkit::require_real;

use crate::{error, loaded};

const IMAGES: [&str; 5] =
    ["caddy:2.6.2", "acme/deep/er/camera:1", "acme/moving:1", "acme/moving:1", "ghcr.io/acme/two:1"];

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn with_mirrors(urls: &[String]) -> DockerdOptions {
    let args = urls.iter().flat_map(|url| ["--registry-mirror".to_owned(), url.clone()]).collect();
    // No way to any real registry.
    let env = ["HTTP_PROXY", "HTTPS_PROXY"]
        .map(|name| (name.to_owned(), "http://127.0.0.1:9".to_owned()))
        .into_iter()
        .chain([("NO_PROXY".to_owned(), "127.0.0.1".to_owned())])
        .collect();
    DockerdOptions { args, env, ..DockerdOptions::default() }
}

async fn exercise(start: impl Fn(DockerdOptions) -> std::io::Result<Dockerd>) {
    // The first mirror is another program's, the second is free.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (other.local_addr().unwrap(), free_address());
    let urls = [taken, free].map(|address| format!("http://{address}"));
    let daemon = start(with_mirrors(&urls)).unwrap();
    let set = loaded(&daemon, &IMAGES).await;
    drop(other);
    let other = TcpListener::bind(taken).unwrap();
    other.set_nonblocking(true).unwrap();
    let other = tokio::net::TcpListener::from_std(other).unwrap();
    // Whoever asks it is told nothing at once.
    let hangs_up = tokio::spawn(async move { while other.accept().await.is_ok() {} });

    let repinned = set.engine.repin_by_mirror(&set.cache.store, &set.images()).await.unwrap().unwrap();
    assert_eq!(repinned.way, Way::Mirror(free));
    assert!(repinned.images[4].is_none(), "no mirror is for ghcr.io");
    set.assert_pins(&repinned, &[true, true, true, true, false]);
    // /v2/, the index and the manifest, for each; names, and no content.
    let Served { requests, manifests, blobs, blob_bytes } = repinned.served;
    assert!((8..=12).contains(&requests), "{:?}", repinned.served);
    assert_eq!((manifests, blobs, blob_bytes), (8, 0, 0));
    hangs_up.abort();

    // The address is free again, and nothing is left to do that a second run could break.
    drop(TcpListener::bind(free).unwrap());
    let again = set.engine.repin_by_mirror(&set.cache.store, &set.images()).await.unwrap().unwrap();
    set.assert_pins(&again, &[true, true, true, true, false]);
}

#[tokio::test]
async fn docker_20_learns_pins_from_its_mirror() {
    require_real!(Part::Docker20);
    Box::pin(exercise(Dockerd::debian_with)).await;
}

#[tokio::test]
async fn docker_28_with_a_graph_driver_learns_pins_from_its_mirror() {
    require_real!(Part::Docker28);
    Box::pin(exercise(|options| Dockerd::forky_with(Store::GraphDriver, options))).await;
}

/// A server of ours that is running anyway is used; an image that is not in the engine does not get in this way.
#[tokio::test]
async fn a_standing_server_is_used() {
    require_real!(Part::Docker20);
    let address = free_address();
    let daemon = Dockerd::debian_with(with_mirrors(&[format!("http://{address}")])).unwrap();
    let mut set = loaded(&daemon, &["caddy:2.6.2", "acme/removed:1"]).await;
    set.docker.run(&["rmi", "acme/removed:1"]).unwrap().assert_success();
    set.tags.pop();

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let options = MirrorOptions { blobs: false, ..MirrorOptions::default() };
    let mirror = Mirror::start(listener, set.cache.store.clone(), options).unwrap();
    let repinned = set.engine.repin_by_mirror(&set.cache.store, &set.images()).await.unwrap().unwrap();
    assert_eq!((&repinned.way, repinned.served), (&Way::Standing(address), Served::default()));
    set.assert_pins(&repinned, &[true, false]);
    let told = error(repinned.images.get(1)).to_string();
    assert!(told.starts_with("acme/removed:1@sha256:") && told.contains("could not pull"), "{told}");
    let served = mirror.served();
    assert!(served.manifests > 0 && served.blob_bytes == 0, "{served:?}");
}

/// The server has no manifest of that digest to give, so nobody is sent for it.
#[tokio::test]
async fn what_was_rebuilt_is_left_out_and_says_why() {
    require_real!(Part::Docker20);
    let address = free_address();
    let daemon = Dockerd::debian_with(with_mirrors(&[format!("http://{address}")])).unwrap();
    let mut set = loaded(&daemon, &["caddy:2.6.2", "acme/rebuilt:1"]).await;
    set.images[1].entry.rebuilt = Some(Rebuilt::default());
    let repinned = set.engine.repin_by_mirror(&set.cache.store, &set.images()).await.unwrap().unwrap();
    set.assert_pins(&repinned, &[true, false]);
    let told = error(repinned.images.get(1)).to_string();
    assert!(told.contains("as it was rebuilt from an engine"), "{told}");
    assert!(repinned.served.manifests > 0 && repinned.served.manifests <= 2, "{:?}", repinned.served);
    let rebuilt = &set.images()[1..];
    assert!(set.engine.repin_by_mirror(&set.cache.store, rebuilt).await.unwrap().is_none());
}

/// Nobody is led anywhere where the engine does not lead itself.
#[tokio::test]
async fn without_a_mirror_on_loopback_there_is_no_such_way() {
    require_real!(Part::Docker20);
    let daemon = Dockerd::debian_with(with_mirrors(&["https://127.0.0.1:5000".to_owned()])).unwrap();
    let set = loaded(&daemon, &["caddy:2.6.2", "ghcr.io/acme/two:1"]).await;
    assert!(set.engine.repin_by_mirror(&set.cache.store, &set.images()).await.unwrap().is_none());

    let address = free_address();
    let daemon = Dockerd::debian_with(with_mirrors(&[format!("http://{address}")])).unwrap();
    let engine = Engine::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    // Only Docker Hub's names would come by it.
    let ghcr = &set.images()[1..];
    assert!(engine.repin_by_mirror(&set.cache.store, ghcr).await.unwrap().is_none());
    // Another program has it.
    let _other = TcpListener::bind(address).unwrap();
    assert!(engine.repin_by_mirror(&set.cache.store, &set.images()).await.unwrap().is_none());
}
