//! Two pins of one tag, and a prune.

use palletjack_engine::{Endpoint, Engine, LoadOptions};
use palletjack_registry::serve::{Mirror, MirrorOptions};
use palletjack_testkit::real::{Dockerd, DockerdOptions, Part, Podman};
use palletjack_testkit::require_real;

use crate::support::{Cache, load};
use crate::{loaded, pinned};

/// A load of the next bundle takes the tag; what the current one pins stays, through any prune.
#[tokio::test]
async fn docker_keeps_a_pin_whose_tag_has_gone_on() {
    require_real!(Part::Docker20);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let options =
        DockerdOptions { args: vec!["--registry-mirror".to_owned(), url], ..DockerdOptions::default() };
    let daemon = Dockerd::debian_with(options).unwrap();
    let set = loaded(&daemon, &["acme/moving:1"]).await;
    let _mirror = Mirror::start(listener, set.cache.store.clone(), MirrorOptions::default()).unwrap();
    let repinned = set.engine.repin_by_mirror(&set.cache.store, &set.images()).await.unwrap().unwrap();
    set.assert_pins(&repinned, &[true]);
    let old = &set.images[0];
    assert_eq!(set.engine.keep_pins(&[old]).await.remove(0).unwrap(), None, "it has its tag");

    let new = pinned(&set.cache, "acme/moving:1", 77);
    let _ = load(&set.engine, &set.cache, std::slice::from_ref(&new), &LoadOptions::default()).await;
    let kept: Vec<_> = set.engine.keep_pins(&[old, &new]).await.into_iter().map(Result::unwrap).collect();
    let tag = format!("acme/moving:palletjack-{}", &old.entry.target.digest.hex()[..12]);
    assert_eq!(kept, [Some(tag.clone()), None]);
    set.docker.run(&["image", "prune", "--force"]).unwrap().assert_success();
    for reference in [&old.entry.reference.to_string(), &tag, "acme/moving:1"] {
        set.docker.create_never(reference).unwrap().assert_success();
    }
    assert_eq!(
        set.docker.inspect("acme/moving:1").unwrap().unwrap()["Id"],
        new.config_descriptor.digest.to_string()
    );
}

#[tokio::test]
async fn podman_keeps_a_pin_whose_tag_has_gone_on() {
    require_real!(Part::Podman);
    let podman = Podman::start().unwrap();
    let engine = Engine::connect(Endpoint::Unix(podman.socket())).await.unwrap();
    let cache = Cache::new();
    let (old, new) =
        (pinned(&cache, "ghcr.io/acme/moving:1", 81), pinned(&cache, "ghcr.io/acme/moving:1", 82));
    for image in [&old, &new] {
        let _ = load(&engine, &cache, std::slice::from_ref(image), &LoadOptions::default()).await;
    }
    let kept = engine.keep_pins(&[&old, &new]).await;
    assert!(kept[0].as_ref().unwrap().is_some() && kept[1].as_ref().unwrap().is_none(), "{kept:?}");
    podman.run(&["image", "prune", "--force"]).unwrap().assert_success();
    for image in [&old, &new] {
        podman.create_never(&image.entry.reference.to_string()).unwrap().assert_success();
    }
}

/// Nothing leads the engine to us, so an image without a tag is known by its ID alone. It stays all the same.
#[tokio::test]
async fn docker_keeps_what_is_known_by_its_id_alone() {
    require_real!(Part::Docker20);
    let daemon = Dockerd::debian().unwrap();
    let set = loaded(&daemon, &["acme/moving:1"]).await;
    let old = &set.images[0];
    let new = pinned(&set.cache, "acme/moving:1", 78);
    let _ = load(&set.engine, &set.cache, std::slice::from_ref(&new), &LoadOptions::default()).await;
    let kept: Vec<_> = set.engine.keep_pins(&[old, &new]).await.into_iter().map(Result::unwrap).collect();
    assert!(kept[0].is_some() && kept[1].is_none(), "{kept:?}");
    set.docker.run(&["image", "prune", "--force"]).unwrap().assert_success();
    for image in [old, &new] {
        set.docker.create_never(&image.config_descriptor.digest.to_string()).unwrap().assert_success();
    }
}
