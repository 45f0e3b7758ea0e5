//! Damaged content, rude clients, and the end.

use std::time::Duration;

use palletjack_registry::serve::{MirrorOptions, is_mirror};
use palletjack_store::{NewEntry, Rebuilt, Swept};
use palletjack_testkit::image::ImageBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Cache, PATIENCE, amd64, ask, image, layer, try_send};

/// I9: no blob is completed towards a client before its digest is verified.
#[tokio::test]
async fn i9_a_flipped_bit_breaks_the_connection() {
    let cache = Cache::new();
    let built = image("acme/flipped:1", 61);
    let cached = cache.publish(&built, &built.pinned());
    let mirror = cache.serve().await;
    for layer in &cached.layers {
        cache.damage(&layer.digest);
        let path = format!("/v2/acme/flipped/blobs/{}", layer.digest);
        for (range, length) in [("", layer.size), ("Range: bytes=0-99", 100), ("Range: bytes=-99", 99)] {
            let request = format!("GET {path} HTTP/1.1\nHost: localhost\nConnection: close\n{range}");
            // A short body may break before the head has left.
            let Some(answer) = try_send(&mirror, &request).await else { continue };
            assert_eq!(answer.length(), length);
            assert!((answer.body.len() as u64) < length, "all of a corrupt blob was sent: {range}");
        }
    }
    // The server lives on, and what is right is served.
    assert_eq!(ask(&mirror, "GET", "/v2/acme/flipped/manifests/1").await.status, 200);
}

