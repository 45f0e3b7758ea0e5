//! Images back from real engines, each private to its test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

#[path = "../real/engine.rs"]
#[allow(dead_code, reason = "it is made for the tests of loads, which need more of it")]
mod engine;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use engine::Real;
use palletjack_engine::{
    Endpoint, Engine, LoadOptions, Loaded, RunsAs, TakeError, TakeOptions, TakeWish, Taken, Was,
};
use palletjack_image::{Digest, LayerCompression, Platform};
use palletjack_store::{Depth, Image};
use palletjack_testkit::image::{self as built, Compression, ImageBuilder, Kind, LayerBuilder};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Podman, Store};
use palletjack_testkit::registry::Registry;
use palletjack_testkit::require_real;
use support::{Cache, amd64, layer, load};

/// Larger than what is kept in memory while an archive is read.
const APP: u64 = 400_000;

fn base() -> built::Layer {
    LayerBuilder::new().filler("base", 1, 300_000).build().unwrap()
}

/// An image for two platforms on the shared base, with one layer twice.
fn both(name: &str, kind: Kind, seed: u64) -> built::Image {
    ImageBuilder::new(name)
        .kind(kind)
        .platform("linux/amd64", [base(), layer(seed, APP), layer(seed, APP)])
        .platform("linux/arm64", [layer(seed + 50, APP)])
        .build()
        .unwrap()
}

async fn connect(real: &Real) -> Engine {
    Engine::connect(Endpoint::Unix(real.socket())).await.unwrap()
}

async fn take_with(
    engine: &Engine,
    cache: &Cache,
    reference: &str,
    change: impl FnOnce(&mut TakeOptions),
) -> Result<Taken, TakeError> {
    let wish = TakeWish { reference: reference.parse().unwrap(), requested: reference.to_owned() };
    let mut options = TakeOptions::new(amd64());
    change(&mut options);
    let mut results = engine.take_back(&cache.store, &[wish], &options, &|_| {}).await;
    results.pop().unwrap()
}

async fn take(engine: &Engine, cache: &Cache, reference: &str) -> Result<Taken, TakeError> {
    take_with(engine, cache, reference, |_| {}).await
}

/// An image of the cache, all of whose content was looked at.
fn verified(cache: &Cache, taken: &Taken) -> Image {
    let report = cache.store.check(&cache.store.lease().unwrap(), Depth::Deep, &|_| true).unwrap();
    assert_eq!(report.problems, []);
    cache.store.image(&taken.entry).unwrap()
}

