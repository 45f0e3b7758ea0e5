//! Which engine a device will run: what is to be filled, and in which of Docker's two formats.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use palletjack_image::Platform;
use palletjack_store::Image;
use rustix::fs::{Access, StatVfsMountFlags};

use super::dpkg::{self, Installed};
use super::error::SeedError;
use super::podman::{DRIVER as PODMANS_DRIVER, PodmanStorage};
use super::settings::{NAMESPACE, Settings, own_containerd_root};
use super::stopped;
use super::tree::Tree;

/// Docker's version from which on a fresh data root gets the containerd store.
const CONTAINERD_BY_DEFAULT: u32 = 29;
/// Graph drivers of Docker, all versions. A storage driver of another name is a containerd snapshotter.
const GRAPH_DRIVERS: [&str; 8] =
    ["overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs", "overlay", "devicemapper", "aufs"];

/// Where an engine keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A graph driver, below the data root.
    Graph,
    /// containerd's content store and snapshots, below containerd's root.
    Containerd,
    /// Not Docker's: Podman's storage.
    Podman,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Graph => "graph driver",
            Self::Containerd => "containerd",
            Self::Podman => "Podman's",
        })
    }
}

/// What is to be filled.
#[derive(Debug, Clone)]
pub enum Target {
    /// An OS image's tree, or `/`.
    Root(PathBuf),
    /// A data root. Where it is that of this machine's own Docker, that one's settings count.
    DataRoot(PathBuf),
}

/// What somebody says instead of what is found.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The image store.
    pub store: Option<StoreKind>,
    /// containerd's root, as this machine sees it.
    pub containerd_root: Option<PathBuf>,
    /// The version of the engine that the data root is for, where nothing else says it.
    pub version: Option<String>,
}

/// An engine's storage, from outside of the engine. Paths are this machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What was named.
    pub place: PathBuf,
    /// In which format images are kept.
    pub store: StoreKind,
    /// How that is known.
    pub because: String,
    /// Docker's data root.
    pub data_root: PathBuf,
    /// containerd's root.
    pub containerd_root: PathBuf,
    /// The namespace of Docker's images in containerd.
    pub namespace: String,
    /// Docker's graph driver, or containerd's snapshotter.
    pub storage_driver: String,
    /// The version of the device's Docker, where it is known.
    pub version: Option<String>,
    /// What the device's programs run on, where it is known.
    pub platform: Option<Platform>,
}

impl Device {
    /// Finds out what is to be filled. Reads a few files, all of them inside of the tree.
    pub fn find(target: &Target, wishes: &Wishes) -> Result<Self, SeedError> {
        match target {
            Target::Root(root) => Self::of_tree(root, wishes),
            Target::DataRoot(directory) => Self::of_data_root(directory, wishes),
        }
    }

    fn of_tree(root: &Path, wishes: &Wishes) -> Result<Self, SeedError> {
        let tree = Tree::open(root).map_err(|source| SeedError::NoTree { root: root.to_owned(), source })?;
        if wishes.store == Some(StoreKind::Podman) || (!tree.has_docker() && tree.has_podman()) {
            return Self::of_podman(&tree, root, wishes);
        }
        if !tree.has_docker() {
            return Err(SeedError::NoDocker { root: root.to_owned() });
        }
        Self::of_settings(&tree, root, wishes)
    }

    fn of_settings(tree: &Tree, place: &Path, wishes: &Wishes) -> Result<Self, SeedError> {
        let settings = Settings::read(tree)?;
        let inside = |path: &Path| {
            tree.resolve(path).map_err(|source| SeedError::Unreadable { path: path.to_owned(), source })
        };
        let installed = Installed::read(tree)
            .map_err(|source| SeedError::Unreadable { path: "/var/lib/dpkg/status".into(), source })?;
        let data_root = inside(&settings.data_root)?;
        let containerd_root = match &wishes.containerd_root {
            Some(root) => root.clone(),
            None => inside(&settings.containerd_root)?,
        };
        let known = Known {
            place,
            data_root: &data_root,
            containerd_root: &containerd_root,
            snapshotter: settings.snapshotter,
            driver: settings.storage_driver.as_deref(),
            version: installed.docker.as_deref().or(wishes.version.as_deref()),
            is_alone: false,
        };
        let (store, because) = known.store(wishes.store)?;
        Ok(Self {
            place: place.to_owned(),
            storage_driver: known.driver(store),
            version: installed.docker.or_else(|| wishes.version.clone()),
            store,
            because,
            namespace: settings.namespace,
            platform: tree.platform(),
            data_root,
            containerd_root,
        })
    }

