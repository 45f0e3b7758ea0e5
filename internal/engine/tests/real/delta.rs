//! Parts of images, and layers that are packed anew on the way.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use palletjack_engine::{Around, Engine, EngineKind, ErrorKind, LoadOptions, Loaded, RunError, Step, Was};
use palletjack_image::Digest;
use palletjack_testkit::image::{Compression, ImageBuilder, Kind, LayerBuilder};

use crate::engine::Real;
use crate::resolves_as_expected;
use crate::support::{Cache, layer, load};

/// How much of its layers was sent, and whether that took two requests.
fn sent(loaded: &Loaded) -> (u64, bool) {
    match loaded.was {
        Was::Present => (0, false),
        Was::Sent { layer_bytes, whole_again, .. } => (layer_bytes, whole_again),
    }
}

/// A base that one brings and others build on, at once and later; each is whole.
pub(crate) async fn siblings_and_partly_present(real: &Real, engine: &Engine, pins: bool) {
    let cache = Cache::new();
    let base = [("below", 501, 700_000), ("above", 502, 300_000)]
        .map(|(name, seed, size)| LayerBuilder::new().filler(name, seed, size).build().unwrap());
    let build = |name: &str, seed, size| {
        let layers = [base[0].clone(), base[1].clone(), layer(seed, size)];
        let image = ImageBuilder::new(name).platform("linux/amd64", layers).index().build().unwrap();
        cache.publish(&image, &image.pinned())
    };
    let images = [
        build("sibling/a:1", 511, 90_000),
        build("sibling/b:1", 512, 50_000),
        build("sibling/c:1", 513, 70_000),
    ];
    let bytes = |image: &palletjack_store::Image, which: std::ops::Range<usize>| -> u64 {
        image.layers[which].iter().map(|layer| layer.size).sum()
    };
    let options = LoadOptions { parallel: Some(3), ..LoadOptions::default() };
    let (results, _) = load(engine, &cache, &images, &options).await;
    for (index, (result, image)) in results.iter().zip(&images).enumerate() {
        let loaded = result.as_ref().unwrap();
        // The smallest brings the base.
        let expected = if index == 1 { bytes(image, 0..3) } else { bytes(image, 2..3) };
        assert_eq!(sent(loaded), (expected, false), "{index}");
        resolves_as_expected(real, loaded, pins);
        let files = real.files(&image.entry.reference.tagged().unwrap());
        let sizes = ["below", "above", "filler"].map(|name| files[name]);
        assert_eq!(sizes, [700_000, 300_000, [90_000, 50_000, 70_000][index]]);
    }
    // Later, and the image that brought the base is gone.
    real.remove("sibling/b:1");
    let late = [build("sibling/late:1", 514, 60_000)];
    let plan = engine.plan(&cache.store, &late, &options).await.images.remove(0).unwrap();
    assert_eq!((plan.step, plan.layers, plan.omitted), (Step::MissingLayers, 1, 2));
    let (results, _) = load(engine, &cache, &late, &options).await;
    let loaded = results[0].as_ref().unwrap();
    assert_eq!(sent(loaded), (bytes(&late[0], 2..3), false));
    assert_eq!(plan.layer_bytes, bytes(&late[0], 2..3));
    resolves_as_expected(real, loaded, pins);
    let files = real.files("sibling/late:1");
    assert_eq!(["below", "above", "filler"].map(|name| files[name]), [700_000, 300_000, 60_000]);
}

/// The tag was given to another image, so the engine has all of it and not its name: no layer is sent.
pub(crate) async fn a_name_that_was_lost(real: &Real, engine: &Engine, pins: bool) {
    let cache = Cache::new();
    let build = |seed| {
        let image = ImageBuilder::new("ghcr.io/acme/stale:1").platform("linux/amd64", [layer(seed, 10_000)]);
        let image = image.index().build().unwrap();
        cache.publish(&image, &image.tagged())
    };
    let images = [build(521), build(522)];
    for round in 0..3 {
        for image in &images {
            let image = std::slice::from_ref(image);
            let (results, _) = load(engine, &cache, image, &LoadOptions::default()).await;
            let loaded = results[0].as_ref().unwrap();
            // A containerd store forgets an image that has no name.
            let gone = engine.capabilities().kind == EngineKind::DockerContainerd;
            if round > 0 && !gone {
                assert_eq!(sent(loaded), (0, false), "{round}");
            }
            assert!(matches!(loaded.was, Was::Sent { .. }));
            assert!(!real.has_nameless_record(&loaded.resolves.id), "{round}");
            resolves_as_expected(real, loaded, pins);
        }
    }
}

