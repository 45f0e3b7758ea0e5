//! The registry over real sockets: what a good client gets, and what each fault looks like on the wire.

use std::io;
use std::net::TcpStream;
use std::thread;

use palletjack_image::{Digest, media_type};

use super::*;
use crate::http::client::{Answer, request};
use crate::image::{ImageBuilder, ImageSet, Kind, LayerBuilder, Shape};

const ACCEPT_ALL: (&str, &str) = ("accept", "*/*");

fn get(registry: &Registry, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    request(&registry.host(), "GET", path, headers, None)
}

/// A registry with one image, and that image.
fn filled() -> (Registry, Image) {
    let layer = LayerBuilder::new().filler("opt/data", 3, 300_000).build().unwrap();
    let image = ImageBuilder::new("ghcr.io/acme/tool:1")
        .kind(Kind::Oci)
        .platform("linux/amd64", [layer])
        .build()
        .unwrap();
    let registry = Registry::start().unwrap();
    registry.publish(&image);
    (registry, image)
}

fn layer_path(image: &Image) -> (String, Vec<u8>) {
    let layer = &image.platforms[0].layers[0];
    (format!("/v2/acme/tool/blobs/{}", layer.digest), layer.blob.read().unwrap())
}

#[test]
fn manifests_are_served_by_tag_and_digest_as_they_are() {
    let (registry, image) = filled();
    for reference in ["1".to_owned(), image.top.digest.to_string()] {
        let path = format!("/v2/acme/tool/manifests/{reference}?ns=ghcr.io");
        let answer = get(&registry, &path, &[ACCEPT_ALL]).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, image.top.bytes);
        assert_eq!(answer.header("content-type"), Some(media_type::OCI_MANIFEST));
        assert_eq!(answer.header("docker-content-digest"), Some(image.top.digest.to_string().as_str()));
        let head = request(&registry.host(), "HEAD", &path, &[ACCEPT_ALL], None).unwrap();
        assert_eq!(head.header("content-length"), Some(image.top.bytes.len().to_string().as_str()));
        assert!(head.body.is_empty());
    }
    let refused =
        get(&registry, "/v2/acme/tool/manifests/1", &[("accept", media_type::DOCKER_MANIFEST)]).unwrap();
    assert_eq!(refused.status, 404);
    assert!(String::from_utf8_lossy(&refused.body).contains("accept header"));
    assert_eq!(get(&registry, "/v2/acme/other/manifests/1", &[]).unwrap().status, 404);
    let tags = get(&registry, "/v2/acme/tool/tags/list", &[]).unwrap();
    assert_eq!(tags.body, br#"{"name":"acme/tool","tags":["1"]}"#);
}

