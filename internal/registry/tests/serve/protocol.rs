//! What the distribution specification and the daemons expect.

use palletjack_image::{Platform, media_type};
use palletjack_registry::serve::{Mirror, MirrorOptions, Served, is_mirror};
use palletjack_store::Image;
use palletjack_testkit::image::{ImageBuilder, Kind};
use tokio::net::TcpListener;

use crate::support::{Cache, PATIENCE, amd64, ask, ask_as, image, layer, send};

/// Empty where there is none.
async fn digest_of(mirror: &Mirror, path: &str, host: &str) -> String {
    let answer = ask_as(mirror, "GET", path, host, "").await;
    assert_eq!(answer.status == 200, !answer.header("docker-content-digest").is_empty());
    answer.header("docker-content-digest").to_owned()
}

fn target(image: &Image) -> String {
    image.entry.target.digest.to_string()
}

#[tokio::test]
async fn it_is_a_registry() {
    let cache = Cache::new();
    let mirror = cache.serve().await;
    assert!(is_mirror(mirror.address()).await);
    for path in ["/v2", "/v2/"] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&mirror, method, path).await;
            assert_eq!(
                (answer.status, answer.header("docker-distribution-api-version")),
                (200, "registry/2.0")
            );
        }
    }
    for (method, path, status, code) in [
        ("GET", "/v2/acme/none/manifests/1", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/acme/none/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/acme/none/blobs/sha256:12", 400, "DIGEST_INVALID"),
        ("GET", "/v2/_catalog", 404, "UNSUPPORTED"),
        ("POST", "/v2/acme/none/blobs/uploads/", 405, "UNSUPPORTED"),
        ("DELETE", "/v2/acme/none/manifests/1", 405, "UNSUPPORTED"),
        ("GET", "/", 404, "UNSUPPORTED"),
    ] {
        let answer = ask(&mirror, method, path).await;
        assert_eq!((answer.status, &*answer.code()), (status, code), "{method} {path}");
    }
    assert_eq!(ask(&mirror, "PUT", "/v2/").await.header("allow"), "GET, HEAD");
    let address = mirror.address();
    mirror.stop(PATIENCE).await;
    assert!(!is_mirror(address).await);
    // The address is free again.
    let other = TcpListener::bind(address).await.unwrap();
    let accept = tokio::spawn(async move { other.accept().await.map(drop) });
    assert!(!is_mirror(address).await);
    accept.await.unwrap().unwrap();
}

/// For one client alone: nobody else learns what the cache has, and a tunnel to elsewhere is not made for that one either.
#[tokio::test]
async fn a_password_keeps_others_out() {
    let cache = Cache::new();
    let image = cache.publish(&image("ghcr.io/acme/app:1", 1), "ghcr.io/acme/app:1");
    let options = MirrorOptions { proxy_password: Some("secret".to_owned()), ..MirrorOptions::default() };
    let mirror = cache.serve_with(options).await;
    let path = format!("http://ghcr.io/v2/acme/app/manifests/{}", target(&image));
    // `palletjack:secret` and `palletjack:secreT`.
    let (right, wrong) = ("Basic cGFsbGV0amFjazpzZWNyZXQ=", "Basic cGFsbGV0amFjazpzZWNyZVQ=");
    let given = |name: &str, value: &str| format!("{name}: {value}\n");
    for (more, status) in [
        (String::new(), 407),
        (given("proxy-authorization", wrong), 407),
        (given("authorization", right), 407),
        (given("proxy-authorization", right), 200),
    ] {
        let answer = ask_as(&mirror, "GET", &path, "ghcr.io", &more).await;
        assert_eq!(answer.status, status, "{more}");
        assert_eq!(answer.header("proxy-authenticate").is_empty(), status != 407);
    }
    let right = given("proxy-authorization", right);
    let tunnel = send(
        &mirror,
        &format!("CONNECT ghcr.io:443 HTTP/1.1\nhost: ghcr.io:443\nconnection: close\n{right}"),
    )
    .await;
    assert_eq!(tunnel.status, 405);
    assert!(!is_mirror(mirror.address()).await);
}

