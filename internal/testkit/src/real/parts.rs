//! Which real parts are here, and what a test does when one is not.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cross::Cross;
use super::docker29::Docker29;
use super::forky::Forky;
use super::process::SYSTEM_PATH;
use crate::run::Ran;

/// Something that a test needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The user is root: mounts, daemons.
    Root,
    /// File systems in files: root, loop devices, `mkfs.ext4`.
    LoopMounts,
    /// What fills image files of whole systems: loop mounts, rsync, sfdisk.
    ImageFiles,
    /// Debian's `docker-registry`.
    DockerRegistry,
    /// Docker 20.10 of Debian 12, with the overlay2 graph driver.
    Docker20,
    /// Docker 28 of Debian forky, with either image store; installed on first use.
    Docker28,
    /// Docker 29 with either image store; built by Go on first use, which takes minutes.
    Docker29,
    /// Podman of Debian 12.
    Podman,
    /// skopeo of Debian 12 (1.9).
    Skopeo,
    /// skopeo 1.22 of Debian forky; installed on first use.
    Skopeo122,
    /// Systems that boot in a container: systemd-nspawn, and Debian trees, which are made on first use.
    Boots,
    /// Systems that boot in a virtual machine: QEMU's emulation of a PC, and what boots need.
    VirtualMachine,
    /// The program for other processors: a toolchain, which is made on first use, and QEMU's emulation of programs.
    Cross,
}

/// A part that is not here.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Which.
    pub part: Part,
    /// Why, and what to do about it.
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.part, self.reason)
    }
}

impl std::error::Error for Missing {}

/// Whether a part can be used now; installs those of Debian forky if need be.
pub fn require(part: Part) -> Result<(), Missing> {
    let missing = |reason: String| Missing { part, reason };
    let package = |program: &str, package: &str| {
        if find_program(program).is_some() {
            Ok(())
        } else {
            Err(missing(format!("no {program} here; on Debian 12: apt-get install {package}")))
        }
    };
    let root = || {
        if rustix::process::geteuid().is_root() {
            Ok(())
        } else {
            Err(missing("must be root; run the tests with sudo or in a container".to_owned()))
        }
    };
    let forky = || match Forky::install() {
        Ok(_) => Ok(()),
        Err(error) => Err(missing(error.to_string())),
    };
    // Tests expect what these very versions do: another distribution's are another part.
    let version = |program: &str, expected: &str, package: &str| {
        let text = Ran::run(Command::new(program).arg("--version")).and_then(Ran::ok);
        match text {
            Ok(text) if text.contains(expected) => Ok(()),
            Ok(text) => Err(missing(format!(
                "{program} is another one ({}); {package} of Debian 12 has {expected}",
                text.trim()
            ))),
            Err(error) => Err(missing(error.to_string())),
        }
    };
    match part {
        Part::Root => root(),
        Part::ImageFiles => {
            require(Part::LoopMounts)?;
            package("rsync", "rsync")?;
            package("sfdisk", "fdisk")
        }
        Part::LoopMounts => {
            root()?;
            package("mkfs.ext4", "e2fsprogs")?;
            if Path::new("/dev/loop-control").exists() {
                Ok(())
            } else {
                Err(missing("no loop devices here: /dev/loop-control does not exist".to_owned()))
            }
        }
        Part::DockerRegistry => package("docker-registry", "docker-registry"),
        Part::Docker20 => {
            root()?;
            package("dockerd", "docker.io")?;
            package("containerd", "containerd")?;
            version("/usr/sbin/dockerd", "version 20.10", "docker.io")
        }
        Part::Docker28 => {
            root()?;
            package("runc", "runc")?;
            forky()
        }
        Part::Docker29 => {
            root()?;
            Docker29::install().map(drop).map_err(|error| missing(error.to_string()))
        }
        Part::Podman => {
            root()?;
            package("podman", "podman")
        }
        Part::Skopeo => {
            package("skopeo", "skopeo")?;
            version("/usr/bin/skopeo", "version 1.9", "skopeo")
        }
        Part::Skopeo122 => forky(),
        Part::Boots => {
            root()?;
            package("systemd-nspawn", "systemd-container")?;
            package("debootstrap", "debootstrap")?;
            forky()
        }
        Part::VirtualMachine => {
            require(Part::Boots)?;
            package("mkfs.ext4", "e2fsprogs")?;
            package("qemu-system-x86_64", "qemu-system-x86 ipxe-qemu seabios")
        }
        Part::Cross => {
            root()?;
            package("unshare", "util-linux")?;
            package("qemu-aarch64-static", "qemu-user-static")?;
            Cross::install().map(drop).map_err(|error| missing(error.to_string()))
        }
    }
}

/// Whether a test that needs these parts can run. If not, it is either said loudly on standard error, or, where
/// `CI` or `PALLETJACK_REQUIRE_REAL` is set in the environment, the test fails.
///
/// # Panics
/// When a part is missing on a machine that is meant to have all.
#[track_caller]
pub fn ready(parts: &[Part]) -> bool {
    let missing: Vec<String> =
        parts.iter().filter_map(|&part| require(part).err()).map(|m| m.to_string()).collect();
    if missing.is_empty() {
        return true;
    }
    let reasons = missing.join("; ");
    assert!(!must_have_all(|name| env::var(name).ok()), "a real part is missing ({reasons})");
    let test = std::thread::current();
    let name = test.name().unwrap_or("a test");
    // Straight to the stream: the print macros are captured by the test harness, and a skipped test must be seen.
    let _ = writeln!(io::stderr(), "SKIPPED {name} (missing: {reasons})");
    false
}

/// Whether this environment belongs to a machine that is meant to have every part.
fn must_have_all(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["CI", "PALLETJACK_REQUIRE_REAL"]
        .into_iter()
        .filter_map(variable)
        .any(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Leaves the test when a part that it needs is missing; see [`ready`](crate::real::ready).
///
/// ```
/// use palletjack_testkit::{real::Part, require_real};
///
/// fn the_registry_has_what_was_pushed() {
///     require_real!(Part::DockerRegistry, Part::Skopeo);
///     // …
/// }
/// ```
#[macro_export]
macro_rules! require_real {
    ($($part:expr),+ $(,)?) => {
        if !$crate::real::ready(&[$($part),+]) {
            return;
        }
    };
}

/// A program of the system, looked for where Debian puts them.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    SYSTEM_PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let missing = Missing { part: Part::Skopeo, reason: "apt-get install skopeo".to_owned() };
        assert_eq!(missing.to_string(), "Skopeo: apt-get install skopeo");
        assert!(must_have_all(|name| (name == "CI").then(|| "true".to_owned())));
        assert!(must_have_all(|name| (name == "PALLETJACK_REQUIRE_REAL").then(|| "1".to_owned())));
        assert!(!must_have_all(|_| None));
        assert!(!must_have_all(|_| Some("0".to_owned())));
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-at-all").is_none());
    }
}
