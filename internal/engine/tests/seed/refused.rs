//! What is refused, with nothing changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use palletjack_engine::ErrorKind;
use palletjack_engine::LoadError;
use palletjack_engine::seed::{Device, SeedError, Target, Wishes};
use palletjack_testkit::image::{ImageBuilder, LayerBuilder};
use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;
use palletjack_testkit::sandbox::SmallDisk;

use crate::support::Cache;
use crate::tree::FakeTree;
use crate::{Kit, amd64, device, images, pinned, run, run_until};

fn mount(args: &[&str]) {
    assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
}

/// Taken off when dropped.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

async fn refused(device: &Device, want: &str) -> SeedError {
    let cache = Cache::new();
    let image = pinned(&cache, "caddy:2", 5, &amd64());
    let ran = run(&cache, device, &[image], Kit::Docker20.programs()).await;
    let error = ran.result.unwrap_err();
    assert!(error.to_string().contains(want), "{error}");
    error
}

#[tokio::test]
async fn a_data_root_whose_engine_runs() {
    require_real!(Part::Docker20, Part::Docker28);
    for kit in [Kit::Docker20, Kit::Docker28Graph, Kit::Docker28Containerd] {
        let tree = kit.tree("amd64");
        let engine = kit.ordinary(&tree, &[]);
        let device = device(&tree);
        let error = refused(&device, "is in use by").await;
        let pids = engine.pids();
        assert!(pids.iter().any(|pid| error.to_string().contains(&format!("(process {pid})"))), "{error}");
        assert_eq!(error.kind(), ErrorKind::Engine);
        assert!(engine.docker().unwrap().tags().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_file_system_that_cannot_carry_overlays() {
    require_real!(Part::Docker20);
    let tree = Kit::Docker20.tree("amd64");
    let parts = tempfile::tempdir().unwrap();
    for part in ["lower", "upper", "work"] {
        fs::create_dir(parts.path().join(part)).unwrap();
    }
    let at = |part: &str| parts.path().join(part).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let point = tree.root().join("var/lib");
    let _mounted = Mounted(point.clone());
    mount(&["-t", "overlay", "overlay", "-o", &options, point.to_str().unwrap()]);
    // What the packages left there is hidden now.
    tree.write(
        "var/lib/dpkg/status",
        "Package: docker.io\nStatus: install ok installed\nVersion: 20.10.24\n",
    );
    refused(&device(&tree), "an overlay (as in a container").await;
    assert!(!tree.data_root().exists());
}

#[tokio::test]
async fn a_read_only_tree() {
    require_real!(Part::Docker20);
    let tree = Kit::Docker20.tree("amd64");
    let point = tree.root().join("var");
    let _mounted = Mounted(point.clone());
    let point = point.to_str().unwrap();
    mount(&["--bind", point, point]);
    mount(&["-o", "remount,bind,ro", point]);
    refused(&device(&tree), "cannot be written").await;
}

#[tokio::test]
async fn a_disk_that_is_too_small() {
    require_real!(Part::Docker20);
    let tree = Kit::Docker20.tree("amd64");
    let disk = SmallDisk::new(100_000).unwrap();
    let link = tree.data_root();
    std::os::unix::fs::symlink("/disk/docker", &link).unwrap();
    fs::create_dir(tree.root().join("disk")).unwrap();
    let point = tree.root().join("disk");
    let _mounted = Mounted(point.clone());
    mount(&["--bind", disk.path().to_str().unwrap(), point.to_str().unwrap()]);
    let error = refused(&device(&tree), "too small").await;
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(!point.join("docker").exists());
}

/// Layers that are larger unpacked than anybody could foretell.
#[tokio::test]
async fn a_disk_that_is_full_midway() {
    require_real!(Part::Docker20);
    let tree = Kit::Docker20.tree("amd64");
    let disk = SmallDisk::new(40 << 20).unwrap();
    fs::create_dir(tree.root().join("disk")).unwrap();
    std::os::unix::fs::symlink("/disk/docker", tree.data_root()).unwrap();
    let point = tree.root().join("disk");
    let _mounted = Mounted(point.clone());
    mount(&["--bind", disk.path().to_str().unwrap(), point.to_str().unwrap()]);
    let cache = Cache::new();
    let small = pinned(&cache, "caddy:2", 5, &amd64());
    let zeros = LayerBuilder::new().file("zeros", vec![0; 100 << 20]).build().unwrap();
    let large = ImageBuilder::new("acme/large:1").platform("linux/amd64", [zeros]).build().unwrap();
    let large = cache.publish(&large, &large.pinned());
    let images = [small.clone(), large];
    let ran = run_until(&cache, &device(&tree), &images, Kit::Docker20.programs(), Some(1), &|_| false).await;
    let seeded = ran.seeded();
    assert!(seeded.images[0].as_ref().unwrap().resolves.exact, "{seeded:?}");
    assert!(matches!(&seeded.images[1], Err(LoadError::NoSpace { .. })), "{seeded:?}");
    assert!(seeded.free_after < seeded.free_before, "{seeded:?}");
    // What fitted is whole, and a run for it alone finds nothing to do.
    let again = run(&cache, &device(&tree), &[small], Kit::Docker20.programs()).await;
    assert_eq!((again.assert_whole(), again.seeded().engine.is_none()), (0, true));
}

#[tokio::test]
async fn a_blob_that_is_not_what_its_name_says() {
    require_real!(Part::Docker20);
    let cache = Cache::new();
    let images = [pinned(&cache, "caddy:2", 5, &amd64()), pinned(&cache, "ghcr.io/acme/two:1", 6, &amd64())];
    cache.damage(&images[1].layers[1].digest);
    let tree = Kit::Docker20.tree("amd64");
    let ran = run(&cache, &device(&tree), &images, Kit::Docker20.programs()).await;
    let seeded = ran.seeded();
    assert!(seeded.images[0].is_ok(), "{seeded:?}");
    assert_eq!(seeded.images[1].as_ref().unwrap_err().kind(), ErrorKind::Corrupt, "{seeded:?}");
}

#[tokio::test]
async fn images_for_another_processor() {
    let tree = Kit::Docker20.tree("arm64");
    let cache = Cache::new();
    let images = images(&cache, &amd64());
    let error = device(&tree).check_architecture(&images).unwrap_err();
    assert!(error.to_string().contains("the system is linux/arm64, and caddy:2.6.2@sha256:"), "{error}");
    Kit::Docker20.tree("amd64");
    device(&Kit::Docker20.tree("amd64")).check_architecture(&images).unwrap();
}

#[tokio::test]
async fn a_data_root_of_an_unknown_format() {
    require_real!(Part::Docker20);
    let tree = Kit::Docker20.tree("amd64");
    tree.write("var/lib/docker/image/overlay2/repositories.json", r#"{"Repositories":["new"]}"#);
    tree.write("var/lib/docker/overlay2/l/x", "");
    refused(&device(&tree), "does not know this format").await;
}

/// An engine that does not come up says why, and leaves the tree as it was.
#[tokio::test]
async fn an_engine_that_does_not_start() {
    require_real!(Part::Docker20);
    let tree = Kit::Docker20.tree("amd64");
    tree.write("etc/docker/daemon.json", r#"{"storage-driver":"btrfs"}"#);
    let error = refused(&device(&tree), "the private dockerd ended at once").await;
    assert!(error.to_string().contains("error initializing graphdriver"), "{error}");
    assert!(!tree.data_root().exists());
    assert!(!Path::new("/var/lib/docker/private").exists());
}

#[test]
fn a_tree_without_docker() {
    let tree = FakeTree::new("amd64");
    let find = |path: &Path| Device::find(&Target::Root(path.to_owned()), &Wishes::default());
    assert!(find(tree.root()).unwrap_err().to_string().contains("install one there first"));
    assert!(find(&tree.root().join("absent")).unwrap_err().to_string().contains("no directory"));
}
