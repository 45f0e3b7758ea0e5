//! What is changed on the machine for some seconds: written down first, undone whatever happens.
//!
//! ```text
//!   <state>/repin.lock    one run at a time; never deleted
//!   <state>/repin.json    what was there before: durable before anything is changed, gone when all is undone
//! ```

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::daemon::{self, Daemon, DaemonError, same_url};

/// How long a daemon may take to read its configuration again.
pub(super) const RELOAD: Duration = Duration::from_secs(10);
/// Between two questions whether it has.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a hosts file or a daemon.json that are read at most.
const LARGEST: u64 = 1 << 20;
const MIRRORS: &str = "registry-mirrors";

/// Why something could not be changed, or not undone.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A file of the machine, or our own notes, cannot be read or written.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The daemon's configuration is not the JSON object that it should be.
    #[error("{} is not a JSON object; dockerd would refuse it, and so it is not touched", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// What an earlier run noted cannot be read.
    #[error(
        "{} is damaged; look whether /etc/hosts has a line of palletjack and daemon.json a mirror at 127.0.0.5, take them \
         out, then remove this file", .path.display()
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Another run is at it.
    #[error("another run is re-pinning on this machine; try again when it is done")]
    Busy,
    /// The daemon did not take its configuration.
    #[error(
        "dockerd did not take {} within {} s; `journalctl -u docker` says why", .path.display(), RELOAD.as_secs()
    )]
    NotReloaded {
        /// The file.
        path: PathBuf,
    },
    /// The daemon cannot be told.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ChangeError {
    let path = path.to_owned();
    move |source| ChangeError::File { what, path, source }
}

/// A file before and while it is changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Edit {
    path: PathBuf,
    /// `None` where there was no file.
    before: Option<String>,
    during: String,
}

/// What an undo needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Journal {
    socket: PathBuf,
    /// The mirror that the daemon is given.
    url: String,
    /// The line that the hosts file is given.
    line: Option<String>,
    hosts: Option<Edit>,
    config: Option<Edit>,
}

/// The right to change anything; one at a time on a machine.
#[derive(Debug)]
pub(super) struct Turn {
    state: PathBuf,
    _lock: File,
}

impl Turn {
    /// Takes it, or says that another run has it.
    pub(super) fn take(state: &Path) -> Result<Self, ChangeError> {
        fs::create_dir_all(state).map_err(file_error("create", state))?;
        let path = state.join("repin.lock");
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(file_error("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { state: state.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ChangeError::Busy),
            Err(TryLockError::Error(error)) => Err(file_error("lock", &path)(error)),
        }
    }

    fn journal(&self) -> PathBuf {
        self.state.join("repin.json")
    }
}

/// Undoes what a killed run left behind, if one did; says whether. Blocks, for some seconds where a daemon has to read
/// its configuration again. Cheap where nothing was left.
pub fn undo_leftover(state: &Path) -> Result<bool, ChangeError> {
    if !state.join("repin.json").exists() {
        return Ok(false);
    }
    let turn = match Turn::take(state) {
        // It will undo what is its own.
        Err(ChangeError::Busy) => return Ok(false),
        turn => turn?,
    };
    undo_before(&turn)
}

/// The same with the turn in hand.
pub(super) fn undo_before(turn: &Turn) -> Result<bool, ChangeError> {
    let path = turn.journal();
    let Some(text) = read(&path)? else { return Ok(false) };
    let journal: Journal =
        serde_json::from_str(&text).map_err(|source| ChangeError::Journal { path: path.clone(), source })?;
    undo(&journal)?;
    for edit in [&journal.hosts, &journal.config].into_iter().flatten() {
        sweep_temporaries(&edit.path);
    }
    forget(&path)?;
    Ok(true)
}

/// What is about to be changed.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) socket: PathBuf,
    /// The mirror that the daemon is to ask for Docker Hub's names, and the file that tells it.
    pub(super) mirror: Option<(String, PathBuf)>,
    /// The names that are to resolve to this address, and the file that tells it.
    pub(super) hosts: Option<(String, Vec<String>, PathBuf)>,
}

/// Changes in force. Undone by [`Changes::undo`], or when dropped.
#[derive(Debug)]
pub(super) struct Changes {
    journal: Journal,
    turn: Turn,
    undone: bool,
}