/// What the engine is believed to have is not what it has: the image is there in the end, by a second request.
pub(crate) async fn a_delta_with_a_hole(real: &Arc<Real>, engine: &Engine, pins: bool) {
    let cache = Cache::new();
    let base = LayerBuilder::new().filler("below", 531, 200_000).build().unwrap();
    let build = |name: &str, seed| {
        let layers = [base.clone(), layer(seed, 50_000)];
        let image = ImageBuilder::new(name).platform("linux/amd64", layers).index().build().unwrap();
        cache.publish(&image, &image.pinned())
    };
    let (bringer, image) = (build("hole/bringer:1", 532), build("hole/image:1", 533));
    load(engine, &cache, std::slice::from_ref(&bringer), &LoadOptions::default()).await;
    // Goes when the run has found out what the engine has, and before anything is sent.
    let remover: Arc<dyn Around> = Arc::new(Remover(Arc::clone(real), "hole/bringer:1"));
    let options = LoadOptions { around: vec![remover], ..LoadOptions::default() };
    let (results, events) = load(engine, &cache, std::slice::from_ref(&image), &options).await;
    let loaded = results[0].as_ref().unwrap();
    let (own, whole) = (image.layers[1].size, image.layers.iter().map(|layer| layer.size).sum::<u64>());
    assert_eq!(sent(loaded), (own + whole, true), "{events:?}");
    resolves_as_expected(real, loaded, pins);
    let files = real.files("hole/image:1");
    assert_eq!(["below", "filler"].map(|name| files[name]), [200_000, 50_000]);
    assert!(events.contains(&"0 whole again".to_owned()), "{events:?}");
    assert!(!real.has_nameless_record(&loaded.resolves.id));
}

/// Takes an image away between the plan and the first request.
#[derive(Debug)]
struct Remover(Arc<Real>, &'static str);

impl Around for Remover {
    fn before_first_send<'a>(
        &'a self,
        _: &'a Engine,
        _: &'a [&'a palletjack_store::Image],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        self.0.remove(self.1);
        Box::pin(async { Ok(()) })
    }
}

/// Loaded as they are, or recoded on the way; the cache keeps them as they were.
pub(crate) async fn zstd_layers(real: &Real, engine: &Engine, reads: bool) {
    let cache = Cache::new();
    let build = |seed, compression| {
        let layer = LayerBuilder::new().filler("file", seed, 400_000).file("a", "b");
        layer.compression(compression).build().unwrap()
    };
    let layers = [
        build(308, Compression::None),
        build(301, Compression::Gzip),
        build(302, Compression::Zstd),
        build(304, Compression::Zstd),
    ];
    let image =
        ImageBuilder::new("acme/packed:1").kind(Kind::Oci).platform("linux/amd64", layers).index().build();
    let image = image.unwrap();
    let image = cache.publish(&image, &image.pinned());
    let as_it_is: u64 = image.layers.iter().map(|layer| layer.size).sum();
    let images = [image];
    for was_present in [false, true] {
        let planned =
            engine.plan(&cache.store, &images, &LoadOptions::default()).await.images.remove(0).unwrap();
        assert_eq!(planned.recoded, if reads || was_present { 0 } else { 2 });
        let (results, _) = load(engine, &cache, &images, &LoadOptions::default()).await;
        let loaded = results[0].as_ref().unwrap();
        match loaded.was {
            Was::Present => assert!(was_present),
            Was::Sent { layer_bytes, whole_again, .. } => {
                assert!(!was_present && !whole_again);
                assert_eq!(layer_bytes == as_it_is, reads, "{layer_bytes}, {as_it_is} in the cache");
            }
        }
        resolves_as_expected(real, loaded, engine.capabilities().resolves_pins());
        assert!(real.runs("acme/packed:1"));
    }
    for layer in &images[0].layers {
        let content = std::fs::read(cache.store.blob_path(&layer.digest)).unwrap();
        assert_eq!(Digest::of(&content), layer.digest);
    }

    // A corrupt one is found before its header goes out.
    let layer = build(306, Compression::Zstd);
    let bad = ImageBuilder::new("acme/packed-bad:1").kind(Kind::Oci).platform("linux/amd64", [layer]).build();
    let bad = cache.publish(&bad.unwrap(), "acme/packed-bad:1");
    cache.damage(&bad.layers[0].digest);
    let (results, _) = load(engine, &cache, &[bad], &LoadOptions::default()).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!real.runs("acme/packed-bad:1"));
}
