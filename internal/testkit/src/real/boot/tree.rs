//! The trees: made once, copied for each test.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::super::apt::mirror;
use super::super::dockerd::Store;
use super::super::forky::Forky;
use super::super::mounts::unmount_below;
use super::super::recipe::once;
use crate::run::Ran;

/// What is installed besides Debian's minimal base.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,docker.io,iptables,kmod";
/// What a machine of its own needs besides.
const KERNEL: [&str; 2] = ["linux-image-cloud-amd64", "initramfs-tools"];
/// Raised when the way of making a tree changes.
const RECIPE: u32 = 1;
/// Not needed at a boot, and copied with each tree otherwise.
const BALLAST: [&str; 5] =
    ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt/archives", "var/lib/apt/lists"];
/// The service that a boot ends with.
const LAST: &str = "the-end.service";

/// Which Docker a system boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootEngine {
    /// 20.10 of Debian 12 with the overlay2 graph driver.
    Docker20,
    /// 28.5 of Debian forky over the same system.
    Docker28(Store),
}

/// A Debian 12 system in a directory, with Docker, its units, and Docker Compose. Removed when dropped.
#[derive(Debug)]
pub struct BootTree {
    root: PathBuf,
    engine: BootEngine,
    _directory: Option<TempDir>,
}

impl BootTree {
    /// A fresh copy of the tree. The first on a machine takes a minute and downloads 150 MB.
    pub fn new(engine: BootEngine) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("boot-").tempdir()?;
        let root = directory.path().join("tree");
        Self::make(&base()?, engine, root, Some(directory))
    }

    /// The same with a kernel, for a [`VirtualMachine`](super::VirtualMachine), whose journal is on the console too. The first
    /// takes another minute and downloads 50 MB more.
    pub fn for_machines(engine: BootEngine) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("boot-").tempdir()?;
        let root = directory.path().join("tree");
        let tree = Self::make(&with_kernel()?, engine, root, Some(directory))?;
        tree.write("etc/fstab", "/dev/vda / ext4 defaults 0 1\n")?;
        tree.write("etc/systemd/journald.conf.d/console.conf", "[Journal]\nForwardToConsole=yes\n")?;
        Ok(tree)
    }

    /// The same below a directory of the caller's, such as a disk whose power can be cut. It is not removed with this.
    pub fn below(directory: &Path, engine: BootEngine) -> io::Result<Self> {
        Self::make(&base()?, engine, directory.join("tree"), None)
    }

    fn make(base: &Path, engine: BootEngine, root: PathBuf, directory: Option<TempDir>) -> io::Result<Self> {
        copy(base, &root)?;
        let tree = Self { root, engine, _directory: directory };
        let forky = Forky::install()?;
        let mut daemon = serde_json::json!({ "bridge": "none", "iptables": false, "ip6tables": false });
        if let BootEngine::Docker28(store) = engine {
            copy_over(&forky.directory().join("docker"), &tree.root)?;
            tree.say_version("docker.io", &forky.program("dockerd"))?;
            tree.say_version("containerd", &forky.program("containerd"))?;
            daemon["features"] = serde_json::json!({ "containerd-snapshotter": store == Store::Containerd });
        } else {
            let plugin = tree.root.join("usr/libexec/docker/cli-plugins/docker-compose");
            fs::create_dir_all(plugin.parent().unwrap_or(&tree.root))?;
            fs::copy(forky.compose(), plugin)?;
        }
        tree.write("etc/docker/daemon.json", daemon.to_string())?;
        tree.write(format!("etc/systemd/system/{LAST}"), LAST_UNIT)?;
        tree.enable(LAST)?;
        Ok(tree)
    }

    /// Has the package manager's record say which version of a package is there, by what its program says.
    fn say_version(&self, package: &str, program: &Path) -> io::Result<()> {
        let said = Ran::run(Command::new(program).arg("--version"))?.ok()?;
        let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        let version = said.split_whitespace().find(is_version).unwrap_or_default().trim_end_matches(',');
        let path = self.root.join("var/lib/dpkg/status");
        let mut package_now = "";
        let text = fs::read_to_string(&path)?;
        let lines = text.lines().map(|line| {
            package_now = line.strip_prefix("Package: ").unwrap_or(package_now);
            if package_now == package && line.starts_with("Version: ") {
                format!("Version: {version}-1\n")
            } else {
                format!("{line}\n")
            }
        });
        fs::write(&path, lines.collect::<String>())
    }

    /// The system's root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Which Docker it boots.
    pub fn engine(&self) -> BootEngine {
        self.engine
    }

    /// Writes a file below the root, with its directories.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Copies a program into the tree.
    pub fn program(&self, from: &Path, to: impl AsRef<Path>) -> io::Result<()> {
        let path = self.write(to, "")?;
        fs::copy(from, &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    }

    /// Copies a directory into the tree, with owners, modes and links.
    pub fn copy_in(&self, from: &Path, to: impl AsRef<Path>) -> io::Result<()> {
        let to = self.root.join(to);
        fs::create_dir_all(&to)?;
        copy_over(from, &to)
    }

    /// Has a unit of the tree started at each boot.
    pub fn enable(&self, unit: &str) -> io::Result<()> {
        let mut command = Command::new("systemctl");
        command.arg("--root").arg(&self.root).args(["--quiet", "enable", unit]);
        Ran::run(&mut command)?.ok().map(drop)
    }
}

