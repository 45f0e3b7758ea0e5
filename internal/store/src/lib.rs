//! The cache directory: blobs, names, leases, check.
//!
//! ```text
//!   <cache>/docker-archives/          an OCI image layout AND an unpacked docker-archive
//!       index.json   ◄── Entry, Snapshot      the only truth: one descriptor per (reference, platform)
//!       manifest.json                         derived from it, for `tar -c . | docker load`
//!       blobs/sha256/<64 hex>  ◄── commit     content == name, mode 0444
//!   <cache>/state/
//!       ingest/sha256-<hex>    ◄── Ingest     a partial download, locked by its writer
//!       scratch/<random>/      ◄── Scratch    content whose digest is known only after its last byte
//!       lock, sweep, index.lock               never deleted
//!       unsettled/<engine>-….json  ◄── Ledger, Record    loads into engines that are not durable yet
//!       format.json
//! ```
//!
//! Three sentences carry it: *bytes are verified before they get a name; a name is published after its bytes are
//! durable; after that the network is optional.* What follows from them is held by tests of these names:
//!
//! * I1 a file in `blobs/` has the content that its name says;
//! * I2 `index.json` names only durable blobs, or the children of an index that are absent on purpose;
//! * I3 `index.json` is always one whole version;
//! * I4 `manifest.json` can be made again from `index.json` alone;
//! * I5 a partial download is re-hashed before it is extended;
//! * I6 a crash loses work, never correctness;
//! * I7 two writers never download one blob at the same time;
//! * I8 a sweep never removes a blob under a lease.
//!
//! Locks are taken in this order and no other: [`Lease`] (shared) → an [`Ingest`]'s file → `index.lock`. A lease is
//! never upgraded: [`Store::sweep`] takes its own exclusive one and gives up rather than wait.
//!
//! What this crate never does: open a socket, decide what to fetch, read the environment, print, or delete a lock
//! file. All calls block: callers in async code run them on blocking threads.

mod check;
mod docker_manifest;
mod durable;
mod error;
mod image;
mod index;
mod ingest;
mod layout;
mod lease;
mod publish;
mod scratch;
mod sweep;
mod unsettled;

pub use check::{CheckReport, Depth, Problem, ProblemKind};
pub use error::StoreError;
pub use image::Image;
pub use index::{Entry, Rebuilt, Snapshot};
pub use ingest::{Blob, CommitError, Ingest, IngestState};
pub use layout::{Access, Store};
pub use lease::Lease;
pub use publish::NewEntry;
pub use scratch::{Draft, Scratch, Spooled};
pub use sweep::Swept;
pub use unsettled::{EngineMark, Ledger, Leftovers, Place, Record, UnsettledImage};
