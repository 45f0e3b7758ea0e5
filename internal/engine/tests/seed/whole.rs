//! From a tree to an engine that resolves everything.

use std::path::Path;
use std::process::Command;

use palletjack_engine::Was;
use palletjack_image::Platform;
use palletjack_testkit::real::Part;
use palletjack_testkit::require_real;

use crate::support::Cache;
use crate::tree::FakeTree;
use crate::{Kit, amd64, device, images, run};

/// Names, sizes and times of all files of the machine's own engines.
fn of_the_machine() -> String {
    let directories = ["/etc/docker", "/var/lib/docker", "/var/lib/containerd", "/opt/containerd"];
    let there = directories.iter().filter(|directory| Path::new(directory).exists());
    let listed = Command::new("find").args(there).args(["-printf", "%p %s %T@\n"]).output().unwrap();
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    format!("{}{forwarding}", String::from_utf8_lossy(&listed.stdout))
}

fn mounts_below(tree: &FakeTree) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = tree.root().to_string_lossy().into_owned();
    mounts.lines().filter(|line| line.contains(&below)).collect()
}

/// Seeds, starts the ordinary engine on it, and seeds again.
async fn exercise(kit: Kit, architecture: &str) {
    let platform = Platform::new("linux", architecture, None);
    let cache = Cache::new();
    let images = images(&cache, &platform);
    let tree = kit.tree(architecture);
    let device = device(&tree);
    assert_eq!(device.platform, Some(platform.clone()));

    let before = of_the_machine();
    let first = run(&cache, &device, &images, kit.programs()).await;
    assert_eq!(first.assert_whole(), images.len(), "{:?}", first.told);
    let seeded = first.seeded();
    assert!(seeded.engine.is_some(), "{seeded:?}");
    assert!(first.report.unprotected.is_none() && first.report.recovered.is_empty());
    assert_eq!(before, of_the_machine(), "the machine's own engines were touched");
    assert_eq!(mounts_below(&tree), "");
    assert!(!tree.data_root().join("engine-id").exists(), "each card would have the same");

    let mut engine = kit.ordinary(&tree, &[]);
    let docker = engine.docker().unwrap();
    // The image that its own name means, and nothing that a prune would take.
    for round in 0..2 {
        for image in &images {
            let name = image.entry.reference.familiar();
            let args = [
                "create",
                "--pull",
                "never",
                "--network",
                "none",
                "--platform",
                &platform.to_string(),
                &name,
                "/x",
            ];
            let created = docker.run(&args).unwrap().ok().unwrap();
            docker.run(&["rm", created.trim()]).unwrap().assert_success();
            if let Some(tag) = image.entry.reference.tagged().filter(|_| image.entry.owns_tag) {
                let id = docker.inspect(&tag).unwrap().unwrap_or_else(|| panic!("no {tag}"))["Id"].clone();
                let target = image.entry.target.digest.to_string();
                assert!(id == image.config_descriptor.digest.to_string() || id == target, "{tag} is {id}");
            }
        }
        if round == 0 {
            docker.run(&["image", "prune", "--force"]).unwrap().assert_success();
        }
    }
    assert!(!docker.tags().unwrap().iter().any(|tag| tag.contains("dangling")));
    engine.stop();

    // Nothing is left to do: no byte of a layer, and where that can be seen from outside no engine.
    let second = run(&cache, &device, &images, kit.programs()).await;
    assert_eq!(second.assert_whole(), 0, "{:?}", second.told);
    let sees_from_outside = kit != Kit::Docker28Containerd;
    assert_eq!(second.seeded().engine.is_none(), sees_from_outside);
    if sees_from_outside {
        for loaded in second.seeded().images.iter().flatten() {
            assert_eq!(loaded.was, Was::Present);
        }
        // A layer that was lost is noticed, and only it is brought again.
        let chain = palletjack_image::chain_ids(&images[0].config.diff_ids).pop().unwrap();
        let layer = tree.data_root().join("image/overlay2/layerdb/sha256").join(chain.hex());
        assert!(layer.is_dir());
        let durable = palletjack_engine::Durable::new(&cache.store, &[]);
        assert!(device.plan(&images, &durable, 1).unwrap().is_done());
        std::fs::rename(&layer, tree.root().join("lost")).unwrap();
        let plan = device.plan(&images, &durable, 1).unwrap();
        assert!(!plan.is_done() && plan.missing() == images[0].layers[1].size, "{plan:?}");
    }
}

#[tokio::test]
async fn docker_20() {
    require_real!(Part::Docker20);
    exercise(Kit::Docker20, "amd64").await;
}

#[tokio::test]
async fn docker_20_of_another_processor() {
    require_real!(Part::Docker20);
    exercise(Kit::Docker20, "arm64").await;
}

#[tokio::test]
async fn docker_28_with_a_graph_driver() {
    require_real!(Part::Docker28);
    exercise(Kit::Docker28Graph, "amd64").await;
}

#[tokio::test]
async fn docker_28_with_a_graph_driver_of_another_processor() {
    require_real!(Part::Docker28);
    exercise(Kit::Docker28Graph, "arm64").await;
}

#[tokio::test]
async fn docker_28_with_a_containerd_store() {
    require_real!(Part::Docker28);
    exercise(Kit::Docker28Containerd, "amd64").await;
}

#[tokio::test]
async fn docker_28_with_a_containerd_store_of_another_processor() {
    require_real!(Part::Docker28);
    exercise(Kit::Docker28Containerd, "arm64").await;
}

/// More of what one pallet needs, when another was seeded before: the tag goes to the newer, both pins stay.
#[tokio::test]
async fn a_tag_that_moves_on_takes_nothing_away() {
    require_real!(Part::Docker20);
    let cache = Cache::new();
    let tree = Kit::Docker20.tree("amd64");
    let device = device(&tree);
    let old = crate::pinned(&cache, "caddy:2", 61, &amd64());
    let first = run(&cache, &device, std::slice::from_ref(&old), Kit::Docker20.programs()).await;
    assert_eq!(first.assert_whole(), 1);
    let new = crate::pinned(&cache, "caddy:2", 62, &amd64());
    let both = [
        cache
            .store
            .image(cache.store.snapshot().unwrap().find(&old.entry.reference, &amd64()).unwrap())
            .unwrap(),
        new,
    ];
    let second = run(&cache, &device, &both, Kit::Docker20.programs()).await;
    assert_eq!(second.assert_whole(), 1);
    let engine = Kit::Docker20.ordinary(&tree, &[]);
    let docker = engine.docker().unwrap();
    docker.run(&["image", "prune", "--force"]).unwrap().assert_success();
    for image in &both {
        docker.create_never(&image.entry.reference.familiar()).unwrap().assert_success();
    }
    let id = docker.inspect("caddy:2").unwrap().unwrap()["Id"].clone();
    assert_eq!(id, both[1].config_descriptor.digest.to_string());
}
