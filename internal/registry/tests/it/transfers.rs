//! Layers on their way: cut, resumed, wrong, shared, busy, cancelled.

use palletjack_registry::{ErrorKind, Event, Reason};
use palletjack_store::IngestState;
use palletjack_testkit::real::Part;
use palletjack_testkit::registry::{Fault, Gate, Registry, When};
use palletjack_testkit::require_real;
use palletjack_testkit::sandbox::SmallDisk;

use crate::support::{Bench, all_ok, at, failure, image, layer, size};

const LAYER: u64 = 1_000_000;

#[tokio::test]
async fn a_cut_layer_is_continued_where_it_broke_off() {
    let registry = Registry::start().unwrap();
    let layer = layer(1, LAYER);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    registry.fault(When::blob(&layer.digest).first(1), Fault::Cut { after: 300_000 });
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    all_ok(&summary);
    bench.assert_cached(&[&name]);
    let asked: Vec<Option<String>> = registry
        .requests()
        .iter()
        .filter(|request| request.path.ends_with(&layer.digest.to_string()))
        .map(|request| request.range().map(str::to_owned))
        .collect();
    assert_eq!(asked, [None, Some("bytes=300000-".to_owned())]);
    assert_eq!(bench.pauses().len(), 1);
    assert!(bench.events().iter().any(|event| matches!(event, Event::BlobStarted { offset: 300_000, .. })));
}

#[tokio::test]
async fn progress_makes_failures_count_anew() {
    let registry = Registry::start().unwrap();
    let layer = layer(2, LAYER);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    // Ten cuts are more than six tries, but each brings the layer on.
    registry.fault(When::blob(&layer.digest).first(10), Fault::Cut { after: 80_000 });
    let bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
    assert_eq!(bench.pauses().len(), 10);
}

#[tokio::test]
async fn cuts_without_progress_come_to_an_end_and_the_partial_is_kept() {
    let registry = Registry::start().unwrap();
    let layer = layer(3, LAYER);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    registry.fault(When::blob(&layer.digest).nth(1), Fault::Cut { after: 300_000 });
    let hangups = registry.fault(When::blob(&layer.digest), Fault::Hangup);
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    let error = failure(&summary);
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(error.to_string().contains("needed by infra/caddy"), "{error}");
    // The pool itself may have sent a request a second time on a connection that was already closed.
    assert!(hangups.happened() <= 12, "{}", hangups.happened());
    assert_eq!(size(&bench.partial(&layer.digest)), 300_000);
    assert_eq!(bench.names(), [""; 0]);

    registry.clear_faults();
    registry.clear_requests();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
    let requests = registry.requests();
    let again = requests.iter().find(|request| request.path.contains("/blobs/")).unwrap();
    assert_eq!(again.range(), Some("bytes=300000-"), "the config is there already, the layer in part");
}

#[tokio::test]
async fn a_wrong_layer_is_fetched_once_more_from_the_start() {
    let registry = Registry::start().unwrap();
    let layer = layer(4, LAYER);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    registry.fault(When::blob(&layer.digest).first(1), Fault::Flip { at: 500_000 });
    let bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
    let requests = registry.requests();
    let ranges = requests.iter().filter(|request| request.range().is_some()).count();
    assert_eq!(ranges, 0);
}

#[tokio::test]
async fn a_layer_that_is_wrong_twice_fails_by_name_and_nothing_is_published() {
    let registry = Registry::start().unwrap();
    let (bad, good) = (layer(5, LAYER), layer(6, LAYER));
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [bad.clone(), good.clone()]));
    let flips = registry.fault(When::blob(&bad.digest), Fault::Flip { at: 500_000 });
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    let error = failure(&summary);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&bad.digest.to_string()), "{error}");
    assert_eq!(flips.happened(), 2);
    assert_eq!(bench.names(), [""; 0]);
    assert!(!bench.blob(&bad.digest).exists());
    // The next run does not build on what is wrong.
    registry.clear_faults();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
}

