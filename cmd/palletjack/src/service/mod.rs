//! Running as a systemd service: what the service manager and the journal are told, and an end when nothing moves any more.
//!
//! None of it does anything where the program was started by hand.

mod notify;
mod watch;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use notify::Manager;
pub(crate) use watch::{Stalled, watch};

/// How often the status changes at most.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The service that this run is, if it is one. Clones are of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    state: Option<Arc<State>>,
}

#[derive(Debug)]
struct State {
    manager: Option<Manager>,
    started: Instant,
    /// Milliseconds after the start at which something moved last.
    moved: AtomicU64,
    told: Mutex<Option<Instant>>,
    /// The file system that an engine unpacks into, and the bytes that were free on it when it was looked at last.
    disk: Mutex<Option<watch::Disk>>,
}

impl Service {
    /// A run that a unit of ours started.
    pub(crate) fn unit(manager: Option<Manager>) -> Self {
        let state = State {
            manager,
            started: Instant::now(),
            moved: AtomicU64::new(0),
            told: Mutex::default(),
            disk: Mutex::default(),
        };
        Self { state: Some(Arc::new(state)) }
    }

    /// Something was done: the service is not stuck.
    pub(crate) fn moved(&self) {
        if let Some(state) = &self.state {
            state.moved.store(state.elapsed(), Ordering::Relaxed);
        }
    }

    /// An engine is going to write below this directory without telling how far it is.
    pub(crate) fn writes_below(&self, directory: Option<&Path>) {
        if let Some(state) = &self.state {
            let disk = directory.and_then(watch::Disk::of);
            *state.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
        }
    }

    /// What `systemctl status` shows now; dropped where it was told something else less than a second ago.
    pub(crate) fn status(&self, text: &str) {
        let Some(state) = &self.state else { return };
        let mut told = state.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < STATUS_INTERVAL) {
            return;
        }
        *told = Some(Instant::now());
        state.send(text);
    }

    /// What `systemctl status` shows from now on.
    pub(crate) fn last_status(&self, text: &str) {
        if let Some(state) = &self.state {
            state.send(text);
        }
    }
}

impl State {
    fn send(&self, text: &str) {
        if let Some(Err(error)) = self.manager.as_ref().map(|manager| manager.status(text)) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
