//! All tests, with the real parts that they drive.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use palletjack_testkit::real::{Part, require};

use crate::cargo::cargo;

#[derive(Args)]
pub(crate) struct Options {
    /// Install nothing
    #[arg(long)]
    no_install: bool,
    /// Passed on to `cargo test`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Debian packages, by the program that tells whether they are there.
const PACKAGES: [(&str, &str); 15] = [
    ("/usr/sbin/dockerd", "docker.io"),
    ("/usr/bin/docker-registry", "docker-registry"),
    ("/usr/bin/skopeo", "skopeo"),
    ("/usr/bin/podman", "podman"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/bin/git", "git"),
    ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/sbin/mkfs.xfs", "xfsprogs"),
    ("/usr/sbin/sfdisk", "fdisk"),
    ("/usr/bin/rsync", "rsync"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/bin/systemd-nspawn", "systemd-container"),
    ("/usr/sbin/debootstrap", "debootstrap"),
    ("/usr/bin/qemu-aarch64-static", "qemu-user-static"),
    ("/usr/bin/pip3", "python3-pip"),
];

const PARTS: [Part; 11] = [
    Part::Root,
    Part::LoopMounts,
    Part::ImageFiles,
    Part::DockerRegistry,
    Part::Docker20,
    Part::Docker28,
    Part::Podman,
    Part::Skopeo,
    Part::Skopeo122,
    Part::Boots,
    Part::Cross,
];

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.no_install || !install(&PACKAGES)? {
        println!("Nothing is installed: that is done as root on Debian only.");
    }
    for part in PARTS {
        match require(part) {
            Ok(()) => println!("  {part:?}: here"),
            Err(missing) => {
                println!("  {part:?}: MISSING, tests that need it are skipped: {}", missing.reason);
            }
        }
    }
    let status = cargo()
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .args(&options.rest)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "tests failed");
    Ok(())
}

/// Installs the packages whose programs are not there, as root on Debian; elsewhere it returns false.
pub(crate) fn install(packages: &[(&str, &'static str)]) -> Result<bool> {
    if !rustix::process::geteuid().is_root() || !Path::new("/etc/debian_version").exists() {
        return Ok(false);
    }
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(true);
    }
    println!("Installing {}", missing.join(", "));
    let _policy = NoServices::start()?;
    apt(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)?;
    Ok(true)
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .arg("--quiet=2")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("cannot run apt-get")?;
    ensure!(status.success(), "apt-get {} failed", arguments.join(" "));
    Ok(())
}

/// Keeps the packages from starting a Docker and a registry of the machine's: the tests start their own
/// (Debian's `invoke-rc.d` asks this file).
struct NoServices(bool);

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn start() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self(false));
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self(true))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.0 {
            let _ = fs::remove_file(POLICY);
        }
    }
}
