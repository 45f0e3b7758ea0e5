//! What somebody else may put into a cache directory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use palletjack_image::{Descriptor, Digest, Platform};
use palletjack_store::{
    Access, Depth, EngineMark, IngestState, Place, ProblemKind, Snapshot, Store, StoreError, UnsettledImage,
};

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

/// A lock on something that is no file says nothing, and a partial must be one to become a blob.
#[test]
fn what_is_no_file_is_neither_a_lock_nor_a_partial() {
    let (_directory, store) = cache();
    let fifo = |path: &Path| {
        let _ = fs::remove_file(path);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    };
    let lease = store.lease().unwrap();
    let digest = Digest::of(b"layer");
    fifo(&store.root().join(format!("state/ingest/sha256-{}", digest.hex())));
    let error = store.ingest(&lease, &Snapshot::default(), digest, 5).unwrap_err();
    assert!(matches!(error, StoreError::Strange { .. }), "{error}");
    drop(lease);
    fifo(&store.root().join("state/lock"));
    assert!(matches!(store.lease(), Err(StoreError::Strange { .. })));
}

/// The right bytes, but not in the cache: whoever has them can change them.
#[test]
fn a_blob_that_is_a_link_is_none() {
    let (directory, store) = cache();
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "layer").unwrap();
    let digest = Digest::of(b"layer");
    symlink(&elsewhere, store.blob_path(&digest)).unwrap();
    let descriptor = Descriptor::new("", digest, 5);
    assert!(!store.has_blob(&descriptor));
    assert!(store.blob(&digest).is_none());
    assert!(store.open_blob(&descriptor).is_err() && store.read(&descriptor).is_err());
    // It is fetched, and the link replaced; what it led to stays as it is.
    let lease = store.lease().unwrap();
    store.put(&lease, &descriptor, b"layer").unwrap();
    assert!(store.has_blob(&descriptor));
    assert_eq!(fs::read(&elsewhere).unwrap(), b"layer");
    assert!(fs::symlink_metadata(store.blob_path(&digest)).unwrap().is_file());
}

/// Neither another length nor another content of the right length is handed out.
#[test]
fn a_blob_that_was_changed_is_not_read() {
    let (_directory, store) = cache();
    let lease = store.lease().unwrap();
    let descriptor = Descriptor::new("", Digest::of(b"config"), 6);
    store.put(&lease, &descriptor, b"config").unwrap();
    assert_eq!(&store.read(&descriptor).unwrap()[..], b"config");
    let path = store.blob_path(&descriptor.digest);
    for changed in ["", "conf", "configs"] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, changed).unwrap();
        assert!(matches!(store.open_blob(&descriptor), Err(StoreError::Corrupt { .. })), "{changed}");
    }
    fs::write(&path, "CONFIG").unwrap();
    assert!(matches!(store.read(&descriptor), Err(StoreError::Corrupt { .. })));
}

/// A partial becomes a blob while others are about to take it up: nobody writes to what has a name by now.
#[test]
fn a_partial_that_was_finished_meanwhile_is_not_taken_up() {
    const WRITERS: usize = 4;
    let (_directory, store) = cache();
    let digest = Digest::of(b"layer");
    let together = std::sync::Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        let write = || {
            let lease = store.lease().unwrap();
            let mut trouble = None;
            for _ in 0..100 {
                let _ = fs::remove_file(store.blob_path(&digest));
                together.wait();
                loop {
                    match store.ingest(&lease, &Snapshot::default(), digest, 5) {
                        Ok(IngestState::Present) => break,
                        Ok(IngestState::Busy) => std::thread::yield_now(),
                        Ok(IngestState::Begin(mut ingest)) => {
                            ingest.restart().unwrap();
                            ingest.write(b"layer").unwrap();
                            let committed = ingest.commit().map_err(|error| error.to_string());
                            trouble = trouble.or(committed.err());
                        }
                        // The others wait for this one: it goes on.
                        Err(error) => {
                            trouble = trouble.or(Some(format!("{error:?}")));
                            break;
                        }
                    }
                }
                together.wait();
            }
            trouble
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        for writer in writers {
            assert_eq!(writer.join().unwrap(), None);
        }
    });
}

