//! The server that the cache is to others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod protocol;
mod real;
mod support;
