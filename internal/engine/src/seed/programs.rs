//! The programs of a private engine, found on this machine.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::SeedError;

/// Where programs of the system are, beside what is named.
const SYSTEM: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What a private engine is made of.
#[derive(Debug, Clone)]
pub struct Programs {
    pub(super) dockerd: PathBuf,
    pub(super) containerd: PathBuf,
    /// As a shell has it: what the daemons look for their helpers in.
    pub(super) path: OsString,
    /// dockerd's version: `20.10.24+dfsg1`.
    pub(super) version: String,
    /// What every daemon is started through.
    pub(super) wrapper: Vec<OsString>,
}

impl Programs {
    /// Looks for dockerd and containerd in these directories, then in the system's. Runs `dockerd --version`.
    pub fn find(directories: &[PathBuf]) -> Result<Self, SeedError> {
        let mut places = directories.to_vec();
        for place in SYSTEM.map(PathBuf::from) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let find = |program: &'static str| {
            let found = places.iter().map(|place| place.join(program)).find(|path| is_program(path));
            found.ok_or(SeedError::NoProgram { program })
        };
        let (dockerd, containerd) = (find("dockerd")?, find("containerd")?);
        let path = env::join_paths(&places).map_err(|error| SeedError::System {
            what: "use these directories of programs".to_owned(),
            source: std::io::Error::other(error),
        })?;
        let told = Command::new(&dockerd).arg("--version").env("PATH", &path).stdin(Stdio::null()).output();
        let told =
            told.map_err(|source| SeedError::System { what: format!("run {}", dockerd.display()), source })?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let version = told.split_whitespace().nth(2).unwrap_or_default().trim_end_matches(',').to_owned();
        let wrapper = wrapper(&path);
        Ok(Self { dockerd, containerd, path, version, wrapper })
    }

    /// dockerd's version: `20.10.24+dfsg1`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// util-linux' programs that make a daemon end with us, even if we are killed, and keep its mounts to itself, so that none
/// is left behind. As much of that as works here.
fn wrapper(path: &OsString) -> Vec<OsString> {
    let leash: &[&str] = &["setpriv", "--pdeathsig", "TERM", "--"];
    let mounts: &[&str] = &["unshare", "--mount", "--"];
    for words in [[leash, mounts].concat(), mounts.to_vec(), leash.to_vec()] {
        let tried = Command::new(words[0])
            .args(&words[1..])
            .arg("true")
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if tried.is_ok_and(|status| status.success()) {
            return words.into_iter().map(OsString::from).collect();
        }
    }
    Vec::new()
}
