//! What kind of engine it is.

use std::fmt;
use std::path::PathBuf;

use bollard::models::{SystemInfo, SystemVersion};
use palletjack_image::Platform;

/// The three kinds of engines, which differ in what they take and what they keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// Docker with a graph driver (overlay2, …): the image ID is the config's digest, and the digests of a registry
    /// are kept only by a pull.
    DockerGraph,
    /// Docker with the containerd image store: the image ID is the digest of the index or manifest, and
    /// `name@digest` resolves after a load.
    DockerContainerd,
    /// Podman: the image ID is the config's digest, and digests are kept when an archive holds one image.
    Podman,
}

impl EngineKind {
    /// Its word in records of loads.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::DockerGraph => "docker-graph-driver",
            Self::DockerContainerd => "docker-containerd-store",
            Self::Podman => "podman",
        }
    }
}

/// Where the system's containerd listens, and where it keeps content unless it is told otherwise. A containerd that
/// dockerd started for itself keeps it below dockerd's own root.
const SYSTEM_CONTAINERD: &str = "/run/containerd/containerd.sock";
const SYSTEM_CONTAINERD_ROOT: &str = "/var/lib/containerd";

/// What was found out about an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Its kind.
    pub kind: EngineKind,
    /// Its version as it says it: `20.10.24+dfsg1`.
    pub version: String,
    /// The newest API version that it speaks (Podman: of Docker's API).
    pub api_version: String,
    /// What it runs on.
    pub platform: Platform,
    /// Where its data lies, on the engine's machine.
    pub root_dir: Option<PathBuf>,
    /// Where the bytes of images lie, on the engine's machine: `root_dir`, or containerd's own directory where Docker
    /// uses the system's containerd for its images.
    pub store_dir: Option<PathBuf>,
    /// How many processors it may use.
    pub cpus: usize,
    /// How much memory its machine has, in bytes.
    pub memory: Option<u64>,
    /// `overlay2`, `overlayfs`, …
    pub storage_driver: String,
}

impl Capabilities {
    /// Reads the answers to `GET /version` and `GET /info`. `None` where they are not those of an engine.
    pub(crate) fn read(version: &SystemVersion, info: &SystemInfo) -> Option<Self> {
        let api_version = version.api_version.clone()?;
        let is_podman = version
            .components
            .iter()
            .flatten()
            .any(|component| component.name.to_ascii_lowercase().starts_with("podman"));
        // moby names containerd's snapshotter plugin type here, and nothing of the kind with a graph driver.
        let is_containerd = info.driver_status.iter().flatten().any(
            |status| matches!(&status[..], [key, value] if key == "driver-type" && value.starts_with("io.containerd.snapshotter")),
        );
        let kind = match (is_podman, is_containerd) {
            (true, _) => EngineKind::Podman,
            (false, true) => EngineKind::DockerContainerd,
            (false, false) => EngineKind::DockerGraph,
        };
        let root_dir = info.docker_root_dir.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
        let containerd = info.containerd.as_ref().and_then(|containerd| containerd.address.as_deref());
        let store_dir = match (kind, containerd) {
            (EngineKind::DockerContainerd, Some(SYSTEM_CONTAINERD)) => {
                Some(PathBuf::from(SYSTEM_CONTAINERD_ROOT))
            }
            _ => root_dir.clone(),
        };
        Some(Self {
            kind,
            version: version.version.clone().unwrap_or_default(),
            api_version,
            platform: platform(version, info),
            root_dir,
            store_dir,
            cpus: info.ncpu.and_then(|cpus| usize::try_from(cpus).ok()).unwrap_or(1).max(1),
            memory: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
            storage_driver: info.driver.clone().unwrap_or_default(),
        })
    }

    /// Whether layers compressed with Zstandard can be loaded. A Docker whose version is no number is one that was
    /// built from its source lately.
    pub fn reads_zstd(&self) -> bool {
        match self.kind {
            EngineKind::Podman => true,
            EngineKind::DockerGraph | EngineKind::DockerContainerd => {
                self.major().is_none_or(|major| major >= 23)
            }
        }
    }

    /// Whether `name@digest` resolves after a load.
    pub fn resolves_pins(&self) -> bool {
        self.kind != EngineKind::DockerGraph
    }

    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        Self {
            kind: EngineKind::DockerGraph,
            version: String::new(),
            api_version: String::new(),
            platform: Platform::host(),
            root_dir: None,
            store_dir: None,
            cpus: 1,
            memory: None,
            storage_driver: String::new(),
        }
    }

    fn major(&self) -> Option<u32> {
        self.version.split('.').next()?.parse().ok()
    }
}

