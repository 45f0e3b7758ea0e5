//! Real registries, engines and tools, started privately below a temporary directory.
//!
//! Every part has its own data, sockets and configuration; nothing of the machine is touched. Whoever starts one
//! holds a value whose drop ends the process by its id (SIGTERM, then SIGKILL) and unmounts what it left behind.
//!
//! A test says first which parts it needs: [`require_real!`](crate::require_real).

mod apt;
mod boot;
mod cross;
mod distribution;
mod docker;
mod docker29;
mod dockerd;
mod forky;
mod mounts;
mod parts;
mod podman;
mod process;
mod push;
mod recipe;
mod skopeo;

pub use crate::run::Ran;
pub use boot::{Boot, BootEngine, BootTree, Entry, Powered, PoweredOff, Running, VirtualMachine};
pub use cross::{Cross, GLIBC, Target, cargo_tool};
pub use distribution::DockerRegistry;
pub use docker::DockerCli;
pub use docker29::Docker29;
pub use dockerd::{Dockerd, DockerdOptions, Store};
pub use forky::Forky;
pub use parts::{Missing, Part, ready, require};
pub use podman::Podman;
pub use push::{push, push_all};
pub use skopeo::Skopeo;
