//! An image's files as the engine shows them, against the layers of the cache.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use palletjack_archive::{Comparison, FlattenError, TarError, Tarball, Tree, flatten};
use palletjack_image::Digest;
use palletjack_store::{Image, Store};
use tokio::sync::mpsc;

use crate::capabilities::EngineKind;
use crate::connect::{Engine, innermost};
use crate::error::{EngineError, ErrorKind};

use super::container::{CreateError, Unstarted};

/// Pieces between the socket and the thread that hashes.
const IN_FLIGHT: usize = 8;

/// What a comparison of files found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Every file is as the layers have it.
    Whole(Comparison),
    /// Files differ.
    Damaged(Comparison),
    /// The engine lists the image and cannot make a container of it, or not show its files.
    Unusable {
        /// What it said, on one line.
        message: String,
    },
    /// The engine has no such image.
    NotThere,
}

impl Compared {
    /// Whether the engine has the image in a state in which it cannot be used.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Unusable { .. })
    }

    /// What is wrong, on one line; `None` where nothing is.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Whole(_) => None,
            Self::NotThere => Some("the engine does not have it".to_owned()),
            Self::Unusable { message } => Some(message.clone()),
            Self::Damaged(comparison) => {
                let told: Vec<String> = comparison.first.iter().map(ToString::to_string).collect();
                let more = comparison.different.saturating_sub(told.len() as u64);
                let more = if more == 0 { String::new() } else { format!("; and {more} more") };
                Some(format!("{}{more}", told.join("; ")))
            }
        }
    }
}

/// Why files could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The cache's layers could not be read.
    #[error("the files of {image} cannot be told from the cache")]
    Cache {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<FlattenError>,
    },
    /// The engine could not be asked.
    #[error("the engine does not show the files of {image}")]
    Engine {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: EngineError,
    },
}

impl CompareError {
    /// What it means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache { source, .. } if source.is_corrupt() => ErrorKind::Corrupt,
            Self::Cache { .. } => ErrorKind::Cache,
            Self::Engine { .. } => ErrorKind::Engine,
        }
    }
}

impl Engine {
    /// What this engine calls an image.
    pub(crate) fn id_of(&self, image: &Image) -> Digest {
        match self.capabilities().kind {
            EngineKind::DockerContainerd => image.entry.target.digest,
            EngineKind::DockerGraph | EngineKind::Podman => image.config_descriptor.digest,
        }
    }

    /// Compares the files of an image as the engine shows them with what the cache's layers make. Makes a container that
    /// is never started, and removes it; reads the whole image on both sides.
    pub async fn compare(&self, store: &Store, image: &Image) -> Result<Compared, CompareError> {
        let name = || image.entry.reference.familiar();
        let lost = |what: String| CompareError::Engine {
            image: name(),
            source: EngineError::Ask { what: "a container's files".to_owned(), source: what.into() },
        };
        let tree = {
            let (store, image) = (store.clone(), image.clone());
            tokio::task::spawn_blocking(move || flatten(&store, &image)).await
        };
        let tree = tree
            .map_err(|panic| lost(panic.to_string()))?
            .map_err(|source| CompareError::Cache { image: name(), source: Box::new(source) })?;
        let container = match Unstarted::create(self, image).await {
            Ok(container) => container,
            Err(CreateError::NotThere) => return Ok(Compared::NotThere),
            Err(CreateError::Refused(message)) => return Ok(Compared::Unusable { message }),
            Err(CreateError::Lost(what)) => return Err(lost(what)),
        };
        let compared = self.compare_container(container.id(), tree).await;
        let removed = container.remove().await;
        let compared = match compared {
            Ok(comparison) if comparison.is_whole() => Compared::Whole(comparison),
            Ok(comparison) => Compared::Damaged(comparison),
            // What an engine cannot read of its own files is broken; what breaks off may be the engine's end.
            Err(TarError::Read(error))
                if error.kind() == io::ErrorKind::ConnectionAborted && self.docker.ping().await.is_err() =>
            {
                return Err(lost(error.to_string()));
            }
            Err(error) => {
                Compared::Unusable { message: format!("its files cannot be read: {}", innermost(&error)) }
            }
        };
        removed.map_err(|source| CompareError::Engine { image: name(), source })?;
        Ok(compared)
    }

    async fn compare_container(&self, id: &str, tree: Tree) -> Result<Comparison, TarError> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let judge = tokio::task::spawn_blocking(move || {
            tree.compare(&mut Tarball::new(Pieces { receiver, piece: Bytes::new() }), &is_the_engines)
        });
        let mut stream = std::pin::pin!(self.docker.export_container(id));
        while let Some(piece) = stream.next().await {
            let piece =
                piece.map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, innermost(&error)));
            let is_error = piece.is_err();
            // The judge has seen enough.
            if sender.send(piece).await.is_err() || is_error {
                break;
            }
        }
        drop(sender);
        judge.await.map_err(io::Error::other)?
    }
}

/// What engines put into every container's root.
fn is_the_engines(path: &[u8]) -> bool {
    const FILES: [&[u8]; 6] =
        [b".dockerenv", b"etc/hosts", b"etc/resolv.conf", b"etc/hostname", b"etc/mtab", b"run/.containerenv"];
    const DIRECTORIES: [&[u8]; 3] = [b"dev", b"proc", b"sys"];
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    FILES.contains(&path) || DIRECTORIES.contains(&first)
}

/// A channel of pieces, read on a blocking thread.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_engines_add_is_left_out() {
        for (path, is_theirs) in [
            (".dockerenv", true),
            ("etc/hosts", true),
            ("dev", true),
            ("dev/pts/0", true),
            ("proc", true),
            ("device", false),
            ("etc/hosts.allow", false),
            ("opt/dev", false),
            ("usr/lib/x", false),
        ] {
            assert_eq!(is_the_engines(path.as_bytes()), is_theirs, "{path}");
        }
    }
}
