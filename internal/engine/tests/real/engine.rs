//! Real engines behind one face.

use std::collections::BTreeMap;
use std::path::PathBuf;

use palletjack_image::Digest;
use palletjack_testkit::Ran;
use palletjack_testkit::real::{Dockerd, Podman};

/// An engine of one kind or the other.
#[derive(Debug)]
pub(crate) enum Real {
    Docker(Box<Dockerd>),
    Podman(Podman),
}

impl Real {
    pub(crate) fn socket(&self) -> PathBuf {
        match self {
            Self::Docker(docker) => docker.socket(),
            Self::Podman(podman) => podman.socket(),
        }
    }

    /// Whether a container of the reference can be created without a network.
    pub(crate) fn runs(&self, reference: &str) -> bool {
        let ran = match self {
            Self::Docker(docker) => docker.docker().unwrap().create_never(reference),
            Self::Podman(podman) => podman.create_never(reference),
        };
        ran.unwrap().success()
    }

    /// The ID of the image that a name means.
    pub(crate) fn id(&self, reference: &str) -> Option<String> {
        let args = ["image", "inspect", "--format", "{{.Id}}", reference];
        let ran = match self {
            Self::Docker(docker) => docker.docker().unwrap().run(&args),
            Self::Podman(podman) => podman.run(&args),
        };
        let ran = ran.unwrap();
        let id = ran.success().then(|| ran.stdout.trim().to_owned())?;
        Some(if id.starts_with("sha256:") { id } else { format!("sha256:{id}") })
    }

    /// The IDs of all images, unnamed ones too.
    pub(crate) fn images(&self) -> Vec<String> {
        let args = ["images", "--all", "--quiet", "--no-trunc"];
        let ran = match self {
            Self::Docker(docker) => docker.docker().unwrap().run(&args),
            Self::Podman(podman) => podman.run(&args),
        };
        let listed = ran.unwrap().ok().unwrap();
        let mut ids: Vec<String> = listed.lines().map(str::to_owned).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Runs the engine's client.
    fn run(&self, args: &[&str]) -> Ran {
        match self {
            Self::Docker(docker) => docker.docker().unwrap().run(args),
            Self::Podman(podman) => podman.run(args),
        }
        .unwrap()
    }

    /// Whether Docker's containerd store keeps a record of an image beside its names. It is in no listing, so it is
    /// removed if it is there.
    pub(crate) fn has_nameless_record(&self, id: &Digest) -> bool {
        self.run(&["rmi", &format!("moby-dangling@{id}")]).success()
    }

    /// Takes a name away, and the image with its last one.
    pub(crate) fn remove(&self, reference: &str) {
        self.run(&["rmi", reference]).assert_success();
    }

    /// The regular files of an image, as a container of it has them: paths and how long each is.
    pub(crate) fn files(&self, reference: &str) -> BTreeMap<String, u64> {
        let created =
            self.run(&["create", "--pull=never", "--network=none", reference, "/nothing"]).ok().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let tar = directory.path().join("files.tar");
        self.run(&["export", "--output", tar.to_str().unwrap(), created.trim()]).assert_success();
        self.run(&["rm", created.trim()]).assert_success();
        let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries
            .filter(|entry| entry.header().entry_type().is_file())
            .map(|entry| (entry.path().unwrap().to_string_lossy().into_owned(), entry.size()))
            .collect()
    }
}
