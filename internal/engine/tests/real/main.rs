//! Loads into real engines, each private to its test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

mod delta;
mod engine;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::Real;
use palletjack_archive::{Export, Item, Names};
use palletjack_engine::{Endpoint, Engine, EngineKind, ErrorKind, LoadOptions, Loaded, RunsAs, Was};
use palletjack_testkit::image::{ImageBuilder, Kind, LayerBuilder};
use palletjack_testkit::real::{Dockerd, Part, Podman, Store};
use palletjack_testkit::require_real;
use support::{Cache, layer, load};

/// What an engine can do with a reference that has a digest.
fn resolves_as_expected(real: &Real, loaded: &Loaded, pins: bool) {
    let reference = &loaded.reference;
    let written = reference.to_string();
    assert_eq!(real.runs(&written), loaded.resolves.exact, "{written}: {loaded:?}");
    if let Some(tagged) = reference.tagged() {
        let is_ours = real.id(&tagged).is_some_and(|id| id == loaded.resolves.id.to_string());
        assert_eq!(is_ours, loaded.resolves.tag == Some(true), "{tagged}: {loaded:?}");
        assert!(!is_ours || real.runs(&tagged));
    }
    let expected = reference.digest().is_none() || pins;
    assert_eq!(loaded.resolves.exact, expected, "{written}: {loaded:?}");
    match &loaded.runs_as {
        RunsAs::Reference => assert_eq!(loaded.note(), None),
        RunsAs::Tag(name) => assert!(real.runs(name), "{name}"),
        RunsAs::Id(id) => assert!(real.runs(&id.to_string()), "{id}"),
    }
    assert_eq!(loaded.note().is_some(), !expected);
}

/// The life of a device's images, on one engine.
async fn everything(real: &Arc<Real>, kind: EngineKind, pins: bool, zstd: bool) {
    let options = LoadOptions::default();
    let engine = Engine::connect(Endpoint::Unix(real.socket())).await.unwrap();
    assert_eq!(engine.capabilities().kind, kind, "{}", engine.capabilities());
    assert_eq!(engine.capabilities().resolves_pins(), pins);
    assert_eq!(engine.capabilities().reads_zstd(), zstd);

    let cache = Cache::new();
    let base = LayerBuilder::new().filler("base", 1, 300_000).build().unwrap();
    let app = |seed| layer(seed, 1_500_000);
    let build = |name: &str, kind, seed| {
        ImageBuilder::new(name).kind(kind).platform("linux/amd64", [base.clone(), app(seed)])
    };
    let both = |name: &str, kind, seed| build(name, kind, seed).platform("linux/arm64", [app(seed + 50)]);
    let docker_list = both("caddy:2.6.2", Kind::Docker, 2).build().unwrap();
    let oci_index = both("ghcr.io/acme/two:1", Kind::Oci, 3).attestations().build().unwrap();
    let single = build("quay.io/acme/three:v3", Kind::Docker, 4).build().unwrap();
    let single_oci = build("acme/four:latest", Kind::Oci, 5).build().unwrap();
    let by_digest = both("ghcr.io/acme/five", Kind::Oci, 6).build().unwrap();
    let images = [
        cache.publish(&docker_list, &docker_list.pinned()),
        cache.publish(&oci_index, &oci_index.pinned()),
        cache.publish(&single, &single.pinned()),
        cache.publish(&single_oci, "acme/four:latest"),
        cache.publish(&by_digest, &format!("ghcr.io/acme/five@{}", by_digest.top.digest)),
    ];

    let (results, events) = load(&engine, &cache, &images, &options).await;
    let mut total = 0;
    for (index, result) in results.into_iter().enumerate() {
        let loaded = result.unwrap();
        let Was::Sent { bytes, layer_bytes, whole_again: false } = loaded.was else { panic!("{loaded:?}") };
        assert!(bytes > layer_bytes);
        total += layer_bytes;
        resolves_as_expected(real, &loaded, pins);
        for step in ["checking", "sending", "loaded"] {
            assert!(events.contains(&format!("{index} {step}")), "{step}: {events:?}");
        }
    }
    // The base is in all of them, and was sent with one.
    let layers = images.iter().flat_map(|image| &image.layers);
    let distinct: BTreeMap<_, u64> = layers.map(|layer| (layer.digest, layer.size)).collect();
    assert_eq!(total, distinct.values().sum::<u64>());

    let before = real.images();
    let (results, events) = load(&engine, &cache, &images, &options).await;
    for result in results {
        let loaded = result.unwrap();
        assert_eq!(loaded.was, Was::Present);
        resolves_as_expected(real, &loaded, pins);
    }
    assert!(
        events.iter().all(|event| event.ends_with("checking") || event.ends_with("skipped")),
        "{events:?}"
    );
    assert_eq!(real.images(), before);

    loaded_by_others(real, &engine, pins).await;
    corrupt_is_not_registered(real, &engine).await;
    two_pins_of_a_tag(real, &engine, pins).await;
    a_tag_that_moves_on(real, &engine, pins).await;
    with_and_without_the_digest(real, &engine, pins).await;
    delta::zstd_layers(real, &engine, zstd).await;
    delta::siblings_and_partly_present(real, &engine, pins).await;
    delta::a_name_that_was_lost(real, &engine, pins).await;
    delta::a_delta_with_a_hole(real, &engine, pins).await;
}

