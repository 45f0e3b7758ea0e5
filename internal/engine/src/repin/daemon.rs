//! The daemon as a process of this machine: where it reads its configuration, and how it is told to read it again.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// Where dockerd looks for its configuration unless `--config-file` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/docker/daemon.json";
/// How long the daemon may take to say what its mirrors are.
const ASK: Duration = Duration::from_secs(10);
/// Bytes of its answer that are read at most.
const LARGEST_INFO: u64 = 4 << 20;

/// Why the daemon cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No dockerd behind the socket.
    #[error(
        "no process named dockerd is behind {}: the engine runs elsewhere, and only one on this machine can be re-pinned live",
        .0.display()
    )]
    NotHere(PathBuf),
    /// Several, and the socket does not say which.
    #[error("several processes named dockerd run here, and {} does not say which one is behind it", .0.display())]
    Several(PathBuf),
    /// It sees other files or another network than we do.
    #[error(
        "dockerd (process {pid}) has a {which} namespace of its own: what is changed here does not reach it; run this inside, \
         for example with `nsenter --target {pid} --mount --net`"
    )]
    Namespace {
        /// Its process ID.
        pid: u32,
        /// `mount` or `network`.
        which: &'static str,
    },
    /// The process may not be looked at or signalled.
    #[error("dockerd (process {pid}) cannot be {what}; this needs root")]
    Process {
        /// Its process ID.
        pid: u32,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error("the engine at {} did not say what its mirrors are", .path.display())]
    Ask {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A dockerd on this machine, in our namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Daemon {
    pub(super) pid: u32,
    /// The configuration file on its command line, or Docker's default.
    pub(super) config: PathBuf,
    /// Whether mirrors are given on its command line: it then refuses them in the file.
    pub(super) mirrors_by_flag: bool,
}

impl Daemon {
    /// Finds the dockerd behind a socket.
    pub(super) fn behind(socket: &Path) -> Result<Self, DaemonError> {
        let pid = match peer(socket).filter(|pid| is_dockerd(*pid)) {
            Some(pid) => pid,
            // systemd made the socket and handed it on; the peer is then systemd. A dockerd in a container is seen
            // from here, but is not the one that listens here.
            None => {
                let all = all_dockerds();
                let ours: Vec<u32> = all.iter().copied().filter(|pid| elsewhere(*pid).is_none()).collect();
                match (&ours[..], &all[..]) {
                    ([pid], _) | ([], [pid]) => *pid,
                    ([], []) => return Err(DaemonError::NotHere(socket.to_owned())),
                    _ => return Err(DaemonError::Several(socket.to_owned())),
                }
            }
        };
        let failed = |source| DaemonError::Process { pid, what: "looked at", source };
        fs::read_link(format!("/proc/{pid}/ns/mnt")).map_err(failed)?;
        if let Some(which) = elsewhere(pid) {
            return Err(DaemonError::Namespace { pid, which });
        }
        let words = fs::read(format!("/proc/{pid}/cmdline")).map_err(failed)?;
        let words: Vec<String> = words
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .filter(|word| !word.is_empty())
            .collect();
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).map_err(failed)?;
        let config = option(&words, "--config-file").unwrap_or_else(|| DEFAULT_CONFIG.to_owned());
        Ok(Self {
            pid,
            config: directory.join(config),
            mirrors_by_flag: option(&words, "--registry-mirror").is_some(),
        })
    }

    /// Tells it to read its configuration again.
    pub(super) fn reload(&self) -> Result<(), DaemonError> {
        let failed = |source| DaemonError::Process { pid: self.pid, what: "signalled", source };
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        kill_process(pid, Signal::HUP).map_err(|errno| failed(errno.into()))
    }
}

/// The value of an option on a command line, in either spelling.
fn option(words: &[String], name: &str) -> Option<String> {
    words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name)? {
        "" => words.get(at + 1).cloned(),
        rest => rest.strip_prefix('=').map(str::to_owned),
    })
}

/// The process that made the socket.
/// The process ID of the dockerd behind a socket, if it is on this machine.
pub(crate) fn behind(socket: &Path) -> Option<u32> {
    peer(socket).filter(|pid| is_dockerd(*pid))
}

/// The process that listens on a socket.
pub(crate) fn peer(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}

fn is_dockerd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "dockerd")
}

/// The namespace in which a process sees other files, or another network, than we do.
fn elsewhere(pid: u32) -> Option<&'static str> {
    let of = |process: &str, namespace: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}")).ok();
    let differs = |namespace: &str| of(&pid.to_string(), namespace) != of("self", namespace);
    [("mnt", "mount"), ("net", "network")]
        .into_iter()
        .find_map(|(namespace, which)| differs(namespace).then_some(which))
}

fn all_dockerds() -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let id = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    processes.flatten().filter_map(id).filter(|pid| is_dockerd(*pid)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    registry_config: Option<RegistryConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RegistryConfig {
    mirrors: Option<Vec<String>>,
}

/// The mirrors that the daemon asks now. By hand and blocking, because it is also asked while everything else is
/// being torn down.
pub(super) fn mirrors(socket: &Path) -> Result<Vec<String>, DaemonError> {
    let ask = || -> io::Result<Vec<String>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ASK))?;
        stream.set_write_timeout(Some(ASK))?;
        stream.write_all(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(LARGEST_INFO).read_to_end(&mut answer)?;
        mirrors_of(&answer)
    };
    ask().map_err(|source| DaemonError::Ask { path: socket.to_owned(), source })
}

fn mirrors_of(answer: &[u8]) -> io::Result<Vec<String>> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .ok_or_else(|| bad("its answer has no head".to_owned()))?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(bad(format!("it answered HTTP {status}")));
    }
    let info: Info = serde_json::from_slice(body)?;
    Ok(info.registry_config.and_then(|config| config.mirrors).unwrap_or_default())
}

/// Whether two URLs of mirrors are the same to Docker, which adds the slash.
pub(super) fn same_url(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_both_spellings() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (line, want) in [
            ("dockerd --config-file /a.json -H fd://", Some("/a.json")),
            ("dockerd --config-file=/b.json", Some("/b.json")),
            ("dockerd --config-file", None),
            ("dockerd --config-files=/b.json", None),
            ("dockerd -H fd://", None),
        ] {
            assert_eq!(option(&words(line), "--config-file").as_deref(), want, "{line}");
        }
    }

    #[test]
    fn mirrors_are_found_in_the_answer() {
        let ok = "HTTP/1.0 200 OK\r\nA: b\r\n\r\n";
        let answer = format!(r#"{ok}{{"ID":"x","RegistryConfig":{{"Mirrors":["http://127.0.0.5/"]}}}}"#);
        let mirrors = mirrors_of(answer.as_bytes()).unwrap();
        assert!(matches!(&mirrors[..], [one] if same_url(one, "http://127.0.0.5")));
        for none in [r#"{"RegistryConfig":{"Mirrors":null}}"#, r#"{"RegistryConfig":null}"#, "{}"] {
            assert!(mirrors_of(format!("{ok}{none}").as_bytes()).unwrap().is_empty());
        }
        for bad in ["", "HTTP/1.0 503 No\r\n\r\n{}", "HTTP/1.0 200 OK\r\n\r\nnot JSON"] {
            assert!(mirrors_of(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_socket_without_dockerd_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // Our own process is no dockerd; whether another runs on this machine is not known here.
        assert_ne!(peer(&path).map(is_dockerd), Some(true));
    }
}
