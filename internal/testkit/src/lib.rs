//! Test support for every palletjack crate. A dev-dependency, never part of the program.
//!
//! ```text
//!                    image::ImageSet::small(["docker.io/library/caddy:2.6.2", …])      deterministic images
//!                        │ publish                      │ real::push
//!                        ▼                              ▼
//!   registry::Registry (faults, record)      real::DockerRegistry ─┐
//!                        │                                         │ pulled by
//!                        └──────────────► program under test ◄─────┘     run in sandbox::Sandbox
//!                                            │ loads into
//!              engine::Engine (faults) ◄─────┴─────► real::Dockerd, real::Podman     read by real::Skopeo
//! ```
//!
//! What this crate promises: everything that it starts listens on loopback or on a socket below a temporary
//! directory, touches no engine, registry or configuration of the machine, and is gone when its value is dropped.
//! Servers of its own run on threads of their own and are used alike from plain and from async tests. Readiness and
//! progress are waited for as events (a log line, a process exit, a request at a [`registry::Gate`]), never by
//! sleeping.
//!
//! What it never does: leave a process or a mount behind; count a missing part as a passed test in silence
//! (see [`require_real!`]).

pub mod engine;
mod http;
pub mod image;
pub mod powercut;
pub mod real;
pub mod registry;
mod run;
pub mod sandbox;

pub use run::Ran;
