//! What is left out, in which order, how many at once; and engines that do not have what they list.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, wherever it does")]

mod support;

use std::collections::BTreeMap;

use palletjack_engine::{Endpoint, Engine, LoadError, LoadOptions, Loaded, Step, Was};
use palletjack_store::Image;
use palletjack_testkit::engine::{Engine as Fake, EngineImage, Load, LoadFault, Profile};
use palletjack_testkit::image::{self as built, ImageBuilder};
use palletjack_testkit::registry::Gate;
use support::{Cache, layer, load};

fn profiles() -> [Profile; 3] {
    [Profile::docker_20(), Profile::docker_28_containerd(), Profile::podman_4()]
}

async fn connect(fake: &Fake) -> Engine {
    Engine::connect(Endpoint::Unix(fake.socket())).await.unwrap()
}

fn one_by_one() -> LoadOptions {
    LoadOptions { parallel: Some(1), ..LoadOptions::default() }
}

fn build(name: &str, layers: &[&built::Layer]) -> built::Image {
    let layers = layers.iter().map(|&layer| layer.clone());
    ImageBuilder::new(name).platform("linux/amd64", layers).index().build().unwrap()
}

/// Layer bytes of every request that arrived, by the name of its image.
fn sent(loads: &[Load]) -> BTreeMap<String, Vec<u64>> {
    let mut sent = BTreeMap::<String, Vec<u64>>::new();
    for load in loads {
        let (mut name, mut bytes) = (String::new(), 0);
        let mut archive = tar::Archive::new(std::fs::File::open(&load.archive).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            if path == "manifest.json" {
                let manifest: serde_json::Value = serde_json::from_slice(&content).unwrap();
                manifest[0]["RepoTags"][0].as_str().unwrap().clone_into(&mut name);
            } else if content.first() != Some(&b'{') {
                bytes += content.len() as u64;
            }
        }
        sent.entry(name).or_default().push(bytes);
    }
    sent
}

fn layer_bytes(image: &Image, which: &[usize]) -> u64 {
    which.iter().map(|at| image.layers[*at].size).sum()
}

fn was_sent(result: &Result<Loaded, LoadError>) -> (u64, bool) {
    match result.as_ref().unwrap().was {
        Was::Present => (0, false),
        Was::Sent { layer_bytes, whole_again, .. } => (layer_bytes, whole_again),
    }
}

#[tokio::test]
async fn a_shared_base_is_sent_once_and_the_plan_says_so_before() {
    for profile in profiles() {
        let fake = Fake::start(profile).unwrap();
        let engine = connect(&fake).await;
        let cache = Cache::new();
        let base = [layer(1, 200_000), layer(2, 100_000)];
        let own = [layer(11, 50_000), layer(12, 20_000), layer(13, 70_000)];
        let images: Vec<Image> = own
            .iter()
            .enumerate()
            .map(|(index, own)| {
                let image = build(&format!("acme/app{index}:1"), &[&base[0], &base[1], own]);
                cache.publish(&image, &image.pinned())
            })
            .collect();

        let plan = engine.plan(&cache.store, &images, &LoadOptions::default()).await;
        let plans: Vec<_> = plan.images.into_iter().map(Result::unwrap).collect();
        // The smallest brings the base.
        let steps = [Step::MissingLayers, Step::Everything, Step::MissingLayers];
        assert_eq!(plans.iter().map(|plan| plan.step).collect::<Vec<_>>(), steps);
        assert_eq!(plans[1].turn, Some(0));
        let disk = plan.disk.unwrap();
        assert!(!disk.is_short() && disk.free > 0, "{disk:?}");

        let (results, events) = load(&engine, &cache, &images, &LoadOptions::default()).await;
        for (index, which) in [&[2][..], &[0, 1, 2], &[2]].into_iter().enumerate() {
            let expected = layer_bytes(&images[index], which);
            assert_eq!(was_sent(&results[index]), (expected, false), "{events:?}");
            assert_eq!(plans[index].layer_bytes, expected);
            assert_eq!(plans[index].omitted_bytes, layer_bytes(&images[index], &[0, 1, 2]) - expected);
            let Was::Sent { bytes, .. } = results[index].as_ref().unwrap().was else { panic!() };
            assert_eq!(plans[index].archive_bytes, bytes);
        }
        let loads = fake.wait_for_loads(3);
        let arrived: Vec<u64> = sent(&loads).into_values().flatten().collect();
        let told: Vec<u64> = results.iter().map(|result| was_sent(result).0).collect();
        assert_eq!(arrived, told, "what was counted is what arrived");

        // Again: nothing to do, and nothing sent.
        let plan = engine.plan(&cache.store, &images, &LoadOptions::default()).await;
        assert!(plan.disk.is_none());
        for planned in plan.images {
            let planned = planned.unwrap();
            assert_eq!((planned.step, planned.archive_bytes, planned.omitted), (Step::Nothing, 0, 3));
        }
        load(&engine, &cache, &images, &LoadOptions::default()).await;
        assert_eq!(fake.wait_for_loads(3).len(), 3);
    }
}

#[tokio::test]
async fn an_image_that_lost_its_name_gets_the_name_alone() {
    for profile in profiles() {
        let fake = Fake::start(profile).unwrap();
        let engine = connect(&fake).await;
        let cache = Cache::new();
        let image = build("acme/app:1", &[&layer(1, 50_000)]);
        let images = [cache.publish(&image, "acme/app:1")];
        load(&engine, &cache, &images, &one_by_one()).await;
        let mut nameless = fake.images().remove(0);
        nameless.tags.clear();
        nameless.digests.clear();
        fake.add_image(nameless);

        let plan = engine.plan(&cache.store, &images, &one_by_one()).await.images.remove(0).unwrap();
        assert_eq!((plan.step, plan.layers, plan.omitted), (Step::Metadata, 0, 1));
        let (results, _) = load(&engine, &cache, &images, &one_by_one()).await;
        assert_eq!(was_sent(&results[0]), (0, false));
        assert!(results[0].as_ref().unwrap().resolves.exact);
    }
}

