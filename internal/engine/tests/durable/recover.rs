//! What an earlier run left behind, without a power cut.

use std::fs;
use std::sync::Arc;

use palletjack_engine::{Compared, Durable, Engine, LoadError, LoadOptions, RecoveredAs, Was};
use palletjack_store::{EngineMark, Place, Store, UnsettledImage};
use palletjack_testkit::real::{Dockerd, Part};
use palletjack_testkit::require_real;

use crate::support::{Cache, load};
use crate::{connect, find, images};

/// A run that was killed after it had written down these images.
fn killed(store: &Store, docker: &Dockerd, images: &[palletjack_store::Image]) {
    let mark = EngineMark {
        kind: "docker-graph-driver".to_owned(),
        place: Place::of_root(&docker.data_root()).unwrap(),
    };
    let mut record = store.ledger(&[]).begin(&mark).unwrap();
    record.sending(images.iter().map(UnsettledImage::of)).unwrap();
}

async fn run(
    engine: &Engine,
    cache: &Cache,
    images: &[palletjack_store::Image],
) -> (Arc<Durable>, Vec<Result<Was, LoadError>>) {
    let durable = Arc::new(Durable::new(&cache.store, &[]));
    let options = LoadOptions { around: vec![durable.clone()], ..LoadOptions::default() };
    let (results, _) = load(engine, cache, images, &options).await;
    (durable, results.into_iter().map(|result| result.map(|loaded| loaded.was)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_damaged_and_ours_is_removed() {
    require_real!(Part::Docker20);
    let docker = Dockerd::debian().unwrap();
    let client = docker.docker().unwrap();
    let engine = connect(docker.socket()).await;
    let cache = Cache::new();
    let images = images(&cache, 3);
    let records = || cache.store.root().join("state/unsettled").read_dir().unwrap().count();
    run(&engine, &cache, &images).await;
    assert_eq!(records(), 0);

    // Nothing is damaged: nothing is removed, nothing is sent.
    killed(&cache.store, &docker, &images[..2]);
    let (durable, was) = run(&engine, &cache, &images).await;
    assert!(matches!(was[..], [Ok(Was::Present), Ok(Was::Present), Ok(Was::Present)]), "{was:?}");
    let outcomes = |durable: &Durable| {
        durable.report().recovered.iter().map(|one| one.outcome.clone()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&durable), [RecoveredAs::Whole, RecoveredAs::Whole]);
    assert_eq!(records(), 0);

    // One image is damaged, and has another's name too. It is named, and so is one that the engine does not have.
    let tag = |index: usize| images[index].entry.reference.clone().without_digest().familiar();
    client.run(&["tag", &tag(0), "somebody/else:7"]).unwrap().assert_success();
    for path in find(&docker.data_root(), "bin/tool") {
        if fs::read_to_string(&path).unwrap().contains("echo 0") {
            fs::write(path, "").unwrap();
        }
    }
    client.run(&["rmi", &tag(2)]).unwrap().assert_success();
    killed(&cache.store, &docker, &[images[0].clone(), images[2].clone()]);
    let (durable, was) = run(&engine, &cache, &images[..2]).await;
    assert!(matches!(was[..], [Ok(Was::Sent { .. }), Ok(Was::Present)]), "{was:?}");
    assert_eq!(outcomes(&durable), [RecoveredAs::Repaired]);
    assert!(client.inspect("somebody/else:7").unwrap().is_some(), "another's name went with it");
    assert!(client.inspect(&tag(2)).unwrap().is_none(), "what was not there was not asked for");
    for image in &images[..2] {
        assert!(matches!(engine.compare(&cache.store, image).await.unwrap(), Compared::Whole(_)));
    }
    assert_eq!(records(), 0);

    // A container uses the damaged image: it stays, and is not believed until that is mended.
    client.run(&["create", "--name", "user", &tag(0)]).unwrap().assert_success();
    for path in find(&docker.data_root(), "bin/tool") {
        if fs::read_to_string(&path).unwrap().contains("echo 0") {
            fs::write(path, "").unwrap();
        }
    }
    killed(&cache.store, &docker, &images[..1]);
    for _ in 0..2 {
        let (durable, was) = run(&engine, &cache, &images[..1]).await;
        let [Err(LoadError::Damaged { todo, .. })] = &was[..] else { panic!("{was:?}") };
        assert!(todo.contains("docker rm -f user"), "{todo}");
        let [RecoveredAs::Stuck { todo }] = &outcomes(&durable)[..] else { panic!("{:?}", durable.report()) };
        assert!(todo.contains("docker rm -f user"), "{todo}");
        assert_eq!(records(), 1);
    }
    client.run(&["rm", "user"]).unwrap().assert_success();

    // The record is damaged as well: everything that the cache has is compared. What is not in this run's list is
    // loaded again all the same.
    let record = cache.store.root().join("state/unsettled").read_dir().unwrap().next().unwrap().unwrap();
    fs::write(record.path(), "{").unwrap();
    let (durable, was) = run(&engine, &cache, &images[1..2]).await;
    assert!(matches!(was[..], [Ok(Was::Present)]), "{was:?}");
    let mut seen = outcomes(&durable);
    seen.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(seen, [RecoveredAs::Repaired, RecoveredAs::Whole]);
    assert!(matches!(engine.compare(&cache.store, &images[0]).await.unwrap(), Compared::Whole(_)));
    assert_eq!(records(), 0);
}
