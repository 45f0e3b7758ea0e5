//! Newer programs than Debian 12's, unpacked from the packages of Debian forky into a directory of the tests' own.
//!
//! Docker 28's programs run on Debian 12's libraries. skopeo 1.22 wants a newer C library, so it is unpacked with all
//! that it depends on, and started by the dynamic loader from there. Nothing is installed: no package database, no
//! maintainer script and no file outside the directory is touched.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::apt::{Packages, mirror};
use super::recipe::once;

/// Packages whose programs run on Debian 12's libraries.
const PLAIN: [&str; 4] = ["docker.io", "docker-cli", "docker-compose", "containerd"];
/// Packages that come with everything that they depend on.
const WHOLE: [&str; 1] = ["skopeo"];
/// Raised when the way of unpacking changes.
const RECIPE: u32 = 1;

/// The unpacked packages.
#[derive(Debug, Clone)]
pub struct Forky {
    directory: PathBuf,
    loader: PathBuf,
}

impl Forky {
    /// Finds the packages in the tests' cache (`PALLETJACK_TEST_CACHE`, else `palletjack-tests` in the user's cache
    /// directory), or fetches them there with the machine's own apt: 90 MB, some seconds, once.
    pub fn install() -> io::Result<Self> {
        let mirror = mirror();
        let recipe = format!("{RECIPE} {mirror} {PLAIN:?} {WHOLE:?} {}", env::consts::ARCH);
        let directory = once("forky", &recipe, |work| {
            unpack(work, &mirror).map_err(|error| {
                io::Error::other(format!("cannot unpack {PLAIN:?} and {WHOLE:?} of Debian forky: {error}"))
            })
        })?;
        let loader = find_loader(&directory)?;
        Ok(Self { directory, loader })
    }

    /// The directory with everything.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// One of Docker's programs: `dockerd`, `containerd`, `docker`, …
    pub fn program(&self, name: &str) -> PathBuf {
        let system = self.directory.join("docker/usr/sbin").join(name);
        if system.is_file() {
            return system;
        }
        self.directory.join("docker/usr/bin").join(name)
    }

    /// The Compose program, which works with any engine's `DOCKER_HOST`.
    pub fn compose(&self) -> PathBuf {
        self.directory.join("docker/usr/libexec/docker/cli-plugins/docker-compose")
    }

    /// Docker's program directories, as `PATH` wants them.
    pub(super) fn path(&self) -> String {
        let docker = self.directory.join("docker");
        format!("{0}/usr/bin:{0}/usr/sbin", docker.display())
    }

    /// Program and arguments that run skopeo.
    pub(super) fn skopeo(&self) -> Vec<PathBuf> {
        let libraries = self.loader.parent().map_or_else(PathBuf::new, Path::to_owned);
        vec![
            self.loader.clone(),
            "--library-path".into(),
            libraries,
            self.directory.join("whole/usr/bin/skopeo"),
        ]
    }
}

fn unpack(work: &Path, mirror: &str) -> io::Result<()> {
    let packages = Packages::of_forky(work, mirror, &[])?;
    packages.unpack(&PLAIN, &work.join("root/docker"))?;
    packages.unpack_whole(&WHOLE, &work.join("root/whole"))
}

/// `usr/lib/<triplet>/ld-linux-….so.N`, beside the libraries.
fn find_loader(directory: &Path) -> io::Result<PathBuf> {
    let libraries = directory.join("whole/usr/lib");
    for triplet in fs::read_dir(&libraries)? {
        let triplet = triplet?.path();
        let Ok(files) = fs::read_dir(&triplet) else {
            continue;
        };
        for file in files {
            let name = file?.file_name();
            if name.to_string_lossy().starts_with("ld-linux") {
                return Ok(triplet.join(name));
            }
        }
    }
    Err(io::Error::other(format!("no dynamic loader below {}", libraries.display())))
}
