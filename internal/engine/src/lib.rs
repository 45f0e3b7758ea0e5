//! Docker and Podman: what is there, what is missing, load.
//!
//! ```text
//!   Surroundings ── find ──► Endpoint ── Engine::connect ──► Engine { Capabilities }
//!   DOCKER_HOST, contexts,   unix or tcp                        │
//!   sockets: given, not read                                    ▼
//!     look ──► Sighting ──► plan ──► upload ──► look again ──► Loaded { was, resolves, runs_as }
//!     asks by the exact     what     │   ▲           │         an engine's "Loaded image" is no promise
//!     reference             is       │   └─ whole, ◄─┘ a hole
//!                           missing  ▼      once
//!              blocking thread: archive::Export ──► bounded channel ──► body of POST /images/load
//!
//!   known ── which layers the engine has, by its own names ──► plan ── which are left out
//!   order ── who brings a shared base first, who may be in flight together
//!   disk ─── what the engine's disk has to hold, before the start
//!   Around ─ where others take part: durability, names for pins
//! ```
//!
//! What this crate promises:
//!
//! * what an engine has is not sent to it again: no request at all is made for an image that is there;
//! * layers that it has are left out of what is sent; where it turns out not to have them, all is sent, once;
//! * one request carries one image, and no two in flight bring the same layer;
//! * at most a few MiB per request are in memory whatever the size of an image, and nothing is spooled to disk but, for
//!   an engine that does not read Zstandard, the one layer that is being packed anew;
//! * a body is ended properly only when the whole archive was written: anything else (a corrupt blob, a cancelled
//!   load) breaks the connection, and the engine registers nothing;
//! * success is what the engine says when asked afterwards, not what it says while loading;
//! * one image's failure does not stop the others.
//!
//! What it never does: read the environment, start or configure an engine unasked, remember on disk what an engine has,
//! or remove an image: but for the second, nameless record that Docker makes of one that is loaded again, and for what
//! an unfinished load left damaged ([`Durable`]).

mod answer;
mod around;
mod capabilities;
mod claims;
mod connect;
mod disk;
mod durable;
mod endpoint;
mod error;
mod event;
mod job;
mod known;
mod load;
mod nameless;
mod order;
mod outcome;
mod plan;
mod rehearsal;
pub mod repin;
mod resolves;
mod run;
pub mod seed;
mod sighting;
mod spool;
mod take;
mod upload;
mod wait;

pub use around::Around;
pub use capabilities::{Capabilities, EngineKind};
pub use connect::Engine;
pub use disk::Forecast;
pub use durable::{
    CompareError, Compared, Durability, Durable, DurableReport, Lease, Leases, Recovered, RecoveredAs,
    Removal, ResetError,
};
pub use endpoint::{Endpoint, EndpointError, Found, Surroundings, find};
pub use error::{EngineError, ErrorKind, LoadError, Phase, RunError};
pub use event::Event;
pub use load::LoadOptions;
pub use outcome::{Loaded, RunsAs, Was};
pub use plan::{ImagePlan, LoadPlan, Step};
pub use resolves::Resolved;
pub use sighting::Sighting;
pub use take::{TakeError, TakeEvent, TakeOptions, TakeWish, Taken};