#[tokio::test]
async fn manifests_come_as_they_came_with_their_own_types() {
    let cache = Cache::new();
    let mirror = cache.serve().await;
    for (seed, index, manifest) in [
        (1, media_type::OCI_INDEX, media_type::OCI_MANIFEST),
        (2, media_type::DOCKER_LIST, media_type::DOCKER_MANIFEST),
    ] {
        let built = image(&format!("acme/deep/er/camera{seed}:1.2"), seed);
        let cached = cache.publish(&built, &built.pinned());
        let name = format!("/v2/acme/deep/er/camera{seed}/manifests");
        for (asked, of, kind) in [
            ("1.2".to_owned(), &cached.entry.target, index),
            (cached.entry.target.digest.to_string(), &cached.entry.target, index),
            (cached.entry.manifest.digest.to_string(), &cached.entry.manifest, manifest),
        ] {
            let answer = ask(&mirror, "GET", &format!("{name}/{asked}")).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, kind));
            assert_eq!(answer.header("docker-content-digest"), of.digest.to_string());
            assert_eq!(answer.length(), of.size);
            assert_eq!(answer.body, cache.store.read(of).unwrap());
            let head = ask(&mirror, "HEAD", &format!("{name}/{asked}")).await;
            assert_eq!((head.status, head.header("content-type"), head.length()), (200, kind, of.size));
            assert_eq!(head.header("docker-content-digest"), of.digest.to_string());
            assert!(head.body.is_empty());
        }
        // The platform that was not fetched.
        let absent = &built.platform("linux/arm64").unwrap().manifest;
        let answer = ask(&mirror, "GET", &format!("{name}/{absent}")).await;
        assert_eq!((answer.status, &*answer.code()), (404, "MANIFEST_UNKNOWN"));
        assert_eq!(ask(&mirror, "GET", &format!("{name}/1.3")).await.code(), "MANIFEST_UNKNOWN");
        // A blob's digest is no manifest's.
        let config = cached.config_descriptor.digest;
        assert_eq!(ask(&mirror, "GET", &format!("{name}/{config}")).await.status, 404);
    }
}

#[tokio::test]
async fn blobs_come_whole_or_in_part() {
    let cache = Cache::new();
    let built = image("ghcr.io/acme/camera:1", 3);
    let cached = cache.publish(&built, &built.pinned());
    let mirror = cache.serve().await;
    for blob in [&cached.layers[0], &cached.layers[1], &cached.config_descriptor] {
        let path = format!("/v2/acme/camera/blobs/{}", blob.digest);
        let content = std::fs::read(cache.store.blob_path(&blob.digest)).unwrap();
        let answer = ask(&mirror, "GET", &path).await;
        assert_eq!((answer.status, answer.length()), (200, blob.size));
        assert_eq!(answer.header("docker-content-digest"), blob.digest.to_string());
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert!(answer.body == content);
        let head = ask(&mirror, "HEAD", &path).await;
        assert_eq!((head.status, head.length(), head.body.len()), (200, blob.size, 0));

        let size = blob.size;
        for (range, from, to) in [
            ("bytes=0-9".to_owned(), 0, 10),
            ("bytes=7-".to_owned(), 7, size),
            (format!("bytes={}-", size / 2), size / 2, size),
            ("bytes=-5".to_owned(), size - 5, size),
        ] {
            let more = format!("Range: {range}");
            let answer = ask_as(&mirror, "GET", &path, "localhost", &more).await;
            assert_eq!((answer.status, answer.length()), (206, to - from), "{range}");
            assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/{size}", to - 1));
            let wanted = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            assert!(answer.body == content[wanted], "{range}");
        }
        let beyond = ask_as(&mirror, "GET", &path, "localhost", &format!("Range: bytes={size}-")).await;
        assert_eq!((beyond.status, beyond.header("content-range")), (416, &*format!("bytes */{size}")));
        let several = ask_as(&mirror, "GET", &path, "localhost", "Range: bytes=0-1,3-4").await;
        assert_eq!((several.status, several.length()), (200, size));
    }
    // Only under the name that has it, and only what some image of the name needs.
    let layer = cached.layers[0].digest;
    assert_eq!(ask(&mirror, "GET", &format!("/v2/acme/other/blobs/{layer}")).await.code(), "NAME_UNKNOWN");
    let absent = &built.platform("linux/arm64").unwrap().layers[0].digest;
    assert_eq!(ask(&mirror, "GET", &format!("/v2/acme/camera/blobs/{absent}")).await.code(), "BLOB_UNKNOWN");
}