    fn of_podman(tree: &Tree, place: &Path, wishes: &Wishes) -> Result<Self, SeedError> {
        if !tree.has_podman() {
            return Err(SeedError::NoDocker { root: place.to_owned() });
        }
        let because = "Podman is in it".to_owned();
        if let Some(docker @ (StoreKind::Graph | StoreKind::Containerd)) = wishes.store {
            let (other, todo) = (format!("--store asks for {docker}"), "leave --store out".to_owned());
            let (place, device) = (place.to_owned(), StoreKind::Podman);
            return Err(SeedError::Mismatch { place, device, because, other, todo });
        }
        let storage = PodmanStorage::read(tree)?;
        let data_root = tree
            .resolve(&storage.root)
            .map_err(|source| SeedError::Unreadable { path: storage.root.clone(), source })?;
        Ok(Self { platform: tree.platform(), ..Self::podman(place, data_root, storage.driver, because) })
    }

    fn podman(place: &Path, data_root: PathBuf, storage_driver: String, because: String) -> Self {
        Self {
            place: place.to_owned(),
            store: StoreKind::Podman,
            because,
            containerd_root: data_root.clone(),
            data_root,
            namespace: String::new(),
            storage_driver,
            version: None,
            platform: None,
        }
    }

    fn of_data_root(directory: &Path, wishes: &Wishes) -> Result<Self, SeedError> {
        let data_root = existing(directory)?;
        if wishes.store == Some(StoreKind::Podman) {
            let because = "--store says so".to_owned();
            return Ok(Self::podman(directory, data_root, PODMANS_DRIVER.to_owned(), because));
        }
        // This machine's own Docker, before it is started.
        if let Ok(tree) = Tree::open(Path::new("/"))
            && tree.has_docker()
            && let Ok(own) = Settings::read(&tree)
            && tree.resolve(&own.data_root).is_ok_and(|own| own == data_root)
        {
            return Self::of_settings(&tree, directory, wishes);
        }
        let containerd_root =
            wishes.containerd_root.clone().unwrap_or_else(|| own_containerd_root(&data_root));
        let known = Known {
            place: directory,
            data_root: &data_root,
            containerd_root: &containerd_root,
            snapshotter: None,
            driver: None,
            version: wishes.version.as_deref().filter(|_| wishes.store.is_none()),
            is_alone: true,
        };
        let (store, because) = known.store(wishes.store)?;
        Ok(Self {
            place: directory.to_owned(),
            store,
            because,
            namespace: NAMESPACE.to_owned(),
            storage_driver: known.driver(store),
            version: wishes.version.clone(),
            platform: None,
            data_root,
            containerd_root,
        })
    }

    /// Where the bytes of images come to lie.
    pub fn image_root(&self) -> &Path {
        match self.store {
            StoreKind::Graph | StoreKind::Podman => &self.data_root,
            StoreKind::Containerd => &self.containerd_root,
        }
    }

    /// Whether images of a platform run on the device; unknown is yes. A 64-bit processor runs its 32-bit programs.
    pub fn runs(&self, platform: &Platform) -> bool {
        let Some(own) = &self.platform else { return true };
        let (own, other) = (own.architecture.as_str(), platform.architecture.as_str());
        platform.os == "linux"
            && (own == other || matches!((own, other), ("arm64", "arm") | ("amd64", "386")))
    }

