//! The same files as a Debian package; what it says of itself is in `cmd/palletjack/Cargo.toml`.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use palletjack_testkit::real::{Target, cargo_tool};

use super::{Release, output};
use crate::cargo::root;

const CARGO_DEB: &str = "3.8.0";
const MAINTAINER: &str = "palletjack maintainers <palletjack@users.noreply.github.com>";

/// Writes `palletjack_<version>-1_<architecture>.deb`, of the tree in `<work>/<triple>/release`.
pub(super) fn write(release: &Release, target: Target, work: &Path, out: &Path) -> Result<()> {
    let tree = work.join(target.triple()).join("release");
    fs::create_dir_all(tree.join("debian/man1"))?;
    changelog(release, &tree.join("debian/changelog.Debian.gz"))?;
    // cargo-deb would do this, but not for files in the target folder.
    for page in fs::read_dir(tree.join("share/man/man1"))? {
        let page = page?;
        let name = format!("{}.gz", page.file_name().to_string_lossy());
        gzip(&fs::read(page.path())?, &tree.join("debian/man1").join(name))?;
    }
    let tool = cargo_tool("cargo-deb", CARGO_DEB).context("cannot install cargo-deb")?;
    let name = format!("palletjack_{}-1_{}.deb", release.version, target.debian());
    let status = Command::new(tool)
        .current_dir(root())
        .args(["--quiet", "--no-build", "--no-strip", "--locked", "--package", "palletjack"])
        .args(["--target", target.triple(), "--output"])
        .arg(out.join(&name))
        .env("CARGO_TARGET_DIR", work)
        .env("SOURCE_DATE_EPOCH", release.time.to_string())
        .status()
        .context("cannot run cargo-deb")?;
    ensure!(status.success(), "{name}: cargo-deb ended with {status}");
    Ok(())
}

/// The package's own changelog (Debian Policy 12.7), which points to the program's.
fn changelog(release: &Release, path: &Path) -> Result<()> {
    let mut date = Command::new("date");
    let date =
        output(date.args(["--utc", "--rfc-email", &format!("--date=@{}", release.time)]).env("LC_ALL", "C"))?;
    let text = format!(
        "palletjack ({}-1) unstable; urgency=medium\n\n  * See CHANGELOG.md beside this file.\n\n -- {MAINTAINER}  {}\n",
        release.version,
        date.trim()
    );
    gzip(text.as_bytes(), path)
}

/// Without a name and a time in it, as Debian Policy 12.1 wants it.
fn gzip(bytes: &[u8], path: &Path) -> Result<()> {
    let mut packed = GzBuilder::new().write(File::create(path)?, Compression::best());
    packed.write_all(bytes)?;
    packed.finish()?;
    Ok(())
}