#[tokio::test]
async fn layers_of_another_length_are_wrong_content() {
    for fault in [Fault::Short { length: 700_000 }, Fault::Long { extra: 10 }] {
        let registry = Registry::start().unwrap();
        let layer = layer(7, LAYER);
        let name = at(&registry, "acme/app:1");
        registry.publish(&image(&name, [layer.clone()]));
        registry.fault(When::blob(&layer.digest).first(1), fault.clone());
        let bench = Bench::new();
        all_ok(&bench.pull(std::slice::from_ref(&name)).await);
        bench.assert_cached(&[&name]);
        registry.fault(When::blob(&layer.digest), fault);
        let bench = Bench::new();
        let summary = bench.pull(std::slice::from_ref(&name)).await;
        assert_eq!(failure(&summary).kind(), ErrorKind::Corrupt, "{}", failure(&summary));
    }
}

#[tokio::test]
async fn a_layer_without_a_length_is_taken_and_a_lying_length_is_a_break() {
    for fault in [Fault::Chunked, Fault::ResetAfter { after: 400_000 }, Fault::LyingLength { extra: 0 }] {
        let registry = Registry::start().unwrap();
        let layer = layer(8, LAYER);
        let name = at(&registry, "acme/app:1");
        registry.publish(&image(&name, [layer.clone()]));
        registry.fault(When::blob(&layer.digest).first(1), fault);
        let bench = Bench::new();
        all_ok(&bench.pull(std::slice::from_ref(&name)).await);
        bench.assert_cached(&[&name]);
    }
}

#[tokio::test]
async fn servers_without_ranges_and_with_wrong_ranges_are_started_over() {
    for fault in [Fault::IgnoreRange, Fault::WrongRange { shift: 1 }, Fault::RangeNotSatisfiable] {
        let registry = Registry::start().unwrap();
        let layer = layer(9, LAYER);
        let name = at(&registry, "acme/app:1");
        registry.publish(&image(&name, [layer.clone()]));
        registry.fault(When::blob(&layer.digest).nth(1), Fault::Cut { after: 300_000 });
        let odd = registry.fault(When::blob(&layer.digest).ranged(), fault.clone());
        let bench = Bench::new();
        all_ok(&bench.pull(std::slice::from_ref(&name)).await);
        bench.assert_cached(&[&name]);
        assert_eq!(odd.happened(), 1, "{fault:?}");
        // Found by the answer's head, not by the content of a layer put together wrongly.
        let whys: Vec<String> = bench
            .events()
            .into_iter()
            .filter_map(|event| if let Event::Retrying { why, .. } = event { Some(why) } else { None })
            .collect();
        assert!(!whys.iter().any(|why| why.contains("wrong content")), "{fault:?} {whys:?}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_off_and_knows_no_ranges_is_given_up() {
    let registry = Registry::start().unwrap();
    let layer = layer(10, LAYER);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    registry.fault(When::blob(&layer.digest).ranged(), Fault::RangeNotSatisfiable);
    registry.fault(When::blob(&layer.digest), Fault::Cut { after: 300_000 });
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert_eq!(failure(&summary).kind(), ErrorKind::Network, "{}", failure(&summary));
}

#[tokio::test]
async fn a_shared_layer_is_fetched_once_and_the_largest_first() {
    let registry = Registry::start().unwrap();
    let (base, small, large) = (layer(11, 400_000), layer(12, 100_000), layer(13, 900_000));
    let names = [at(&registry, "acme/a:1"), at(&registry, "acme/b:1")];
    registry.publish(&image(&names[0], [base.clone(), small.clone()]));
    registry.publish(&image(&names[1], [base.clone(), large.clone()]));
    let mut bench = Bench::new();
    bench.options.blobs = 1;
    let summary = bench.pull(&names).await;
    all_ok(&summary);
    bench.assert_cached(&[&names[0], &names[1]]);
    for layer in [&base, &small, &large] {
        assert_eq!(registry.count("GET", &layer.digest.to_string()), 1);
    }
    let fetched: u64 = summary.images.iter().map(|i| i.outcome.as_ref().unwrap().fetched_bytes).sum();
    assert_eq!(fetched, base.size + small.size + large.size);
    assert_eq!(summary.bytes_reused, 0);
}

#[tokio::test]
async fn requests_are_in_flight_together_up_to_the_limit() {
    let registry = Registry::start().unwrap();
    let layers: Vec<_> = (20..32).map(|seed| layer(seed, 20_000)).collect();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, layers.clone()));
    let gate = Gate::new();
    // Everything but the config, which comes before.
    let sizes: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let when = When::blobs().matching(move |_, path, _| sizes.iter().any(|digest| path.ends_with(digest)));
    registry.fault(when, Fault::Stall(gate.clone()));
    let bench = Bench::new();
    let (summary, ()) = tokio::join!(bench.pull(std::slice::from_ref(&name)), async {
        let gate = gate.clone();
        tokio::task::spawn_blocking(move || {
            gate.wait_for(8);
            gate.open();
        })
        .await
        .unwrap();
    });
    all_ok(&summary);
    assert_eq!(registry.max_in_flight(), 8);
}

