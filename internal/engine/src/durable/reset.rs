//! Ending what a containerd keeps on behalf of loads and pulls that no longer run.
//!
//! While Docker unpacks an image into a containerd store, a lease keeps what is not yet named from being collected. It lasts a
//! day, and a power cut leaves it behind, with whatever layers it holds: an image that is removed and loaded again gets
//! the same damaged layers back. Docker has no request that ends a lease, so containerd's own client is used.
//!
//! Only leases with an end are looked at. Those without hold the writable layers of containers (and a builder's cache):
//! without them containers lose their files. Seen with Docker 28.5.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;

use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::endpoint::Endpoint;
use crate::error::EngineError;
use crate::repin::{daemon_behind, process_behind};

use super::place::DataRoot;

/// The label by which containerd ends a lease (containerd, "Garbage collection").
const EXPIRE: &str = "containerd.io/gc.expire=";

/// How often Linux counts the time of processes for programs (`USER_HZ`), per second.
const TICKS: u64 = 100;

/// Why a store cannot be reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// There is nothing of the kind in this engine.
    #[error("{engine} keeps nothing on behalf of loads that no longer run: there is nothing to reset")]
    NothingToReset {
        /// The engine.
        engine: String,
    },
    /// The engine's containerd is not to be reached from here.
    #[error(
        "the engine's containerd is not on this machine, and its store is reset there: run `load-img --reset-store` on that machine"
    )]
    Elsewhere,
    /// The engine did not say where its containerd is.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Containerd's client cannot be run.
    #[error("`ctr`, which comes with containerd, cannot be run")]
    NoClient(#[source] io::Error),
    /// Containerd refused.
    #[error("containerd at {address} did not do it: {message}")]
    Refused {
        /// Its socket.
        address: String,
        /// What its client said, on one line.
        message: String,
    },
}

/// A lease that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its ID in containerd.
    pub id: String,
    /// When it was made.
    pub created: SystemTime,
}

/// The leases of loads and pulls.
#[derive(Debug, Clone)]
pub struct Leases {
    /// Those whose load or pull cannot run any more: they were made before this dockerd was started.
    pub stale: Vec<Lease>,
    /// Those that may belong to one that runs now.
    pub in_use: Vec<Lease>,
    client: Client,
}

/// Containerd's own client, pointed at the images of Docker.
#[derive(Debug, Clone)]
struct Client {
    program: PathBuf,
    address: String,
    namespace: String,
}

impl Engine {
    /// The leases that containerd has for loads and pulls. Changes nothing.
    pub async fn leases(&self) -> Result<Leases, ResetError> {
        if self.capabilities().kind != EngineKind::DockerContainerd {
            return Err(ResetError::NothingToReset { engine: self.capabilities().to_string() });
        }
        let Endpoint::Unix(socket) = self.endpoint().clone() else { return Err(ResetError::Elsewhere) };
        let data = DataRoot::find(self).await?;
        let (true, Some((address, namespace))) = (data.is_here(), data.containerd) else {
            return Err(ResetError::Elsewhere);
        };
        let look = spawn_blocking(move || {
            let client = Client::new(address, namespace);
            let started = daemon_behind(&socket).and_then(started).or_else(booted);
            let leases = client.leases()?;
            let now = SystemTime::now();
            // A clock that was put back, as one without a battery is at boot, shows leases of the future.
            let is_stale =
                |lease: &Lease| lease.created > now || started.is_some_and(|started| lease.created < started);
            let (stale, in_use) = leases.into_iter().partition(is_stale);
            Ok(Leases { stale, in_use, client })
        });
        look.await.unwrap_or_else(|panic| Err(ResetError::NoClient(io::Error::other(panic))))
    }
}

