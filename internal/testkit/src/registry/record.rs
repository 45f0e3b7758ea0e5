//! What clients asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::http::Head;

/// One request and what it got.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Decoded path.
    pub path: String,
    /// Query as sent, without `?`.
    pub query: String,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Status answered; `None` when the connection ended before an answer, or the answer is still to come.
    pub status: Option<u16>,
    /// Body bytes handed to the connection.
    pub bytes_sent: u64,
}

impl Request {
    /// The first field of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http::find_header(&self.headers, name)
    }

    /// The range asked for, e.g. `bytes=100-`.
    pub fn range(&self) -> Option<&str> {
        self.header("range")
    }

    /// The credentials sent, e.g. `Bearer …`.
    pub fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    /// Raised by `clear`, so that an answer begun before it is not noted on a request after it.
    generation: u64,
    in_flight: usize,
    max_in_flight: usize,
}

/// The record of one server.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: Mutex<State>,
}

/// A request's place in the record while it is being answered.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    log: &'a Log,
    index: usize,
    generation: u64,
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, head: &Head) -> Entry<'_> {
        let mut state = self.state();
        state.requests.push(Request {
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            headers: head.headers.clone(),
            status: None,
            bytes_sent: 0,
        });
        state.in_flight += 1;
        state.max_in_flight = state.max_in_flight.max(state.in_flight);
        Entry { log: self, index: state.requests.len() - 1, generation: state.generation }
    }

    pub(super) fn all(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.requests.clear();
        state.generation += 1;
        state.max_in_flight = state.in_flight;
    }

    pub(super) fn max_in_flight(&self) -> usize {
        self.state().max_in_flight
    }
}

impl Entry<'_> {
    fn update(&self, change: impl FnOnce(&mut Request)) {
        let mut state = self.log.state();
        if state.generation == self.generation {
            change(&mut state.requests[self.index]);
        }
    }

    pub(super) fn status(&self, status: u16) {
        self.update(|r| r.status = Some(status));
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.update(|r| r.bytes_sent += bytes);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.log.state().in_flight -= 1;
    }
}
