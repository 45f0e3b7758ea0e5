//! The programs of a private engine, found on this machine.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::SeedError;

/// Where programs of the system are, beside what is named.
const SYSTEM: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// unshare(1)'s word for a mount namespace of its own.
const MOUNTS: &str = "--mount";

/// Where the programs of a private engine are.
#[derive(Debug, Clone)]
pub struct Programs {
    places: Vec<PathBuf>,
    /// As a shell has it: what the daemons look for their helpers in.
    pub(super) path: OsString,
    /// What every daemon is started through.
    pub(super) wrapper: Vec<OsString>,
}

impl Programs {
    /// Programs of these directories, then of the system's.
    pub fn of(directories: &[PathBuf]) -> Result<Self, SeedError> {
        let mut places = directories.to_vec();
        for place in SYSTEM.map(PathBuf::from) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let path = env::join_paths(&places).map_err(|error| SeedError::System {
            what: "use these directories of programs".to_owned(),
            source: std::io::Error::other(error),
        })?;
        let wrapper = wrapper(&path);
        Ok(Self { places, path, wrapper })
    }

    /// The same, each daemon without any network.
    pub(super) fn offline(&self) -> Self {
        let mut offline = self.clone();
        if let Some(at) = offline.wrapper.iter().position(|word| word == MOUNTS) {
            offline.wrapper.insert(at, "--net".into());
        }
        offline
    }

    pub(super) fn find(&self, program: &'static str) -> Result<PathBuf, SeedError> {
        let found = self.places.iter().map(|place| place.join(program)).find(|path| is_program(path));
        found.ok_or(SeedError::NoProgram { program })
    }

    /// dockerd's version (`20.10.24+dfsg1`), as it says it itself.
    pub fn docker_version(&self) -> Result<String, SeedError> {
        let dockerd = self.find("dockerd")?;
        let told =
            Command::new(&dockerd).arg("--version").env("PATH", &self.path).stdin(Stdio::null()).output();
        let told =
            told.map_err(|source| SeedError::System { what: format!("run {}", dockerd.display()), source })?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        Ok(told.split_whitespace().nth(2).unwrap_or_default().trim_end_matches(',').to_owned())
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// util-linux' programs that make a daemon end with us, even if we are killed, and keep its mounts to itself, so that none
/// is left behind. As much of that as works here.
fn wrapper(path: &OsString) -> Vec<OsString> {
    let leash: &[&str] = &["setpriv", "--pdeathsig", "TERM", "--"];
    let mounts: &[&str] = &["unshare", MOUNTS, "--"];
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
