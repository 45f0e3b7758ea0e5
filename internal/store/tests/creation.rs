//! Opening one new cache from several sides.

use std::fs;
use std::sync::Barrier;
use std::thread;

use palletjack_image::Platform;
use palletjack_store::{Access, Store};

#[test]
fn whoever_creates_a_cache_first_decides_its_main_platform_for_all() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(4);
        let open = &|architecture: &str| {
            barrier.wait();
            let platform = Platform::new("linux", architecture, None);
            Store::open(directory.path(), Access::Write, &platform).unwrap().main_platform().clone()
        };
        let seen: Vec<Platform> = thread::scope(|scope| {
            let architectures = ["amd64", "arm64", "riscv64", "s390x"];
            let threads = architectures.map(|architecture| scope.spawn(move || open(architecture)));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|platform| *platform == seen[0]), "{seen:?}");
        let later =
            Store::open(directory.path(), Access::Read, &Platform::new("linux", "arm", None)).unwrap();
        assert_eq!(*later.main_platform(), seen[0]);
    }
}

#[test]
fn an_old_manifest_json_is_replaced_when_the_cache_is_opened_to_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::new("linux", "amd64", None);
    let open = |access| Store::open(directory.path(), access, &platform).unwrap();
    let path = open(Access::Write).archives().join("manifest.json");
    let right = fs::read(&path).unwrap();
    fs::write(&path, "[{\"Config\":\"old\"}]").unwrap();
    open(Access::Read);
    assert_ne!(fs::read(&path).unwrap(), right, "reading changes nothing");
    open(Access::Write);
    assert_eq!(fs::read(&path).unwrap(), right);
}