#[tokio::test]
async fn what_is_not_whole_is_not_served() {
    let cache = Cache::new();
    let (whole, holed, torn) = (image("acme/some:1", 71), image("acme/some:2", 72), image("acme/some:3", 73));
    let whole = cache.publish(&whole, &whole.pinned());
    let holed = cache.publish(&holed, &holed.pinned());
    let torn = cache.publish(&torn, &torn.pinned());
    std::fs::remove_file(cache.store.blob_path(&holed.layers[1].digest)).unwrap();
    cache.damage(&torn.entry.manifest.digest);
    let mirror = cache.serve().await;
    let path = "/v2/acme/some";
    for (image, tag, status) in [(&whole, "1", 200), (&holed, "2", 404), (&torn, "3", 404)] {
        for asked in
            [tag.to_owned(), image.entry.target.digest.to_string(), image.entry.manifest.digest.to_string()]
        {
            assert_eq!(ask(&mirror, "GET", &format!("{path}/manifests/{asked}")).await.status, status);
        }
        let blob = format!("{path}/blobs/{}", image.layers[0].digest);
        assert_eq!(ask(&mirror, "HEAD", &blob).await.status, status);
    }
    let tags = ask(&mirror, "GET", &format!("{path}/tags/list")).await;
    assert!(String::from_utf8_lossy(&tags.body).contains(r#"["1"]"#));
}

/// An entry whose reference pins another digest than its content has was not downloaded under that pin.
#[tokio::test]
async fn an_image_that_is_not_what_its_reference_pins_is_not_served() {
    let cache = Cache::new();
    let (built, other) = (image("acme/made:1", 75), image("acme/made:1", 76));
    let ours = cache.publish(&built, &built.tagged());
    let claimed = format!("acme/rebuilt:1@{}", other.top.digest);
    let new = NewEntry {
        reference: claimed.parse().unwrap(),
        requested: claimed,
        platform: amd64(),
        target: ours.entry.manifest.clone(),
        manifest: ours.entry.manifest.clone(),
        upstream: "an engine".to_owned(),
        pinned: false,
    };
    cache.store.publish(&cache.store.lease().unwrap(), new.clone()).unwrap();
    // One that was rebuilt is not what the registry has under its tag either.
    let tagged = NewEntry { reference: "acme/tagged:1".parse().unwrap(), ..new };
    let lease = cache.store.lease().unwrap();
    cache.store.publish_rebuilt(&lease, tagged, Rebuilt::default()).unwrap();
    drop(lease);
    let mirror = cache.serve().await;
    for asked in ["1".to_owned(), ours.entry.manifest.digest.to_string()] {
        assert_eq!(ask(&mirror, "GET", &format!("/v2/acme/tagged/manifests/{asked}")).await.status, 404);
    }
    for asked in ["1".to_owned(), other.top.digest.to_string(), ours.entry.manifest.digest.to_string()] {
        assert_eq!(ask(&mirror, "GET", &format!("/v2/acme/rebuilt/manifests/{asked}")).await.status, 404);
    }
    let blob = format!("/v2/acme/rebuilt/blobs/{}", ours.layers[0].digest);
    assert_eq!(ask(&mirror, "HEAD", &blob).await.status, 404);
    assert_eq!(ask(&mirror, "HEAD", "/v2/acme/made/manifests/1").await.status, 200);
}

/// A request holds the lease for as long as its body is being sent; nobody holds it between requests.
#[tokio::test]
async fn a_lease_lasts_as_long_as_its_request() {
    let cache = Cache::new();
    let built =
        ImageBuilder::new("acme/leased:1").platform("linux/amd64", [layer(81, 40_000_000)]).build().unwrap();
    let cached = cache.publish(&built, &built.pinned());
    let mirror = cache.serve().await;
    let mut stream = TcpStream::connect(mirror.address()).await.unwrap();
    let path = format!("/v2/acme/leased/blobs/{}", cached.layers[0].digest);
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .replace("Host: x", "Host: localhost")
                .as_bytes(),
        )
        .await
        .unwrap();
    let mut some = [0; 1000];
    stream.read_exact(&mut some).await.unwrap();
    // More is under way than fits into the sockets, so the body is still being sent.
    let sweep = || {
        let store = cache.store.clone();
        tokio::task::spawn_blocking(move || store.sweep())
    };
    assert_eq!(sweep().await.unwrap().unwrap(), None);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let served = mirror.stop(PATIENCE).await;
    assert_eq!(served.blob_bytes, cached.layers[0].size);
    assert_eq!(sweep().await.unwrap().unwrap(), Some(Swept::default()));
}

#[tokio::test]
async fn a_silent_connection_makes_room() {
    let cache = Cache::new();
    let options =
        MirrorOptions { connections: 1, silence: Duration::from_millis(100), ..MirrorOptions::default() };
    let mirror = cache.serve_with(options).await;
    let mut silent = TcpStream::connect(mirror.address()).await.unwrap();
    let mut trickling = TcpStream::connect(mirror.address()).await.unwrap();
    trickling.write_all(b"GET /v2/ HTTP/1.1\r\nHost: ").await.unwrap();
    // There is one place, and both give it up. On a busy machine an answer may come too late for so short a limit too.
    let request = "GET /v2/ HTTP/1.1\nHost: localhost\nConnection: close";
    let mut tries = 0..50;
    while try_send(&mirror, request).await.is_none_or(|answer| answer.status != 200) {
        assert!(tries.next().is_some(), "nobody else is served");
    }
    let mut end = Vec::new();
    silent.read_to_end(&mut end).await.unwrap();
    assert!(end.is_empty());
    let _ = trickling.read_to_end(&mut end).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_keep_it_from_stopping() {
    let cache = Cache::new();
    let built =
        ImageBuilder::new("acme/large:1").platform("linux/amd64", [layer(91, 40_000_000)]).build().unwrap();
    let cached = cache.publish(&built, &built.pinned());
    let mirror = cache.serve().await;
    let mut stream = TcpStream::connect(mirror.address()).await.unwrap();
    let path = format!("/v2/acme/large/blobs/{}", cached.layers[0].digest);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut some = [0; 100];
    stream.read_exact(&mut some).await.unwrap();
    let served = mirror.stop(Duration::ZERO).await;
    assert!(served.blob_bytes < cached.layers[0].size);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!((rest.len() as u64) < cached.layers[0].size);
}

#[tokio::test]
async fn nonsense_is_answered_or_cut_off() {
    let cache = Cache::new();
    let mirror = cache.serve().await;
    let long =
        format!("GET /v2/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET /v2/ HTTP/1.1\r\n{}\r\n", "X-Header: 1\r\n".repeat(1000));
    let huge = format!("GET /v2/ HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(2_000_000));
    for request in [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "CONNECT ghcr.io:443 HTTP/1.1\r\nHost: ghcr.io:443\r\nConnection: close\r\n\r\n",
        &long,
        &many,
        &huge,
    ] {
        let mut stream = TcpStream::connect(mirror.address()).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let first = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert!(first.is_empty() || first.starts_with("HTTP/1.1 4"), "{first}");
    }
    assert!(is_mirror(mirror.address()).await);
}
