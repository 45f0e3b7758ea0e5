//! What is released: for each processor a tarball and a Debian package of the same files, and their checksums.
//!
//! The same checkout gives the same bytes: the programs are built in the toolchain's own root, and every time in an
//! archive is that of the last commit (or `SOURCE_DATE_EPOCH`).

mod deb;
mod tarball;
mod tree;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use palletjack_testkit::real::{Cross, Part, Target, require};

use crate::cargo::root;

#[derive(Args)]
pub(crate) struct Options {
    /// For this target only; may be given more than once
    #[arg(long = "target", value_name = "TRIPLE", value_parser = PossibleValuesParser::new(Target::ALL.map(Target::triple)))]
    targets: Vec<String>,
    /// Where the files go, which is emptied first [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What all packages of one release have in common.
struct Release {
    version: &'static str,
    /// Seconds since 1970, for everything that wants a time.
    time: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    require(Part::Cross)?;
    let cross = Cross::install().context("no toolchain for other processors")?;
    let release = Release { version: env!("CARGO_PKG_VERSION"), time: time()? };
    let out = options.out.clone().unwrap_or_else(|| root().join("target/dist"));
    match fs::remove_dir_all(&out) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot empty {}", out.display()));
        }
        _ => fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?,
    }
    let is_wanted = |target: &Target| {
        options.targets.is_empty() || options.targets.iter().any(|name| name == target.triple())
    };
    for target in Target::ALL.into_iter().filter(is_wanted) {
        println!("{}", target.triple());
        let work = tempfile::Builder::new().prefix("palletjack-dist-").tempdir()?;
        let tree = tree::make(&cross, target, work.path())
            .with_context(|| format!("cannot make the files for {}", target.triple()))?;
        tarball::write(&release, target, &tree, &out)?;
        deb::write(&release, target, work.path(), &out)?;
    }
    let sums = sums(&out)?;
    print!("{sums}");
    println!("in {}", out.display());
    Ok(())
}

/// `SOURCE_DATE_EPOCH`, else the time of the last commit.
fn time() -> Result<u64> {
    if let Ok(time) = env::var("SOURCE_DATE_EPOCH") {
        return time.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {time:?}"));
    }
    let mut git = Command::new("git");
    git.current_dir(root()).args(["log", "-1", "--format=%ct"]);
    output(&mut git)
        .and_then(|text| Ok(text.trim().parse()?))
        .context("this is no checkout that git knows; set SOURCE_DATE_EPOCH to the time of the release")
}

/// Writes `SHA256SUMS` of all files, as `sha256sum --check` reads it.
fn sums(directory: &Path) -> Result<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    let mut command = Command::new("sha256sum");
    let sums = output(command.current_dir(directory).args(names))?;
    fs::write(directory.join("SHA256SUMS"), &sums)?;
    Ok(sums)
}

/// What a command prints. Its complaints go to the terminal.
fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    ensure!(output.status.success(), "{shown} ended with {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed no text"))
}
