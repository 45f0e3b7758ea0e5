//! Packages of Debian forky, fetched with the machine's own apt and unpacked. Nothing is installed: no package database,
//! no maintainer script and no file outside the given directories is touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Ran;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian forky's package lists, in a directory of the caller's.
#[derive(Debug)]
pub(super) struct Packages<'a> {
    work: &'a Path,
}

impl<'a> Packages<'a> {
    /// Fetches the lists, for the machine's architecture and these others.
    pub(super) fn of_forky(work: &'a Path, mirror: &str, foreign: &[&str]) -> io::Result<Self> {
        if !Path::new(KEYRING).exists() {
            return Err(io::Error::other(format!(
                "{KEYRING} is not there; this needs Debian with its package debian-archive-keyring"
            )));
        }
        fs::create_dir_all(work.join("lists/partial"))?;
        fs::write(work.join("sources.list"), format!("deb [signed-by={KEYRING}] {mirror} forky main\n"))?;
        // Nothing counts as installed, so that dependencies come along.
        fs::write(work.join("status"), "")?;
        fs::write(work.join("apt.conf"), apt_conf(work, foreign))?;
        let packages = Self { work };
        packages.apt(&["update"], work, work)?;
        Ok(packages)
    }

    /// Unpacks these packages and nothing that they depend on. `name:architecture` is another architecture's.
    pub(super) fn unpack(&self, names: &[&str], into: &Path) -> io::Result<()> {
        let files = self.files()?;
        self.apt(&[&["download"], names].concat(), files.path(), files.path())?;
        unpack_all(files.path(), into)
    }

    /// Unpacks these packages with all that they depend on.
    pub(super) fn unpack_whole(&self, names: &[&str], into: &Path) -> io::Result<()> {
        const WHOLE: [&str; 4] = ["--yes", "--no-install-recommends", "--download-only", "install"];
        let files = self.files()?;
        self.apt(&[&WHOLE, names].concat(), files.path(), files.path())?;
        unpack_all(files.path(), into)
    }

    fn files(&self) -> io::Result<tempfile::TempDir> {
        let files = tempfile::Builder::new().prefix("packages-").tempdir_in(self.work)?;
        fs::create_dir(files.path().join("partial"))?;
        Ok(files)
    }

    fn apt(&self, args: &[&str], directory: &Path, archives: &Path) -> io::Result<()> {
        let mut command = Command::new("apt-get");
        command
            .arg("-q")
            .arg("-c")
            .arg(self.work.join("apt.conf"))
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", archives.display()))
            .args(args)
            .current_dir(directory);
        Ran::run(&mut command)?.ok().map(drop)
    }
}

/// The Debian mirror that the machine's own apt uses.
pub(super) fn mirror() -> String {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    if let Ok(directory) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut paths: Vec<PathBuf> = directory.flatten().map(|e| e.path()).collect();
        paths.sort();
        texts.extend(paths.iter().map(|p| fs::read_to_string(p).unwrap_or_default()));
    }
    texts.iter().find_map(|text| mirror_in(text)).unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// The first URI of a Debian archive in a sources file of either format.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(|word| word.trim_end_matches('/').to_owned())
}

/// Settings on top of the machine's own (its proxies are needed): every directory is ours, and no hook runs.
fn apt_conf(work: &Path, foreign: &[&str]) -> String {
    let work = work.display();
    let foreign = foreign.iter().map(|name| format!("\"{name}\";")).collect::<Vec<_>>().join(" ");
    format!(
        r#"Dir::Etc::SourceList "{work}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "{work}/lists";
Dir::State::status "{work}/status";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
APT::Architectures {{ {foreign} }};
"#
    )
}

fn unpack_all(packages: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let mut found = false;
    for entry in fs::read_dir(packages)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            found = true;
            let mut command = Command::new("dpkg-deb");
            command.arg("-x").arg(&path).arg(into);
            Ran::run(&mut command)?.ok()?;
        }
    }
    if found { Ok(()) } else { Err(io::Error::other("apt-get downloaded no package")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_comes_from_either_format_of_sources() {
        let deb822 = "Types: deb\n# http://snapshot.debian.org/archive/debian/2025\n\
            URIs: http://mirror.example/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
        let one_line = "deb https://packages.example/nodistro x main\n\
            deb [arch=amd64] http://deb.debian.org/debian/ bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("http://deb.debian.org/debian"));
        assert_eq!(mirror_in("URIs: http://x/debian-security\n"), None);
    }
}
