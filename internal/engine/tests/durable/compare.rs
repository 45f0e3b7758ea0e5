//! Files as engines show them.

use std::fs;
use std::path::Path;

use palletjack_engine::{Compared, Engine, LoadOptions, Removal};
use palletjack_testkit::real::{Dockerd, Part, Podman, Store};
use palletjack_testkit::require_real;

use crate::support::{Cache, load};
use crate::{connect, find, images};

async fn files_are_compared(engine: &Engine, data_root: &Path) {
    let cache = Cache::new();
    let images = images(&cache, 2);
    assert_eq!(engine.compare(&cache.store, &images[0]).await.unwrap(), Compared::NotThere);
    let (results, _) = load(engine, &cache, &images, &LoadOptions::default()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for image in &images {
        let compared = engine.compare(&cache.store, image).await.unwrap();
        assert!(matches!(&compared, Compared::Whole(found) if found.alike > 8), "{compared:?}");
    }

    // What a power cut does to one image, and to what two share.
    let own = find(data_root, "opt/own.bin");
    assert_eq!(own.len(), 2, "{own:?}");
    fs::write(&own[0], "").unwrap();
    let compared = [0, 1].map(|index| engine.compare(&cache.store, &images[index]));
    let [first, second] = compared;
    let compared = [first.await.unwrap(), second.await.unwrap()];
    let damaged = compared.iter().filter(|compared| compared.is_damaged()).collect::<Vec<_>>();
    let [damaged] = damaged[..] else { panic!("{compared:?}") };
    assert_eq!(damaged.trouble().unwrap(), "/opt/own.bin has 0 bytes instead of 1500000");

    let shared = find(data_root, "usr/lib/libbase.so");
    assert_eq!(shared.len(), 1, "{shared:?}");
    let length = fs::metadata(&shared[0]).unwrap().len();
    fs::write(&shared[0], vec![0; usize::try_from(length).unwrap()]).unwrap();
    for image in &images {
        let trouble = engine.compare(&cache.store, image).await.unwrap().trouble().unwrap();
        assert!(
            trouble.starts_with("/opt/own.bin") || trouble.starts_with("/usr/lib/libbase.so has other"),
            "{trouble}"
        );
    }

    // Removed one by one, without force: nothing is left, and what is loaded again is whole.
    for image in &images {
        let id = engine.look(image).await.unwrap().id;
        let removal = engine.remove_image(&id).await.unwrap();
        assert!(matches!(&removal, Removal::Gone { .. }), "{removal:?}");
        assert_eq!(engine.remove_image(&id).await.unwrap(), Removal::NotThere);
    }
    let (results, _) = load(engine, &cache, &images, &LoadOptions::default()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for image in &images {
        let compared = engine.compare(&cache.store, image).await.unwrap();
        assert!(matches!(compared, Compared::Whole(_)), "{compared:?}");
    }
}

#[tokio::test]
async fn on_docker_20() {
    require_real!(Part::Docker20);
    let docker = Dockerd::debian().unwrap();
    let engine = connect(docker.socket()).await;
    files_are_compared(&engine, &docker.data_root()).await;
    let docker = docker.docker().unwrap();
    assert_eq!(docker.run(&["ps", "--all", "--quiet"]).unwrap().ok().unwrap(), "", "containers stay behind");
}

#[tokio::test]
async fn on_docker_28_with_either_store() {
    require_real!(Part::Docker28);
    for store in [Store::Containerd, Store::GraphDriver] {
        let docker = Dockerd::forky(store).unwrap();
        let engine = connect(docker.socket()).await;
        files_are_compared(&engine, &docker.data_root()).await;
    }
}

#[tokio::test]
async fn on_podman() {
    require_real!(Part::Podman);
    let podman = Podman::start().unwrap();
    let engine = connect(podman.socket()).await;
    files_are_compared(&engine, &podman.data_root()).await;
}
