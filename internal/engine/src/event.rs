//! What a load tells while it goes on.

use crate::disk::Forecast;
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
    /// By an estimate, the engine's disk may be too small for what is about to be sent.
    DiskMayBeShort {
        /// What was estimated.
        forecast: &'a Forecast,
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
    /// It turned out that the engine lacks a layer that was left out; now all of the image is sent, once.
    WholeAgain {
        /// Which image.
        image: usize,
        /// How that was noticed.
        error: &'a LoadError,
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
