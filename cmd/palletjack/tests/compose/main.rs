//! Docker Compose without a network: what the program is for, seen from the device that has to start its services.
//!
//! Each test runs in a room of its own ([`room`]): another root, a network without any route, its own processes. There a
//! pallet whose images are generated ones, pinned by `name:tag@digest` of docker.io and ghcr.io, is cached and loaded; the
//! registry goes away; then `docker compose` takes the pallet's files as they are.
//!
//! ```text
//!   field_station   the example pallet of this repository: `up`, and its services run
//!   real_pallet     the PlanktoScope's: `create` of all its deployments, and `run` of each image
//!   staged          a bundle of it, and the one before
//!     project       the deployments as Compose projects, the way Forklift applies them
//!     device        an engine with a loaded pallet, and the way by which its pins are made to resolve
//!     room          the root, network and processes that are a test's own
//! ```
//!
//! One way per engine runs always, the others with `PALLETJACK_SOAK=1`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod device;
mod field_station;
#[allow(dead_code, reason = "the machine is made for other tests as well")]
#[path = "../it/machine.rs"]
mod machine;
mod project;
mod real_pallet;
mod room;
mod staged;

/// Whether the long runs are asked for.
fn soak() -> bool {
    std::env::var("PALLETJACK_SOAK").is_ok_and(|value| value == "1")
}