#[tokio::test]
async fn the_same_path_of_two_registries_is_not_mixed() {
    let cache = Cache::new();
    let hub = image("acme/camera:1", 11);
    let ghcr = image("ghcr.io/acme/camera:1", 12);
    let [hub, ghcr] = [&hub, &ghcr].map(|built| cache.publish(built, &built.pinned()));
    let quay = image("quay.io/only/here:1", 13);
    let quay = cache.publish(&quay, &quay.pinned());
    let mirror = cache.serve().await;
    let path = "/v2/acme/camera/manifests/1";

    for host in ["127.0.0.1", "localhost:5000", "docker.io", "registry-1.docker.io"] {
        assert_eq!(digest_of(&mirror, path, host).await, target(&hub), "{host}");
    }
    for host in ["ghcr.io", "GHCR.IO:80"] {
        assert_eq!(digest_of(&mirror, path, host).await, target(&ghcr), "{host}");
    }
    assert_eq!(digest_of(&mirror, path, "quay.io").await, "");
    assert_eq!(digest_of(&mirror, &format!("{path}?ns=ghcr.io"), "127.0.0.1").await, target(&ghcr));
    assert_eq!(digest_of(&mirror, &format!("{path}?ns=docker.io"), "ghcr.io").await, target(&hub));
    let absolute = "http://ghcr.io/v2/acme/camera/manifests/1";
    for (request, want) in [
        (format!("GET {absolute} HTTP/1.1\nHost: 127.0.0.1\nConnection: close"), target(&ghcr)),
        (format!("GET {absolute} HTTP/1.1\nHost: docker.io\nConnection: close"), target(&ghcr)),
        (format!("GET {path} HTTP/1.0"), target(&hub)),
    ] {
        let answer = send(&mirror, &request).await;
        assert_eq!(answer.header("docker-content-digest"), want, "{request}");
    }
    // By digest on this machine: whichever has it. By the name of another registry: not.
    let by_digest = format!("/v2/acme/camera/manifests/{}", ghcr.entry.target.digest);
    assert_eq!(digest_of(&mirror, &by_digest, "127.0.0.1").await, target(&ghcr));
    assert_eq!(digest_of(&mirror, &by_digest, "docker.io").await, "");
    assert_eq!(digest_of(&mirror, "/v2/only/here/manifests/1", "127.0.0.1").await, target(&quay));
    let layer = format!("/v2/acme/camera/blobs/{}", ghcr.layers[0].digest);
    assert_eq!(ask_as(&mirror, "HEAD", &layer, "docker.io", "").await.status, 404);
    assert_eq!(ask_as(&mirror, "HEAD", &layer, "ghcr.io", "").await.status, 200);
}

#[tokio::test]
async fn all_accept_lines_are_read() {
    let cache = Cache::new();
    let built = image("acme/camera:1", 21);
    let cached = cache.publish(&built, &built.pinned());
    let mirror = cache.serve().await;
    let path = "/v2/acme/camera/manifests/1";
    let (index, manifest) = (target(&cached), cached.entry.manifest.digest.to_string());
    for (accept, want) in [
        ("", &index),
        ("Accept: */*", &index),
        // dockerd's way: one line per type, the index's among the first.
        (
            "Accept: application/vnd.docker.distribution.manifest.v2+json\n\
             Accept: application/vnd.oci.image.index.v1+json\n\
             Accept: application/vnd.oci.image.manifest.v1+json\n\
             Accept: application/json",
            &index,
        ),
        (
            "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json;q=0.1",
            &index,
        ),
        ("Accept: application/vnd.oci.image.manifest.v1+json", &manifest),
        // Nothing that there is: the client may still understand it.
        ("Accept: text/html", &index),
    ] {
        let answer = ask_as(&mirror, "GET", path, "127.0.0.1", accept).await;
        assert_eq!(answer.header("docker-content-digest"), *want, "{accept}");
    }
    // By digest there is nothing to choose.
    let by_digest = format!("/v2/acme/camera/manifests/{}", cached.entry.target.digest);
    let only = "Accept: application/vnd.oci.image.manifest.v1+json";
    let answer = ask_as(&mirror, "GET", &by_digest, "127.0.0.1", only).await;
    assert_eq!(answer.header("docker-content-digest"), index);
}

