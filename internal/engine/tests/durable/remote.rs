//! Engines whose data is not on this machine, as far as can be told: reached through TCP.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use palletjack_engine::{Around, Compared, Durability, Durable, Endpoint, Engine};
use palletjack_testkit::real::{Part, Podman};
use palletjack_testkit::require_real;

use crate::cuts::{Device, docker_20, load};
use crate::support::Cache;
use crate::{connect, images};

/// Leads a port of loopback to an engine's socket, as a tunnel from another machine does.
fn tunnel(socket: &Path) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = socket.to_owned();
    // Ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(engine) = UnixStream::connect(&socket) else { continue };
            forward(client, engine);
        }
    });
    Endpoint::Tcp(address.to_string())
}

fn forward(client: TcpStream, engine: UnixStream) {
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), engine.try_clone()) else { return };
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (engine, client);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_made_and_removed_makes_a_load_safe_where_nothing_can_be_synced() {
    require_real!(Part::LoopMounts, Part::Docker20);
    let mut device = Device::new(docker_20);
    // This machine's own: what is written down here is not on the device.
    let cache = Cache::new();
    let images = images(&cache, 3);
    let docker = device.boot();
    let remote = Engine::connect(tunnel(&docker.socket())).await.unwrap();
    let guard = Arc::new(Durable::new(&cache.store, &[]));
    let around: Vec<Arc<dyn Around>> = vec![guard.clone()];
    let results = load(&remote, &cache, &images, around, &|_| {}).await.unwrap();
    let cut = device.disk.cut().unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let report = guard.report();
    assert_eq!(report.images.len(), images.len());
    assert!(report.images.iter().all(|(_, durability)| *durability == Durability::Unmounted), "{report:?}");
    drop(docker);
    device.restore(&cut);

    let docker = device.boot();
    let engine = connect(docker.socket()).await;
    for image in &images {
        let compared = engine.compare(&cache.store, image).await.unwrap();
        assert!(matches!(compared, Compared::Whole(_)), "{compared:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_of_a_podman_elsewhere() {
    require_real!(Part::Podman);
    let (podman, cache) = (Podman::start().unwrap(), Cache::new());
    let images = images(&cache, 1);
    let remote = Engine::connect(tunnel(&podman.socket())).await.unwrap();
    let guard = Arc::new(Durable::new(&cache.store, &[]));
    let around: Vec<Arc<dyn Around>> = vec![guard.clone()];
    let results = load(&remote, &cache, &images, around, &|_| {}).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let report = guard.report();
    assert_eq!(report.unproven().count(), 1, "{report:?}");
}
