//! Filling the storage of an engine that does not run: an OS image's, or the device's own before its engine is started.
//!
//! ```text
//!   Target ── Device::find ──► Device { graph driver or containerd store, data root, containerd's root, processor }
//!   ROOTFS or data root          reads unit, daemon.json, containerd's configuration, dpkg: inside of the tree only
//!                                    │
//!   images ── Device::plan ──► what is missing, told from the stopped storage ── nothing ──► done, no engine started
//!                                    │
//!                              seed: dockerd and a containerd of our own on that storage
//!                                    ├─ graph driver: it pulls from our read-only server, which nobody else can ask
//!                                    ├─ containerd store, Podman: images are loaded, without any network
//!                                    └─ both end before the run does; everything is synced
//! ```
//!
//! A graph driver's digests, tags and its record of which compressed blob is which layer are then what a real pull
//! leaves, so that every pin resolves without a network, and a later pull finds the layers. Nothing of the machine that
//! does it is changed, and nothing of its own engines.

mod containers;
mod daemon;
mod device;
mod dpkg;
mod elf;
mod error;
mod graph;
mod plan;
mod podman;
mod private;
mod programs;
mod pull;
mod run;
mod settings;
mod stopped;
mod tree;
mod unit;
mod way;

pub use device::{Device, StoreKind, Target, Wishes};
pub use error::SeedError;
pub use plan::{PlannedImage, SeedPlan};
pub use programs::Programs;
pub use run::{SeedOptions, Seeded, seed};
