//! The faults planned so far, and how often each has happened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::{Fault, When};
use super::gate::Gate;
use crate::http::Head;

#[derive(Debug)]
struct Planned {
    when: When,
    fault: Fault,
    matched: AtomicU64,
    happened: AtomicU64,
}

/// A planned fault, to ask how often it has happened.
#[derive(Debug, Clone)]
pub struct FaultHandle {
    planned: Arc<Planned>,
}

impl FaultHandle {
    /// Requests that got this fault.
    pub fn happened(&self) -> u64 {
        self.planned.happened.load(Ordering::SeqCst)
    }

    /// Requests that the conditions matched, those outside the chosen numbers included.
    pub fn matched(&self) -> u64 {
        self.planned.matched.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Mutex<Vec<Arc<Planned>>>,
}

impl Plan {
    fn faults(&self) -> MutexGuard<'_, Vec<Arc<Planned>>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, when: When, fault: Fault) -> FaultHandle {
        let planned =
            Arc::new(Planned { when, fault, matched: AtomicU64::new(0), happened: AtomicU64::new(0) });
        self.faults().push(Arc::clone(&planned));
        FaultHandle { planned }
    }

    pub(super) fn clear(&self) {
        for gate in self.gates() {
            gate.open();
        }
        self.faults().clear();
    }

    /// The gates of all planned stalls.
    pub(super) fn gates(&self) -> Vec<Gate> {
        self.faults()
            .iter()
            .filter_map(|p| match &p.fault {
                Fault::Stall(gate) | Fault::StallAfter { gate, .. } => Some(gate.clone()),
                _ => None,
            })
            .collect()
    }

    /// What goes wrong with this request, if anything.
    pub(super) fn decide(&self, head: &Head) -> Option<Fault> {
        let faults = self.faults();
        for planned in faults.iter().filter(|p| p.when.matches(head)) {
            let count = planned.matched.fetch_add(1, Ordering::SeqCst);
            if planned.when.includes(count) {
                planned.happened.fetch_add(1, Ordering::SeqCst);
                return Some(planned.fault.clone());
            }
        }
        None
    }
}
