//! Why a data root was not filled.

use std::io;
use std::path::PathBuf;

use palletjack_image::Platform;
use palletjack_store::StoreError;

use super::device::StoreKind;
use crate::disk::Forecast;
use crate::error::{EngineError, ErrorKind, RunError};

/// Why nothing was put into a data root, or why it cannot be vouched for.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Not root.
    #[error(
        "an engine's data root belongs to root, with device nodes, owners and overlay mounts that nobody else may make; \
         run it with sudo"
    )]
    NotRoot,
    /// The directory is not there, or is none.
    #[error("{} is no directory with a system in it", .root.display())]
    NoTree {
        /// The directory.
        root: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// No engine in the tree.
    #[error(
        "there is no Docker and no Podman in {}: install one there first (`chroot {0} apt-get install docker.io`), or name a data root \
         with --data-root", .root.display()
    )]
    NoDocker {
        /// The tree.
        root: PathBuf,
    },
    /// Nothing that could be filled is there.
    #[error("{} does not exist, and nothing above it but the root does", .directory.display())]
    NoDirectory {
        /// The data root.
        directory: PathBuf,
    },
    /// A file of the tree cannot be read.
    #[error("{} of the tree cannot be read", .path.display())]
    Unreadable {
        /// The file, as the tree's system calls it.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file of the tree says what cannot be followed.
    #[error("{} of the tree: {what}", .path.display())]
    Settings {
        /// The file, as the tree's system calls it.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is not known which image store the engine will use.
    #[error(
        "it cannot be told which image store the engine of {} uses: no settings say so and its version is not known; \
         say it with --store graph (Docker before 29, unless it is set otherwise) or --store containerd", .place.display()
    )]
    UnknownStore {
        /// The tree or data root.
        place: PathBuf,
    },
    /// Another image store was asked for, or found, than the engine will use.
    #[error("the engine of {} uses the {device} image store ({because}), and {other}: {todo}", .place.display())]
    Mismatch {
        /// The tree or data root.
        place: PathBuf,
        /// What it will use.
        device: StoreKind,
        /// Why.
        because: String,
        /// What speaks against it.
        other: String,
        /// What to do.
        todo: String,
    },
    /// What is in the data root cannot be understood.
    #[error("{} is not what Docker keeps there ({what}): palletjack does not know this format of a data root", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Somebody uses it.
    #[error("{} is in use by {holder}: stop it first (`systemctl stop docker.socket docker containerd`)", .directory.display())]
    Busy {
        /// The data root.
        directory: PathBuf,
        /// Who.
        holder: String,
    },
    /// The file system cannot be written.
    #[error("{} cannot be written; mount the tree writable", .directory.display())]
    ReadOnly {
        /// The data root.
        directory: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file system cannot carry overlay mounts.
    #[error(
        "{} lies on {file_system}, on which {driver} cannot be used: dockerd would choose another storage driver in silence, \
         which the device would not read; put the tree on ext4, XFS or btrfs (a loop-mounted image will do)",
        .directory.display()
    )]
    FileSystem {
        /// The data root.
        directory: PathBuf,
        /// What it lies on.
        file_system: &'static str,
        /// The storage driver.
        driver: String,
    },
    /// Images are for another processor.
    #[error("the system is {tree}, and {}", .images.join("; "))]
    Architecture {
        /// What the tree's programs run on.
        tree: Platform,
        /// What was asked for, or the images that are for something else.
        images: Vec<String>,
    },
    /// The disk is too small. Nothing was written.
    #[error(
        "the file system of {} is too small: at least {} bytes are needed and {} are free, {} more; make it larger \
         (for an image file: `truncate -s +2G IMAGE`, then `resize2fs`), or seed fewer images",
        .0.directory.display(), .0.certain, .0.free, .0.certain.saturating_sub(.0.free)
    )]
    NoSpace(Forecast),
    /// No dockerd or containerd on this machine.
    #[error(
        "no {program} on this machine to fill the storage with: install one (`apt-get install docker.io`, or `podman`), or say \
         where it is with --engine-path DIR"
    )]
    NoProgram {
        /// The program.
        program: &'static str,
    },
    /// This machine's Docker does not have the device's image store.
    #[error(
        "Docker {version} of this machine has no containerd store to fill: install version 24 or later, or say where one is \
         with --engine-path DIR"
    )]
    TooOld {
        /// dockerd's version.
        version: String,
    },
    /// The private engine did not start.
    #[error("the private {program} {what}; its last words: {log}")]
    Start {
        /// Which program.
        program: &'static str,
        /// What happened.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// Something around the private engine failed.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It does not answer as it should.
    #[error("the private engine failed; its last words: {log}")]
    Engine {
        /// The end of its log.
        log: String,
        /// The failure.
        #[source]
        source: EngineError,
    },
    /// The run as a whole cannot be vouched for.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The cache cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Cancelled; the engine was ended in order.
    #[error("interrupted; images that were complete stay, and the next run goes on from there")]
    Interrupted,
}

impl SeedError {
    /// What it means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSpace(_) => ErrorKind::NoSpace,
            Self::Run(error) => error.kind(),
            Self::Store(error) if error.is_corrupt() => ErrorKind::Corrupt,
            Self::Store(error) if error.is_no_space() => ErrorKind::NoSpace,
            Self::System { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorKind::NoSpace,
            Self::NoProgram { .. }
            | Self::TooOld { .. }
            | Self::Start { .. }
            | Self::Engine { .. }
            | Self::Busy { .. } => ErrorKind::Engine,
            _ => ErrorKind::Cache,
        }
    }
}
