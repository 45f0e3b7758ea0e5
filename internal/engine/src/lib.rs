//! Docker and Podman: what is there, what is missing, load.
//!
//! ```text
//!   Surroundings ── find ──► Endpoint ── Engine::connect ──► Engine { Capabilities }
//!   DOCKER_HOST, contexts,   unix or tcp                        │
//!   sockets: given, not read                                    │ per image, one after the other:
//!                                                               ▼
//!     look ──► Sighting ──► plan ──► upload ──► look again ──► Loaded { was, resolves, runs_as }
//!     asks by the exact     nothing  │                         an engine's "Loaded image" is no promise
//!     reference             or all   │
//!                                    ▼
//!              blocking thread: archive::Export ──► bounded channel ──► body of POST /images/load
//! ```
//!
//! What this crate promises:
//!
//! * what an engine has is not sent to it again: no request at all is made for an image that is there;
//! * nothing is spooled to disk, and at most a few MiB are in flight whatever the size of an image;
//! * a body is ended properly only when the whole archive was written: anything else (a corrupt blob, a cancelled
//!   load) breaks the connection, and the engine registers nothing;
//! * success is what the engine says when asked afterwards, not what it says while loading;
//! * one image's failure does not stop the others.
//!
//! What it never does: read the environment, start or configure an engine, remove an image, remember on disk what an
//! engine has.

mod answer;
mod capabilities;
mod connect;
mod endpoint;
mod error;
mod event;
mod load;
mod outcome;
mod sighting;
mod upload;

pub use capabilities::{Capabilities, EngineKind};
pub use connect::Engine;
pub use endpoint::{Endpoint, EndpointError, Found, Surroundings, find};
pub use error::{EngineError, ErrorKind, LoadError, Phase};
pub use event::Event;
pub use load::LoadOptions;
pub use outcome::{Loaded, RunsAs, Was};
pub use sighting::Sighting;
