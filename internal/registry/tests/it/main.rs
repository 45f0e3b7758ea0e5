//! The client against a registry that misbehaves.

mod auth;
mod faults;
mod images;
mod mirrors;
mod support;
mod transfers;
