//! The parts of `docs/` that the program itself knows best.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, root};

/// Writes `docs/cli.md`. A test of the program's compares it.
pub(crate) fn run() -> Result<()> {
    let output = cargo()
        .args(["run", "--quiet", "--locked", "--package", "palletjack", "--", "docs", "markdown"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the program does not tell its command line");
    let file = root().join("docs/cli.md");
    fs::write(&file, &output.stdout).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    Ok(())
}
