//! How a pull ended, image by image.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use palletjack_image::{ChildError, ConfigError, Digest, Platform, Reference};
use palletjack_store::{Entry, StoreError};

use crate::error::{ErrorKind, RemoteError};

/// How a pull ended.
#[derive(Debug, Default)]
pub struct PullSummary {
    /// Every image in the order in which it was asked for.
    pub images: Vec<ImageOutcome>,
    /// Requests sent, redirects and token requests included.
    pub requests: u64,
    /// Bytes of answers read: layers, and the little that describes them.
    pub bytes_fetched: u64,
    /// Bytes of layers that were needed and in the cache already.
    pub bytes_reused: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl PullSummary {
    /// The images that are not in the cache now, and why.
    pub fn failures(&self) -> impl Iterator<Item = &PullError> {
        self.images.iter().filter_map(|image| image.outcome.as_ref().err())
    }
}

/// How one image ended.
#[derive(Debug)]
pub struct ImageOutcome {
    /// Which image.
    pub reference: Reference,
    /// The reference as it was written.
    pub requested: String,
    /// Who needs it.
    pub wanted_by: Vec<String>,
    /// Its entry in the cache, or why there is none.
    pub outcome: Result<Pulled, PullError>,
}

/// An image that is in the cache.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its entry.
    pub entry: Entry,
    /// Whether it was there before.
    pub cached: bool,
    /// Bytes of its layers that were fetched for it in this run. A layer that several images share counts with the
    /// one that asked for it first.
    pub fetched_bytes: u64,
    /// Where a tag was to be asked for again and could not be: why. The image is the one from before.
    pub unchecked: Option<String>,
}

/// Why an image is not in the cache.
#[derive(Debug, Clone)]
pub struct PullError {
    /// The image, as Docker shows it.
    pub image: String,
    /// Who needs it.
    pub wanted_by: Vec<String>,
    /// Why.
    pub reason: Reason,
}

/// Why an image, or a layer of it, could not be had.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No server handed out what was asked for.
    #[error("{0}")]
    Remote(RemoteError),
    /// The repository has no such tag.
    #[error("{error}\n  the repository has these tags: {}", similar.join(", "))]
    NoSuchTag {
        /// What the servers said.
        error: RemoteError,
        /// Tags that it might have meant, the likeliest first.
        similar: Vec<String>,
    },
    /// The image is not made for the platform.
    #[error("{0}")]
    NoPlatform(#[from] ChildError),
    /// The image is for one platform, and it is another.
    #[error("this is an image for {has} alone, not for {wanted}")]
    OtherPlatform {
        /// The platform asked for.
        wanted: Box<Platform>,
        /// The image's.
        has: Box<Platform>,
    },
    /// An index names an index.
    #[error("the image index names another index ({0}) for this platform: no engine can load that")]
    NestedIndex(Digest),
    /// The image config does not parse.
    #[error("the image config {digest} cannot be used: {source}")]
    Config {
        /// The config.
        digest: Digest,
        /// Why.
        source: Arc<ConfigError>,
    },
    /// The image config describes another number of layers than there are.
    #[error("the image config describes {diff_ids} layers, the manifest has {layers}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// A layer that its owner does not let registries hand on.
    #[error("layer {0} is a foreign layer (a Windows base), which registries do not hand out")]
    Foreign(Digest),
    /// Two descriptors of one blob disagree on its size.
    #[error(
        "{digest} has {other} bytes by another image or index and {size} by this one: one of them is damaged upstream"
    )]
    SizeConflict {
        /// The blob.
        digest: Digest,
        /// The size that this image says, in bytes.
        size: u64,
        /// The size that is said elsewhere, in bytes.
        other: u64,
    },
    /// A config that no engine would read.
    #[error("the image config {digest} has {size} bytes, more than any engine reads")]
    HugeConfig {
        /// The config.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// Another process holds a layer's partial download for too long.
    #[error("another process has been fetching layer {digest} for more than {} min", .limit.as_secs() / 60)]
    Busy {
        /// The layer.
        digest: Digest,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The cache directory failed.
    #[error("{0}")]
    Store(#[source] Arc<StoreError>),
    /// The pull was cancelled; what was fetched is kept.
    #[error("cancelled; what was fetched is kept for the next run")]
    Cancelled,
}

impl From<RemoteError> for Reason {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl From<StoreError> for Reason {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl Reason {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Remote(error) | Self::NoSuchTag { error, .. } => error.kind(),
            Self::NoPlatform(_) | Self::OtherPlatform { .. } => ErrorKind::Platform,
            Self::NestedIndex(_)
            | Self::Config { .. }
            | Self::LayerCount { .. }
            | Self::Foreign(_)
            | Self::HugeConfig { .. } => ErrorKind::Unsupported,
            Self::SizeConflict { .. } => ErrorKind::Corrupt,
            Self::Store(error) if error.is_no_space() => ErrorKind::NoSpace,
            Self::Store(error) if error.is_corrupt() => ErrorKind::Corrupt,
            Self::Busy { .. } | Self::Store(_) => ErrorKind::Store,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

impl PullError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.reason.kind()
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.image)?;
        if !self.wanted_by.is_empty() {
            write!(f, " (needed by {})", self.wanted_by.join(", "))?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for PullError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            // Shown above; what the system said lies below.
            Reason::Store(error) => std::error::Error::source(&**error),
            Reason::Remote(error) => error.source(),
            _ => None,
        }
    }
}
