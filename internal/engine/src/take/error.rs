//! Why an image was not taken back.

use std::time::Duration;

use palletjack_archive::ImportError;
use palletjack_image::Digest;
use palletjack_store::StoreError;

use crate::error::{EngineError, ErrorKind};

/// Why an image of the engine is not in the cache. Each names the image.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The engine has no such image.
    #[error("the engine does not have {image}")]
    NotThere {
        /// The image.
        image: String,
    },
    /// The engine has an image of that tag, and does not say that it is the one which is pinned.
    #[error(
        "the engine has {tagged} ({}), but does not know whether that is {image}: it keeps the digests of what it pulls, and \
         none of what was loaded into it; take {tagged} without the digest, or fetch it from its registry", .id.short()
    )]
    NotVouched {
        /// The image.
        image: String,
        /// The reference without the digest.
        tagged: String,
        /// What the engine calls the image of that tag.
        id: Digest,
    },
    /// The engine has the image in part: for another platform, or without its layers.
    #[error("the engine does not have all of {image}: it lacks {what}")]
    NotWhole {
        /// The image.
        image: String,
        /// What is missing.
        what: String,
    },
    /// What the engine handed out is not the image.
    #[error("{image} was not taken from the engine")]
    Import {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<ImportError>,
    },
    /// The engine said no.
    #[error("the engine did not hand out {image}: {message}")]
    Refused {
        /// The image.
        image: String,
        /// What it said, on one line.
        message: String,
    },
    /// The engine said nothing for too long.
    #[error("the engine sent nothing of {image} for {} s", .after.as_secs())]
    Silent {
        /// The image.
        image: String,
        /// For how long.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection to the engine broke while it handed out {image}: it was stopped or has crashed")]
    Lost {
        /// The image.
        image: String,
        /// The failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine could not be asked.
    #[error("it is not known whether the engine has {image}")]
    Unknown {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The work was stopped by whoever asked for it.
    #[error("stopped; nothing of the image was kept")]
    Cancelled,
}

impl TakeError {
    pub(super) fn store(image: &str, source: StoreError) -> Self {
        Self::import(image, source.into())
    }

    pub(super) fn import(image: &str, source: ImportError) -> Self {
        Self::Import { image: image.to_owned(), source: Box::new(source) }
    }

    /// What it means for the exit code; `None` where the engine does not have the image.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::NotThere { .. } | Self::NotVouched { .. } | Self::NotWhole { .. } => None,
            Self::Import { source, .. } if source.is_platform() => None,
            Self::Import { source, .. } if source.is_corrupt() => Some(ErrorKind::Corrupt),
            Self::Import { source, .. } if source.is_no_space() => Some(ErrorKind::NoSpace),
            Self::Import { source, .. } if matches!(**source, ImportError::Store(_)) => {
                Some(ErrorKind::Cache)
            }
            _ => Some(ErrorKind::Engine),
        }
    }

    /// Whether the engine's image is for another platform than the one that was asked for.
    pub fn is_platform(&self) -> bool {
        matches!(self, Self::Import { source, .. } if source.is_platform())
    }
}
