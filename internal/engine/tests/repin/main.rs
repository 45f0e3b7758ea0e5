//! Digests for real engines that keep none of what they load.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

mod keep;
mod live;
mod mirror;
mod namespace;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use palletjack_engine::repin::{RepinError, Repinned};
use palletjack_engine::{Endpoint, Engine, EngineKind, LoadOptions};
use palletjack_store::Image;
use palletjack_testkit::image::{ImageBuilder, Kind};
use palletjack_testkit::real::{DockerCli, Dockerd};
use support::{Cache, layer, load};

/// A pinned multi-platform image in the cache.
fn pinned(cache: &Cache, reference: &str, seed: u64) -> Image {
    let kind = if seed.is_multiple_of(2) { Kind::Docker } else { Kind::Oci };
    let image = ImageBuilder::new(reference)
        .kind(kind)
        .platform("linux/amd64", [layer(seed, 200_000)])
        .platform("linux/arm64", [layer(seed + 1000, 1_000)])
        .build()
        .unwrap();
    cache.publish(&image, &image.pinned())
}

/// A graph driver with these images loaded: their tags resolve, their digests do not.
struct Loaded {
    engine: Engine,
    docker: DockerCli,
    cache: Arc<Cache>,
    images: Vec<Image>,
    tags: Vec<(String, String)>,
}

async fn loaded(daemon: &Dockerd, references: &[&str]) -> Loaded {
    let engine = Engine::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    assert_eq!(engine.capabilities().kind, EngineKind::DockerGraph);
    let cache = Arc::new(Cache::new());
    let seeds = 1..;
    let images: Vec<Image> =
        references.iter().zip(seeds).map(|(reference, seed)| pinned(&cache, reference, seed)).collect();
    // As the cache has them in the end: an older pin of a tag has lost it to a younger one.
    let snapshot = cache.store.snapshot().unwrap();
    let images: Vec<Image> = images
        .iter()
        .map(|image| snapshot.find(&image.entry.reference, &image.entry.platform).unwrap())
        .map(|entry| cache.store.image(entry).unwrap())
        .collect();
    let _ = load(&engine, &cache, &images, &LoadOptions::default()).await;
    let docker = daemon.docker().unwrap();
    let mut tags = Vec::new();
    for image in &images {
        let reference = &image.entry.reference;
        assert!(!docker.create_never(&reference.to_string()).unwrap().success(), "{reference}");
        let seen = engine.look(image).await.unwrap();
        assert!(seen.content && !seen.exact);
        if seen.tag == Some(true) {
            tags.push((reference.tagged().unwrap(), seen.id.to_string()));
        }
    }
    Loaded { engine, docker, cache, images, tags }
}

impl Loaded {
    fn images(&self) -> Vec<&Image> {
        self.images.iter().collect()
    }

    /// These and no others resolve by their digests; every tag means what it meant; a prune takes nothing.
    fn assert_pins(&self, repinned: &Repinned, expected: &[bool]) {
        let got: Vec<bool> =
            repinned.images.iter().map(|result| matches!(result, Some(Ok(seen)) if seen.exact)).collect();
        assert_eq!(got, expected, "{repinned:?}");
        self.docker.run(&["image", "prune", "--force"]).unwrap().assert_success();
        for (image, expected) in self.images.iter().zip(expected) {
            let reference = image.entry.reference.to_string();
            assert_eq!(self.docker.create_never(&reference).unwrap().success(), *expected, "{reference}");
        }
        for (tag, id) in &self.tags {
            assert_eq!(self.docker.inspect(tag).unwrap().unwrap()["Id"], **id, "{tag}");
        }
    }
}

fn error(result: Option<&Option<Result<palletjack_engine::Sighting, RepinError>>>) -> &RepinError {
    result.unwrap().as_ref().unwrap().as_ref().unwrap_err()
}
