//! Podman's storage.

use palletjack_testkit::real::{Part, Podman};
use palletjack_testkit::require_real;

use crate::support::Cache;
use crate::tree::FakeTree;
use crate::{Kit, amd64, device, images, run};

#[tokio::test]
async fn an_ordinary_podman_resolves_what_a_private_one_has_loaded() {
    require_real!(Part::Podman);
    let cache = Cache::new();
    let images = images(&cache, &amd64());
    let tree = FakeTree::new("amd64");
    tree.program("usr/bin/podman", "amd64");
    tree.write(
        "etc/containers/storage.conf",
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/pods\"\n",
    );
    let device = device(&tree);
    let first = run(&cache, &device, &images, Kit::Docker20.programs()).await;
    // Two are one image under two names, of which Podman resolves a digest by any.
    assert_eq!(first.assert_whole(), images.len() - 1, "{:?}", first.told);
    let root = tree.root().join("var/lib/pods");
    // Nothing that knows of this machine.
    for path in ["libpod", "defaultNetworkBackend"] {
        assert!(!root.join(path).exists(), "{path}");
    }
    let podman = Podman::start_on(&root).unwrap();
    podman.run(&["image", "prune", "--force"]).unwrap().assert_success();
    for image in &images {
        podman.create_never(&image.entry.reference.to_string()).unwrap().assert_success();
    }
    drop(podman);
    let second = run(&cache, &device, &images, Kit::Docker20.programs()).await;
    assert_eq!(second.assert_whole(), 0, "{:?}", second.told);
}
