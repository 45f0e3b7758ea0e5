//! Where an engine's data lies, and making it durable there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use palletjack_store::{EngineMark, Image, Place};

use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::endpoint::Endpoint;
use crate::error::EngineError;

use super::container::Unstarted;
use super::containerd;
use super::report::Durability;

/// The engine's data root as seen from here.
#[derive(Debug, Clone)]
pub(super) struct DataRoot {
    pub(super) mark: EngineMark,
    root: Option<PathBuf>,
    /// Where a containerd store's containerd listens, and the namespace of Docker's images in it.
    pub(super) containerd: Option<(String, String)>,
}

impl DataRoot {
    /// Finds out whether the engine's data is on this machine: its data root is there, and the engine says the name
    /// and kernel of this machine. A forwarded socket leads to another, and an engine in a container has its data out of
    /// sight.
    pub(super) async fn find(engine: &Engine) -> Result<Self, EngineError> {
        let info = engine
            .docker
            .info()
            .await
            .map_err(|error| EngineError::Ask { what: "its machine".to_owned(), source: error.into() })?;
        let is_here = matches!(engine.endpoint(), Endpoint::Unix(_))
            && kernel("hostname").is_some_and(|name| info.name == Some(name))
            && kernel("osrelease").is_some_and(|release| info.kernel_version == Some(release));
        let root = engine.capabilities().root_dir.clone().filter(|_| is_here);
        let place = root.as_deref().and_then(Place::of_root);
        let kind = engine.capabilities().kind.mark();
        let root = root.filter(|_| place.is_some());
        let containerd = info.containerd.and_then(|containerd| {
            let namespace = containerd.namespaces.and_then(|namespaces| namespaces.containers);
            Some((containerd.address?, namespace?))
        });
        let endpoint = || Place::Elsewhere { endpoint: engine.endpoint().to_string() };
        let mark = EngineMark { kind: kind.to_owned(), place: place.unwrap_or_else(endpoint) };
        Ok(Self { mark, root, containerd })
    }

    /// Makes what the engine has written durable, or says that nobody knows. `image` was loaded last.
    ///
    /// # Errors
    /// The file system's, when writing back failed: the image is not safe, and the medium is failing.
    pub(super) async fn settle(&self, engine: &Engine, image: &Image) -> io::Result<Durability> {
        let Some(root) = self.root.clone() else { return Ok(stand_in(engine, image).await) };
        let containerd = self.containerd_socket(engine.capabilities().kind);
        let synced = tokio::task::spawn_blocking(move || sync(&root, &containerd)).await;
        synced.map_err(io::Error::other)?.map(|()| Durability::Synced)
    }

    /// The same without an image to stand in with: nothing where the data is out of sight.
    pub(super) async fn sync_only(&self) -> io::Result<()> {
        let Some(root) = self.root.clone() else { return Ok(()) };
        // Seldom, and of whatever kind it is.
        tokio::task::spawn_blocking(move || sync(&root, &Elsewhere::Unknown))
            .await
            .map_err(io::Error::other)?
    }

    /// Whether the engine's data is on this machine.
    pub(super) fn is_here(&self) -> bool {
        self.root.is_some()
    }

    fn containerd_socket(&self, kind: EngineKind) -> Elsewhere {
        match (kind, &self.containerd) {
            (EngineKind::DockerContainerd, Some((address, _))) => Elsewhere::Containerd(address.into()),
            (EngineKind::DockerContainerd, None) => Elsewhere::Unknown,
            (EngineKind::DockerGraph | EngineKind::Podman, _) => Elsewhere::Nothing,
        }
    }
}

/// What of an engine's images lies elsewhere than in its data root.
#[derive(Debug)]
enum Elsewhere {
    Nothing,
    /// All that this containerd writes.
    Containerd(PathBuf),
    Unknown,
}

fn kernel(what: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(what)).ok()?;
    Some(text.trim_end().to_owned())
}

/// `syncfs` tells of failed writes, `sync` does not, so it is only the second choice.
fn sync(root: &Path, elsewhere: &Elsewhere) -> io::Result<()> {
    let opened = open_on_same_file_system(root);
    if let Some(directory) = &opened {
        rustix::fs::syncfs(directory)?;
    }
    let others = match elsewhere {
        Elsewhere::Nothing => Some(Vec::new()),
        Elsewhere::Containerd(socket) => containerd::places(socket),
        Elsewhere::Unknown => None,
    };
    match (opened, others) {
        (Some(_), Some(others)) => {
            for place in others {
                rustix::fs::syncfs(place)?;
            }
        }
        _ => rustix::fs::sync(),
    }
    Ok(())
}

/// A data root is mostly root's alone; but any directory of its file system will do, and those above it are open.
fn open_on_same_file_system(root: &Path) -> Option<File> {
    let device = fs::metadata(root).ok()?.dev();
    root.ancestors()
        .take_while(|directory| fs::metadata(directory).is_ok_and(|metadata| metadata.dev() == device))
        .find_map(|directory| File::open(directory).ok())
}

/// Docker up to version 28 mounts a container's root when it is created and unmounts it when it is removed, by which
/// overlayfs syncs the file system below. Measured for 20.10 and 28; not known of others.
async fn stand_in(engine: &Engine, image: &Image) -> Durability {
    let capabilities = engine.capabilities();
    let known = capabilities.kind != EngineKind::Podman
        && capabilities
            .version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .is_some_and(|major: u32| major <= 28);
    if !known {
        let why =
            "the engine's data is not on this machine, and it is not known how to make this engine sync it"
                .to_owned();
        return Durability::Unproven { why };
    }
    let removed = match Unstarted::create(engine, image).await {
        Ok(container) => container.remove().await.map_err(|error| crate::connect::innermost(&error)),
        Err(error) => Err(error.to_string()),
    };
    match removed {
        Ok(()) => Durability::Unmounted,
        Err(error) => Durability::Unproven {
            why: format!(
                "the engine's data is not on this machine, and no container of it could be made ({error})"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_same_file_system_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        fs::create_dir_all(&root).unwrap();
        let device = fs::metadata(&root).unwrap().dev();
        assert_eq!(open_on_same_file_system(&root).unwrap().metadata().unwrap().dev(), device);
        assert!(open_on_same_file_system(&root.join("absent")).is_none());
        sync(&root, &Elsewhere::Nothing).unwrap();
        sync(&root.join("absent"), &Elsewhere::Nothing).unwrap();
        sync(&root, &Elsewhere::Containerd("/nowhere".into())).unwrap();
    }
}