#[test]
fn documents_that_are_too_large_are_refused_unread() {
    let (_directory, store) = cache();
    for name in ["docker-archives/index.json", "state/format.json"] {
        let path = store.root().join(name);
        let before = fs::read(&path).unwrap();
        // One that could be read, and takes up no room.
        fs::File::options().append(true).open(&path).unwrap().set_len(200 << 20).unwrap();
        let opened = Store::open(store.root(), Access::Read, &amd64()).and_then(|store| store.snapshot());
        match opened {
            Err(StoreError::Io { source, .. }) => {
                assert_eq!(source.kind(), std::io::ErrorKind::FileTooLarge, "{name}");
            }
            Err(StoreError::Damaged { source, .. }) => {
                assert!(source.to_string().starts_with("larger than "), "{name}: {source}");
            }
            other => panic!("{name}: {other:?}"),
        }
        fs::write(&path, before).unwrap();
    }
    store.snapshot().unwrap();
}

/// Root gives the owner of the cache what it makes there, and nothing else: not what lay there under that name.
#[test]
fn only_what_root_made_is_given_away() {
    const SOMEBODY: u32 = 1234;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cache");
    fs::create_dir(&root).unwrap();
    chown(&root, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let store = Store::open(&root, Access::Write, &amd64()).unwrap();
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    for name in ["state", "state/ingest", "state/format.json", "docker-archives/index.json"] {
        assert_eq!(owner(&root.join(name)), SOMEBODY, "{name}");
    }
    let lock = root.join("state/lock");
    let _ = fs::remove_file(&lock);
    fs::write(&lock, "").unwrap();
    drop(store.lease().unwrap());
    assert_eq!(owner(&lock), 0);
    fs::remove_file(&lock).unwrap();
    drop(store.lease().unwrap());
    assert_eq!(owner(&lock), SOMEBODY);
}

/// Nobody waits for a FIFO, nothing is read through a link; a record that was there and is not to be read is distrust.
#[test]
fn records_of_loads_that_are_no_files_are_distrust_and_go() {
    let (directory, store) = cache();
    let ledger = store.ledger(&[]);
    let place = Place::Elsewhere { endpoint: "tcp://elsewhere".to_owned() };
    let engine = EngineMark { kind: "docker-graph-driver".to_owned(), place };
    drop(ledger.begin(&engine).unwrap());
    let unsettled = store.root().join("state/unsettled");
    let record = fs::read_dir(&unsettled).unwrap().next().unwrap().unwrap().path();
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&record, &elsewhere).unwrap();
    assert!(ledger.leftovers(&engine).is_empty());

    symlink(&elsewhere, &record).unwrap();
    let left = ledger.leftovers(&engine);
    assert!(left.everything);
    left.forget().unwrap();
    assert!(elsewhere.exists() && fs::symlink_metadata(&record).is_err());

    rustix::fs::mknodat(rustix::fs::CWD, &record, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let other = EngineMark { kind: "podman".to_owned(), ..engine.clone() };
    assert!(ledger.leftovers(&other).is_empty(), "another engine's");
    let left = ledger.leftovers(&engine);
    assert!(left.everything);
    left.forget().unwrap();
    assert!(ledger.leftovers(&engine).is_empty());
}

/// A record is replaced as a whole while its load runs: whoever looks meanwhile takes up neither version.
#[test]
fn records_of_a_running_load_are_never_taken_up() {
    let (_directory, store) = cache();
    let place = Place::Elsewhere { endpoint: "tcp://elsewhere".to_owned() };
    let engine = EngineMark { kind: "podman".to_owned(), place };
    let image = |name: &str| UnsettledImage {
        reference: format!("docker.io/library/{name}:1"),
        platform: amd64(),
        target: Digest::of(name.as_bytes()),
        manifest: Digest::of(name.as_bytes()),
        config: Digest::of(name.as_bytes()),
        diff_ids: Vec::new(),
    };
    let mut record = store.ledger(&[]).begin(&engine).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let taken_up = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut taken_up = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                taken_up += usize::from(!store.ledger(&[]).leftovers(&engine).is_empty());
            }
            taken_up
        });
        for _ in 0..200 {
            record.sending([image("a")]).unwrap();
            record.settled(&image("a")).unwrap();
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        looker.join().unwrap()
    });
    assert_eq!(taken_up, 0);
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
    for name in ["docker-archives/blobs/sha256", "state/ingest", "state/unsettled", "state/scratch", "state"]
    {
        let (directory, store) = cache();
        let path = store.root().join(name);
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir_all(&path).unwrap();
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
