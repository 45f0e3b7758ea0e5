//! Those who take part in a run of loads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

mod support;

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use palletjack_engine::{Around, Endpoint, Engine, ErrorKind, LoadError, LoadOptions, Loaded, RunError, Was};
use palletjack_store::Image;
use palletjack_testkit::engine::{Engine as Fake, Profile};
use palletjack_testkit::image::ImageBuilder;
use support::{Cache, layer, load};

/// Writes down what it was called for, and fails where it is told to.
#[derive(Debug, Default)]
struct Recorder {
    told: Mutex<Vec<String>>,
    fails_at: &'static str,
}

impl Recorder {
    fn new(fails_at: &'static str) -> Arc<Self> {
        Arc::new(Self { told: Mutex::default(), fails_at })
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn tell(&self, what: String) -> bool {
        let fails = what == self.fails_at;
        self.told.lock().unwrap().push(what);
        fails
    }

    fn run_step(&self, what: &str) -> BoxFuture<'static, Result<(), RunError>> {
        let failure = self.tell(what.to_owned()).then(|| RunError::Around {
            what: format!("{what} failed"),
            kind: ErrorKind::Cache,
            source: "on purpose".into(),
        });
        Box::pin(async { failure.map_or(Ok(()), Err) })
    }
}

fn names<'a>(images: impl IntoIterator<Item = &'a Image>) -> String {
    let names: Vec<String> = images.into_iter().map(|image| image.entry.reference.familiar()).collect();
    names.join(" ")
}

impl Around for Recorder {
    fn at_start<'a>(&'a self, _: &'a Engine, images: &'a [Image]) -> BoxFuture<'a, Result<(), RunError>> {
        self.run_step(&format!("start {}", names(images)))
    }

    fn before_first_send<'a>(
        &'a self,
        _: &'a Engine,
        images: &'a [&'a Image],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        self.run_step(&format!("send {}", names(images.iter().copied())))
    }

    fn after_seen<'a>(
        &'a self,
        _: &'a Engine,
        image: &'a Image,
        loaded: &'a mut Loaded,
    ) -> BoxFuture<'a, Result<(), LoadError>> {
        let was = if loaded.was == Was::Present { "present" } else { "sent" };
        let name = image.entry.reference.familiar();
        let fails = self.tell(format!("seen {name} {was}"));
        Box::pin(async move {
            if fails {
                Err(LoadError::NotThere { image: name, what: "on purpose".to_owned() })
            } else {
                Ok(())
            }
        })
    }

    fn at_end<'a>(
        &'a self,
        _: &'a Engine,
        _: &'a [Image],
        results: &'a mut [Result<Loaded, LoadError>],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        let loaded = results.iter().filter(|result| result.is_ok()).count();
        self.run_step(&format!("end {loaded} of {}", results.len()))
    }
}

struct Scene {
    fake: Fake,
    engine: Engine,
    cache: Cache,
    images: [Image; 2],
}

async fn scene() -> Scene {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    let engine = Engine::connect(Endpoint::Unix(fake.socket())).await.unwrap();
    let cache = Cache::new();
    let images = [("acme/a:1", 1, 30_000), ("acme/b:1", 2, 20_000)].map(|(name, seed, size)| {
        let image = ImageBuilder::new(name).platform("linux/amd64", [layer(seed, size)]).build().unwrap();
        cache.publish(&image, name)
    });
    Scene { fake, engine, cache, images }
}

fn options(recorder: &Arc<Recorder>) -> LoadOptions {
    LoadOptions { parallel: Some(1), around: vec![recorder.clone()], ..LoadOptions::default() }
}

#[tokio::test]
async fn everybody_is_asked_at_the_right_moment() {
    let Scene { fake, engine, cache, images } = scene().await;
    let recorder = Recorder::new("");
    load(&engine, &cache, &images[..1], &options(&recorder)).await;
    let expected = ["start acme/a:1", "send acme/a:1", "seen acme/a:1 sent", "end 1 of 1"];
    assert_eq!(recorder.told(), expected);
    load(&engine, &cache, &images, &options(&recorder)).await;
    assert_eq!(
        recorder.told(),
        [
            "start acme/a:1 acme/b:1",
            "seen acme/a:1 present",
            "send acme/b:1",
            "seen acme/b:1 sent",
            "end 2 of 2"
        ]
    );
    load(&engine, &cache, &images, &options(&recorder)).await;
    let told = recorder.told();
    assert!(!told.iter().any(|line| line.starts_with("send")), "nothing is sent: {told:?}");
    assert_eq!(fake.wait_for_loads(2).len(), 2);
}

#[tokio::test]
async fn whoever_cannot_do_their_part_before_the_start_keeps_everything_from_being_sent() {
    for fails_at in ["start acme/a:1 acme/b:1", "send acme/a:1 acme/b:1"] {
        let Scene { fake, engine, cache, images } = scene().await;
        let recorder = Recorder::new(fails_at);
        let lease = cache.store.lease().unwrap();
        let error = engine.load_all(&cache.store, &lease, &images, &options(&recorder), &|_| ()).await;
        let error = error.unwrap_err();
        assert_eq!((error.to_string(), error.kind()), (format!("{fails_at} failed"), ErrorKind::Cache));
        assert!(fake.loads().is_empty());
    }
}

#[tokio::test]
async fn what_fails_after_an_image_was_seen_is_that_images_failure() {
    let Scene { fake: _fake, engine, cache, images } = scene().await;
    let recorder = Recorder::new("seen acme/a:1 sent");
    let (results, events) = load(&engine, &cache, &images, &options(&recorder)).await;
    let failed = matches!(&results[0], Err(LoadError::NotThere { image, .. }) if image == "acme/a:1");
    assert!(failed, "{results:?}");
    assert!(results[1].is_ok());
    assert!(
        events.contains(&"0 failed".to_owned()) && !events.contains(&"0 loaded".to_owned()),
        "{events:?}"
    );
    assert_eq!(recorder.told().last().unwrap(), "end 1 of 2");
}
