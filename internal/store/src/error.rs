//! What can go wrong with the cache directory.

use std::io;
use std::path::{Path, PathBuf};

use palletjack_image::{ConfigError, Digest, ManifestError};

/// A failure of the cache directory. Each names the path, so that the person who reads it can look.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no cache where one was to be read.
    #[error("there is no cache at {}", .0.display())]
    Absent(PathBuf),
    /// The cache was written by a later version, in a way that this one would misread or damage.
    #[error("the cache at {} was written by a newer palletjack ({what}): use that version, or another --cache-dir", .path.display())]
    NewerFormat {
        /// The cache directory.
        path: PathBuf,
        /// The version or feature that is not known here.
        what: String,
    },
    /// The file system is full, or the user's quota is.
    #[error("no space left for {}: free some, or choose another --cache-dir; what was fetched so far is kept", .path.display())]
    NoSpace {
        /// The file being written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The user may not read or write the file, or the file system is read-only.
    #[error("no permission for {}", .path.display())]
    Permission {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried: "open", "write", …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A blob that an image needs is not there.
    #[error("blob {digest} is missing from the cache: fetch its image again")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// A blob's content is not what its name says: the medium is failing, or something else wrote here.
    #[error("blob {digest} is corrupt ({}): {what}", .path.display())]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// Its file.
        path: PathBuf,
        /// In what way.
        what: String,
    },
    /// More bytes arrived than the blob's descriptor announced.
    #[error("blob {digest} is longer than its {size} bytes")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// The announced size in bytes.
        size: u64,
    },
    /// A link or a special file where the cache has a directory or a file of its own. It is never followed: whoever put
    /// it there may not be who runs the program.
    #[error("{} is a link or a special file, which a cache does not have: remove it", .path.display())]
    Strange {
        /// The link or file.
        path: PathBuf,
    },
    /// The work was stopped by whoever asked for it.
    #[error("stopped")]
    Stopped,
    /// `index.json` has entries that this program cannot read, and what they need is not known.
    #[error("{} has {entries} entries that cannot be read, so nothing is deleted that they may need", .path.display())]
    Strangers {
        /// `index.json`.
        path: PathBuf,
        /// How many.
        entries: usize,
    },
    /// A file of the cache's own is not in the form that it is written in.
    #[error("{} is damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest in the cache does not parse.
    #[error("manifest {digest} in the cache cannot be used")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A manifest that should describe one image is an index.
    #[error("manifest {digest} is an index where one image's manifest is due")]
    NotAnImage {
        /// The manifest.
        digest: Digest,
    },
    /// An image config in the cache does not parse.
    #[error("image config {digest} in the cache cannot be used")]
    Config {
        /// The config.
        digest: Digest,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// The store was opened for reading and something tried to write.
    #[error("the cache at {} was opened for reading only", .0.display())]
    ReadOnly(PathBuf),
    /// A reference that cannot be a name of the cache.
    #[error("`{0}` has neither a tag nor a digest: the cache cannot name it")]
    Unspecific(String),
}

impl StoreError {
    /// Whether the file system (or a quota) is full: exit code 7.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    /// Whether content is not what its name says or a file of the cache is damaged: exit code 6.
    pub fn is_corrupt(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. }
                | Self::Damaged { .. }
                | Self::Missing { .. }
                | Self::Manifest { .. }
                | Self::NotAnImage { .. }
                | Self::Config { .. }
        )
    }

    /// Whether the cache may not be written (or read) by this user.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Permission { .. })
    }
}

/// Makes a [`StoreError`] of the right kind from the system's answer.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace { path, source },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Permission { path, source }
        }
        _ => StoreError::Io { action, path, source },
    }
}
