//! Engines that refuse, lie, die or hang.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

mod support;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use palletjack_engine::{Endpoint, Engine, ErrorKind, Event, LoadError, LoadOptions, Phase, Was};
use palletjack_store::Image;
use palletjack_testkit::engine::{Engine as Fake, LoadFault, Profile};
use palletjack_testkit::image::ImageBuilder;
use palletjack_testkit::registry::Gate;
use support::{Cache, layer, load};

/// Large enough to be cut in the middle by every buffer on the way.
const LAYER: u64 = 6_000_000;

/// The lower the number the larger, and the earlier its turn.
fn image(cache: &Cache, name: &str, seed: u64) -> Image {
    let layer = layer(seed, LAYER + 100_000 * (9 - seed));
    cache.publish(&ImageBuilder::new(name).platform("linux/amd64", [layer]).build().unwrap(), name)
}

async fn connect(fake: &Fake) -> Engine {
    Engine::connect(Endpoint::Unix(fake.socket())).await.unwrap()
}

/// Loads two images, the first with the fault. The second must be loaded all the same.
async fn first_fails(profile: Profile, fault: LoadFault) -> (LoadError, Fake) {
    let fake = Fake::start(profile).unwrap();
    fake.fault(fault);
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let images = [image(&cache, "acme/first:1", 1), image(&cache, "acme/second:1", 2)];
    let options = LoadOptions { parallel: Some(1), ..LoadOptions::default() };
    let (mut results, events) = load(&engine, &cache, &images, &options).await;
    assert!(events.contains(&"0 failed".to_owned()), "{events:?}");
    let second = results.pop().unwrap().unwrap();
    assert!(matches!(second.was, Was::Sent { .. }));
    let error = results.pop().unwrap().unwrap_err();
    assert!(error.to_string().contains("acme/first:1"), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    (error, fake)
}

/// Loads one image into an engine that hangs, and another after that.
async fn hangs(fault: LoadFault, options: LoadOptions) -> (LoadError, Fake) {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    fake.fault(fault);
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let first = [image(&cache, "acme/first:1", 1)];
    let (mut results, _) = load(&engine, &cache, &first, &options).await;
    let second = [image(&cache, "acme/second:1", 2)];
    let (others, _) = load(&engine, &cache, &second, &LoadOptions::default()).await;
    assert!(others[0].is_ok(), "{others:?}");
    (results.remove(0).unwrap_err(), fake)
}

fn names(fake: &Fake) -> Vec<String> {
    fake.images().into_iter().flat_map(|image| image.tags).collect()
}

#[tokio::test]
async fn an_error_line_under_http_200_is_a_failure() {
    let message = "open /var/lib/docker/tmp/docker-import-1/blobs/sha256/00: no such file".to_owned();
    let (error, fake) = first_fails(Profile::docker_20(), LoadFault::ErrorLine(message.clone())).await;
    assert!(matches!(&error, LoadError::Refused { message: told, .. } if *told == message), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert_eq!(names(&fake), ["docker.io/acme/second:1"]);
}

#[tokio::test]
async fn a_full_disk_is_told_apart() {
    let message = "write /var/lib/docker/tmp/x: no space left on device".to_owned();
    let (error, _fake) = first_fails(Profile::docker_20(), LoadFault::ErrorLine(message)).await;
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("docker image prune"), "{error}");
}

#[tokio::test]
async fn an_error_status_is_a_failure() {
    let message = "more than one image in oci".to_owned();
    let fault = LoadFault::Status { status: 500, message };
    let (error, _fake) = first_fails(Profile::podman_4(), fault).await;
    let LoadError::Refused { message, .. } = &error else { panic!("{error:?}") };
    assert_eq!(message, "HTTP 500: more than one image in oci");
}

#[tokio::test]
async fn a_refusal_before_the_body_is_read_ends_the_sending() {
    let fault = LoadFault::Refuse { status: 403, message: "authorization denied by plugin".to_owned() };
    let (error, fake) = first_fails(Profile::docker_20(), fault).await;
    // The connection may break before the refusal is read; either way the load ends.
    match &error {
        LoadError::Refused { message, .. } => assert!(message.contains("authorization denied"), "{message}"),
        LoadError::Lost { .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&fake), ["docker.io/acme/second:1"]);
}

#[tokio::test]
async fn an_engine_that_dies_midway_is_lost() {
    let (error, fake) = first_fails(Profile::docker_20(), LoadFault::HangupAfter { bytes: 700_000 }).await;
    assert!(matches!(error, LoadError::Lost { .. }), "{error:?}");
    assert!(error.source().is_some());
    assert_eq!(names(&fake), ["docker.io/acme/second:1"]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_success() {
    let (error, _fake) = first_fails(Profile::docker_20(), LoadFault::CutAnswer).await;
    assert!(matches!(error, LoadError::Lost { .. } | LoadError::NotThere { .. }), "{error:?}");
}

#[tokio::test]
async fn what_the_engine_says_is_not_believed() {
    let (error, _fake) = first_fails(Profile::docker_20(), LoadFault::Forgets).await;
    assert!(matches!(error, LoadError::NotThere { .. }), "{error:?}");
}

#[tokio::test]
async fn an_image_with_a_hole_is_no_success() {
    let (error, fake) = first_fails(Profile::docker_28_containerd(), LoadFault::Broken).await;
    let LoadError::Refused { message, .. } = &error else { panic!("{error:?}") };
    assert!(message.starts_with("Error unpacking image"), "{message}");

    // It is listed now, and is still not taken for present: the next run sends it again.
    let cache = Cache::new();
    let images = [image(&cache, "acme/first:1", 1)];
    let (results, _) = load(&connect(&fake).await, &cache, &images, &LoadOptions::default()).await;
    assert!(matches!(results[0].as_ref().unwrap().was, Was::Sent { .. }));
}

#[tokio::test]
async fn an_engine_that_takes_nothing_is_given_up() {
    let gate = Gate::new();
    let options = LoadOptions { stall: Duration::from_millis(100), ..LoadOptions::default() };
    let (error, fake) = hangs(LoadFault::DoesNotRead(gate.clone()), options).await;
    let LoadError::Stalled { phase: Phase::Sending, sent, total, .. } = error else { panic!("{error:?}") };
    // What is in flight is bounded: the rest of the layer was never read.
    assert!(sent < total / 2, "{sent} of {total}");
    let told = error.to_string();
    assert!(told.contains("earlier load") && told.contains("systemctl restart docker"), "{told}");
    gate.open();
    assert!(fake.wait_for_loads(2).iter().any(|load| !load.complete));
}

#[tokio::test]
async fn an_engine_that_never_answers_is_given_up() {
    let gate = Gate::new();
    let options = LoadOptions { answer: Duration::from_millis(100), ..LoadOptions::default() };
    let (error, fake) = hangs(LoadFault::Silence(gate.clone()), options).await;
    let LoadError::Stalled { phase: Phase::Waiting, sent, total, .. } = error else { panic!("{error:?}") };
    assert_eq!(sent, total);
    gate.open();
    assert!(fake.wait_for_loads(2).iter().all(|load| load.complete));
}

#[tokio::test]
async fn a_corrupt_blob_leaves_a_body_without_an_end() {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let image = image(&cache, "acme/first:1", 1);
    let bad = image.layers[0].clone();
    cache.damage(&bad.digest);
    let (results, _) = load(&engine, &cache, &[image], &LoadOptions::default()).await;
    let error = results[0].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.source().unwrap().to_string().contains(&bad.digest.to_string()));

    let seen = fake.wait_for_loads(1).remove(0);
    assert!(!seen.complete, "the body was ended as if it were whole");
    assert!(fake.images().is_empty());
    let archive = std::fs::read(&seen.archive).unwrap();
    let mut entries = tar::Archive::new(&archive[..]);
    for entry in entries.entries().unwrap() {
        let Ok(mut entry) = entry else { break };
        let mut content = Vec::new();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let _ = std::io::Read::read_to_end(&mut entry, &mut content);
        let whole = content.len() as u64 == entry.size();
        assert!(!(whole && name.ends_with(&bad.digest.hex())), "the corrupt layer was completed");
    }
}

#[tokio::test]
async fn what_is_there_is_not_sent() {
    for profile in [Profile::docker_20(), Profile::docker_28_containerd()] {
        let fake = Fake::start(profile).unwrap();
        let engine = connect(&fake).await;
        let cache = Cache::new();
        let images = [image(&cache, "acme/first:1", 1), image(&cache, "acme/second:1", 2)];
        for count in [2, 2] {
            let (results, _) = load(&engine, &cache, &images, &LoadOptions::default()).await;
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            assert_eq!(fake.wait_for_loads(2).len(), count);
        }
        // Another image has taken the name since: the name is what the pallet runs by.
        fake.remove_image("docker.io/acme/first:1");
        let (results, _) = load(&engine, &cache, &images, &LoadOptions::default()).await;
        let was: Vec<bool> = results.iter().map(|r| r.as_ref().unwrap().was == Was::Present).collect();
        assert_eq!(was, [false, true]);
    }
}

#[tokio::test]
async fn a_load_that_is_dropped_breaks_the_request_and_ends_its_thread() {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    let gate = Gate::new();
    fake.fault(LoadFault::DoesNotRead(gate.clone()));
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let images = [image(&cache, "acme/first:1", 1)];
    let lease = cache.store.lease().unwrap();
    let sending = Arc::new(tokio::sync::Notify::new());
    let events = |event: Event<'_>| {
        if matches!(event, Event::Sending { bytes: 1.., .. }) {
            sending.notify_one();
        }
    };
    let options = LoadOptions::default();
    let loading = engine.load_all(&cache.store, &lease, &images, &options, &events);
    tokio::select! {
        results = loading => panic!("an engine that does not read has loaded: {results:?}"),
        () = sending.notified() => {}
    }
    gate.open();
    let load = fake.wait_for_loads(1).remove(0);
    assert!(!load.complete);
    // The end of this test waits for the thread that read the archive.
}

#[tokio::test]
async fn an_engine_that_stops_between_two_images_fails_each_by_name() {
    let mut fake = Fake::start(Profile::docker_20()).unwrap();
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let images = [image(&cache, "acme/first:1", 1), image(&cache, "acme/second:1", 2)];
    fake.stop();
    let (results, events) = load(&engine, &cache, &images, &LoadOptions::default()).await;
    for (result, name) in results.iter().zip(["acme/first:1", "acme/second:1"]) {
        let error = result.as_ref().unwrap_err();
        assert!(matches!(error, LoadError::Unknown { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(events, ["0 checking", "1 checking", "0 failed", "1 failed"]);
}

#[tokio::test]
async fn an_engine_behind_tcp_is_loaded_in_the_same_way() {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = fake.socket();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, engine) =
                (client.unwrap(), std::os::unix::net::UnixStream::connect(&socket).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let (mut from, mut to) = (engine, client);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    let engine = Engine::connect(Endpoint::parse(&format!("tcp://{address}")).unwrap()).await.unwrap();
    let cache = Cache::new();
    let images = [image(&cache, "acme/first:1", 1)];
    for was_present in [false, true] {
        let (results, _) = load(&engine, &cache, &images, &LoadOptions::default()).await;
        assert_eq!(results[0].as_ref().unwrap().was == Was::Present, was_present);
    }
    assert_eq!(names(&fake), ["docker.io/acme/first:1"]);
}