#[test]
fn blobs_are_served_whole_and_by_range() {
    let (registry, image) = filled();
    let (path, bytes) = layer_path(&image);
    assert_eq!(get(&registry, &path, &[]).unwrap().body, bytes);
    let part = get(&registry, &path, &[("range", "bytes=1000-1999")]).unwrap();
    assert_eq!((part.status, part.body.as_slice()), (206, &bytes[1000..2000]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 1000-1999/{}", bytes.len()).as_str()));
    let beyond = format!("bytes={}-", bytes.len());
    assert_eq!(get(&registry, &path, &[("range", &beyond)]).unwrap().status, 416);
    assert_eq!(registry.count("GET", "/blobs/"), 3);
    assert_eq!(registry.requests()[1].range(), Some("bytes=1000-1999"));
    assert_eq!(registry.bytes_sent(), bytes.len() as u64 + 1000);
}

#[test]
fn layers_in_files_are_served_like_those_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let shape = Shape { directory: Some(directory.path().to_owned()), ..Shape::small() };
    let set = ImageSet::build(&["caddy:2"], &shape).unwrap();
    let registry = Registry::start().unwrap();
    registry.publish_all(&set);
    let layer = &set.images[0].platforms[0].layers[0];
    assert!(matches!(layer.blob, Blob::File { .. }));
    let path = format!("/v2/library/caddy/blobs/{}", layer.digest);
    let whole = get(&registry, &path, &[]).unwrap().body;
    assert_eq!(Digest::of(&whole), layer.digest);
    let part = get(&registry, &path, &[("range", "bytes=-100")]).unwrap().body;
    assert_eq!(part, whole[whole.len() - 100..]);
}

#[test]
fn body_faults_look_as_planned_on_the_wire() {
    let (registry, image) = filled();
    let (path, bytes) = layer_path(&image);
    let with = |fault: Fault, headers: &[(&str, &str)]| {
        registry.clear_faults();
        let handle = registry.fault(When::blobs().first(1), fault);
        let answer = get(&registry, &path, headers).unwrap();
        assert_eq!(handle.happened(), 1);
        assert_eq!(get(&registry, &path, &[]).unwrap().body, bytes);
        assert_eq!((handle.happened(), handle.matched()), (1, 2));
        answer
    };

    let cut = with(Fault::Cut { after: 100_000 }, &[]);
    assert_eq!((cut.complete, cut.body.as_slice()), (false, &bytes[..100_000]));
    assert!(!with(Fault::ResetAfter { after: 1000 }, &[]).complete);

    let flipped = with(Fault::Flip { at: 70_000 }, &[]).body;
    let different: Vec<usize> = (0..bytes.len()).filter(|&i| flipped[i] != bytes[i]).collect();
    assert_eq!((flipped.len(), different), (bytes.len(), vec![70_000]));
    let ranged = with(Fault::Flip { at: 70_000 }, &[("range", "bytes=69999-70001")]).body;
    assert_ne!(ranged[1], bytes[70_000]);
    assert_eq!((ranged[0], ranged[2]), (bytes[69_999], bytes[70_001]));

    let short = with(Fault::Short { length: 500 }, &[]);
    assert_eq!((short.complete, short.body.as_slice()), (true, &bytes[..500]));
    let long = with(Fault::Long { extra: 5 }, &[]);
    assert_eq!(long.body[bytes.len()..], [0; 5]);
    let lying = with(Fault::LyingLength { extra: 5 }, &[]);
    assert_eq!((lying.complete, lying.body.len()), (false, bytes.len()));
    let chunked = with(Fault::Chunked, &[]);
    assert_eq!(chunked.header("content-length"), None);
    assert_eq!(chunked.body, bytes);

    let ignored = with(Fault::IgnoreRange, &[("range", "bytes=10-")]);
    assert_eq!((ignored.status, ignored.body.len()), (200, bytes.len()));
    let wrong = with(Fault::WrongRange { shift: 7 }, &[("range", "bytes=10-19")]);
    assert_eq!((wrong.status, wrong.body.as_slice()), (206, &bytes[17..20]));
    assert!(wrong.header("content-range").unwrap().starts_with("bytes 17-19/"));
}

#[test]
fn answers_in_place_of_content() {
    let (registry, _) = filled();
    let path = "/v2/acme/tool/manifests/1";
    let with = |fault: Fault| {
        registry.clear_faults();
        registry.fault(When::manifest("1").nth(1), fault);
        get(&registry, path, &[ACCEPT_ALL])
    };
    assert_eq!(with(Fault::Status(500)).unwrap().status, 500);
    let slow = with(Fault::TooManyRequests { retry_after: 3 }).unwrap();
    assert_eq!((slow.status, slow.header("retry-after")), (429, Some("3")));
    let portal = with(Fault::Html).unwrap();
    assert_eq!(portal.status, 200);
    assert!(portal.header("content-type").unwrap().starts_with("text/html"));
    let typed = with(Fault::ContentType("text/plain".into())).unwrap();
    assert_eq!(typed.header("content-type"), Some("text/plain"));
    let named = with(Fault::DigestHeader("sha256:0".into())).unwrap();
    assert_eq!(named.header("docker-content-digest"), Some("sha256:0"));
    assert!(with(Fault::Reset).is_err());
    assert!(with(Fault::Hangup).is_err());
    assert_eq!(registry.requests().last().unwrap().status, None);
}

#[test]
fn a_redirect_leads_to_another_registry_that_sees_what_was_sent() {
    let (registry, image) = filled();
    let other = Registry::start().unwrap();
    other.publish(&image);
    let (path, bytes) = layer_path(&image);
    registry.fault(When::blobs(), Fault::Redirect { to: other.url() });
    let answer = get(&registry, &path, &[("authorization", "Bearer x")]).unwrap();
    assert_eq!(answer.status, 307);
    let location = answer.header("location").unwrap();
    let target = location.strip_prefix(&other.url()).unwrap();
    assert_eq!(get(&other, target, &[]).unwrap().body, bytes);
    assert_eq!(other.requests()[0].authorization(), None);
    assert_eq!(registry.requests()[0].authorization(), Some("Bearer x"));
}

#[test]
fn tokens_are_asked_for_checked_and_used_up() {
    let (_, image) = filled();
    let registry = Registry::start_with_auth(Auth::tokens("user", "secret").uses_per_token(2)).unwrap();
    registry.publish(&image);
    let (path, _) = layer_path(&image);
    let challenged = get(&registry, &path, &[]).unwrap();
    assert_eq!(challenged.status, 401);
    assert_eq!(
        challenged.header("www-authenticate").unwrap(),
        format!(
            "Bearer realm=\"{}/token\",service=\"testkit\",scope=\"repository:acme/tool:pull\"",
            registry.url()
        )
    );
    let ask = |scope: &str, authorization: &str| {
        let target = format!("/token?service=testkit&scope={scope}");
        get(&registry, &target, &[("authorization", authorization)]).unwrap()
    };
    // user:wrong, then user:secret
    assert_eq!(ask("repository:acme/tool:pull", "Basic dXNlcjp3cm9uZw==").status, 401);
    let token = |scope: &str| {
        let answer = ask(scope, "Basic dXNlcjpzZWNyZXQ=");
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        format!("Bearer {}", json["token"].as_str().unwrap())
    };
    let status = |token: &str| get(&registry, &path, &[("authorization", token)]).unwrap().status;
    let good = token("repository:acme/tool:pull");
    assert_eq!([status(&good), status(&good), status(&good)], [200, 200, 401]);
    assert_eq!(status(&token("repository:acme/other:pull")), 401);
    let expired = token("repository:acme/tool:pull");
    registry.expire_tokens();
    assert_eq!(status(&expired), 401);
    assert_eq!(registry.tokens_issued(), 3);
}

#[test]
fn basic_credentials_are_checked() {
    let (_, image) = filled();
    let registry = Registry::start_with_auth(Auth::basic("user", "secret")).unwrap();
    registry.publish(&image);
    let answer = get(&registry, "/v2/", &[]).unwrap();
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"testkit\""));
    let sent = ("authorization", "Basic dXNlcjpzZWNyZXQ=");
    assert_eq!(get(&registry, "/v2/", &[sent]).unwrap().status, 200);
}

