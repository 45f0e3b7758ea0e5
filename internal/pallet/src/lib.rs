//! Which images and downloads does a Forklift pallet or a staged bundle need, and who asks?
//!
//! ```text
//!   Workspace ──> Source::Pallet ── imports merged ──┐
//!                                                    ├──> deployments ──> packages ──> Compose files
//!   StageStore ─> Source::Bundle ────────────────────┘         │              │              │
//!                                                              v              v              v
//!                                       resolve() ──> Resolved { requirements, extra, downloads, deployments }
//! ```
//!
//! **Owns** the reading of Forklift's files (pallets, repositories, packages, deployments, version locks,
//! import groups, bundles, stage stores) and of Compose files, with a YAML front end of its own: see
//! [`compose`] and the private `yaml`. All files come through a `Tree`, which is a directory or a pallet's
//! directory above what it imports.
//!
//! A staged bundle whose Compose files name images by the IDs of one engine ([`localize`]) is what it was before.
//!
//! **Promises** Forklift's own answer: [`resolve`] gives the strings that `forklift plt ls-img` prints, byte
//! for byte, and fails where Forklift fails, naming deployment, file and line. Beyond that each
//! [`Requirement`] knows who asked for it. Any input ends in an answer or an error: sizes, depths, aliases,
//! globs and chains are bounded, and no symbolic link leads out of a pallet.
//!
//! **Never** prints, reads the process's environment, uses the network, runs a program, or writes a file.

mod bundle;
pub mod compat;
pub mod compose;
mod definition;
mod deployment;
mod error;
mod glob;
pub mod localize;
mod lock;
mod package;
mod pallet;
mod path;
mod requirement;
mod resolve;
mod semver;
mod source;
mod stages;
mod tree;
mod workspace;
mod yaml;

pub use bundle::Bundle;
pub use compat::FORKLIFT_VERSION;
pub use deployment::{ComposeFile, Deployment, Export, Selection};
pub use error::Error;
pub use glob::Error as GlobError;
pub use lock::{Error as LockError, VersionLock};
pub use pallet::{Overrides, Pallet};
pub use requirement::{Download, DownloadKind, DownloadOrigin, Origin, Requirement, Usage};
pub use resolve::{Options, Resolved, ResolvedDeployment, Resolver, resolve, resolve_downloads};
pub use source::Source;
pub use stages::StageStore;
pub use workspace::Workspace;
pub use yaml::Error as YamlError;