/// `GET /version` says `arm` where the variant matters; `GET /info` has the kernel's `armv6l` or `armv7l`.
fn platform(version: &SystemVersion, info: &SystemInfo) -> Platform {
    let os = version.os.as_deref().or(info.os_type.as_deref()).filter(|os| !os.is_empty()).unwrap_or("linux");
    let refined = info.architecture.as_deref().map(|machine| Platform::new(os, machine, None));
    match version.arch.as_deref().filter(|arch| !arch.is_empty()) {
        Some("arm") => refined
            .filter(|refined| refined.architecture == "arm")
            .unwrap_or_else(|| Platform::new(os, "arm", None)),
        Some(arch) => Platform::new(os, arch, None),
        None => refined.unwrap_or_else(|| Platform { os: os.to_owned(), ..Platform::host() }),
    }
}

/// "Docker 20.10.24+dfsg1 (graph driver overlay2)".
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, store) = match self.kind {
            EngineKind::DockerGraph => ("Docker", "graph driver"),
            EngineKind::DockerContainerd => ("Docker", "containerd store"),
            EngineKind::Podman => ("Podman", "storage driver"),
        };
        write!(f, "{name} {} ({store} {})", self.version, self.storage_driver)
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::SystemVersionComponents;

    use super::*;

    fn version(version: &str, arch: &str, component: &str) -> SystemVersion {
        SystemVersion {
            version: Some(version.to_owned()),
            api_version: Some("1.41".to_owned()),
            os: Some("linux".to_owned()),
            arch: Some(arch.to_owned()),
            components: Some(vec![SystemVersionComponents {
                name: component.to_owned(),
                ..Default::default()
            }]),
            ..Default::default()
        }
    }

    fn info(driver: &str, status: &[&[&str]], machine: &str) -> SystemInfo {
        let status = status.iter().map(|pair| pair.iter().map(|&text| text.to_owned()).collect()).collect();
        SystemInfo {
            driver: Some(driver.to_owned()),
            driver_status: Some(status),
            architecture: Some(machine.to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let graph: &[&[&str]] = &[&["Backing Filesystem", "extfs"], &["Supports d_type", "true"], &["odd"]];
        let containerd: &[&[&str]] = &[&["driver-type", "io.containerd.snapshotter.v1"]];
        for (version, info, kind, shown, zstd) in [
            (
                version("20.10.24+dfsg1", "amd64", "Engine"),
                info("overlay2", graph, "x86_64"),
                EngineKind::DockerGraph,
                "Docker 20.10.24+dfsg1 (graph driver overlay2)",
                false,
            ),
            (
                version("28.5.2", "arm64", "Engine"),
                info("overlayfs", containerd, "aarch64"),
                EngineKind::DockerContainerd,
                "Docker 28.5.2 (containerd store overlayfs)",
                true,
            ),
            (
                version("library-import", "amd64", "Engine"),
                info("overlay2", graph, "x86_64"),
                EngineKind::DockerGraph,
                "Docker library-import (graph driver overlay2)",
                true,
            ),
            (
                version("4.3.1", "amd64", "Podman Engine"),
                info("overlay", graph, "amd64"),
                EngineKind::Podman,
                "Podman 4.3.1 (storage driver overlay)",
                true,
            ),
        ] {
            let read = Capabilities::read(&version, &info).unwrap();
            assert_eq!((read.kind, &*read.to_string(), read.reads_zstd()), (kind, shown, zstd));
        }
        assert_eq!(Capabilities::read(&SystemVersion::default(), &SystemInfo::default()), None);
    }

    #[test]
    fn images_lie_where_the_containerd_that_keeps_them_has_its_root() {
        let containerd: &[&[&str]] = &[&["driver-type", "io.containerd.snapshotter.v1"]];
        let of = |status: &[&[&str]], address: Option<&str>| {
            let containerd = address.map(|address| bollard::models::ContainerdInfo {
                address: Some(address.to_owned()),
                namespaces: None,
            });
            let docker_root_dir = Some("/data".to_owned());
            let info = SystemInfo { docker_root_dir, containerd, ..info("x", status, "x86_64") };
            Capabilities::read(&version("28.5.2", "amd64", "Engine"), &info).unwrap().store_dir.unwrap()
        };
        let system = Some("/run/containerd/containerd.sock");
        assert_eq!(of(containerd, system), PathBuf::from("/var/lib/containerd"));
        assert_eq!(of(containerd, Some("/var/run/docker/containerd/c.sock")), PathBuf::from("/data"));
        assert_eq!(of(&[], system), PathBuf::from("/data"));
        assert_eq!(of(containerd, None), PathBuf::from("/data"));
    }

    #[test]
    fn the_platform_has_its_variant() {
        for (arch, machine, want) in [
            ("amd64", "x86_64", "linux/amd64"),
            ("arm64", "aarch64", "linux/arm64"),
            ("arm", "armv6l", "linux/arm/v6"),
            ("arm", "armv7l", "linux/arm/v7"),
            // A 32-bit Docker on a 64-bit kernel.
            ("arm", "aarch64", "linux/arm/v7"),
            ("", "aarch64", "linux/arm64"),
        ] {
            let read = Capabilities::read(&version("1", arch, ""), &info("", &[], machine)).unwrap();
            assert_eq!(read.platform.to_string(), want);
        }
    }
}
