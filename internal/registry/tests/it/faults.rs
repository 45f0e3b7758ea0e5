//! Manifests and statuses that are wrong.

use palletjack_image::{Manifest, media_type};
use palletjack_registry::ErrorKind;
use palletjack_testkit::registry::{Fault, Registry, When};

use crate::support::{Bench, all_ok, at, failure, image, layer};

#[tokio::test]
async fn passing_trouble_is_waited_out() {
    for (fault, least) in [
        (Fault::Status(503), 0),
        (Fault::Status(500), 0),
        (Fault::Status(408), 0),
        (Fault::Unavailable { retry_after: 5 }, 5),
        (Fault::TooManyRequests { retry_after: 30 }, 30),
        (Fault::Reset, 0),
        (Fault::Hangup, 0),
        (Fault::Cut { after: 10 }, 0),
    ] {
        for when in [When::manifests(), When::blobs()] {
            let registry = Registry::start().unwrap();
            let name = at(&registry, "acme/app:1");
            registry.publish(&image(&name, [layer(1, 20_000)]));
            let handle = registry.fault(when.first(2), fault.clone());
            let bench = Bench::new();
            all_ok(&bench.pull(std::slice::from_ref(&name)).await);
            bench.assert_cached(&[&name]);
            assert_eq!(handle.happened(), 2, "{fault:?}");
            let pauses = bench.pauses();
            assert!((1..=2).contains(&pauses.len()), "{fault:?} {pauses:?}");
            assert!(pauses.iter().all(|pause| pause.as_secs() >= least), "{fault:?} {pauses:?}");
        }
    }
}

#[tokio::test]
async fn trouble_that_does_not_pass_comes_to_an_end() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(2, 20_000)]));
    let handle = registry.fault(When::manifests(), Fault::Status(503));
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert!(failure(&summary).to_string().contains("(503), saying: planned fault"), "{}", failure(&summary));
    assert_eq!(handle.happened(), 6);
    assert_eq!(failure(&summary).kind(), ErrorKind::Network);
}

#[tokio::test]
async fn a_rate_limit_beyond_the_deadline_is_told_and_not_waited_for() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(3, 20_000)]));
    let handle = registry.fault(When::manifests(), Fault::TooManyRequests { retry_after: 21_600 });
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    let text = failure(&summary).to_string();
    assert!(text.contains("429") && text.contains("21600 s") && text.contains("slow down"), "{text}");
    assert_eq!(failure(&summary).kind(), ErrorKind::Refused);
    assert_eq!(handle.happened(), 1);
}

#[tokio::test]
async fn refusals_are_not_tried_again() {
    for (status, kind) in [(403, ErrorKind::Refused), (404, ErrorKind::NotFound), (451, ErrorKind::Refused)] {
        let registry = Registry::start().unwrap();
        let name = at(&registry, "acme/app:1");
        let image = image(&name, [layer(4, 20_000)]);
        registry.publish(&image);
        let handle = registry.fault(When::manifests(), Fault::Status(status));
        let bench = Bench::new();
        let summary = bench.pull(&[image.pinned()]).await;
        assert_eq!(failure(&summary).kind(), kind, "{}", failure(&summary));
        assert_eq!(handle.happened(), 1);
    }
}

