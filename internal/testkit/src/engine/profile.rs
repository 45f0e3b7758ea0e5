//! Which engine is played.

use serde_json::{Value, json};

/// How an engine introduces itself, and where it keeps images.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Version of the engine, e.g. `20.10.24`.
    pub version: String,
    /// Newest API version it speaks, e.g. `1.41`.
    pub api_version: String,
    /// Oldest API version it speaks.
    pub min_api_version: String,
    /// Storage driver as `/info` names it.
    pub driver: String,
    /// Whether images lie in a containerd image store.
    pub containerd_store: bool,
    /// Whether it is Podman.
    pub podman: bool,
    /// Architecture as `uname -m` prints it.
    pub machine: String,
}

impl Profile {
    /// Docker 20.10 with its overlay2 graph driver.
    pub fn docker_20() -> Self {
        Self {
            version: "20.10.24".to_owned(),
            api_version: "1.41".to_owned(),
            min_api_version: "1.12".to_owned(),
            driver: "overlay2".to_owned(),
            containerd_store: false,
            podman: false,
            machine: "x86_64".to_owned(),
        }
    }

    /// Docker 28.5 with its overlay2 graph driver.
    pub fn docker_28() -> Self {
        Self {
            version: "28.5.2".to_owned(),
            api_version: "1.51".to_owned(),
            min_api_version: "1.24".to_owned(),
            ..Self::docker_20()
        }
    }

    /// Docker 28.5 with the containerd image store.
    pub fn docker_28_containerd() -> Self {
        Self { driver: "overlayfs".to_owned(), containerd_store: true, ..Self::docker_28() }
    }

    /// Podman 4.3 through its Docker-compatible API.
    pub fn podman_4() -> Self {
        Self {
            version: "4.3.1".to_owned(),
            api_version: "1.41".to_owned(),
            min_api_version: "1.24".to_owned(),
            driver: "overlay".to_owned(),
            podman: true,
            ..Self::docker_20()
        }
    }

    fn architecture(&self) -> &str {
        match self.machine.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "armv7l" => "arm",
            other => other,
        }
    }

    /// The `Server` field of every answer.
    pub(super) fn server(&self) -> String {
        let name = if self.podman { "Libpod" } else { "Docker" };
        format!("{name}/{} (linux)", self.version)
    }

    pub(super) fn version_document(&self) -> Value {
        let component = if self.podman { "Podman Engine" } else { "Engine" };
        json!({
            "Platform": { "Name": "" },
            "Components": [{ "Name": component, "Version": self.version, "Details": {
                "ApiVersion": self.api_version, "MinAPIVersion": self.min_api_version,
            } }],
            "Version": self.version,
            "ApiVersion": self.api_version,
            "MinAPIVersion": self.min_api_version,
            "Os": "linux",
            "Arch": self.architecture(),
            "KernelVersion": "6.1.0",
            "GitCommit": "",
            "GoVersion": "",
        })
    }

    pub(super) fn info_document(&self, root: &str, images: usize) -> Value {
        let status = if self.containerd_store {
            json!([["driver-type", "io.containerd.snapshotter.v1"]])
        } else {
            json!([["Backing Filesystem", "extfs"], ["Supports d_type", "true"]])
        };
        json!({
            "ID": "TEST:KIT",
            "Name": "testkit",
            "Containers": 0,
            "Images": images,
            "Driver": self.driver,
            "DriverStatus": status,
            "DockerRootDir": root,
            "OSType": "linux",
            "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
            "Architecture": self.machine,
            "NCPU": 2,
            "MemTotal": 1_000_000_000_u64,
            "ServerVersion": self.version,
        })
    }
}
