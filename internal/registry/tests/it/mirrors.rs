//! Mirrors, redirects, and registries that are not there.

use palletjack_registry::{ErrorKind, Event, RegistryConfig};
use palletjack_testkit::registry::{Auth, Fault, Registry, When};

use crate::support::{Bench, all_ok, at, failure, image, layer};

/// A registry that has just been stopped: nobody listens on its port.
fn gone() -> String {
    let mut registry = Registry::start().unwrap();
    registry.stop();
    registry.host()
}

#[tokio::test]
async fn a_mirror_serves_what_it_has_and_the_registry_the_rest() {
    let (mirror, registry) = (Registry::start().unwrap(), Registry::start().unwrap());
    let names = [at(&registry, "acme/mirrored:1"), at(&registry, "acme/other:1")];
    let images = [image(&names[0], [layer(1, 50_000)]), image(&names[1], [layer(2, 50_000)])];
    registry.publish(&images[0]);
    registry.publish(&images[1]);
    mirror.publish(&images[0]);
    let mut bench = Bench::new();
    bench.mirrors(&registry.host(), &[format!("http://{}", gone()), mirror.url()]);
    let summary = bench.pull(&names).await;
    all_ok(&summary);
    bench.assert_cached(&[&names[0], &names[1]]);
    let upstream = |i: usize| summary.images[i].outcome.as_ref().unwrap().entry.upstream.clone();
    assert_eq!(upstream(0), mirror.url());
    assert_eq!(upstream(1), registry.host());
    assert_eq!(registry.count("GET", "acme/mirrored"), 0);
}

#[tokio::test]
async fn docker_hub_images_come_from_its_mirror() {
    let mirror = Registry::start().unwrap();
    let image = image("docker.io/library/caddy:2.6.2", [layer(3, 50_000)]);
    mirror.publish(&image);
    let mut bench = Bench::new();
    bench.mirrors("docker.io", &[mirror.url()]);
    all_ok(&bench.pull(&["caddy:2.6.2".to_owned(), image.pinned()]).await);
    bench.assert_cached(&["caddy:2.6.2", &image.pinned()]);
}

#[tokio::test]
async fn a_mirror_with_wrong_bytes_is_passed_over_the_second_time() {
    let (mirror, registry) = (Registry::start().unwrap(), Registry::start().unwrap());
    let layer = layer(4, 50_000);
    let name = at(&registry, "acme/app:1");
    let image = image(&name, [layer.clone()]);
    registry.publish(&image);
    mirror.publish(&image);
    let flips = mirror.fault(When::blob(&layer.digest), Fault::Flip { at: 100 });
    let mut bench = Bench::new();
    bench.mirrors(&registry.host(), &[mirror.url()]);
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
    assert_eq!(flips.happened(), 1);
    assert_eq!(registry.count("GET", &layer.digest.to_string()), 1);
}

#[tokio::test]
async fn when_nobody_has_it_each_server_has_its_line() {
    let mirror = Registry::start().unwrap();
    let (down, registry) = (gone(), gone());
    let mut bench = Bench::new();
    bench.mirrors(&registry, &[format!("http://{down}"), mirror.url()]);
    let summary = bench.pull(&[format!("{registry}/acme/app:1")]).await;
    let error = failure(&summary);
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("acme/app:1 (needed by infra/caddy)") && lines[0].ends_with("3 servers:"),
        "{text}"
    );
    assert!(lines[1].contains(&down) && lines[1].contains("connection refused"), "{text}");
    assert!(lines[2].contains(&mirror.host()) && lines[2].contains("404"), "{text}");
    assert!(lines[3].contains(&registry) && lines[3].contains("connection refused"), "{text}");
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(bench.pauses().len(), 5, "six tries");
}

#[tokio::test]
async fn a_registry_that_is_down_is_named() {
    let registry = gone();
    let bench = Bench::new();
    let summary = bench.pull(&[format!("{registry}/acme/app:1")]).await;
    let text = failure(&summary).to_string();
    assert!(text.contains(&format!("http://{registry}: connection refused")), "{text}");
    assert!(bench.events().iter().any(|event| matches!(event, Event::ImageFailed { .. })));
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let registry = Registry::start_with_auth(Auth::tokens("me", "secret")).unwrap();
    let storage = Registry::start().unwrap();
    let layer = layer(5, 50_000);
    let name = at(&registry, "acme/app:1");
    let image = image(&name, [layer.clone()]);
    registry.publish(&image);
    storage.publish(&image);
    registry.fault(When::blob(&layer.digest), Fault::Redirect { to: storage.url() });
    let mut bench = Bench::new();
    bench.log_in(&registry.host(), "me", "secret");
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
    let asked = storage.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization(), None);
    assert_eq!(asked[0].query, "signature=testkit");
}

#[tokio::test]
async fn a_redirected_layer_is_continued_too() {
    let (registry, storage) = (Registry::start().unwrap(), Registry::start().unwrap());
    let layer = layer(6, 500_000);
    let name = at(&registry, "acme/app:1");
    let image = image(&name, [layer.clone()]);
    registry.publish(&image);
    storage.publish(&image);
    registry.fault(When::blob(&layer.digest), Fault::Redirect { to: storage.url() });
    storage.fault(When::blobs().first(1), Fault::Cut { after: 200_000 });
    let bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
    assert_eq!(storage.requests()[1].range(), Some("bytes=200000-"));
}

#[tokio::test]
async fn redirects_in_a_circle_are_left() {
    let registry = Registry::start().unwrap();
    let layer = layer(7, 50_000);
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer.clone()]));
    let circle = registry.fault(When::blob(&layer.digest), Fault::Redirect { to: registry.url() });
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert!(failure(&summary).to_string().contains("more than 5 in a row"), "{}", failure(&summary));
    assert_eq!(circle.happened(), 6);
}

#[tokio::test]
async fn tls_where_none_is_spoken_says_so() {
    let registry = Registry::start().unwrap();
    let mut bench = Bench::new();
    let config = RegistryConfig { https: Some(true), ..RegistryConfig::default() };
    bench.config.registries.insert(registry.host(), config);
    let summary = bench.pull(&[at(&registry, "acme/app:1")]).await;
    let text = failure(&summary).to_string();
    assert!(text.contains(&registry.url().replace("http:", "https:")), "{text}");
    assert!(text.contains("is it a plain HTTP registry?"), "{text}");
}

/// Runs tests of this program in an environment without any certificates.
#[test]
fn plain_http_works_on_a_machine_without_certificates() {
    let empty = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "images::a_whole_pallet_comes_byte_for_byte_and_the_second_run_asks_nobody"])
        .args(["faults::a_tag_that_does_not_exist_is_not_found"])
        .env("SSL_CERT_FILE", empty.path().join("absent.pem"))
        .env("SSL_CERT_DIR", empty.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 passed"), "{text}");
}
