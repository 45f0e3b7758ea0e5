//! Newer programs than Debian 12's, unpacked from the packages of Debian forky into a directory of the tests' own.
//!
//! Docker 28's programs run on Debian 12's libraries. skopeo 1.22 wants a newer C library, so it is unpacked with all
//! that it depends on, and started by the dynamic loader from there. Nothing is installed: no package database, no
//! maintainer script and no file outside the directory is touched.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::recipe::once;
use crate::run::Ran;

/// Packages whose programs run on Debian 12's libraries.
const PLAIN: [&str; 4] = ["docker.io", "docker-cli", "docker-compose", "containerd"];
/// Packages that come with everything that they depend on.
const WHOLE: [&str; 1] = ["skopeo"];
/// Raised when the way of unpacking changes.
const RECIPE: u32 = 1;
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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

/// The Debian mirror that the machine's own apt uses.
pub(super) fn mirror() -> String {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    if let Ok(directory) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut paths: Vec<PathBuf> = directory.flatten().map(|e| e.path()).collect();
        paths.sort();
        texts.extend(paths.iter().map(|p| fs::read_to_string(p).unwrap_or_default()));
    }
    texts.iter().find_map(|text| mirror_in(text)).unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// The first URI of a Debian archive in a sources file of either format.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(|word| word.trim_end_matches('/').to_owned())
}

fn unpack(work: &Path, mirror: &str) -> io::Result<()> {
    if !Path::new(KEYRING).exists() {
        return Err(io::Error::other(format!(
            "{KEYRING} is not there; this needs Debian with its package debian-archive-keyring"
        )));
    }
    for directory in ["lists/partial", "plain", "archives/partial"] {
        fs::create_dir_all(work.join(directory))?;
    }
    fs::write(work.join("sources.list"), format!("deb [signed-by={KEYRING}] {mirror} forky main\n"))?;
    // Nothing counts as installed, so that dependencies come along.
    fs::write(work.join("status"), "")?;
    fs::write(work.join("apt.conf"), apt_conf(work))?;
    let apt = |args: &[&str], directory: &Path| -> io::Result<()> {
        let mut command = Command::new("apt-get");
        command.arg("-c").arg(work.join("apt.conf")).args(args).current_dir(directory);
        Ran::run(&mut command)?.ok().map(drop)
    };
    apt(&["-q", "update"], work)?;
    let mut download = vec!["-q", "download"];
    download.extend(PLAIN);
    apt(&download, &work.join("plain"))?;
    let mut whole = vec!["-q", "-y", "--no-install-recommends", "--download-only", "install"];
    whole.extend(WHOLE);
    apt(&whole, work)?;
    unpack_all(&work.join("plain"), &work.join("root/docker"))?;
    unpack_all(&work.join("archives"), &work.join("root/whole"))
}

/// Settings on top of the machine's own (its proxies are needed): every directory is ours, and no hook runs.
fn apt_conf(work: &Path) -> String {
    let work = work.display();
    format!(
        r#"Dir::Etc::SourceList "{work}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "{work}/lists";
Dir::State::status "{work}/status";
Dir::Cache::archives "{work}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
"#
    )
}

fn unpack_all(packages: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let mut found = false;
    for entry in fs::read_dir(packages)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            found = true;
            let mut command = Command::new("dpkg-deb");
            command.arg("-x").arg(&path).arg(into);
            Ran::run(&mut command)?.ok()?;
        }
    }
    if found { Ok(()) } else { Err(io::Error::other("apt-get downloaded no package")) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_comes_from_either_format_of_sources() {
        let deb822 = "Types: deb\n# http://snapshot.debian.org/archive/debian/2025\n\
            URIs: http://mirror.example/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
        let one_line = "deb https://packages.example/nodistro x main\n\
            deb [arch=amd64] http://deb.debian.org/debian/ bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("http://deb.debian.org/debian"));
        assert_eq!(mirror_in("URIs: http://x/debian-security\n"), None);
    }
}
