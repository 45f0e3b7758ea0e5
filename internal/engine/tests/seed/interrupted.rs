//! Runs that did not come to their end.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use palletjack_engine::seed::{Device, SeedError, Target, Wishes};
use palletjack_engine::{Compared, Endpoint, Engine, Event};
use palletjack_store::Image;
use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;

use crate::support::Cache;
use crate::{Kit, amd64, device, images, run, run_until};

const VICTIM: &str = "PALLETJACK_TEST_VICTIM";

/// Every image's files, as the ordinary engine shows them, are those of the cache.
async fn assert_files(kit: Kit, tree: &crate::FakeTree, cache: &Cache, images: &[Image]) {
    let daemon = kit.ordinary(tree, &[]);
    let engine = Engine::connect(Endpoint::Unix(daemon.socket())).await.unwrap();
    let docker = daemon.docker().unwrap();
    for image in images {
        let compared = engine.compare(&cache.store, image).await.unwrap();
        assert!(matches!(compared, Compared::Whole(_)), "{compared:?}");
        docker.create_never(&image.entry.reference.familiar()).unwrap().assert_success();
    }
}

/// Killed after its first image; what it started is gone, and the next run brings the rest.
async fn killed(kit: Kit, test: &str) {
    if let Ok(words) = std::env::var(VICTIM) {
        victim(kit, &words).await;
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::at(directory.path());
    let images = images(&cache, &amd64());
    let tree = kit.tree("amd64");
    let words = [directory.path(), tree.root()].map(|path| path.to_str().unwrap()).join("\n");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, words)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ONE IS THERE")));
    child.kill().unwrap();
    child.wait().unwrap();

    // The engine that it started ends with it; this run waits for that, and looks at what it left.
    let device = device(&tree);
    let again = run(&cache, &device, &images, kit.programs()).await;
    let brought = again.assert_whole();
    assert!(brought > 0 && brought < images.len(), "{brought} {:?}", again.told);
    let unsettled = std::fs::read_dir(directory.path().join("state/unsettled")).unwrap();
    // A record that was being written when it was killed has no name yet.
    let named = unsettled.filter(|entry| entry.as_ref().unwrap().path().extension().is_some());
    assert_eq!(named.count(), 0, "{:?}", again.told);
    assert_files(kit, &tree, &cache, &images).await;
}

/// The process that is killed.
async fn victim(kit: Kit, words: &str) {
    let (cache, tree) = words.split_once('\n').unwrap();
    let cache = Cache::at(Path::new(cache));
    let snapshot = cache.store.snapshot().unwrap();
    let images: Vec<Image> =
        snapshot.entries().iter().map(|entry| cache.store.image(entry).unwrap()).collect();
    let device = Device::find(&Target::Root(tree.into()), &Wishes::default()).unwrap();
    let is_end = |event: &Event<'_>| {
        if matches!(event, Event::Loaded { .. }) {
            let mut out = std::io::stdout();
            writeln!(out, "ONE IS THERE").unwrap();
            loop {
                std::thread::park();
            }
        }
        false
    };
    let ended = run_until(&cache, &device, &images, kit.programs(), None, &is_end).await;
    panic!("it was to be killed before: {:?}", ended.told);
}

#[tokio::test]
async fn docker_20_is_completed_after_a_kill() {
    require_real!(Part::Docker20);
    killed(Kit::Docker20, "interrupted::docker_20_is_completed_after_a_kill").await;
}

#[tokio::test]
async fn a_containerd_store_is_completed_after_a_kill() {
    require_real!(Part::Docker28);
    killed(Kit::Docker28Containerd, "interrupted::a_containerd_store_is_completed_after_a_kill").await;
}

/// As SIGINT does: the private engine is ended in order, what is complete stays.
#[tokio::test]
async fn a_cancelled_run_leaves_nothing_running() {
    require_real!(Part::Docker20);
    let cache = Cache::new();
    let images = images(&cache, &amd64());
    let tree = Kit::Docker20.tree("amd64");
    let device = device(&tree);
    let is_end = |event: &Event<'_>| matches!(event, Event::Loaded { .. });
    let cancelled = run_until(&cache, &device, &images, Kit::Docker20.programs(), None, &is_end).await;
    assert!(matches!(cancelled.result, Err(SeedError::Interrupted)), "{:?}", cancelled.result);
    // At once: nobody has the storage.
    device.check_storage().unwrap();
    let again = run(&cache, &device, &images, Kit::Docker20.programs()).await;
    assert!(again.assert_whole() < images.len());
    assert_files(Kit::Docker20, &tree, &cache, &images).await;
}

/// A layer whose files a power cut has emptied, under an image that was not yet struck off the record.
#[tokio::test]
async fn what_a_power_cut_damaged_is_brought_again() {
    require_real!(Part::Docker20);
    let test = "interrupted::what_a_power_cut_damaged_is_brought_again";
    let kit = Kit::Docker20;
    if let Ok(words) = std::env::var(VICTIM) {
        victim(kit, &words).await;
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::at(directory.path());
    let images = images(&cache, &amd64());
    let tree = kit.tree("amd64");
    let words = [directory.path(), tree.root()].map(|path| path.to_str().unwrap()).join("\n");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, words)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ONE IS THERE")));
    child.kill().unwrap();
    child.wait().unwrap();
    let device = device(&tree);
    device.check_storage().unwrap();
    // All layers that are there lose what is in their files.
    let damaged = Command::new("find")
        .arg(tree.data_root().join("overlay2"))
        .args(["-type", "f", "-path", "*/diff/*", "-exec", "truncate", "--size", "0", "{}", "+"])
        .status()
        .unwrap();
    assert!(damaged.success());
    let again = run(&cache, &device, &images, kit.programs()).await;
    // What was struck off before the cut was safe, and is not looked at again: it is for `status --deep`. All that the
    // record named is whole.
    again.assert_whole();
    assert!(!again.report.recovered.is_empty(), "{:?}", again.report);
}