#[test]
fn stalls_hold_until_released_and_flight_is_counted() {
    let (registry, image) = filled();
    let (path, bytes) = layer_path(&image);
    let gate = Gate::new();
    registry.fault(When::blobs(), Fault::StallAfter { after: 10, gate: gate.clone() });
    thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..3).map(|_| scope.spawn(|| get(&registry, &path, &[]).unwrap().body)).collect();
        gate.wait_for(3);
        gate.open();
        for client in waiting {
            // A stall ends with the rest of the content.
            assert_eq!(client.join().unwrap(), bytes);
        }
    });
    assert_eq!(registry.max_in_flight(), 3);
}

#[test]
fn stopping_frees_the_stalled_and_closes_the_port() {
    let (mut registry, image) = filled();
    let (path, _) = layer_path(&image);
    let gate = Gate::new();
    registry.fault(When::any(), Fault::Stall(gate.clone()));
    let host = registry.host();
    let client = thread::spawn({
        let host = host.clone();
        move || request(&host, "GET", &path, &[], None)
    });
    gate.wait_for(1);
    registry.stop();
    // What it gets depends on who is faster; that it ends is what matters.
    let _ = client.join().unwrap();
    assert!(TcpStream::connect(host).is_err());
}

#[test]
fn what_is_pushed_can_be_pulled() {
    let registry = Registry::start().unwrap();
    let set = ImageSet::small(&["docker.io/library/caddy:2", "ghcr.io/acme/x:1"]).unwrap();
    crate::real::push(&registry.host(), &set.images[0]).unwrap();
    let image = &set.images[0];
    let path = format!("/v2/library/caddy/manifests/{}", image.top.digest);
    assert_eq!(get(&registry, &path, &[ACCEPT_ALL]).unwrap().body, image.top.bytes);
    let wrong = Digest::of(b"something else");
    let target = format!("/v2/x/blobs/uploads/?digest={wrong}");
    let mut body = &b"content"[..];
    let answer = request(&registry.host(), "POST", &target, &[], Some((7, &mut body))).unwrap();
    assert_eq!(answer.status, 400);
}
