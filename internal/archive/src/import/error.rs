//! What can be wrong with what an engine hands out.

use palletjack_image::{ChildError, ConfigError, Digest, ManifestError, Platform};
use palletjack_store::StoreError;

use crate::flatten::TarError;

/// Why an image could not be taken from an archive.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The stream is no tar, or ended early.
    #[error("what the engine handed out cannot be used: {0}")]
    Tar(#[source] TarError),
    /// More files than an image can have.
    #[error("what the engine handed out has more than {0} files")]
    TooMany(usize),
    /// Two files of one name: one of them would be lost.
    #[error("what the engine handed out has the file `{0}` twice")]
    Twice(String),
    /// Something that the image needs is neither in the archive nor in the cache.
    #[error("what the engine handed out lacks {0}")]
    Lacks(String),
    /// Content that has the right digest and another length than its descriptor says.
    #[error("{digest} has {actual} bytes instead of the {expected} that the image's manifest says")]
    Size {
        /// The content.
        digest: Digest,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What there is, in bytes.
        actual: u64,
    },
    /// A manifest does not parse.
    #[error("the manifest {digest} cannot be used")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// An index names an index.
    #[error("the image index names another index ({0}) for this platform")]
    NestedIndex(Digest),
    /// The image config does not parse.
    #[error("the image config {digest} cannot be used")]
    Config {
        /// The config.
        digest: Digest,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// The config speaks of another number of layers than the manifest.
    #[error("the image config describes {diff_ids} layers, the manifest has {layers}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// The index has nothing for the platform.
    #[error(transparent)]
    NoPlatform(#[from] ChildError),
    /// The image is for one platform, and it is another.
    #[error("it is an image for {has}, not for {wanted}")]
    OtherPlatform {
        /// The platform asked for.
        wanted: Box<Platform>,
        /// The image's.
        has: Box<Platform>,
    },
    /// Whoever asked for it wants no more of it.
    #[error("stopped")]
    Stopped,
    /// The cache directory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// Whether the cache's content is to blame: exit code 6.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_corrupt())
    }

    /// Whether a full file system of this machine is to blame: exit code 7.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_no_space())
    }

    /// Whether the image is not made for the platform that was asked for.
    pub fn is_platform(&self) -> bool {
        matches!(self, Self::NoPlatform(_) | Self::OtherPlatform { .. })
    }
}