impl Changes {
    /// Notes what is there now, durably. Changes nothing yet.
    pub(super) fn begin(turn: Turn, wish: &Wish) -> Result<Self, ChangeError> {
        let config = match &wish.mirror {
            None => None,
            Some((url, path)) => {
                // Where it is a link, the file behind it is the one to replace.
                let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                let before = read(&path)?;
                let during = with_mirror(&path, before.as_deref(), url)?;
                Some(Edit { path, before, during })
            }
        };
        let (mut line, mut hosts) = (None, None);
        if let Some((address, names, path)) = &wish.hosts {
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let before = read(&path)?;
            let entry =
                format!("{address} {} # palletjack: for some seconds, while re-pinning", names.join(" "));
            let mut during = before.clone().unwrap_or_default();
            if !during.is_empty() && !during.ends_with('\n') {
                during.push('\n');
            }
            during.push_str(&entry);
            during.push('\n');
            hosts = Some(Edit { path, before, during });
            line = Some(entry);
        }
        let url = wish.mirror.as_ref().map_or_else(String::new, |(url, _)| url.clone());
        let journal = Journal { socket: wish.socket.clone(), url, line, hosts, config };
        let text = serde_json::to_string(&journal)
            .map_err(|source| ChangeError::Journal { path: turn.journal(), source })?;
        replace(&turn.journal(), &text, 0o600)?;
        Ok(Self { journal, turn, undone: false })
    }

    /// Writes the files and tells the daemon. Whether it has heard is another question: [`Changes::heard`].
    pub(super) fn apply(&self, daemon: &Daemon) -> Result<(), ChangeError> {
        if let Some(edit) = &self.journal.config {
            replace(&edit.path, &edit.during, 0o644)?;
            daemon.reload()?;
        }
        if let Some(edit) = &self.journal.hosts {
            replace(&edit.path, &edit.during, 0o644)?;
        }
        Ok(())
    }

    /// Whether the daemon asks the mirror by now, given what it says that it asks.
    pub(super) fn heard(&self, mirrors: &[String]) -> bool {
        self.journal.config.is_none() || mirrors.iter().any(|mirror| same_url(mirror, &self.journal.url))
    }

    pub(super) fn not_reloaded(&self) -> ChangeError {
        let path = self.journal.config.as_ref().map(|edit| edit.path.clone()).unwrap_or_default();
        ChangeError::NotReloaded { path }
    }

    /// Puts everything back. Blocks until the daemon has heard.
    pub(super) fn undo(mut self) -> Result<(), ChangeError> {
        self.undone = true;
        undo(&self.journal)?;
        forget(&self.turn.journal())
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if self.undone {
            return;
        }
        if let Err(error) = undo(&self.journal).and_then(|()| forget(&self.turn.journal())) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what was changed for re-pinning is not all undone; the next run tries again"
            );
        }
    }
}

/// The hosts file first: it concerns every program. What somebody else wrote meanwhile stays.
fn undo(journal: &Journal) -> Result<(), ChangeError> {
    let mut result = Ok(());
    if let (Some(edit), Some(line)) = (&journal.hosts, &journal.line) {
        result = undo_hosts(edit, line);
    }
    if let Some(edit) = &journal.config {
        result = undo_config(edit, &journal.url, &journal.socket).and(result);
    }
    result
}

fn undo_hosts(edit: &Edit, line: &str) -> Result<(), ChangeError> {
    let now = read(&edit.path)?;
    match (now.as_deref(), edit.before.as_deref()) {
        (now, before) if now == before => Ok(()),
        (Some(now), None) if now == edit.during => forget(&edit.path),
        (Some(now), Some(before)) if now == edit.during => replace(&edit.path, before, 0o644),
        // Written in place, and the machine stopped on the way: a beginning of what was there.
        (Some(now), Some(before)) if before.starts_with(now) => replace(&edit.path, before, 0o644),
        (Some(now), _) => {
            let kept: String = now.split_inclusive('\n').filter(|one| one.trim_end() != line).collect();
            if kept == now { Ok(()) } else { replace(&edit.path, &kept, 0o644) }
        }
        (None, _) => Ok(()),
    }
}

