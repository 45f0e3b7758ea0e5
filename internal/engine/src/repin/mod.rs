//! Digests for an engine that keeps none of what it loads.
//!
//! ```text
//!   loaded: caddy:2.6.2 ──► image        wanted: caddy:2.6.2@sha256:… ──► the same image
//!
//!   Mirror (manifests only) ◄── GET /v2/, index, manifest ── dockerd ◄── POST /images/create, by digest
//!      on 127.0.0.0/8                                            │
//!                                                               ▼
//!                                  repositories.json gains caddy@sha256:…; no layer moves, the tag stays
//! ```
//!
//! A Docker with a graph driver learns digests only by pulling. An image that it was given by a load costs a pull two
//! or three small requests, because its config's digest is known to it; so after a load each pin is pulled from a
//! server of ours that hands out manifests and nothing else. What is needed is that the daemon's question comes to us:
//!
//! * [`Engine::repin_by_mirror`](crate::Engine::repin_by_mirror): it asks a mirror on loopback anyway. Nothing is changed. Docker Hub's names only.
//! * [`Engine::repin_live`](crate::Engine::repin_live): it is led to us for some seconds, by its own configuration and the machine's hosts file.
//!   Every registry's names. What is changed for that is written down first and undone whatever happens; what a
//!   killed run left is undone by [`undo_leftover`].
//!
//! An image whose tag has gone to another would be taken by the next `image prune` all the same, so it gets a tag of ours:
//! [`Engine::keep_pins`](crate::Engine::keep_pins).
//!
//! Never done here: a restart of the daemon, an edit of its private files, an answer in place of the daemon's own: a
//! pin counts when the engine resolves it afterwards.

mod changes;
mod daemon;
mod keep;
mod live;
mod mirror;
mod pull;

use std::net::SocketAddr;

use palletjack_registry::serve::Served;

pub use changes::{ChangeError, undo_leftover};
pub use daemon::DaemonError;
pub(crate) use daemon::{behind as daemon_behind, peer as process_behind};
pub(crate) use keep::is_keeping_tag;
pub use live::{LiveError, LiveOptions, LiveStep};

use crate::error::EngineError;
use crate::sighting::Sighting;

/// How the daemon's question came to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It has a mirror on loopback, and we listened there.
    Mirror(SocketAddr),
    /// It has a mirror on loopback, and a server of ours listened there already.
    Standing(SocketAddr),
    /// It was led to us for some seconds.
    Live,
}

/// What came of an attempt to give images the names that their digests are.
#[derive(Debug)]
pub struct Repinned {
    /// How it was done.
    pub way: Way,
    /// In the order of the list; `None` for an image whose registry this way does not reach.
    pub images: Vec<Option<Result<Sighting, RepinError>>>,
    /// What was asked of our server; nothing where it was another process's.
    pub served: Served,
}

/// Why a pin still does not resolve. Each names the image.
#[derive(Debug, thiserror::Error)]
pub enum RepinError {
    /// The engine could not pull it.
    #[error("{image} was not re-pinned: the engine could not pull its names from our server: {message}")]
    Pull {
        /// The image.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The engine went somewhere else.
    #[error("{image} was not re-pinned: the engine did not ask our server ({message})")]
    NotAsked {
        /// The image.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The pull ended well and the reference is still unknown.
    #[error("{image} was not re-pinned: it was pulled and still does not resolve")]
    Unresolved {
        /// The image.
        image: String,
    },
    /// The tag that the load made means something else now.
    #[error("{image} was re-pinned, but its tag does not mean it any more; load it again")]
    TagMoved {
        /// The image.
        image: String,
    },
    /// Its registry's name cannot be led elsewhere.
    #[error("{image} was not re-pinned: {why}")]
    Unreachable {
        /// The image.
        image: String,
        /// Why not.
        why: String,
    },
    /// It resolves, and a prune would take it.
    #[error("{image} resolves, but `image prune` would take it: the engine gave it no tag")]
    Kept {
        /// The image.
        image: String,
        /// Why not.
        #[source]
        source: EngineError,
    },
    /// The cache does not have what the pin means.
    #[error(
        "{image} was not re-pinned: the cache has it as it was rebuilt from an engine, not as its registry has it; \
         fetch it where there is a network (`cache-img`), then load it again"
    )]
    Rebuilt {
        /// The image.
        image: String,
    },
    /// The engine did not answer.
    #[error("{image}: whether it was re-pinned is not known")]
    Unknown {
        /// The image.
        image: String,
        /// Why not.
        #[source]
        source: EngineError,
    },
}