/// The engine lists an image with the base, and has not the files of it.
#[tokio::test]
async fn a_delta_with_a_hole_is_made_good_by_the_whole_image_once() {
    for profile in profiles() {
        let containerd = profile.containerd_store;
        let fake = Fake::start(profile).unwrap();
        let engine = connect(&fake).await;
        let cache = Cache::new();
        let base = layer(1, 100_000);
        let [liar, first, second] = [("acme/liar:1", 10), ("acme/first:1", 11), ("acme/second:1", 12)]
            .map(|(name, seed)| build(name, &[&base, &layer(seed, 10_000 * seed)]));
        let liar = cache.publish(&liar, &liar.tagged());
        let id = if containerd { liar.entry.target.digest } else { liar.config_descriptor.digest };
        fake.add_image(EngineImage {
            id: id.to_string(),
            manifest: liar.entry.manifest.digest.to_string(),
            tags: vec!["docker.io/acme/liar:1".to_owned()],
            layers: liar.config.diff_ids.iter().map(ToString::to_string).collect(),
            architecture: "amd64".to_owned(),
            hollow: true,
            ..EngineImage::default()
        });
        let images = [cache.publish(&first, &first.tagged()), cache.publish(&second, &second.tagged())];
        let (results, events) = load(&engine, &cache, &images, &one_by_one()).await;
        let whole = layer_bytes(&images[1], &[0, 1]);
        let own = |index: usize| layer_bytes(&images[index], &[1]);
        // The larger goes first and finds it out; both its requests are counted. The other builds on it.
        assert_eq!(was_sent(&results[1]), (own(1) + whole, true), "{events:?}");
        assert_eq!(was_sent(&results[0]), (own(0), false), "{events:?}");
        assert_eq!(events.iter().filter(|event| event.ends_with("whole again")).count(), 1);
        assert_eq!(fake.wait_for_loads(3).len(), 3);
        for result in &results {
            assert!(result.as_ref().unwrap().resolves.content);
        }
    }
}

#[tokio::test]
async fn an_engine_that_refuses_the_whole_as_well_is_asked_twice_and_no_more() {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let base = layer(1, 100_000);
    let [first, second] =
        ["acme/first:1", "acme/second:1"].map(|name| build(name, &[&base, &layer(name.len() as u64, 9_000)]));
    let first = cache.publish(&first, &first.tagged());
    let second = cache.publish(&second, &second.tagged());
    load(&engine, &cache, &[first], &one_by_one()).await;
    for _ in 0..3 {
        fake.fault(LoadFault::ErrorLine("no".to_owned()));
    }
    let (results, _) = load(&engine, &cache, &[second], &one_by_one()).await;
    assert!(matches!(&results[0], Err(LoadError::Refused { message, .. }) if message == "no"));
    assert_eq!(fake.wait_for_loads(3).len(), 3);
}

/// Two at once, and what both need is not sent twice.
#[tokio::test]
async fn images_without_a_common_layer_are_in_flight_together() {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let base = layer(1, 100_000);
    let images: Vec<Image> = [
        build("acme/one:1", &[&base, &layer(11, 10_000)]),
        build("acme/two:1", &[&base, &layer(12, 20_000)]),
        build("acme/alone:1", &[&layer(13, 30_000)]),
    ]
    .iter()
    .map(|image| cache.publish(image, &image.tagged()))
    .collect();
    let gate = Gate::new();
    for _ in 0..2 {
        fake.fault(LoadFault::Silence(gate.clone()));
    }
    let opener = {
        let gate = gate.clone();
        // Ends only where two requests are in flight at the same time.
        std::thread::spawn(move || {
            gate.wait_for(2);
            gate.open();
        })
    };
    let options = LoadOptions { parallel: Some(3), ..LoadOptions::default() };
    let (results, events) = load(&engine, &cache, &images, &options).await;
    opener.join().unwrap();
    let told: Vec<(u64, bool)> = results.iter().map(was_sent).collect();
    let expected = [(0, &[0, 1][..]), (1, &[1]), (2, &[0])];
    let expected = expected.map(|(index, which)| (layer_bytes(&images[index], which), false));
    assert_eq!(told, expected, "{events:?}");
    assert_eq!(sent(&fake.wait_for_loads(3)).len(), 3);
}

/// What the plan for a disk says is an error before anything is sent.
#[tokio::test]
async fn a_disk_that_is_too_small_is_told_before_the_start() {
    let fake = Fake::start(Profile::docker_20()).unwrap();
    let engine = connect(&fake).await;
    let cache = Cache::new();
    let image = build("acme/large:1", &[&layer(1, 10_000)]);
    let mut image = cache.publish(&image, &image.tagged());
    image.layers[0].size = 1 << 60;
    let lease = cache.store.lease().unwrap();
    let images = [image];
    let options = LoadOptions::default();
    let error = engine.load_all(&cache.store, &lease, &images, &options, &|_| ()).await.unwrap_err();
    assert_eq!(error.kind(), palletjack_engine::ErrorKind::NoSpace);
    let told = error.to_string();
    assert!(told.contains(&(1_u64 << 60).to_string()) && told.contains("docker image prune"), "{told}");
    assert!(fake.loads().is_empty());
    let plan = engine.plan(&cache.store, &images, &options).await;
    assert!(plan.disk.unwrap().is_short());
}
