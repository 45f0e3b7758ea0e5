//! Holding requests back until the test lets them go.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a test waits for something that must happen, before it fails. No success depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct State {
    open: bool,
    waiting: usize,
}

/// A gate that requests stand before. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.state().open = true;
        self.shared.1.notify_all();
    }

    /// Blocks until this many requests stand before the gate.
    ///
    /// # Panics
    /// When they have not come after a minute.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) {
        let (state, timeout) = self
            .shared
            .1
            .wait_timeout_while(self.state(), PATIENCE, |s| s.waiting < requests)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} of {requests} requests reached the gate", state.waiting);
    }

    /// Stands before the gate until it opens.
    pub(crate) fn pass(&self) {
        let mut state = self.state();
        state.waiting += 1;
        self.shared.1.notify_all();
        let mut state = self.shared.1.wait_while(state, |s| !s.open).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
    }
}