impl Drop for BootTree {
    fn drop(&mut self) {
        unmount_below(&self.root);
    }
}

/// Runs the script when all that the boot wants has been started or has failed.
const LAST_UNIT: &str = "\
[Unit]
Description=What a test wants to know at the end of the boot
After=multi-user.target docker.service

[Service]
Type=exec
WorkingDirectory=/the-end
StandardOutput=append:/the-end/output
StandardError=journal
ExecStart=/bin/sh -c '/bin/sh -x /the-end/script; echo exited $? >/the-end/status; sync; systemctl --no-block poweroff'

[Install]
WantedBy=multi-user.target
";

/// The tree that all others are copies of.
fn base() -> io::Result<PathBuf> {
    let mirror = mirror();
    once("boot", &recipe(&mirror), |work| debootstrap(&work.join("root"), &mirror))
}

fn recipe(mirror: &str) -> String {
    format!("{RECIPE} {mirror} {PACKAGES} {BALLAST:?}")
}

/// The same with a kernel and the first file system that it wants.
fn with_kernel() -> io::Result<PathBuf> {
    let base = base()?;
    once("vm", &format!("{} {KERNEL:?}", recipe(&mirror())), |work| {
        let root = work.join("root");
        copy(&base, &root)?;
        for path in ["var/cache/apt/archives/partial", "var/lib/apt/lists/partial"] {
            fs::create_dir_all(root.join(path))?;
        }
        // A mirror of a past day counts as expired.
        inside(&root, &["apt-get", "--quiet=2", "-o", "Acquire::Check-Valid-Until=false", "update"])?;
        let install = ["apt-get", "--quiet=2", "install", "--yes", "--no-install-recommends"];
        inside(&root, &[&install[..], &KERNEL].concat())?;
        without_ballast(&root)
    })
}

fn inside(root: &Path, words: &[&str]) -> io::Result<()> {
    let mut command = Command::new("chroot");
    command.arg(root).args(words).env("DEBIAN_FRONTEND", "noninteractive");
    Ran::run(&mut command)?.ok().map(drop)
}

fn debootstrap(root: &Path, mirror: &str) -> io::Result<()> {
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={PACKAGES}"), "bookworm"]).arg(root).arg(mirror);
    let made = Ran::run(&mut command).and_then(Ran::ok);
    unmount_below(root);
    made?;
    without_ballast(root)?;
    // Each copy is a machine of its own, and its journal outlives the boot.
    fs::write(root.join("etc/machine-id"), "")?;
    fs::create_dir_all(root.join("var/log/journal"))
}

fn without_ballast(root: &Path) -> io::Result<()> {
    for path in BALLAST {
        match fs::remove_dir_all(root.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut command = Command::new("cp");
    command.args(["--archive", "--reflink=auto"]).arg(from).arg(to);
    Ran::run(&mut command)?.ok().map(drop)
}

fn copy_over(from: &Path, to: &Path) -> io::Result<()> {
    copy(&from.join("."), to)
}
