//! Credentials and tokens.

use palletjack_registry::ErrorKind;
use palletjack_testkit::registry::{Auth, Fault, Gate, Registry, When};

use crate::support::{Bench, all_ok, at, failure, image, layer};

#[tokio::test]
async fn one_token_serves_all_layers_of_a_repository() {
    let registry = Registry::start_with_auth(Auth::anonymous_tokens()).unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, (0..8).map(|seed| layer(seed, 20_000))));
    let bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    bench.assert_cached(&[&name]);
    assert_eq!(registry.tokens_issued(), 1);
    let refused = registry.requests().iter().filter(|request| request.status == Some(401)).count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn the_second_repository_asks_for_its_token_before_it_is_refused() {
    let registry = Registry::start_with_auth(Auth::anonymous_tokens()).unwrap();
    let names = [at(&registry, "acme/a:1"), at(&registry, "acme/b:1")];
    registry.publish(&image(&names[0], [layer(1, 20_000)]));
    registry.publish(&image(&names[1], [layer(2, 20_000)]));
    let mut bench = Bench::new();
    bench.options.manifests = 1;
    all_ok(&bench.pull(&names).await);
    assert_eq!(registry.tokens_issued(), 2);
    let refused = registry.requests().iter().filter(|request| request.status == Some(401)).count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_token_that_expires_midway_is_renewed_once_for_everybody() {
    let registry = Registry::start_with_auth(Auth::anonymous_tokens()).unwrap();
    let name = at(&registry, "acme/app:1");
    let layers: Vec<_> = (10..18).map(|seed| layer(seed, 20_000)).collect();
    registry.publish(&image(&name, layers.clone()));
    // All eight meet the gate with a token that is no longer good when it opens.
    let gate = Gate::new();
    let digests: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let layers =
        When::blobs().matching(move |_, path, _| digests.iter().any(|digest| path.ends_with(digest)));
    registry.fault(layers.first(8), Fault::Stall(gate.clone()));
    let bench = Bench::new();
    let (summary, ()) = tokio::join!(bench.pull(std::slice::from_ref(&name)), async {
        let at_gate = gate.clone();
        tokio::task::spawn_blocking(move || at_gate.wait_for(8)).await.unwrap();
        registry.expire_tokens();
        gate.open();
    });
    all_ok(&summary);
    bench.assert_cached(&[&name]);
    assert_eq!(registry.tokens_issued(), 2);
}

#[tokio::test]
async fn a_token_is_not_used_after_its_time() {
    let auth = Auth::anonymous_tokens().announced_lifetime(0);
    let registry = Registry::start_with_auth(auth).unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(3, 20_000)]));
    let bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    // Index, child, config and layer, each with a token of its own and none refused but the first.
    assert_eq!(registry.tokens_issued(), 4);
    let refused = registry.requests().iter().filter(|request| request.status == Some(401)).count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn credentials_are_used_for_tokens_and_for_basic() {
    for auth in [Auth::tokens("me", "secret"), Auth::basic("me", "secret")] {
        let registry = Registry::start_with_auth(auth).unwrap();
        let name = at(&registry, "acme/app:1");
        registry.publish(&image(&name, [layer(4, 20_000)]));
        let mut bench = Bench::new();
        bench.log_in(&registry.host(), "me", "secret");
        all_ok(&bench.pull(std::slice::from_ref(&name)).await);
        bench.assert_cached(&[&name]);
    }
}

