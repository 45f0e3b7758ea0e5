//! What Debian does not have: Zig and cargo-zigbuild, at fixed versions.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::once;
use crate::run::Ran;

const ZIG: &str = "0.17.1";
const CARGO_ZIGBUILD: &str = "0.24.1";
/// Both, for the recipe of what is built with them.
pub(super) const VERSIONS: &str = "zig 0.17.1, cargo-zigbuild 0.24.1";

/// The directory with the program `ziglang/zig`, as PyPI has it.
pub(super) fn zig() -> io::Result<PathBuf> {
    once("zig", &format!("{ZIG} {}", env::consts::ARCH), |work| {
        let mut pip = Command::new("pip3");
        pip.args(["install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:", "--target"])
            .arg(work.join("root"))
            .arg(format!("ziglang=={ZIG}"));
        let ran = Ran::run(&mut pip).map_err(|error| {
            io::Error::new(error.kind(), format!("{error}; on Debian: apt-get install python3-pip"))
        })?;
        ran.ok().map(drop)
    })
}

/// The directory with the program `bin/cargo-zigbuild`.
pub(super) fn cargo_zigbuild() -> io::Result<PathBuf> {
    cargo_root("cargo-zigbuild", CARGO_ZIGBUILD)
}

/// A program that `cargo install` makes of a crate of the same name: found in the tests' cache, or built there.
pub fn cargo_tool(name: &str, version: &str) -> io::Result<PathBuf> {
    Ok(cargo_root(name, version)?.join("bin").join(name))
}

fn cargo_root(name: &str, version: &str) -> io::Result<PathBuf> {
    once(name, &format!("{version} {}", env::consts::ARCH), |work| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", "--quiet", "--locked", "--version", version, name, "--root"]);
        // Its own target folder: the one of a test run is locked by that.
        cargo.arg(work.join("root")).env("CARGO_TARGET_DIR", work.join("target"));
        Ran::run(&mut cargo)?.ok().map(drop)
    })
}
