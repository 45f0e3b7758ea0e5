//! `unit`: units printed and written into trees, and the program as a service.
//!
//! ```text
//!   print     what systemd thinks of the units
//!   install   which units a tree needs, and what is never written
//!   service   what a service manager and the journal are told, and the end of a service that is stuck
//!   containers  the device's own, while its storage is filled before Docker starts
//!   tree      small trees of systems
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod containers;
mod install;
#[allow(dead_code, reason = "the machine is made for other tests as well")]
#[path = "../it/machine.rs"]
mod machine;
mod print;
mod service;
mod tree;
