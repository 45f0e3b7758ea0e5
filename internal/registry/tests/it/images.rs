//! What is chosen, kept, reused and published.

use std::sync::Arc;

use palletjack_image::{Digest, Manifest, media_type};
use palletjack_registry::{ErrorKind, Event, Refresh};
use palletjack_store::{NewEntry, Rebuilt};
use palletjack_testkit::image::{ImageBuilder, ImageSet, Kind};
use palletjack_testkit::registry::{Auth, Registry};

use crate::support::{Bench, all_ok, at, failure, image, layer, platform};

#[tokio::test]
async fn a_whole_pallet_comes_byte_for_byte_and_the_second_run_asks_nobody() {
    let registry = Registry::start().unwrap();
    let names: Vec<String> = (0..9).map(|i| at(&registry, &format!("acme/app{}:{i}", i % 4))).collect();
    let set = ImageSet::small(&names).unwrap();
    registry.publish_all(&set);
    let pins: Vec<String> = set.images.iter().map(palletjack_testkit::image::Image::pinned).collect();
    let bench = Bench::new();
    let first = bench.pull(&pins).await;
    all_ok(&first);
    let references: Vec<&str> = pins.iter().map(String::as_str).collect();
    bench.assert_cached(&references);
    assert_eq!(first.requests, registry.requests().len() as u64);
    assert_eq!(first.bytes_fetched, registry.bytes_sent());
    let store = bench.store();
    for image in &set.images {
        let reference = image.pinned().parse().unwrap();
        let snapshot = store.snapshot().unwrap();
        let entry = snapshot.find(&reference, &platform()).unwrap();
        assert_eq!(entry.target.digest, image.top.digest);
        assert_eq!(&store.read(&entry.target).unwrap()[..], &image.top.bytes[..]);
        assert_eq!(entry.manifest.digest, image.platform("linux/amd64").unwrap().manifest);
    }
    let layers = set.layers("linux/amd64");
    for digest in layers.keys() {
        assert_eq!(registry.count("GET", &digest.to_string()), 1, "{digest}");
    }

    registry.clear_requests();
    let second = bench.pull(&pins).await;
    all_ok(&second);
    assert_eq!((second.requests, second.bytes_fetched), (0, 0));
    assert_eq!(registry.requests().len(), 0);
    assert!(second.images.iter().all(|image| image.outcome.as_ref().unwrap().cached));
    assert_eq!(second.bytes_reused, layers.values().map(|layer| layer.size).sum::<u64>());
}

#[tokio::test]
async fn a_cached_tag_is_used_until_a_refresh_is_asked_for() {
    let registry = Registry::start_with_auth(Auth::anonymous_tokens()).unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(1, 20_000)]));
    let mut bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    let moved = image(&name, [layer(2, 20_000)]);
    registry.publish(&moved);
    registry.clear_requests();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    assert_eq!(registry.requests().len(), 0);

    bench.options.refresh = Refresh::Always;
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    all_ok(&summary);
    let pulled = summary.images[0].outcome.as_ref().unwrap();
    assert!(!pulled.cached);
    assert_eq!(pulled.entry.target.digest, moved.top.digest);

    registry.clear_requests();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert!(summary.images[0].outcome.as_ref().unwrap().cached);
    assert_eq!(registry.count("HEAD", "/manifests/1"), 1);
    assert_eq!(registry.count("GET", "/manifests/"), 0, "an unchanged tag costs a HEAD");
    assert_eq!(summary.requests, registry.requests().len() as u64);
}

#[tokio::test]
async fn a_refresh_without_a_network_uses_what_is_there_and_says_so() {
    let mut registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(3, 20_000)]));
    let mut bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    registry.stop();
    bench.options.refresh = Refresh::Always;
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    all_ok(&summary);
    let pulled = summary.images[0].outcome.as_ref().unwrap();
    assert!(pulled.cached && pulled.unchecked.as_ref().is_some_and(|why| why.contains("refused")));
    assert!(bench.warnings()[0].contains("could not be checked"), "{:?}", bench.warnings());
}

#[tokio::test]
async fn an_image_with_a_hole_is_mended() {
    let registry = Registry::start().unwrap();
    let (lost, kept) = (layer(4, 20_000), layer(5, 20_000));
    let name = at(&registry, "acme/app:1");
    let image = image(&name, [lost.clone(), kept.clone()]);
    registry.publish(&image);
    let bench = Bench::new();
    all_ok(&bench.pull(&[image.pinned()]).await);
    std::fs::remove_file(bench.blob(&lost.digest)).unwrap();
    registry.clear_requests();
    let summary = bench.pull(&[image.pinned()]).await;
    all_ok(&summary);
    bench.assert_cached(&[&image.pinned()]);
    assert_eq!(registry.requests().len(), 1, "index, manifest, config and the other layer are there");
    assert_eq!(summary.bytes_reused, kept.size);
}

