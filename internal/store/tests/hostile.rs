//! What somebody else may put into a cache directory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;

use palletjack_image::{Digest, Platform};
use palletjack_store::{Access, Depth, IngestState, ProblemKind, Snapshot, Store, StoreError};

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn cache() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("cache"), Access::Write, &amd64()).unwrap();
    (directory, store)
}

#[test]
fn a_partial_that_is_a_link_is_never_written_through() {
    let (directory, store) = cache();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let lease = store.lease().unwrap();
    let digest = Digest::of(b"layer");
    let partial = store.root().join(format!("state/ingest/sha256-{}", digest.hex()));
    for link in [symlink, |from: &std::path::PathBuf, to: &std::path::PathBuf| fs::hard_link(from, to)] {
        link(&victim, &partial).unwrap();
        let error = store.ingest(&lease, &Snapshot::default(), digest, 5).unwrap_err();
        assert!(matches!(error, StoreError::Strange { .. }), "{error}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        fs::remove_file(&partial).unwrap();
    }
    assert!(matches!(store.ingest(&lease, &Snapshot::default(), digest, 5).unwrap(), IngestState::Begin(_)));
}

#[test]
fn a_lock_that_is_a_link_is_refused() {
    let (directory, store) = cache();
    let target = directory.path().join("target");
    let lock = store.root().join("state/lock");
    let _ = fs::remove_file(&lock);
    symlink(&target, &lock).unwrap();
    assert!(matches!(store.lease(), Err(StoreError::Strange { .. })));
    assert!(!target.exists());
}

#[test]
fn directories_that_are_links_are_refused() {
    for name in ["docker-archives/blobs/sha256", "state/ingest", "state"] {
        let (directory, store) = cache();
        let path = store.root().join(name);
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        for access in [Access::Read, Access::Write] {
            let error = Store::open(store.root(), access, &amd64()).unwrap_err();
            assert!(matches!(error, StoreError::Strange { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn entries_that_cannot_be_read_are_told_and_keep_everything() {
    let (_directory, store) = cache();
    let index = store.archives().join("index.json");
    let stranger = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
        {{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":4}}]}}"#,
        Digest::of(b"else")
    );
    fs::write(&index, stranger).unwrap();
    fs::write(store.blob_path(&Digest::of(b"else")), b"else").unwrap();
    let lease = store.lease().unwrap();
    let report = store.check(&lease, Depth::Shallow, &|_| true).unwrap();
    assert!(report.problems.iter().any(|problem| problem.kind == ProblemKind::Strangers(1)), "{report:?}");
    drop(lease);
    assert!(matches!(store.sweep(), Err(StoreError::Strangers { entries: 1, .. })));
    assert!(store.blob_path(&Digest::of(b"else")).exists());
}

#[test]
fn a_fifo_is_no_blob_and_nobody_waits_for_it() {
    let (_directory, store) = cache();
    let digest = Digest::of(b"layer");
    let path = store.blob_path(&digest);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let lease = store.lease().unwrap();
    let report = store.check(&lease, Depth::Deep, &|_| true).unwrap();
    assert!(matches!(report.problems[0].kind, ProblemKind::Unreadable(_)), "{report:?}");
}

#[test]
fn a_check_stops_when_it_is_told_to() {
    let (_directory, store) = cache();
    fs::write(store.blob_path(&Digest::of(b"some")), b"some").unwrap();
    let lease = store.lease().unwrap();
    assert!(matches!(store.check(&lease, Depth::Deep, &|_| false), Err(StoreError::Stopped)));
}
