//! The client against a registry that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod faults;
mod images;
mod mirrors;
mod support;
mod transfers;
