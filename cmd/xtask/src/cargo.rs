//! Calling cargo, and finding what it built.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_directory.ancestors().nth(2).unwrap_or(crate_directory).to_owned()
}

/// cargo, in the root of the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the release program and says where it is.
pub(crate) fn release_program() -> Result<PathBuf> {
    let status = cargo()
        .args(["build", "--release", "--locked", "--package", "palletjack"])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the program does not build");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/palletjack"))
}