fn undo_config(edit: &Edit, url: &str, socket: &Path) -> Result<(), ChangeError> {
    let now = read(&edit.path)?;
    let during = now.as_deref() == Some(&*edit.during);
    let released = without_mirror(&edit.path, edit.before.as_deref(), url)?;
    let ours = during || now.as_deref() == Some(&*released);
    let torn = now.as_deref().is_some_and(|now| edit.during.starts_with(now) || released.starts_with(now));
    // What is to be there in the end, and what the daemon has to read for that: a key that is merely missing keeps
    // the value that it had, so an empty list comes first.
    let (end, step) = if ours || torn || now == edit.before {
        (edit.before.clone(), released)
    } else {
        let edited = without_mirror(&edit.path, now.as_deref(), url)?;
        (Some(edited.clone()), edited)
    };
    // A daemon that is not running reads the file when it starts.
    if let Ok(mirrors) = daemon::mirrors(socket)
        && mirrors.iter().any(|mirror| same_url(mirror, url))
    {
        replace(&edit.path, &step, 0o644)?;
        Daemon::behind(socket)?.reload()?;
        let start = Instant::now();
        while daemon::mirrors(socket)?.iter().any(|mirror| same_url(mirror, url)) {
            if start.elapsed() > RELOAD {
                return Err(ChangeError::NotReloaded { path: edit.path.clone() });
            }
            thread::sleep(PAUSE);
        }
    }
    match end {
        Some(text) => replace(&edit.path, &text, 0o644),
        None => forget(&edit.path),
    }
}

fn object(path: &Path, text: Option<&str>) -> Result<Map<String, Value>, ChangeError> {
    let text = text.filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ChangeError::Config { path: path.to_owned(), source: None }),
        Err(error) => Err(ChangeError::Config { path: path.to_owned(), source: Some(error) }),
    }
}

/// The configuration with our mirror before any others.
fn with_mirror(path: &Path, text: Option<&str>, url: &str) -> Result<String, ChangeError> {
    with_mirrors(path, text, url, true)
}

/// The configuration without it, and with a list of mirrors whether it had one or not.
fn without_mirror(path: &Path, text: Option<&str>, url: &str) -> Result<String, ChangeError> {
    with_mirrors(path, text, url, false)
}

fn with_mirrors(path: &Path, text: Option<&str>, url: &str, ours: bool) -> Result<String, ChangeError> {
    let mut object = object(path, text)?;
    let others = match object.get(MIRRORS) {
        Some(Value::Array(others)) => others.clone(),
        _ => Vec::new(),
    };
    let others = others.into_iter().filter(|other| !other.as_str().is_some_and(|other| same_url(other, url)));
    let mirrors = ours.then(|| Value::from(url)).into_iter().chain(others).collect();
    object.insert(MIRRORS.to_owned(), Value::Array(mirrors));
    let mut text = format!("{:#}", Value::Object(object));
    text.push('\n');
    Ok(text)
}

fn read(path: &Path) -> Result<Option<String>, ChangeError> {
    use std::io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error("open", path)(error)),
    };
    let mut text = String::new();
    let length = file.take(LARGEST + 1).read_to_string(&mut text).map_err(file_error("read", path))?;
    if length as u64 > LARGEST {
        return Err(file_error("read", path)(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(Some(text))
}

fn temporary_prefix(path: &Path) -> String {
    format!(".{}.palletjack-", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes what a process that is no more was about to rename to `path`.
fn sweep_temporaries(path: &Path) {
    let prefix = temporary_prefix(path);
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
        let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && !Path::new("/proc").join(process).exists() {
            // One that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Replaces a file as a whole, durably, with the owner and mode that it has. A file that is a mount point (as hosts
/// files in containers are) cannot be replaced and is written in place.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), ChangeError> {
    let old = fs::metadata(path).ok();
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(directory).map_err(file_error("create", directory))?;
    // Containers that share the directory have turns of their own.
    let temporary = directory.join(format!("{}{}", temporary_prefix(path), std::process::id()));
    let write = || -> io::Result<()> {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        match &old {
            Some(old) => {
                file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
                chown(&temporary, Some(old.uid()), Some(old.gid()))?;
            }
            None => file.set_permissions(Permissions::from_mode(mode))?,
        }
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    match write() {
        Ok(()) => sync_directory(directory),
        Err(error) => {
            // Best effort: what failed is the file, not the leftover.
            let _ = fs::remove_file(&temporary);
            if error.kind() != io::ErrorKind::ResourceBusy {
                return Err(file_error("write", path)(error));
            }
            let in_place = || -> io::Result<()> {
                let mut file = File::options().write(true).truncate(true).open(path)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()
            };
            in_place().map_err(file_error("write", path))
        }
    }
}

/// Removes a file, durably. One that is not there is no error.
fn forget(path: &Path) -> Result<(), ChangeError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(path.parent().unwrap_or_else(|| Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("remove", path)(error)),
    }
}

fn sync_directory(directory: &Path) -> Result<(), ChangeError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(file_error("sync", directory))
}

#[cfg(test)]
mod tests;