/// Every blob of a cache by its digest, whether something names it or not.
fn blobs(cache: &Cache) -> BTreeMap<String, Vec<u8>> {
    let directory = cache.store.root().join("docker-archives/blobs/sha256");
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

async fn load_one(engine: &Engine, cache: &Cache, image: &Image) -> Loaded {
    let (mut results, _) = load(engine, cache, std::slice::from_ref(image), &LoadOptions::default()).await;
    results.pop().unwrap().unwrap()
}

#[tokio::test]
async fn a_containerd_store_gives_back_what_it_was_given() {
    require_real!(Part::Docker28, Part::Podman);
    let real = Real::Docker(Box::new(Dockerd::forky(Store::Containerd).unwrap()));
    let engine = connect(&real).await;
    let zstd = LayerBuilder::new().filler("z", 9, APP).compression(Compression::Zstd).build().unwrap();
    let images = [
        both("caddy:2.6.2", Kind::Docker, 2),
        both("ghcr.io/acme/two:1", Kind::Oci, 3),
        ImageBuilder::new("quay.io/acme/three:v3").platform("linux/amd64", [base(), zstd]).build().unwrap(),
    ];
    let (from, to) = (Cache::new(), Cache::new());
    let loaded: Vec<Image> = images.iter().map(|image| from.publish(image, &image.pinned())).collect();
    for result in load(&engine, &from, &loaded, &LoadOptions::default()).await.0 {
        assert!(result.unwrap().resolves.exact);
    }
    let mut back = Vec::new();
    for (image, original) in images.iter().zip(&loaded) {
        let taken = take(&engine, &to, &image.pinned()).await.unwrap();
        assert!(!taken.cached && taken.read > 0 && taken.entry.rebuilt.is_none(), "{taken:?}");
        assert_eq!(taken.entry.target, original.entry.target);
        assert_eq!(taken.entry.manifest, original.entry.manifest);
        back.push(verified(&to, &taken));
    }
    assert!(blobs(&from) == blobs(&to), "some blob is another");
    // What is shared was written once.
    let written: u64 = blobs(&to).values().map(|bytes| bytes.len() as u64).sum();
    let summed: u64 = back.iter().flat_map(|image| &image.layers).map(|layer| layer.size).sum();
    assert!(written < summed);

    for image in &images {
        let taken = take(&engine, &to, &image.pinned()).await.unwrap();
        assert!(taken.cached && taken.read == 0, "{taken:?}");
    }
    // By its tag it is the same, and nothing of it has to be read.
    let taken = take(&engine, &to, "caddy:2.6.2").await.unwrap();
    assert_eq!((taken.cached, taken.read, taken.entry.target.digest), (false, 0, images[0].top.digest));
    let names: Vec<String> =
        engine.named().await.unwrap().iter().map(palletjack_image::Reference::familiar).collect();
    assert_eq!(names, ["caddy:2.6.2", "ghcr.io/acme/two:1", "quay.io/acme/three:v3"]);

    // What it does not have.
    let arm64 = |options: &mut TakeOptions| options.platform = Platform::new("linux", "arm64", None);
    let error = take_with(&engine, &Cache::new(), &images[0].pinned(), arm64).await.unwrap_err();
    assert!(matches!(error, TakeError::NotWhole { .. }) && error.kind().is_none(), "{error}");
    let absent = format!("caddy:2.6.2@{}", Digest::of(b"absent"));
    let error = take(&engine, &Cache::new(), &absent).await.unwrap_err();
    assert!(matches!(error, TakeError::NotThere { .. }) && error.kind().is_none(), "{error}");

    // From there into another engine, by their pins.
    let other = Real::Podman(Podman::start().unwrap());
    let podman = connect(&other).await;
    for (image, built) in back.iter().zip(&images) {
        assert!(load_one(&podman, &to, image).await.resolves.exact);
        assert!(other.runs(&built.pinned()));
    }
}

/// A graph driver with an image that it pulled and one that it was given.
struct Graph {
    real: Real,
    engine: Engine,
    pulled: built::Image,
    given: built::Image,
}

async fn graph(start: impl FnOnce(DockerdOptions) -> std::io::Result<Dockerd>) -> Graph {
    let registry = Registry::start().unwrap();
    let pulled = both("acme/pulled:1", Kind::Docker, 7);
    registry.publish(&pulled);
    let args = vec!["--registry-mirror".to_owned(), registry.url()];
    let docker = start(DockerdOptions { args, ..DockerdOptions::default() }).unwrap();
    docker.docker().unwrap().run(&["pull", &pulled.pinned()]).unwrap().assert_success();
    let real = Real::Docker(Box::new(docker));
    let engine = connect(&real).await;
    let given = both("ghcr.io/acme/given:1", Kind::Oci, 8);
    let cache = Cache::new();
    load_one(&engine, &cache, &cache.publish(&given, &given.pinned())).await;
    Graph { real, engine, pulled, given }
}

/// It has the config of what it was made from, and its own manifest; `raw` tells which layers are bare tars.
fn assert_rebuilt(image: &Image, built: &built::Image, vouched: &[Digest], raw: [bool; 3]) {
    let rebuilt = image.entry.rebuilt.as_ref().unwrap();
    assert_eq!(rebuilt.vouched, vouched);
    let original = built.platform("linux/amd64").unwrap();
    assert_eq!(image.config_descriptor.digest, original.config);
    assert!(image.entry.target.digest != built.top.digest && image.entry.target.digest != original.manifest);
    let is_raw = |layer: &palletjack_image::Descriptor| {
        LayerCompression::of(&layer.media_type) == Some(LayerCompression::None)
    };
    assert_eq!(image.layers.iter().map(is_raw).collect::<Vec<_>>(), raw);
    for (layer, (diff_id, compressed)) in
        image.layers.iter().zip(image.config.diff_ids.iter().zip(&original.layers))
    {
        let want = if is_raw(layer) { *diff_id } else { compressed.digest };
        assert_eq!(layer.digest, want);
    }
}

async fn from_a_graph_driver(graph: &Graph) {
    let Graph { real, engine, pulled, given } = graph;
    // A cache that knows nothing.
    let empty = Cache::new();
    let taken = take(engine, &empty, &pulled.pinned()).await.unwrap();
    assert!(!taken.cached && taken.read > 0 && taken.written > 0);
    let rebuilt = verified(&empty, &taken);
    assert_rebuilt(&rebuilt, pulled, &[pulled.top.digest], [true; 3]);
    let again = take(engine, &empty, &pulled.pinned()).await.unwrap();
    assert!(again.cached && again.read == 0 && again.entry == taken.entry, "{again:?}");
    // What was loaded is not vouched for, and goes by its tag.
    let error = take(engine, &empty, &given.pinned()).await.unwrap_err();
    assert!(matches!(error, TakeError::NotVouched { .. }) && error.kind().is_none(), "{error}");
    let tagged = take(engine, &empty, &given.tagged()).await.unwrap();
    assert_rebuilt(&verified(&empty, &tagged), given, &[], [true; 3]);
    let named: Vec<String> =
        engine.named().await.unwrap().iter().map(palletjack_image::Reference::familiar).collect();
    assert_eq!(named, [format!("acme/pulled@{}", pulled.top.digest), "ghcr.io/acme/given:1".to_owned()]);

    // One that has another image on the same base: its blob takes the place of the bare tar.
    let some = Cache::new();
    some.publish(&both("acme/other:1", Kind::Oci, 20), "acme/other:1");
    let taken = take(engine, &some, &pulled.pinned()).await.unwrap();
    assert_rebuilt(&verified(&some, &taken), pulled, &[pulled.top.digest], [false, true, true]);
    assert!(!blobs(&some).contains_key(&rebuilt.layers[0].digest.hex()), "a layer was kept twice");

    // One that has all of it: nothing is read, and it is what the registry has where that is known.
    let full = Cache::new();
    let original = full.publish(pulled, "acme/pulled:1");
    let taken = take(engine, &full, &pulled.pinned()).await.unwrap();
    assert_eq!((taken.cached, taken.read, &taken.entry.rebuilt), (false, 0, &None));
    assert_eq!(taken.entry.target, original.entry.target);
    full.publish(given, "ghcr.io/acme/same:1");
    let taken = take(engine, &full, &given.tagged()).await.unwrap();
    assert_eq!(taken.read, 0);
    assert_rebuilt(&verified(&full, &taken), given, &[], [false; 3]);
    // The cache's manifest vouches for what the engine does not.
    let taken = take(engine, &full, &given.pinned()).await.unwrap();
    assert_eq!((taken.read, &taken.entry.rebuilt), (0, &None));

    // Back into the same kind of engine it is the same image, and needs not be sent.
    let loaded = load_one(engine, &empty, &rebuilt).await;
    assert_eq!(loaded.was, Was::Present);
    assert_eq!(loaded.resolves.id, pulled.platform("linux/amd64").unwrap().config);
    assert!(real.runs(&pulled.pinned()));
}

/// What was rebuilt, in an engine that gives pins their names: by its tag, and never under the digest that it is not.
async fn goes_by_its_tag(real: &Real, cache: &Cache, image: &Image) {
    let engine = connect(real).await;
    for again in [false, true] {
        let loaded = load_one(&engine, cache, image).await;
        assert_eq!(loaded.was == Was::Present, again, "{loaded:?}");
        assert!(!loaded.resolves.exact && loaded.rebuilt, "{loaded:?}");
        assert!(matches!(&loaded.runs_as, RunsAs::Tag(tag) if real.runs(tag)), "{loaded:?}");
        assert!(loaded.note().unwrap().contains("rebuilt from an engine"));
        assert!(!real.runs(&image.entry.reference.to_string()));
    }
}

#[tokio::test]
async fn docker_20_gives_back_configs_and_bare_layers() {
    require_real!(Part::Docker20, Part::Docker28);
    let graph = graph(Dockerd::debian_with).await;
    from_a_graph_driver(&graph).await;
    let cache = Cache::new();
    let taken = take(&graph.engine, &cache, &graph.pulled.pinned()).await.unwrap();
    let image = verified(&cache, &taken);
    drop(graph);
    let other = Real::Docker(Box::new(Dockerd::debian().unwrap()));
    let loaded = load_one(&connect(&other).await, &cache, &image).await;
    assert_eq!(loaded.resolves.id, image.config_descriptor.digest);
    assert_eq!(loaded.resolves.tag, Some(true));
    assert!(!other.files("acme/pulled:1").is_empty());
    let containerd = Real::Docker(Box::new(Dockerd::forky(Store::Containerd).unwrap()));
    goes_by_its_tag(&containerd, &cache, &image).await;
}

#[tokio::test]
async fn docker_28_gives_back_configs_and_bare_layers_too() {
    require_real!(Part::Docker28);
    let graph = graph(|options| Dockerd::forky_with(Store::GraphDriver, options)).await;
    from_a_graph_driver(&graph).await;
    // Its archive names layers by what they are: those which the cache has are not written.
    let some = Cache::new();
    some.publish(&both("acme/other:1", Kind::Oci, 20), "acme/other:1");
    let taken = take(&graph.engine, &some, &graph.pulled.pinned()).await.unwrap();
    let image = verified(&some, &taken);
    assert_eq!(taken.written, image.layers[1].size, "{taken:?}");
    assert!(taken.read > taken.written + 300_000);
}

#[tokio::test]
async fn podman_gives_back_configs_and_bare_layers_and_vouches_for_what_it_was_given() {
    require_real!(Part::Podman);
    let real = Real::Podman(Podman::start().unwrap());
    let engine = connect(&real).await;
    let (from, to) = (Cache::new(), Cache::new());
    let given = both("ghcr.io/acme/given:1", Kind::Oci, 8);
    load_one(&engine, &from, &from.publish(&given, &given.pinned())).await;
    let taken = take(&engine, &to, &given.pinned()).await.unwrap();
    let image = verified(&to, &taken);
    assert_rebuilt(&image, &given, &[given.top.digest], [true; 3]);
    let again = take(&engine, &to, &given.pinned()).await.unwrap();
    assert!(again.cached && again.read == 0);
    // By its tag it is the same content, and is there.
    let tagged = take(&engine, &to, &given.tagged()).await.unwrap();
    assert_eq!((tagged.read, tagged.entry.target.digest), (0, taken.entry.target.digest));
    let mut vouched = tagged.entry.rebuilt.unwrap().vouched;
    let mut digests = vec![given.top.digest, given.platform("linux/amd64").unwrap().manifest];
    vouched.sort();
    digests.sort();
    assert_eq!(vouched, digests);

    let error = take(&engine, &to, &format!("ghcr.io/acme/given:1@{}", Digest::of(b"other"))).await;
    assert!(matches!(error.unwrap_err(), TakeError::NotThere { .. }));
    let other = Real::Podman(Podman::start().unwrap());
    goes_by_its_tag(&other, &to, &image).await;
}