#[tokio::test]
async fn a_tag_means_its_owner_or_the_platform_that_is_served() {
    let cache = Cache::new();
    let (old, new) = (image("acme/moving:1", 31), image("acme/moving:1", 32));
    let old = cache.publish(&old, &old.pinned());
    let new = cache.publish(&new, &new.pinned());
    let arm = Platform::new("linux", "arm64", None);
    let armed = image("acme/moving:1", 34);
    let armed = cache.publish_for(&armed, &armed.pinned(), &arm);

    let mirror = cache.serve().await;
    let path = "/v2/acme/moving/manifests";
    assert_eq!(digest_of(&mirror, &format!("{path}/1"), "localhost").await, target(&new));
    for image in [&old, &new, &armed] {
        let by_digest = format!("{path}/{}", image.entry.target.digest);
        assert_eq!(digest_of(&mirror, &by_digest, "localhost").await, target(image));
    }
    for (platform, want) in
        [(amd64(), target(&new)), (arm, target(&armed)), ("linux/s390x".parse().unwrap(), String::new())]
    {
        let options = MirrorOptions { platform: Some(platform), ..MirrorOptions::default() };
        let mirror = cache.serve_with(options).await;
        assert_eq!(digest_of(&mirror, &format!("{path}/1"), "localhost").await, want);
    }
}

#[tokio::test]
async fn tags_are_listed_and_referrers_are_none() {
    let cache = Cache::new();
    for (tag, seed) in [("1.2", 41), ("1.10", 42), ("latest", 43)] {
        let built = image(&format!("acme/listed:{tag}"), seed);
        cache.publish(&built, &built.tagged());
    }
    let built = image("acme/listed:1.2", 44);
    let cached = cache.publish(&built, &format!("acme/listed@{}", built.top.digest));
    let mirror = cache.serve().await;
    let tags = |answer: &crate::support::Answer| -> Vec<String> {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["name"], "acme/listed");
        body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
    };
    let all = ask(&mirror, "GET", "/v2/acme/listed/tags/list").await;
    assert_eq!(tags(&all), ["1.10", "1.2", "latest"]);
    assert_eq!(all.header("link"), "");
    let first = ask(&mirror, "GET", "/v2/acme/listed/tags/list?n=2").await;
    assert_eq!(tags(&first), ["1.10", "1.2"]);
    assert_eq!(first.header("link"), "</v2/acme/listed/tags/list?last=1.2&n=2>; rel=\"next\"");
    let rest = ask(&mirror, "GET", "/v2/acme/listed/tags/list?last=1.2&n=2").await;
    assert_eq!((tags(&rest), rest.header("link")), (vec!["latest".to_owned()], ""));

    let path = format!("/v2/acme/listed/referrers/{}", cached.entry.target.digest);
    let none = ask(&mirror, "GET", &path).await;
    assert_eq!((none.status, none.header("content-type")), (200, media_type::OCI_INDEX));
    let body: serde_json::Value = serde_json::from_slice(&none.body).unwrap();
    assert_eq!((body["schemaVersion"].as_u64(), body["manifests"].as_array().unwrap().len()), (Some(2), 0));
}

#[tokio::test]
async fn requests_are_counted_and_content_can_be_kept_back() {
    let cache = Cache::new();
    let built = ImageBuilder::new("acme/counted:1")
        .kind(Kind::Oci)
        .platform("linux/amd64", [layer(51, 50_000)])
        .build()
        .unwrap();
    let cached = cache.publish(&built, &built.pinned());
    let blob = &cached.layers[0];
    let path = format!("/v2/acme/counted/blobs/{}", blob.digest);
    for (blobs, status, bytes) in [(true, 200, blob.size), (false, 404, 0)] {
        let mirror = cache.serve_with(MirrorOptions { blobs, ..MirrorOptions::default() }).await;
        ask(&mirror, "GET", "/v2/").await;
        ask(&mirror, "HEAD", "/v2/acme/counted/manifests/1").await;
        ask(&mirror, "GET", "/v2/acme/counted/manifests/1").await;
        ask(&mirror, "GET", "/v2/acme/counted/manifests/2").await;
        assert_eq!(ask(&mirror, "GET", &path).await.status, status);
        let served = mirror.stop(PATIENCE).await;
        assert_eq!(served, Served { requests: 5, manifests: 2, blobs: 1, blob_bytes: bytes });
    }
}