#[tokio::test]
async fn one_image_s_failure_leaves_the_others_alone() {
    let registry = Registry::start().unwrap();
    let (shared, missing) = (layer(40, 100_000), layer(41, 100_000));
    let names: Vec<String> =
        ["a", "b", "c"].iter().map(|name| at(&registry, &format!("acme/{name}:1"))).collect();
    registry.publish(&image(&names[0], [shared.clone(), missing.clone()]));
    registry.publish(&image(&names[1], [shared.clone(), layer(42, 100_000)]));
    registry.publish(&image(&names[2], [missing.clone()]));
    registry.remove_blob(&missing.digest);
    let bench = Bench::new();
    let summary = bench.pull(&names).await;
    bench.assert_cached(&[&names[1]]);
    assert_eq!(bench.names(), [names[1].clone()]);
    for failed in [0, 2] {
        let error = summary.images[failed].outcome.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&names[failed]), "{error}");
        assert!(error.to_string().contains(&missing.digest.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_blob_that_another_process_fetches_is_waited_for() {
    let registry = Registry::start().unwrap();
    let layer = layer(50, 100_000);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    let bench = Bench::new();
    let store = bench.store();
    let (lease, snapshot) = (store.lease().unwrap(), store.snapshot().unwrap());
    let other = store.ingest(&lease, &snapshot, layer.digest, layer.size).unwrap();
    let IngestState::Begin(other) = other else { panic!("{other:?}") };
    let mut other = Some(other);
    let content = registry_blob(&layer);
    // The other one finishes when this one has noticed it.
    bench.on_event(move |event| {
        if matches!(event, Event::Warning(_))
            && let Some(mut ingest) = other.take()
        {
            ingest.write(&content).unwrap();
            ingest.commit().unwrap();
        }
    });
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    all_ok(&summary);
    bench.assert_cached(&[&name]);
    assert_eq!(registry.count("GET", &layer.digest.to_string()), 0);
    assert_eq!(summary.bytes_reused, layer.size);
    assert!(bench.warnings()[0].contains("another process"), "{:?}", bench.warnings());
}

fn registry_blob(layer: &palletjack_testkit::image::Layer) -> Vec<u8> {
    layer.blob.read().unwrap()
}

#[tokio::test]
async fn a_blob_that_stays_busy_is_given_up() {
    let registry = Registry::start().unwrap();
    let layer = layer(51, 100_000);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    let mut bench = Bench::new();
    bench.options.busy = std::time::Duration::ZERO;
    let store = bench.store();
    let (lease, snapshot) = (store.lease().unwrap(), store.snapshot().unwrap());
    let _other = store.ingest(&lease, &snapshot, layer.digest, layer.size).unwrap();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert!(matches!(failure(&summary).reason, Reason::Busy { .. }));
}

#[tokio::test]
async fn cancelling_keeps_what_came_and_the_next_run_goes_on() {
    let registry = Registry::start().unwrap();
    let (large, small) = (layer(60, 3_000_000), layer(61, 10_000));
    let names = [at(&registry, "acme/large:1"), at(&registry, "acme/small:1")];
    registry.publish(&image(&names[0], [large.clone()]));
    registry.publish(&image(&names[1], [small]));
    let gate = Gate::new();
    let stalled = Fault::StallAfter { after: 1_500_000, gate: gate.clone() };
    registry.fault(When::blob(&large.digest).first(1), stalled);
    let bench = Bench::new();
    let (cancel, digest) = (bench.cancel.clone(), large.digest);
    let mut arrived = 0;
    let mut small_done = false;
    bench.on_event(move |event| {
        match event {
            Event::BlobProgress { digest: of, bytes } if *of == digest => arrived += bytes,
            Event::ImageDone { .. } => small_done = true,
            _ => {}
        }
        if arrived >= 1_500_000 && small_done {
            cancel.cancel();
        }
    });
    let summary = bench.pull(&names).await;
    gate.open();
    assert!(summary.images[1].outcome.is_ok());
    let error = summary.images[0].outcome.as_ref().unwrap_err();
    assert!(matches!(error.reason, Reason::Cancelled), "{error}");
    assert_eq!(bench.names(), [names[1].clone()]);
    let kept = size(&bench.partial(&large.digest));
    assert!(kept > 0, "nothing was kept");

    let mut again = Bench::new();
    again.cache.clone_from(&bench.cache);
    registry.clear_requests();
    all_ok(&again.pull(&names).await);
    again.assert_cached(&[&names[0], &names[1]]);
    let ranges: Vec<String> =
        registry.requests().iter().filter_map(|request| request.range().map(str::to_owned)).collect();
    assert_eq!(ranges, [format!("bytes={kept}-")]);
}

#[tokio::test]
async fn a_silent_server_is_left_after_a_while_and_what_came_is_kept() {
    let registry = Registry::start().unwrap();
    let layer = layer(62, LAYER);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    let gate = Gate::new();
    registry
        .fault(When::blob(&layer.digest).first(1), Fault::StallAfter { after: 300_000, gate: gate.clone() });
    let mut bench = Bench::new();
    bench.config.timeouts.idle = std::time::Duration::from_millis(200);
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    gate.open();
    bench.assert_cached(&[&name]);
    let why = bench.events().into_iter().find_map(|event| match event {
        Event::Retrying { why, .. } => Some(why),
        _ => None,
    });
    assert!(why.as_deref().is_some_and(|why| why.contains("no answer within 0.2 s")), "{why:?}");
}

#[tokio::test]
async fn a_blob_is_sought_in_the_other_repository_that_names_it() {
    let registry = Registry::start().unwrap();
    let other = Registry::start().unwrap();
    let shared = layer(70, 100_000);
    let names = [at(&registry, "acme/a:1"), at(&other, "acme/b:1")];
    registry.publish(&image(&names[0], [shared.clone()]));
    other.publish(&image(&names[1], [shared.clone()]));
    registry.remove_blob(&shared.digest);
    // The first image is known first, so that its repository is the first to be asked.
    let gate = Gate::new();
    other.fault(When::manifests().first(1), Fault::Stall(gate.clone()));
    let stall = Gate::new();
    registry.fault(When::blob(&shared.digest), Fault::Stall(stall.clone()));
    let bench = Bench::new();
    bench.on_event(move |event| match event {
        Event::BlobStarted { .. } => gate.open(),
        Event::Resolved { image, .. } if image.ends_with("acme/b:1") => stall.open(),
        _ => {}
    });
    let summary = bench.pull(&names).await;
    all_ok(&summary);
    bench.assert_cached(&[&names[0], &names[1]]);
}

#[tokio::test]
async fn a_full_disk_keeps_what_came() {
    require_real!(Part::Root);
    let disk = SmallDisk::new(1 << 20).unwrap();
    let registry = Registry::start().unwrap();
    let layer = layer(80, 3_000_000);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    let mut bench = Bench::new();
    bench.cache = disk.path().join("cache");
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    let error = failure(&summary);
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(size(&bench.partial(&layer.digest)) > 0);
    assert_eq!(bench.pauses().len(), 0, "waiting makes no room");
}
