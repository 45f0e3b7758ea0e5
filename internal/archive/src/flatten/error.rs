//! What can be wrong with an image's layers.

use std::path::PathBuf;

use palletjack_image::Digest;
use palletjack_store::StoreError;

use super::tarball::TarError;

/// Why the files of an image cannot be told. Each names the image.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// The cache has no such blob, or does not give it out.
    #[error("{image} cannot be read from the cache")]
    Store {
        /// The image.
        image: String,
        /// The store's answer.
        #[source]
        source: StoreError,
    },
    /// A blob's content is not what its name says.
    #[error(
        "layer {digest} of {image} is corrupt ({}): {what}; `palletjack cache verify` shows what else is",
        .path.display()
    )]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// Its file.
        path: PathBuf,
        /// The image.
        image: String,
        /// In what way.
        what: String,
    },
    /// A layer with the right digest that is no layer.
    #[error("layer {digest} of {image} cannot be unpacked")]
    Layer {
        /// The blob.
        digest: Digest,
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: TarError,
    },
    /// A layer of a kind that is not known here.
    #[error("layer {digest} of {image} has the media type `{media_type}`, which is no file system layer")]
    Kind {
        /// The blob.
        digest: Digest,
        /// The image.
        image: String,
        /// Its media type.
        media_type: String,
    },
}

impl FlattenError {
    /// Whether the cache's content is to blame: exit code 6.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Store { source, .. } => source.is_corrupt(),
            Self::Layer { .. } | Self::Kind { .. } => false,
        }
    }
}
