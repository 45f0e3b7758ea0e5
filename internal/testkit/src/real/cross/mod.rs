//! Building the program for other processors, with an old C library asked for, and running it here.
//!
//! ```text
//!   Debian forky's rustc and the standard libraries of every target  ┐
//!   Zig (PyPI), which links against any version of glibc             ├─► a root directory, entered by chroot in a
//!   cargo-zigbuild                                                   ┘   mount namespace ─► program ─► qemu-user
//! ```
//!
//! Toolchain and target folder lie in the tests' cache, so that after the first time only the checkout's own crates are
//! compiled.

mod build;
mod tools;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{Packages, mirror};
use super::parts::find_program;
use super::recipe::once;
use crate::run::Ran;
pub use tools::cargo_tool;

/// The newest glibc that programs may ask for: Debian 11's, which every Raspberry Pi OS since 2021 has.
pub const GLIBC: &str = "2.31";
/// What the root directory holds, with all that it depends on.
const PACKAGES: [&str; 7] = ["rustc", "cargo", "gcc", "libc6-dev", "base-files", "dash", "coreutils"];
/// What a program for another processor needs at run time.
const LIBRARIES: [&str; 2] = ["libc6", "libgcc-s1"];
/// Raised when the way of making the root changes.
const RECIPE: u32 = 2;
/// Where the root has what is mounted into it.
const MOUNT_POINTS: [&str; 5] = ["src", "cargo/registry", "target", "tools", "zig"];

/// A processor that the program is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// PCs and servers.
    X86_64,
    /// The Raspberry Pi since the third, and most boards with 64 bits.
    Aarch64,
    /// The Raspberry Pi since the second with a system of 32 bits.
    Armv7,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Armv7];

    /// Rust's name.
    pub fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// QEMU's and the kernel's name.
    pub fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "arm",
        }
    }

    fn is_native(self) -> bool {
        self.machine() == env::consts::ARCH
    }
}

/// The toolchain.
#[derive(Debug, Clone)]
pub struct Cross {
    root: PathBuf,
    zig: PathBuf,
    tools: PathBuf,
    target: PathBuf,
}

impl Cross {
    /// Finds the toolchain in the tests' cache, or makes it there: 400 MB and some minutes, once.
    pub fn install() -> io::Result<Self> {
        let mirror = mirror();
        let recipe = format!("{RECIPE} {mirror} {PACKAGES:?} {LIBRARIES:?} {MOUNT_POINTS:?}");
        let recipe = format!("{recipe} {} {}", env::consts::ARCH, tools::VERSIONS);
        let root = once("cross", &recipe, |work| unpack(work, &mirror))?;
        let target = once("cross-target", &recipe, |work| fs::create_dir(work.join("root")))?;
        Ok(Self { root, zig: tools::zig()?, tools: tools::cargo_zigbuild()?, target })
    }

    /// Builds the package `palletjack` of a checkout as it is released, stripped, and writes the program to a file.
    ///
    /// The machine's cargo fetches the crates; the build itself has no network. Two builds of one checkout give the same
    /// bytes, wherever it lies.
    pub fn build(&self, checkout: &Path, target: Target, program: &Path) -> io::Result<()> {
        build::build(self, checkout, target, program)
    }

    /// The names and versions that a program wants of its libraries, such as `GLIBC_2.17`, sorted (`readelf`).
    pub fn needs(&self, program: &Path) -> io::Result<Vec<String>> {
        let text = self.readelf("--version-info", program)?;
        let mut names: Vec<String> = text
            .lines()
            .filter_map(|line| line.split("Name: ").nth(1)?.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The libraries that a program wants, such as `libc.so.6`.
    pub fn libraries(&self, program: &Path) -> io::Result<Vec<String>> {
        let text = self.readelf("--dynamic", program)?;
        let shared = text.lines().filter(|line| line.contains("(NEEDED)"));
        Ok(shared.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect())
    }

    fn readelf(&self, question: &str, program: &Path) -> io::Result<String> {
        // Started by its own loader, for it wants forky's libraries and the program is outside the root.
        let libraries = self.root.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH));
        let loader = fs::read_dir(&libraries)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")));
        let loader = loader
            .ok_or_else(|| io::Error::other(format!("no dynamic loader in {}", libraries.display())))?;
        let mut command = Command::new(loader);
        command
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.root.join("usr/bin/readelf"))
            .args(["--wide", question])
            .arg(program);
        Ran::run(&mut command)?.ok()
    }

    /// The words that run a program of this target on this machine.
    pub fn emulated(&self, target: Target, program: &Path) -> io::Result<Vec<PathBuf>> {
        if target.is_native() {
            return Ok(vec![program.to_owned()]);
        }
        let name = format!("qemu-{}-static", target.machine());
        let qemu = find_program(&name).ok_or_else(|| {
            io::Error::other(format!("no {name} here; on Debian: apt-get install qemu-user-static"))
        })?;
        Ok(vec![qemu, "-L".into(), self.libraries_of(target), program.to_owned()])
    }

    /// Where the libraries of another processor are, in a tree that has nothing else: QEMU looks there for every absolute
    /// path first.
    fn libraries_of(&self, target: Target) -> PathBuf {
        self.root.join("libraries").join(target.debian())
    }
}

/// The root: forky's toolchain, foreign standard libraries over it, foreign C libraries beside it.
fn unpack(work: &Path, mirror: &str) -> io::Result<()> {
    let foreign: Vec<Target> = Target::ALL.into_iter().filter(|target| !target.is_native()).collect();
    let architectures: Vec<&str> = foreign.iter().map(|target| target.debian()).collect();
    let packages = Packages::of_forky(work, mirror, &architectures)?;
    let root = work.join("root");
    packages.unpack_whole(&PACKAGES, &root)?;
    for architecture in architectures {
        let foreign = |name: &str| format!("{name}:{architecture}");
        packages.unpack(&[&foreign("libstd-rust-dev")], &root)?;
        let libraries = LIBRARIES.map(foreign);
        packages
            .unpack(&libraries.each_ref().map(String::as_str), &root.join("libraries").join(architecture))?;
    }
    MOUNT_POINTS.iter().try_for_each(|point| fs::create_dir_all(root.join(point)))
}