#[tokio::test]
async fn missing_and_wrong_credentials_say_what_to_do() {
    for auth in [Auth::tokens("me", "secret"), Auth::basic("me", "secret")] {
        let registry = Registry::start_with_auth(auth).unwrap();
        let name = at(&registry, "acme/app:1");
        registry.publish(&image(&name, [layer(5, 20_000)]));
        let mut bench = Bench::new();
        let summary = bench.pull(std::slice::from_ref(&name)).await;
        let text = failure(&summary).to_string();
        assert!(text.contains(&format!("no credentials for {}", registry.host())), "{text}");
        assert_eq!(failure(&summary).kind(), ErrorKind::Refused);

        bench.log_in(&registry.host(), "me", "wrong");
        let summary = bench.pull(std::slice::from_ref(&name)).await;
        let text = failure(&summary).to_string();
        assert!(text.contains(&format!("the credentials for {} were refused", registry.host())), "{text}");
        assert!(!text.contains("wrong"), "{text}");
        assert_eq!(bench.pauses().len(), 0, "a refusal is not tried again");
    }
}

#[tokio::test]
async fn a_broken_credentials_file_matters_only_where_credentials_do() {
    let open = Registry::start_with_auth(Auth::anonymous_tokens()).unwrap();
    let closed = Registry::start_with_auth(Auth::tokens("me", "secret")).unwrap();
    let names = [at(&open, "acme/a:1"), at(&closed, "acme/b:1")];
    open.publish(&image(&names[0], [layer(6, 20_000)]));
    closed.publish(&image(&names[1], [layer(7, 20_000)]));
    let mut bench = Bench::new();
    let path = bench.file("config.json");
    std::fs::write(&path, "{\n\"auths\": ").unwrap();
    bench.config.credentials.files = vec![path];
    let summary = bench.pull(&names).await;
    bench.assert_cached(&[&names[0]]);
    assert!(bench.warnings().iter().any(|warning| warning.contains("config.json")), "{:?}", bench.warnings());
    let text = summary.images[1].outcome.as_ref().unwrap_err().to_string();
    assert!(text.contains("no credentials") && text.contains("config.json"), "{text}");
}

#[tokio::test]
async fn credentials_of_one_host_are_not_shown_to_another() {
    let mine = Registry::start_with_auth(Auth::tokens("me", "secret")).unwrap();
    let other = Registry::start_with_auth(Auth::tokens("me", "secret")).unwrap();
    let name = at(&other, "acme/app:1");
    other.publish(&image(&name, [layer(8, 20_000)]));
    let mut bench = Bench::new();
    bench.log_in(&mine.host(), "me", "secret");
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    assert_eq!(failure(&summary).kind(), ErrorKind::Refused);
    let shown = other.requests().iter().filter(|request| request.authorization().is_some()).count();
    assert_eq!(shown, 0);
    assert_eq!(mine.requests().len(), 0);
}

#[tokio::test]
async fn trouble_of_the_token_service_is_waited_out() {
    let registry = Registry::start_with_auth(Auth::anonymous_tokens()).unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(9, 20_000)]));
    registry.fault(When::tokens().first(1), Fault::TooManyRequests { retry_after: 7 });
    let bench = Bench::new();
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    assert!(bench.pauses()[0].as_secs() >= 7, "{:?}", bench.pauses());
    registry.fault(When::tokens(), Fault::Status(500));
    let bench = Bench::new();
    let summary = bench.pull(std::slice::from_ref(&name)).await;
    let text = failure(&summary).to_string();
    assert!(text.contains("token service") && text.contains("500"), "{text}");
    assert_eq!(failure(&summary).kind(), ErrorKind::Network);
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let registry = Registry::start_with_auth(Auth::tokens("me", "refresh&token=")).unwrap();
    let name = at(&registry, "acme/app:1");
    registry.publish(&image(&name, [layer(20, 20_000)]));
    let mut bench = Bench::new();
    let path = bench.file("config.json");
    let text = format!(r#"{{"auths":{{"{}":{{"identitytoken":"refresh&token="}}}}}}"#, registry.host());
    std::fs::write(&path, text).unwrap();
    bench.config.credentials.files = vec![path];
    all_ok(&bench.pull(std::slice::from_ref(&name)).await);
    assert_eq!(registry.count("POST", "/token"), 1);
    assert!(registry.requests().iter().all(|request| !request.query.contains("refresh")));
}