    /// Says which of these images are for another processor.
    pub fn check_architecture(&self, images: &[Image]) -> Result<(), SeedError> {
        let Some(tree) = self.platform.clone() else { return Ok(()) };
        let wrong = images
            .iter()
            .filter(|image| !self.runs(&image.config.platform))
            .map(|image| format!("{} is for {}", image.entry.reference.familiar(), image.config.platform));
        let images: Vec<String> = wrong.collect();
        if images.is_empty() { Ok(()) } else { Err(SeedError::Architecture { tree, images }) }
    }

    /// Checks that the storage can be written now and carries the storage driver. Changes nothing.
    pub fn check_storage(&self) -> Result<(), SeedError> {
        if !rustix::process::geteuid().is_root() {
            return Err(SeedError::NotRoot);
        }
        let containerds = Some(&self.containerd_root).filter(|_| self.store == StoreKind::Containerd);
        for directory in [&self.data_root].into_iter().chain(containerds) {
            let nearest = nearest(directory);
            let read_only = |source| SeedError::ReadOnly { directory: directory.clone(), source };
            let status = rustix::fs::statvfs(nearest).map_err(|errno| read_only(errno.into()))?;
            if status.f_flag.contains(StatVfsMountFlags::RDONLY) {
                return Err(read_only(io::ErrorKind::ReadOnlyFilesystem.into()));
            }
            rustix::fs::access(nearest, Access::WRITE_OK).map_err(|errno| read_only(errno.into()))?;
        }
        let driver = self.storage_driver.clone();
        if driver.starts_with("overlay")
            && let Some(file_system) = without_overlay(nearest(self.image_root()))
        {
            let directory = self.image_root().to_owned();
            return Err(SeedError::FileSystem { directory, file_system, driver });
        }
        stopped::check_idle(self)
    }
}

/// What is known when the image store is to be told.
struct Known<'a> {
    place: &'a Path,
    data_root: &'a Path,
    containerd_root: &'a Path,
    snapshotter: Option<bool>,
    driver: Option<&'a str>,
    version: Option<&'a str>,
    /// A data root without a system around it.
    is_alone: bool,
}