#[tokio::test]
async fn the_platform_s_child_is_chosen_and_what_exists_is_listed() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    let image = ImageBuilder::new(&name)
        .kind(Kind::Docker)
        .platform("linux/arm/v6", [layer(6, 20_000)])
        .platform("linux/arm/v7", [layer(7, 20_000)])
        .platform("linux/arm64/v8", [layer(8, 20_000)])
        .attestations()
        .build()
        .unwrap();
    registry.publish(&image);
    for (asked, chosen) in [
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v8", "linux/arm/v7"),
        ("linux/arm64", "linux/arm64/v8"),
    ] {
        let mut bench = Bench::new();
        bench.options.platform = asked.parse().unwrap();
        let summary = bench.pull(&[image.pinned()]).await;
        all_ok(&summary);
        let entry = &summary.images[0].outcome.as_ref().unwrap().entry;
        assert_eq!(entry.manifest.digest, image.platform(chosen).unwrap().manifest, "{asked}");
        assert_eq!(entry.platform, bench.options.platform);
    }
    let bench = Bench::new();
    let summary = bench.pull(&[image.pinned()]).await;
    let text = failure(&summary).to_string();
    assert!(
        text.contains("no image for linux/amd64; it exists for linux/arm/v6, linux/arm/v7, linux/arm64"),
        "{text}"
    );
    assert_eq!(failure(&summary).kind(), ErrorKind::Platform);
}

#[tokio::test]
async fn a_second_platform_needs_the_index_no_more() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    let image = ImageBuilder::new(&name)
        .platform("linux/amd64", [layer(9, 20_000)])
        .platform("linux/arm64/v8", [layer(10, 20_000)])
        .build()
        .unwrap();
    registry.publish(&image);
    let mut bench = Bench::new();
    all_ok(&bench.pull(&[image.pinned()]).await);
    registry.clear_requests();
    bench.options.platform = "linux/arm64".parse().unwrap();
    all_ok(&bench.pull(&[image.pinned()]).await);
    assert_eq!(registry.count("GET", &image.top.digest.to_string()), 0);
    assert_eq!(bench.names().len(), 2);
}

#[tokio::test]
async fn a_single_image_of_another_platform_says_which_it_is() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    let image = ImageBuilder::new(&name).platform("linux/arm/v7", [layer(11, 20_000)]).build().unwrap();
    registry.publish(&image);
    let mut bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert!(
        failure(&summary).to_string().contains("an image for linux/arm/v7 alone"),
        "{}",
        failure(&summary)
    );
    bench.options.platform = "linux/arm/v6".parse().unwrap();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
}

#[tokio::test]
async fn an_image_whose_config_does_not_fit_is_refused() {
    let registry = Registry::start().unwrap();
    let config = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let layer = layer(12, 20_000);
    let manifest = |config: &[u8], layer_type: &str| {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":{}}},
            "layers":[{{"mediaType":"{layer_type}","digest":"{}","size":{}}}]}}"#,
            media_type::OCI_CONFIG,
            Digest::of(config),
            config.len(),
            layer.digest,
            layer.size
        )
    };
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let artifact = br#"{"rootfs":{}}"#;
    for (tag, config, layer_type, want) in [
        ("count", &config[..], media_type::OCI_LAYER_GZIP, "describes 0 layers, the manifest has 1"),
        ("foreign", config, foreign, "foreign layer"),
        ("artifact", artifact, media_type::OCI_LAYER_GZIP, "names no platform"),
    ] {
        registry.add_blob("acme/app", Digest::of(config), config.to_vec());
        let manifest = manifest(config, layer_type);
        assert!(manifest.len() < Manifest::MAX_SIZE);
        let digest = registry.add_manifest("acme/app", media_type::OCI_MANIFEST, manifest);
        registry.set_tag("acme/app", tag, digest);
        let bench = Bench::new();
        let summary = bench.pull(&[at(&registry, &format!("acme/app:{tag}"))]).await;
        assert!(failure(&summary).to_string().contains(want), "{}", failure(&summary));
        assert_eq!(failure(&summary).kind(), ErrorKind::Unsupported);
        assert_eq!(bench.names(), [""; 0]);
    }
}

