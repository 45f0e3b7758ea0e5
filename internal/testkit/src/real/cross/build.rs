//! One build in the toolchain's root.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use super::{Cross, GLIBC, Target};
use crate::real::process::daemon_command;
use crate::run::Ran;

/// Mounts what a build needs into the root, which nobody else sees, and enters it. Arguments: root, checkout, registry
/// of cargo's, target folder, tools, Zig, then the command.
const ENTER: &str = r#"
root=$1
mount --bind "$2" "$root/src"
mount -o remount,bind,ro "$root/src"
mount --bind "$3" "$root/cargo/registry"
mount --bind "$4" "$root/target"
mount --bind "$5" "$root/tools"
mount --bind "$6" "$root/zig"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
shift 6
exec chroot "$root" "$@"
"#;

pub(super) fn build(cross: &Cross, checkout: &Path, target: Target, program: &Path) -> io::Result<()> {
    let checkout = checkout.canonicalize()?;
    let lock = File::create(cross.target.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    fetch(&checkout, target)?;
    forget_other(cross, &checkout)?;
    let glibc = format!("{}.{GLIBC}", target.triple());
    let zigbuild = [
        "cargo",
        "zigbuild",
        "--quiet",
        "--release",
        "--frozen",
        "--package",
        "palletjack",
        "--target",
        &glibc,
    ];
    Ran::run(&mut inside(cross, &checkout, &zigbuild)?)?.ok()?;
    let built = cross.target.join(target.triple()).join("release/palletjack");
    fs::copy(built, program).map(drop)
}

/// Fetches the crates with the machine's cargo, which has its proxies and certificates.
fn fetch(checkout: &Path, target: Target) -> io::Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["fetch", "--quiet", "--locked", "--target", target.triple()]).current_dir(checkout);
    Ran::run(&mut command)?.ok().map(drop)
}

/// Every checkout is mounted at the same place, so that the crates it depends on are compiled once for all and paths in the
/// program are the same. What cargo compiled of another checkout's own crates must not be taken for this one's, whose
/// files may be older.
fn forget_other(cross: &Cross, checkout: &Path) -> io::Result<()> {
    let stamp = cross.target.join("checkout");
    if fs::read(&stamp).is_ok_and(|last| last == checkout.as_os_str().as_encoded_bytes()) {
        return Ok(());
    }
    for target in Target::ALL {
        let clean = [
            "cargo",
            "clean",
            "--quiet",
            "--release",
            "--frozen",
            "--workspace",
            "--target",
            target.triple(),
        ];
        if cross.target.join(target.triple()).exists() {
            Ran::run(&mut inside(cross, checkout, &clean)?)?.ok()?;
        }
    }
    fs::write(&stamp, checkout.as_os_str().as_encoded_bytes())
}

/// A command in the root, in a mount namespace of its own, ended with the test.
fn inside(cross: &Cross, checkout: &Path, words: &[&str]) -> io::Result<Command> {
    let mut command = daemon_command("unshare");
    command
        .args(["--mount", "--", "/bin/sh", "-euc", ENTER, "sh"])
        .arg(&cross.root)
        .arg(checkout)
        .arg(cargo_home()?.join("registry"))
        .args([&cross.target, &cross.tools, &cross.zig])
        .args(["/usr/bin/env", "--ignore-environment", "--chdir=/src"])
        .args(["PATH=/tools/bin:/usr/bin", "HOME=/tmp", "CARGO_HOME=/cargo", "CARGO_TARGET_DIR=/target"])
        .args(["CARGO_ZIGBUILD_ZIG_PATH=/zig/ziglang/zig", "CARGO_ZIGBUILD_CACHE_DIR=/target/zigbuild"])
        .args(["ZIG_GLOBAL_CACHE_DIR=/target/zig-cache"])
        .args(["CARGO_PROFILE_RELEASE_STRIP=symbols"])
        // Nothing was configured in the root, so there is no `cc`.
        .arg(format!("CARGO_TARGET_{}_LINKER=gcc", native().to_uppercase().replace('-', "_")))
        .args(words);
    Ok(command)
}

/// The target of programs that run while building.
fn native() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

fn cargo_home() -> io::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("CARGO_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cargo")))
        .ok_or_else(|| io::Error::other("no HOME; set CARGO_HOME to cargo's directory"))
}
