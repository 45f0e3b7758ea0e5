//! The power goes, or somebody is killed: what the next run finds, and what it makes of it.
//!
//! ```text
//!   device, images an engine whose data lies on a disk of its own, a cache on it or beside it; what is loaded
//!   moment         a run of the program, and something done to it at random moments
//!   files          an image's files as `tar` unpacks its layers, and as the engine exports them: no code of the program
//!
//!   load_cuts      the power goes while images are loaded, and after
//!   cache_cuts     the power goes while the cache is filled, and after
//!   kills          the program or the engine is killed while images are loaded
//! ```
//!
//! How often: `PALLETJACK_CUTS` power cuts on each engine and of the cache (unless it is set, two, and on Docker 20.10 and 28's
//! containerd store only), `PALLETJACK_KILLS` of the program and of the engine (5). The moments are random; the seed is printed,
//! and with `PALLETJACK_SEED` the choice is the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::print_stdout, reason = "shown where a test fails: which random moments it had chosen")]
#![allow(dead_code, reason = "the machine is made for other tests as well")]

#[path = "../it/machine.rs"]
mod machine;

mod cache_cuts;
mod device;
mod files;
mod images;
mod kills;
mod load_cuts;
mod moment;