#[tokio::test]
async fn a_tag_that_does_not_exist_comes_with_those_that_do() {
    let registry = Registry::start().unwrap();
    for tag in ["latest", "2.6.2", "2.7.0"] {
        registry.publish(&image(&at(&registry, &format!("acme/app:{tag}")), [layer(5, 20_000)]));
    }
    let bench = Bench::new();
    let summary = bench.pull(&[at(&registry, "acme/app:2.6.22")]).await;
    let text = failure(&summary).to_string();
    assert!(text.contains("404") && text.ends_with("these tags: 2.6.2, 2.7.0, latest"), "{text}");
    assert_eq!(failure(&summary).kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_tag_that_does_not_exist_is_not_found() {
    let registry = Registry::start().unwrap();
    registry.publish(&image(&at(&registry, "acme/app:1"), [layer(5, 20_000)]));
    let bench = Bench::new();
    let summary = bench.pull(&[at(&registry, "acme/app:2")]).await;
    assert!(failure(&summary).to_string().contains("404"), "{}", failure(&summary));
    assert_eq!(failure(&summary).kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_captive_portal_is_called_that() {
    for pinned in [false, true] {
        let registry = Registry::start().unwrap();
        let name = at(&registry, "acme/app:1");
        let image = image(&name, [layer(6, 20_000)]);
        registry.publish(&image);
        registry.fault(When::manifests(), Fault::Html);
        let bench = Bench::new();
        let summary = bench.pull(&[if pinned { image.pinned() } else { name }]).await;
        let text = failure(&summary).to_string();
        assert!(text.contains("captive portal"), "{text}");
        assert_eq!(failure(&summary).kind(), ErrorKind::Network);
    }
}

#[tokio::test]
async fn a_portal_s_page_in_place_of_a_layer_is_not_taken() {
    let registry = Registry::start().unwrap();
    let layer = layer(7, 20_000);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    registry.fault(When::blob(&layer.digest), Fault::Html);
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert_eq!(failure(&summary).kind(), ErrorKind::Corrupt, "{}", failure(&summary));
    assert_eq!(bench.names(), [""; 0]);
}

#[tokio::test]
async fn a_wrong_manifest_is_asked_for_once_more() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    let image = image(&name, [layer(8, 20_000)]);
    registry.publish(&image);
    registry.fault(When::manifest(image.top.digest).first(1), Fault::Flip { at: 20 });
    let bench = Bench::new();
    all_ok(&bench.pull(&[image.pinned()]).await);
    registry.fault(When::manifest(image.top.digest), Fault::Flip { at: 20 });
    let bench = Bench::new();
    let summary = bench.pull(&[image.pinned()]).await;
    let text = failure(&summary).to_string();
    assert!(text.contains(&format!("instead of {}", image.top.digest)), "{text}");
    assert_eq!(failure(&summary).kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_tag_s_manifest_must_be_what_its_header_says() {
    let registry = Registry::start().unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(9, 20_000)]));
    let lie = palletjack_image::Digest::of(b"lie").to_string();
    registry.fault(When::manifest("1"), Fault::DigestHeader(lie));
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert_eq!(failure(&summary).kind(), ErrorKind::Corrupt, "{}", failure(&summary));
    registry.clear_faults();
    registry.fault(When::manifests(), Fault::NoDigestHeader);
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
}

#[tokio::test]
async fn a_huge_manifest_is_not_read() {
    let registry = Registry::start().unwrap();
    let mut bytes = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    bytes.resize(64 << 20, b' ');
    let digest = registry.add_manifest("acme/app", media_type::OCI_INDEX, bytes);
    registry.set_tag("acme/app", "1", digest);
    for fault in [None, Some(Fault::Chunked)] {
        registry.clear_requests();
        if let Some(fault) = fault {
            registry.fault(When::manifests(), fault);
        }
        let bench = Bench::new();
        let summary = bench.pull(&[at(&registry, "acme/app:1")]).await;
        let text = failure(&summary).to_string();
        assert!(text.contains(&format!("larger than {} bytes", Manifest::MAX_SIZE)), "{text}");
        assert!(summary.bytes_fetched <= 2 * Manifest::MAX_SIZE as u64, "{}", summary.bytes_fetched);
    }
}

#[tokio::test]
async fn manifests_that_nobody_can_use_say_why() {
    let nested = format!(
        r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{{"mediaType":"{index}","digest":"{digest}","size":{size},
        "platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
        index = media_type::OCI_INDEX,
        digest = palletjack_image::Digest::of(EMPTY_INDEX.as_bytes()),
        size = EMPTY_INDEX.len()
    );
    for (text, media_type, want) in [
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, media_type::DOCKER_MANIFEST, "schema 1"),
        ("not json", media_type::OCI_MANIFEST, "not valid JSON"),
        (EMPTY_INDEX, media_type::OCI_INDEX, "no image for linux/amd64"),
        (&nested, media_type::OCI_INDEX, "names another index"),
    ] {
        let registry = Registry::start().unwrap();
        registry.add_manifest("acme/app", media_type::OCI_INDEX, EMPTY_INDEX);
        let digest = registry.add_manifest("acme/app", media_type, text);
        registry.set_tag("acme/app", "1", digest);
        let bench = Bench::new();
        let summary = bench.pull(&[at(&registry, "acme/app:1")]).await;
        let text = failure(&summary).to_string();
        assert!(text.contains(want), "{text}");
        assert!(matches!(failure(&summary).kind(), ErrorKind::Unsupported | ErrorKind::Platform));
    }
}

const EMPTY_INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