/// Somebody loaded one archive of several images, which loses digests on some engines. Whatever is missing then is
/// made good, once.
async fn loaded_by_others(real: &Real, engine: &Engine, pins: bool) {
    let cache = Cache::new();
    let build = |name: &str, seed| {
        let layer = layer(seed, 10_000);
        let image = ImageBuilder::new(name).platform("linux/amd64", [layer]).index().build().unwrap();
        cache.publish(&image, &image.pinned())
    };
    let images = [build("ghcr.io/others/one:1", 401), build("others/two:1", 402)];
    let items: Vec<Item<'_>> = images.iter().map(Item::whole).collect();
    let mut archive = Vec::new();
    Export::plan(&cache.store, &items, Names::One).unwrap().write_to(&mut archive).unwrap();
    let archive = std::io::Cursor::new(archive);
    let ran = match real {
        Real::Docker(docker) => docker.docker().unwrap().load(archive),
        Real::Podman(podman) => podman.load(archive),
    };
    ran.unwrap().ok().unwrap();

    let lost = matches!(real, Real::Podman(_));
    for was_present in [!lost, true] {
        let (results, _) = load(engine, &cache, &images, &LoadOptions::default()).await;
        for result in &results {
            let loaded = result.as_ref().unwrap();
            assert_eq!(loaded.was == Was::Present, was_present, "{loaded:?}");
            resolves_as_expected(real, loaded, pins);
        }
    }
}

/// Its bytes went bad after they were fetched: nothing of it may appear in the engine, and the others are loaded.
async fn corrupt_is_not_registered(real: &Real, engine: &Engine) {
    let before = real.images();
    let cache = Cache::new();
    let build = |name: &str, layers: [u64; 2]| {
        let layers = layers.map(|seed| layer(seed, 3_000_000));
        ImageBuilder::new(name).platform("linux/amd64", layers).build().unwrap()
    };
    let (bad_last, bad_first, good) =
        (build("bad/last:1", [100, 101]), build("bad/first:1", [102, 103]), build("good/one:1", [104, 105]));
    let images = [
        cache.publish(&bad_last, "bad/last:1"),
        cache.publish(&bad_first, "bad/first:1"),
        cache.publish(&good, "good/one:1"),
    ];
    let bad = [images[0].layers[1].digest, images[1].layers[0].digest];
    for digest in &bad {
        cache.damage(digest);
    }

    let (results, events) = load(engine, &cache, &images, &LoadOptions::default()).await;
    for ((result, image), digest) in results.iter().zip(&images).zip(bad) {
        let error = result.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(error.to_string().contains(&image.entry.reference.familiar()), "{error}");
        let cause = std::error::Error::source(error).unwrap().to_string();
        assert!(cause.contains(&digest.to_string()), "{cause}");
        assert!(!real.runs(&image.entry.reference.to_string()));
    }
    assert!(events.contains(&"0 failed".to_owned()), "{events:?}");
    let good = results.last().unwrap().as_ref().unwrap();
    assert!(real.runs(&good.reference.to_string()));

    let after = real.images();
    let new: Vec<&String> = after.iter().filter(|id| !before.contains(id)).collect();
    assert_eq!(new.len(), 1, "more than the good image appeared: {new:?}");
}