#[tokio::test]
async fn the_bare_tag_belongs_to_the_pin_given_last() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    // The one given last is complete long before the other.
    let (old, new) = (image(&name, [layer(13, 900_000)]), image(&name, [layer(14, 1_000)]));
    registry.publish(&old);
    registry.publish(&new);
    let mut bench = Bench::new();
    bench.options.blobs = 1;
    let summary = bench.pull(&[old.pinned(), new.pinned()]).await;
    all_ok(&summary);
    let snapshot = bench.store().snapshot().unwrap();
    let owns = |reference: &str| snapshot.find(&reference.parse().unwrap(), &platform()).unwrap().owns_tag;
    assert!(owns(&new.pinned()) && !owns(&old.pinned()));
}

#[tokio::test]
async fn events_tell_the_whole_story() {
    let registry = Registry::start().unwrap();
    let layer = layer(15, 200_000);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    let bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    let events = bench.events();
    let at = |want: &Event| events.iter().position(|event| event == want).unwrap();
    let digest = layer.digest;
    let order = [
        at(&Event::Resolving { image: name.clone() }),
        at(&Event::Resolved { image: name.clone(), total: layer.size }),
        at(&Event::BlobStarted { digest, size: layer.size, offset: 0 }),
        at(&Event::BlobDone { digest }),
        at(&Event::ImageDone { image: name.clone(), cached: false }),
    ];
    assert!(order.is_sorted(), "{events:#?}");
    let progress: u64 = events
        .iter()
        .map(|event| if let Event::BlobProgress { bytes, .. } = event { *bytes } else { 0 })
        .sum();
    assert_eq!(progress, layer.size);
}

#[tokio::test]
async fn the_same_reference_twice_is_one_image() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(16, 20_000)]));
    let bench = Bench::new();
    let summary = bench.pull(&[name.clone(), name.clone()]).await;
    all_ok(&summary);
    assert_eq!(summary.images.len(), 1);
}

#[test]
fn a_pull_can_be_spawned() {
    fn assert_send<T: Send>(_: T) {}
    let bench = Arc::new(Bench::new());
    assert_send(async move { bench.pull(&[]).await });
}

#[tokio::test]
async fn a_reference_without_tag_and_digest_is_nobody_s_to_guess() {
    let bench = Bench::new();
    let summary = bench.pull(&["caddy".to_owned()]).await;
    let text = failure(&summary).to_string();
    assert!(text.contains("neither a tag nor a digest"), "{text}");
    assert_eq!(failure(&summary).kind(), ErrorKind::Config);
    assert_eq!(summary.requests, 0);
}

#[tokio::test]
async fn what_was_rebuilt_from_an_engine_gives_way_to_what_the_registry_has() {
    let mut registry = Registry::start().unwrap();
    let built = image(&at(&registry, "acme/app:1"), [layer(1, 20_000)]);
    registry.publish(&built);
    let bench = Bench::new();
    // The same content under a manifest that is not the registry's, for a pin and for a tag.
    let other = image(&at(&registry, "acme/other:1"), [layer(2, 20_000)]);
    registry.publish(&other);
    all_ok(&bench.pull(&[other.pinned()]).await);
    let (pin, tag) = (built.pinned(), built.tagged());
    let rebuild = || {
        let store = bench.store();
        let lease = store.lease().unwrap();
        let snapshot = store.snapshot().unwrap();
        let made = snapshot.find(&other.pinned().parse().unwrap(), &platform()).unwrap();
        for reference in [&pin, &tag] {
            let new = NewEntry {
                reference: reference.parse().unwrap(),
                requested: reference.clone(),
                platform: platform(),
                target: made.manifest.clone(),
                manifest: made.manifest.clone(),
                upstream: "an engine".to_owned(),
                pinned: false,
            };
            let vouched = vec![built.top.digest];
            store.publish_rebuilt(&lease, new, Rebuilt { vouched }).unwrap();
        }
    };
    rebuild();
    let summary = bench.pull(&[pin.clone(), tag.clone()]).await;
    all_ok(&summary);
    for image in &summary.images {
        let pulled = image.outcome.as_ref().unwrap();
        assert!(!pulled.cached && pulled.entry.rebuilt.is_none(), "{pulled:?}");
        assert_eq!(pulled.entry.target.digest, built.top.digest);
    }

    // Where nobody answers, what there is has to do.
    rebuild();
    registry.stop();
    let summary = bench.pull(&[pin.clone(), tag]).await;
    all_ok(&summary);
    for image in &summary.images {
        let pulled = image.outcome.as_ref().unwrap();
        assert!(pulled.cached && pulled.entry.rebuilt.is_some(), "{pulled:?}");
    }
    let warnings = bench.warnings();
    assert!(warnings.iter().any(|text| text.contains("using what was rebuilt")), "{warnings:?}");
}
