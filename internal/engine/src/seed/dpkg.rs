//! Which Docker a tree has, as Debian's package manager wrote it down (dpkg(1), the `status` file).

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::tree::Tree;

const STATUS: &str = "/var/lib/dpkg/status";
/// That of a full desktop has some megabytes.
const LARGEST_STATUS: u64 = 64 << 20;
const DOCKER: [&str; 3] = ["docker.io", "docker-ce", "moby-engine"];
const CONTAINERD: [&str; 3] = ["containerd", "containerd.io", "moby-containerd"];

/// Upstream versions, without Debian's epoch: `20.10.24+dfsg1-1+b3`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) docker: Option<String>,
    pub(super) containerd: Option<String>,
}

impl Installed {
    pub(super) fn read(tree: &Tree) -> io::Result<Self> {
        match tree.file(Path::new(STATUS))? {
            Some(file) => Self::parse(BufReader::new(file.take(LARGEST_STATUS))),
            None => Ok(Self::default()),
        }
    }

    fn parse(text: impl BufRead) -> io::Result<Self> {
        let mut installed = Self::default();
        let (mut package, mut is_there) = (String::new(), false);
        for line in text.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if let Some(name) = line.strip_prefix("Package: ") {
                name.trim().clone_into(&mut package);
                is_there = false;
            } else if let Some(status) = line.strip_prefix("Status: ") {
                is_there = status.trim().ends_with(" installed");
            } else if let Some(version) = line.strip_prefix("Version: ").filter(|_| is_there) {
                let version = version.trim();
                let version = version.split_once(':').map_or(version, |(_epoch, rest)| rest).to_owned();
                if DOCKER.contains(&&*package) {
                    installed.docker = Some(version);
                } else if CONTAINERD.contains(&&*package) {
                    installed.containerd = Some(version);
                }
            }
        }
        Ok(installed)
    }
}

/// `29` of `29.0.1-1`.
pub(super) fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_what_is_installed() {
        let status = "Package: adduser\nStatus: install ok installed\nVersion: 3.134\n\n\
            Package: docker.io\nStatus: install ok installed\nArchitecture: arm64\nVersion: 20.10.24+dfsg1-1+b3\n\
            Description: x\n Version: 1\n\n\
            Package: containerd.io\nStatus: deinstall ok config-files\nVersion: 1.6.20\n\n\
            Package: containerd\nStatus: install ok installed\nVersion: 5:1.6.20~ds1-1\n";
        let installed = Installed::parse(status.as_bytes()).unwrap();
        assert_eq!(installed.docker.as_deref(), Some("20.10.24+dfsg1-1+b3"));
        assert_eq!(installed.containerd.as_deref(), Some("1.6.20~ds1-1"));
        assert_eq!(installed.docker.as_deref().and_then(major), Some(20));
        assert_eq!(Installed::parse(&b""[..]).unwrap(), Installed::default());
        assert_eq!(major("library-import"), None);
    }
}
