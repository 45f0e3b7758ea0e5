//! What can go wrong on the way out.

use std::io;
use std::path::PathBuf;

use palletjack_image::Digest;
use palletjack_store::StoreError;

/// The receiver takes no more bytes. Why, it knows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver of the archive takes no more bytes")]
pub struct SinkClosed;

/// Why an archive could not be planned or was broken off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A blob's content is not what its name says. The stream was broken before the blob was complete.
    #[error(
        "blob {digest} of {image} is corrupt ({}): {what}; `palletjack cache verify` shows what else is",
        .path.display()
    )]
    Corrupt {
        /// The blob that was due.
        digest: Digest,
        /// Its file.
        path: PathBuf,
        /// The image on whose behalf it was read.
        image: String,
        /// In what way.
        what: String,
    },
    /// The cache has no such blob, or does not give it out.
    #[error("{image} cannot be read from the cache")]
    Store {
        /// The image on whose behalf it was read.
        image: String,
        /// The store's answer.
        #[source]
        source: StoreError,
    },
    /// The medium failed while a blob was read.
    #[error("cannot read {} of {image}", .path.display())]
    Read {
        /// The blob's file.
        path: PathBuf,
        /// The image on whose behalf it was read.
        image: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A layer that is named Zstandard by its media type and has the right digest is none.
    #[error(
        "layer {digest} of {image} is not what its media type says, and cannot be recoded; whoever built the image has to mend it"
    )]
    Recode {
        /// The layer's blob.
        digest: Digest,
        /// The image on whose behalf it was read.
        image: String,
        /// The decoder's answer.
        #[source]
        source: io::Error,
    },
    /// There is no place for a layer that has to be recoded.
    #[error("cannot keep a recoded layer of {image} in {} while it is sent", .directory.display())]
    Scratch {
        /// Where it was to be kept.
        directory: PathBuf,
        /// The image on whose behalf it was read.
        image: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The receiver stopped taking bytes.
    #[error(transparent)]
    Closed(#[from] SinkClosed),
    /// Writing the archive failed ([`Export::write_to`](crate::Export::write_to)).
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The images name more bytes than any file can have: a manifest lies about its layers' sizes.
    #[error("the layers of {image} are said to be larger than any file can be")]
    TooLarge {
        /// The image whose manifest says so.
        image: String,
    },
}

impl ExportError {
    /// Whether the cache's content is to blame: exit code 6.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Store { source, .. } => source.is_corrupt(),
            _ => false,
        }
    }

    /// Whether a full file system of this machine is to blame: exit code 7.
    pub fn is_no_space(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        matches!(self, Self::Scratch { source, .. } | Self::Write(source) if full(source))
    }
}