impl Leases {
    /// Ends those that are stale, and waits until containerd has collected what nothing else holds.
    pub async fn end_stale(&self) -> Result<(), ResetError> {
        if self.stale.is_empty() {
            return Ok(());
        }
        let (client, ids): (Client, Vec<String>) =
            (self.client.clone(), self.stale.iter().map(|lease| lease.id.clone()).collect());
        let end = spawn_blocking(move || {
            let mut words = vec!["rm", "--sync"];
            words.extend(ids.iter().map(String::as_str));
            client.run(&words).map(drop)
        });
        end.await.unwrap_or_else(|panic| Err(ResetError::NoClient(io::Error::other(panic))))
    }
}

impl Client {
    fn new(address: String, namespace: String) -> Self {
        // It comes with containerd, so it is beside the one that runs, which need not be in the search path.
        let beside = process_behind(Path::new(&address))
            .and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok())
            .map(|exe| exe.with_file_name("ctr"))
            .filter(|program| program.is_file());
        Self { program: beside.unwrap_or_else(|| PathBuf::from("ctr")), address, namespace }
    }

    fn leases(&self) -> Result<Vec<Lease>, ResetError> {
        let listed = self.run(&["ls"])?;
        Ok(listed.lines().skip(1).filter_map(lease).collect())
    }

    fn run(&self, words: &[&str]) -> Result<String, ResetError> {
        let mut command = Command::new(&self.program);
        command
            .args(["--address", &self.address, "--namespace", &self.namespace])
            .args(["--connect-timeout", "20s", "--timeout", "15m", "leases"])
            .args(words)
            // It shows times of the day as they are here.
            .env("TZ", "UTC");
        let output = command.output().map_err(ResetError::NoClient)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = crate::answer::one_line(&String::from_utf8_lossy(&output.stderr));
        Err(ResetError::Refused { address: self.address.clone(), message })
    }
}

/// A line of `ctr leases ls`: ID, time and labels. One without an end is none of ours.
fn lease(line: &str) -> Option<Lease> {
    let mut words = line.split_whitespace();
    let (id, created, labels) = (words.next()?, words.next()?, words.next()?);
    labels.split(',').any(|label| label.starts_with(EXPIRE)).then_some(())?;
    Some(Lease { id: id.to_owned(), created: humantime::parse_rfc3339(created).ok()? })
}

/// When a process was started; not later than it was, and less than a second earlier: leases show whole seconds.
fn started(pid: u32) -> Option<SystemTime> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): the name is in parentheses and may have any; the start is the 22nd field, the 20th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    after_boot(Duration::from_millis(ticks * 1000 / TICKS))
}

fn booted() -> Option<SystemTime> {
    after_boot(Duration::ZERO)
}

/// By today's clock: that of the boot may have been another.
fn after_boot(time: Duration) -> Option<SystemTime> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let age = Duration::try_from_secs_f64(uptime).ok()?.saturating_sub(time);
    let then = SystemTime::now().checked_sub(age)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(then.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leases_with_an_end_are_looked_at() {
        let listed = "ID CREATED AT LABELS\n\
            526268030-xviS   2026-11-21T15:34:34Z containerd.io/gc.expire=2026-11-22T15:34:34Z \n\
            dc453f7c54e0ba64 2026-11-21T15:34:07Z -  \n\
            built            2026-11-21T15:34:07Z buildkit/lease.temporary=1,x=containerd.io/gc.expire=1\n\
            two              2026-11-20T00:00:00Z a=b,containerd.io/gc.expire=2026-11-22T15:34:34Z\n\
            odd              yesterday containerd.io/gc.expire=2026-11-22T15:34:34Z\n\n";
        let found: Vec<Lease> = listed.lines().skip(1).filter_map(lease).collect();
        let ids: Vec<&str> = found.iter().map(|lease| &*lease.id).collect();
        assert_eq!(ids, ["526268030-xviS", "two"]);
    }

    #[test]
    fn a_process_was_started_after_the_boot_and_before_now() {
        let (booted, started) = (booted().unwrap(), started(std::process::id()).unwrap());
        assert!(started >= booted && started <= SystemTime::now());
    }
}
