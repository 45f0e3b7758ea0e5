//! What a load tells while it goes on.

use crate::error::LoadError;
use crate::outcome::Loaded;

/// A step of one image; `image` is its index in the list that was given to
/// [`Engine::load_all`](crate::Engine::load_all). Events of different images may interleave.
#[derive(Debug)]
pub enum Event<'a> {
    /// The engine is asked whether it has the image.
    Checking {
        /// Which image.
        image: usize,
    },
    /// It has: nothing is sent.
    Skipped {
        /// Which image.
        image: usize,
        /// What was found.
        loaded: &'a Loaded,
    },
    /// The archive is being sent. Comes once at the start and then some times per second.
    Sending {
        /// Which image.
        image: usize,
        /// Bytes that the engine took so far.
        bytes: u64,
        /// Bytes of the whole archive.
        total: u64,
    },
    /// All is sent; the engine unpacks.
    Waiting {
        /// Which image.
        image: usize,
    },
    /// It is loaded and was seen in the engine afterwards.
    Loaded {
        /// Which image.
        image: usize,
        /// What was found.
        loaded: &'a Loaded,
    },
    /// It is not loaded.
    Failed {
        /// Which image.
        image: usize,
        /// Why.
        error: &'a LoadError,
    },
}
