//! The tree of an OS image, as far as a seed looks at it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Directories, units, package status and programs that are only the heads of files.
pub(crate) struct FakeTree {
    directory: TempDir,
}

impl FakeTree {
    /// `amd64` or `arm64`, without Docker.
    pub(crate) fn new(architecture: &str) -> Self {
        let tree = Self { directory: tempfile::Builder::new().prefix("tree-").tempdir().unwrap() };
        fs::create_dir_all(tree.root().join("var/lib")).unwrap();
        tree.program("usr/bin/env", architecture);
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn data_root(&self) -> PathBuf {
        self.root().join("var/lib/docker")
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn program(&self, path: &str, architecture: &str) {
        let machine: u16 = if architecture == "arm64" { 183 } else { 62 };
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
        head.extend(machine.to_le_bytes());
        self.write(path, head);
    }

    /// Docker and containerd as Debian's packages install them, containerd's data where the tests' engines keep it.
    pub(crate) fn docker(&self, version: &str) {
        fs::copy(self.root().join("usr/bin/env"), self.root().join("usr/bin/dockerd")).unwrap();
        self.write(
            "lib/systemd/system/docker.service",
            "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n",
        );
        self.write("lib/systemd/system/containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n");
        self.write(
            "etc/containerd/config.toml",
            "version = 2\nroot = \"/var/lib/docker/private-containerd\"\n",
        );
        let status = format!("Package: docker.io\nStatus: install ok installed\nVersion: {version}\n");
        self.write("var/lib/dpkg/status", status);
    }
}