impl Known<'_> {
    /// As Docker chooses: what is set, else what the data root was used with before, else what its version begins with.
    fn store(&self, wish: Option<StoreKind>) -> Result<(StoreKind, String), SeedError> {
        let by_driver = self.driver.map(|driver| {
            let is_graph = GRAPH_DRIVERS.contains(&driver);
            let kind = if is_graph { StoreKind::Graph } else { StoreKind::Containerd };
            (kind, format!("its storage driver is set to {driver}"))
        });
        let is_set = match self.snapshotter {
            Some(true) => Some((StoreKind::Containerd, "containerd-snapshotter is set to true".to_owned())),
            Some(false) => Some((StoreKind::Graph, "containerd-snapshotter is set to false".to_owned())),
            None => by_driver,
        };
        let prior = stopped::prior_driver(self.data_root);
        let has_content = stopped::has_content(self.containerd_root);
        let major = self.version.and_then(dpkg::major);
        let by_version = match (major, &prior) {
            (Some(CONTAINERD_BY_DEFAULT..), Some(driver)) => {
                Some((StoreKind::Graph, format!("its data root was used with {driver} before")))
            }
            (Some(major @ CONTAINERD_BY_DEFAULT..), None) => {
                Some((StoreKind::Containerd, format!("Docker {major} begins with it")))
            }
            (Some(major), _) => Some((StoreKind::Graph, format!("Docker {major} begins with it"))),
            (None, _) => None,
        };
        let content = match (&prior, has_content) {
            (Some(driver), false) => {
                Some((StoreKind::Graph, format!("its data root was used with {driver} before")))
            }
            (None, true) => Some((StoreKind::Containerd, "containerd's root has content".to_owned())),
            _ => None,
        };
        // Of a data root alone the version is that of this machine's Docker: what lies there says more.
        let device = if self.is_alone { content.or(by_version) } else { is_set.or(by_version).or(content) };
        let (store, because) = match (wish, device) {
            (None, None) => return Err(SeedError::UnknownStore { place: self.place.to_owned() }),
            (None, Some(device)) => device,
            (Some(wish), None) => (wish, "--store says so".to_owned()),
            (Some(wish), Some((device, because))) if wish == device => (device, because),
            (Some(wish), Some((device, because))) => {
                let todo = match wish {
                    StoreKind::Graph | StoreKind::Podman => {
                        r#"set {"features":{"containerd-snapshotter":false}} in its daemon.json"#
                    }
                    StoreKind::Containerd => {
                        r#"set {"features":{"containerd-snapshotter":true}} in its daemon.json (Docker 24 and later)"#
                    }
                };
                return Err(self.mismatch(device, because, format!("--store asks for {wish}"), todo));
            }
        };
        let images = prior.as_deref().is_some_and(|driver| stopped::has_images(self.data_root, driver));
        if store == StoreKind::Containerd && images {
            let other = format!("{} has images of a graph driver", self.data_root.display());
            let todo = "its engine would not see them any more; set containerd-snapshotter to false in its daemon.json, or \
                        remove that directory";
            return Err(self.mismatch(store, because, other, todo));
        }
        let is_own = self.containerd_root.starts_with(self.data_root);
        if store == StoreKind::Graph && has_content && !images && is_own {
            let other = format!("{} has images of containerd's", self.containerd_root.display());
            let todo = "its engine would not see them any more; set containerd-snapshotter to true in its daemon.json, or \
                        remove that directory";
            return Err(self.mismatch(store, because, other, todo));
        }
        Ok((store, because))
    }

    fn mismatch(&self, device: StoreKind, because: String, other: String, todo: &str) -> SeedError {
        SeedError::Mismatch { place: self.place.to_owned(), device, because, other, todo: todo.to_owned() }
    }

    /// The storage driver that Docker takes: what is set, else the one of before, else its first choice.
    fn driver(&self, store: StoreKind) -> String {
        let prior = || stopped::prior_driver(self.data_root);
        let driver = match store {
            StoreKind::Graph => {
                self.driver.filter(|name| GRAPH_DRIVERS.contains(name)).map(str::to_owned).or_else(prior)
            }
            StoreKind::Containerd | StoreKind::Podman => {
                self.driver.filter(|name| !GRAPH_DRIVERS.contains(name)).map(str::to_owned)
            }
        };
        driver.unwrap_or_else(|| match store {
            StoreKind::Graph => "overlay2".to_owned(),
            StoreKind::Containerd => "overlayfs".to_owned(),
            StoreKind::Podman => PODMANS_DRIVER.to_owned(),
        })
    }
}

/// The nearest directory above that exists.
pub(super) fn nearest(directory: &Path) -> &Path {
    directory.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"))
}

/// A data root may be new, but not in the middle of nowhere.
fn existing(directory: &Path) -> Result<PathBuf, SeedError> {
    let nowhere = || SeedError::NoDirectory { directory: directory.to_owned() };
    match fs::canonicalize(directory) {
        Ok(path) if path.is_dir() => return Ok(path),
        Ok(_) => return Err(nowhere()),
        Err(_) => {}
    }
    let (parent, name) = (directory.parent(), directory.file_name());
    let parent = parent.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match (parent.map(fs::canonicalize), name) {
        (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
        _ => Err(nowhere()),
    }
}

/// File systems that cannot be the upper layer of an overlay, by their numbers in statfs(2); those that moby's overlay2
/// driver refuses.
fn without_overlay(directory: &Path) -> Option<&'static str> {
    let status = rustix::fs::statfs(directory).ok()?;
    let magic = u64::try_from(status.f_type).ok()? & 0xffff_ffff;
    [
        (0x794c_7630, "an overlay (as in a container or a live system)"),
        (0x6969, "NFS"),
        (0xf15f, "eCryptfs"),
        (0x6175_6673, "AUFS"),
        (0x2fc1_2fc1, "ZFS"),
        (0x4d44, "FAT"),
        (0x2011_bab0, "exFAT"),
        (0x7371_7368, "squashfs"),
    ]
    .into_iter()
    .find_map(|(number, name)| (number == magic).then_some(name))
}
