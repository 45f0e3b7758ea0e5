//! Loads that a power cut does not undo.
//!
//! A load is not safe when an engine says "Loaded": it writes its metadata durably and the files of layers not at all, so
//! that after a power cut seconds later it lists images whose files are all empty, and loading them again repairs none
//! of them. Asking the engine shows nothing of it.
//!
//! ```text
//!   at_start           a record of an earlier run is there? what it names is compared with the cache,
//!                      and removed where it is damaged
//!   before_first_send  what is going to be sent is written down, durably        store::Ledger
//!   after_seen         syncfs of the engine's file system; then it is struck off
//!                      after a recovery: compared with the cache as well
//!   at_end             what is still damaged is removed and sent whole, once; the record ends
//! ```
//!
//! Only images that a record names are ever removed, never one that a container uses, and nothing is pruned.

mod compare;
mod container;
mod containerd;
mod guard;
mod place;
mod recover;
mod remove;
mod report;
mod reset;

pub use compare::{CompareError, Compared};
pub use guard::Durable;
pub use remove::Removal;
pub use report::{Durability, DurableReport, Recovered, RecoveredAs};
pub use reset::{Lease, Leases, ResetError};
