//! What a run of loads takes of the engine's disk, before it starts.

use std::path::{Path, PathBuf};

use crate::capabilities::{Capabilities, EngineKind};
use crate::endpoint::Endpoint;
use crate::spool::Spool;

/// How many times larger layers are unpacked than packed. Nothing short of unpacking them tells; 13 images of real
/// pallets (1057 MB of gzip layers) came to 2.95.
pub(crate) const UNPACKED: u64 = 3;

/// What the engine's disk has, and what it would have to hold. All in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// A directory on the disk in question: the one with the images, or the one in which a Podman spools archives.
    pub directory: PathBuf,
    /// What is free there for the system's administrator, which is what a Docker runs as.
    pub free: u64,
    /// What is needed for certain: a graph driver spools each archive while it reads it, a containerd store keeps all
    /// packed layers.
    pub certain: u64,
    /// What is needed at the peak, layers unpacked: an estimate (three times their packed size).
    pub estimated: u64,
}

impl Forecast {
    /// Whether the run cannot succeed.
    pub fn is_short(&self) -> bool {
        self.certain > self.free
    }

    /// Whether the run may fail midway, by the estimate.
    pub fn may_be_short(&self) -> bool {
        self.estimated > self.free
    }
}

/// One image that is sent: bytes of its archive, and of the layers in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) archive: u64,
    pub(crate) layers: u64,
}

/// What all of them need. `parallel` is taken down to what fits, because archives that wait are not spooled. Where they
/// are spooled on another disk (`spool`), the forecast is that of the disk which is short, if one is.
pub(crate) fn forecast(
    kind: EngineKind,
    loads: &[Load],
    parallel: &mut usize,
    directory: &Path,
    free: u64,
    spool: Option<&Spool>,
) -> Forecast {
    let layers = loads.iter().fold(0_u64, |sum, load| sum.saturating_add(load.layers));
    let unpacked = layers.saturating_mul(UNPACKED);
    let mut archives: Vec<u64> = loads.iter().map(|load| load.archive).collect();
    archives.sort_unstable_by(|a, b| b.cmp(a));
    let spooled = |count| archives.iter().take(count).fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    let spool_free = match (kind, spool) {
        (EngineKind::DockerGraph, _) => Some(free),
        (EngineKind::DockerContainerd, _) | (EngineKind::Podman, None) => None,
        (EngineKind::Podman, Some(spool)) => Some(spool.free),
    };
    if let Some(spool_free) = spool_free {
        while *parallel > 1 && spooled(*parallel) > spool_free {
            *parallel -= 1;
        }
    }
    let (certain, spare) = match kind {
        EngineKind::DockerGraph => (spooled(*parallel), spooled(*parallel)),
        EngineKind::DockerContainerd => (layers, layers),
        // Where it spools is its own affair, so what is known of that warns and never refuses.
        EngineKind::Podman => match spool {
            Some(spool) if spool.is_apart => {
                let needed = spooled(*parallel);
                let elsewhere = Forecast {
                    directory: spool.directory.clone(),
                    free: spool.free,
                    certain: 0,
                    estimated: needed,
                };
                if elsewhere.may_be_short() && unpacked <= free {
                    return elsewhere;
                }
                (0, 0)
            }
            Some(_) => (0, spooled(*parallel)),
            None => (0, 0),
        },
    };
    let estimated = spare.saturating_add(unpacked);
    Forecast { directory: directory.to_owned(), free, certain, estimated }
}

/// Where the engine's images lie and what is free there; `None` where that is on another machine, or not to be seen
/// from here (in a container, another user's).
pub(crate) fn local_disk(endpoint: &Endpoint, capabilities: &Capabilities) -> Option<(PathBuf, u64)> {
    if !matches!(endpoint, Endpoint::Unix(_)) {
        return None;
    }
    let directory = capabilities.store_dir.as_ref()?;
    let disk = rustix::fs::statvfs(directory).ok()?;
    Some((directory.clone(), disk.f_bfree.saturating_mul(disk.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_need_what_they_need() {
        use EngineKind::{DockerContainerd, DockerGraph, Podman};
        let loads = [(10, 8), (40, 38), (30, 28)].map(|(archive, layers)| Load { archive, layers });
        // Kind, in flight, free; in flight then, certain, estimated.
        for (kind, parallel, free, fits, certain, estimated) in [
            (DockerGraph, 1, 1000, 1, 40, 40 + 222),
            (DockerGraph, 2, 1000, 2, 70, 70 + 222),
            (DockerGraph, 9, 1000, 9, 80, 80 + 222),
            (DockerGraph, 3, 75, 2, 70, 70 + 222),
            (DockerGraph, 3, 50, 1, 40, 40 + 222),
            (DockerGraph, 3, 5, 1, 40, 40 + 222),
            (DockerContainerd, 2, 5, 2, 74, 74 + 222),
            (Podman, 2, 5, 2, 0, 222),
        ] {
            let mut in_flight = parallel;
            let seen = forecast(kind, &loads, &mut in_flight, Path::new("/d"), free, None);
            assert_eq!((in_flight, seen.certain, seen.estimated), (fits, certain, estimated), "{kind:?}");
            assert_eq!((seen.is_short(), seen.may_be_short()), (certain > free, estimated > free));
        }
        let huge = [Load { archive: u64::MAX, layers: u64::MAX }; 2];
        let seen = forecast(DockerGraph, &huge, &mut 2, Path::new("/d"), u64::MAX, None);
        assert_eq!((seen.certain, seen.estimated), (u64::MAX, u64::MAX));
    }
    #[test]
    fn podman_spools_on_the_same_disk_or_on_another() {
        let loads = [(10, 8), (40, 38), (30, 28)].map(|(archive, layers)| Load { archive, layers });
        let (here, there) = (Path::new("/d"), Path::new("/var/tmp"));
        // Free here, free where it spools, whether that is another disk; in flight, directory, estimated.
        for (free, spool_free, is_apart, fits, directory, estimated) in [
            (1000, 1000, false, 2, here, 70 + 222),
            (50, 50, false, 1, here, 40 + 222),
            (1000, 1000, true, 2, here, 222),
            (1000, 60, true, 1, here, 222),
            (1000, 30, true, 1, there, 40),
            // Both are short: the larger one is told.
            (5, 30, true, 1, here, 222),
        ] {
            let mut in_flight = 2;
            let spool = Spool { directory: there.to_owned(), free: spool_free, is_apart };
            let seen = forecast(EngineKind::Podman, &loads, &mut in_flight, here, free, Some(&spool));
            assert_eq!((in_flight, &*seen.directory, seen.estimated), (fits, directory, estimated));
            assert!(!seen.is_short(), "where it spools is a guess");
        }
    }
}
