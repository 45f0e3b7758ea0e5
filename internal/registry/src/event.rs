//! What is told while work goes on.

use std::sync::Arc;
use std::time::Duration;

use palletjack_image::Digest;

/// One thing that happened. Images are named as Docker shows them; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A registry is being asked what an image consists of.
    Resolving {
        /// The image.
        image: String,
    },
    /// It is known what an image consists of.
    Resolved {
        /// The image.
        image: String,
        /// Bytes of all its layers, those that are there already included.
        total: u64,
    },
    /// The transfer of a layer begins, or begins again.
    BlobStarted {
        /// The layer.
        digest: Digest,
        /// Its whole size.
        size: u64,
        /// Bytes that are there from before. Progress counts from here.
        offset: u64,
    },
    /// More bytes of a layer arrived. Sent for every piece: a display thins it out.
    BlobProgress {
        /// The layer.
        digest: Digest,
        /// Bytes since the last such event of this layer.
        bytes: u64,
    },
    /// A layer is in the cache, verified.
    BlobDone {
        /// The layer.
        digest: Digest,
    },
    /// Something failed and will be tried again.
    Retrying {
        /// A reference or a layer.
        what: String,
        /// After which time.
        after: Duration,
        /// What failed.
        why: String,
    },
    /// An image is in the cache under its name.
    ImageDone {
        /// The image.
        image: String,
        /// Whether it was there before.
        cached: bool,
    },
    /// An image will not be in the cache at the end of this run.
    ImageFailed {
        /// The image.
        image: String,
        /// Why.
        error: String,
    },
    /// Something that the user should know and that stops nothing.
    Warning(String),
}

/// Where events go. Called from several threads, and often: it must return at once.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