/// The tag goes to the image that was published last; the other keeps what the engine allows.
async fn two_pins_of_a_tag(real: &Real, engine: &Engine, pins: bool) {
    let cache = Cache::new();
    let build = |seed| {
        let layer = layer(seed, 10_000);
        ImageBuilder::new("ghcr.io/acme/moving:1").platform("linux/amd64", [layer]).index().build().unwrap()
    };
    let (old, new) = (build(201), build(202));
    let old = cache.publish(&old, &old.pinned());
    let new = cache.publish(&new, &new.pinned());
    let snapshot = cache.store.snapshot().unwrap();
    let again = |image: &palletjack_store::Image| {
        let entry = snapshot.find(&image.entry.reference, &image.entry.platform).unwrap();
        cache.store.image(entry).unwrap()
    };
    // The owner of the tag first, which is the order in which a naive load takes the tag away again.
    let images = [again(&new), again(&old)];
    assert!(images[0].entry.owns_tag && !images[1].entry.owns_tag);
    for was_present in [false, true] {
        let (results, _) = load(engine, &cache, &images, &LoadOptions::default()).await;
        let [new, old] = [0, 1].map(|index| results[index].as_ref().unwrap());
        assert_eq!((new.resolves.tag, old.resolves.tag), (Some(true), Some(false)));
        for loaded in [new, old] {
            assert_eq!(loaded.was == Was::Present, was_present, "{loaded:?}");
            resolves_as_expected(real, loaded, pins);
        }
    }
}

/// An update takes the tag in a later run; the pin that was loaded with it must not go with it where pins can stay.
async fn a_tag_that_moves_on(real: &Real, engine: &Engine, pins: bool) {
    let cache = Cache::new();
    let build = |seed| {
        let layer = layer(seed, 10_000);
        let image = ImageBuilder::new("ghcr.io/acme/updated:1")
            .platform("linux/amd64", [layer])
            .index()
            .build()
            .unwrap();
        cache.publish(&image, &image.pinned())
    };
    let (old, new) = (build(211), build(212));
    for image in [&old, &new] {
        let (results, _) = load(engine, &cache, std::slice::from_ref(image), &LoadOptions::default()).await;
        assert_eq!(results[0].as_ref().unwrap().resolves.tag, Some(true));
    }
    // Its pin is name enough: nothing is left of the tag that it had.
    let is_containerds = engine.capabilities().kind == EngineKind::DockerContainerd;
    assert!(!is_containerds || !real.has_nameless_record(&old.entry.target.digest));
    let seen = engine.look(&old).await.unwrap();
    assert_eq!((seen.tag, seen.exact), (Some(false), pins));
    assert_eq!(real.runs(&old.entry.reference.to_string()), pins);
    assert_eq!(real.runs(&new.entry.reference.to_string()), pins);
}

/// One deployment pins an image and another names it by tag alone, once with the same content and once not.
async fn with_and_without_the_digest(real: &Real, engine: &Engine, pins: bool) {
    let cache = Cache::new();
    let build = |name: &str, seed| {
        let layer = layer(seed, 10_000);
        ImageBuilder::new(name).platform("linux/amd64", [layer]).index().build().unwrap()
    };
    let same = build("ghcr.io/both/same:1", 221);
    let (other, tagged) = (build("ghcr.io/both/other:1", 222), build("ghcr.io/both/other:1", 224));
    let images = [
        cache.publish(&same, &same.pinned()),
        cache.publish(&same, &same.tagged()),
        cache.publish(&tagged, &tagged.tagged()),
        cache.publish(&other, &other.pinned()),
    ];
    let was_sent = |was: Was| matches!(was, Was::Sent { .. });
    for sent in [[true, false, true, true], [false; 4]] {
        let (results, _) = load(engine, &cache, &images, &LoadOptions::default()).await;
        for (result, sent) in results.iter().zip(sent) {
            let loaded = result.as_ref().unwrap();
            assert_eq!(was_sent(loaded.was), sent, "{loaded:?}");
            resolves_as_expected(real, loaded, pins);
        }
    }
}

#[tokio::test]
async fn docker_20_with_a_graph_driver() {
    require_real!(Part::Docker20);
    let real = Arc::new(Real::Docker(Box::new(Dockerd::debian().unwrap())));
    Box::pin(everything(&real, EngineKind::DockerGraph, false, false)).await;
}

#[tokio::test]
async fn docker_28_with_a_graph_driver() {
    require_real!(Part::Docker28);
    let real = Arc::new(Real::Docker(Box::new(Dockerd::forky(Store::GraphDriver).unwrap())));
    Box::pin(everything(&real, EngineKind::DockerGraph, false, true)).await;
}

#[tokio::test]
async fn docker_28_with_the_containerd_store() {
    require_real!(Part::Docker28);
    let real = Arc::new(Real::Docker(Box::new(Dockerd::forky(Store::Containerd).unwrap())));
    Box::pin(everything(&real, EngineKind::DockerContainerd, true, true)).await;
}

#[tokio::test]
async fn podman() {
    require_real!(Part::Podman);
    let real = Arc::new(Real::Podman(Podman::start().unwrap()));
    Box::pin(everything(&real, EngineKind::Podman, true, true)).await;
}
