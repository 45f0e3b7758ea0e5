//! The program from end to end: its command line, real pallets, real registries, real engines, other people's tools.
//!
//! Each test has a machine of its own ([`machine::Machine`]): an empty home with a Forklift workspace and a cache. It runs
//! the built program there and looks at what a person or a script would see: exit codes, standard output, standard
//! error, the cache directory, the registry's record of requests, and what engines and tools say afterwards.
//!
//! ```text
//!   resolve, versions         lists of pallets, bundles and stage stores; which Forklift versions are fine
//!   main_job, engines, tools  registry -> cache -> engine with real parts; skopeo and `docker load` on the cache itself
//!   fetch, credentials        what registries do wrong, and how logins are found
//!   load, memory              what engines do wrong; large images in little memory
//!   localize                  staged Compose files that name images by IDs
//!   bad_input, homes, see     clear errors; where the cache is; listing, deleting, verifying
//!   crash, together           killed and interrupted runs; several at once
//!   status, reset_store       what would run offline; what containerd keeps of interrupted loads
//!   take                      from engines into the cache
//!   help                      the help texts and the README
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod machine;

mod bad_input;
mod crash;
mod credentials;
mod engines;
mod fetch;
mod help;
mod homes;
mod load;
mod localize;
mod main_job;
mod memory;
mod reset_store;
mod resolve;
mod see;
mod status;
mod take;
mod together;
mod tools;
mod versions;
