//! What can go wrong with an engine.

use std::io;
use std::time::Duration;

use palletjack_archive::ExportError;

use crate::disk::Forecast;
use crate::endpoint::Endpoint;

/// What an error means for the program's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The engine is missing, refused, or does not do what it should.
    Engine,
    /// Content of the cache is corrupt.
    Corrupt,
    /// The engine's file system is full.
    NoSpace,
    /// The cache could not be read for another reason.
    Cache,
}

/// Why an engine cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The socket does not exist.
    #[error(
        "no engine at {endpoint}: there is no such socket; start one (`systemctl start docker`, or \
         `systemctl start podman.socket`), install one (`apt-get install docker.io`), or say where it is with DOCKER_HOST"
    )]
    Absent {
        /// Where it was looked for.
        endpoint: Endpoint,
    },
    /// The user may not open the socket.
    #[error("no permission to talk to the engine at {endpoint}: {}", permission_hint(.group.as_deref()))]
    Permission {
        /// The engine.
        endpoint: Endpoint,
        /// The group that may open the socket, where it could be found out.
        group: Option<String>,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The socket is there, but nobody listens.
    #[error(
        "nobody listens at {endpoint}: the engine was stopped or has crashed; start it (`systemctl start docker`) \
         or look why it stopped (`journalctl -u docker`)"
    )]
    Refused {
        /// The engine.
        endpoint: Endpoint,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// What lies at the socket's path is none.
    #[error(
        "{endpoint} is {what}, not a socket (Docker makes a directory where it is to mount a socket that is not there): remove \
         it and start the engine (`systemctl restart docker.socket docker`), or say with DOCKER_HOST where it is"
    )]
    NotASocket {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// What lies there.
        what: &'static str,
    },
    /// It accepts connections and does not answer yet.
    #[error(
        "the engine at {endpoint} does not answer yet ({what}): it is still starting, or hangs; try again"
    )]
    Starting {
        /// The engine.
        endpoint: Endpoint,
        /// What was seen.
        what: String,
    },
    /// Something else listens there.
    #[error("what listens at {endpoint} is not Docker and not Podman ({what})")]
    NotAnEngine {
        /// The address.
        endpoint: Endpoint,
        /// What it answered.
        what: String,
    },
    /// Any other failure to connect.
    #[error("cannot connect to the engine at {endpoint}")]
    Connect {
        /// The engine.
        endpoint: Endpoint,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A question was not answered.
    #[error("the engine did not answer when asked for {what}")]
    Ask {
        /// What was asked for.
        what: String,
        /// The failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn permission_hint(group: Option<&str>) -> String {
    match group {
        Some("root") => "only root may; use sudo".to_owned(),
        Some(group) => {
            format!(
                "the group `{group}` may; use sudo, or join it (`usermod -aG {group} USER`, then log in again)"
            )
        }
        None => "use sudo, or join the group that owns the socket (mostly `docker`)".to_owned(),
    }
}

impl EngineError {
    /// What it means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Engine
    }

    /// Whether waiting may help: the engine is absent, stopped or starting.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Refused { .. } | Self::Starting { .. })
    }
}

/// How far a load had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The archive was being sent.
    Sending,
    /// All was sent, and the engine's answer was waited for.
    Waiting,
}

/// Why one image was not loaded. Each names the image.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive could not be made from the cache; the engine saw a broken request and registered nothing.
    #[error("{image} was not loaded")]
    Export {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<ExportError>,
    },
    /// The engine said no.
    #[error("the engine refused {image}: {message}")]
    Refused {
        /// The image.
        image: String,
        /// What it said, on one line.
        message: String,
    },
    /// The engine's file system is full.
    #[error(
        "the engine has no space left for {image} ({message}): it needs the archive ({bytes} bytes) and the unpacked layers \
         at once; free some (`docker image prune`)"
    )]
    NoSpace {
        /// The image.
        image: String,
        /// What it said, on one line.
        message: String,
        /// The length of the archive in bytes.
        bytes: u64,
    },
    /// The engine did nothing for too long.
    #[error(
        "the engine made no progress with {image} for {} s ({}): an earlier load that was interrupted may block it until the \
         engine is restarted (moby/moby#51623); do that (`systemctl restart docker`) and load again",
        .after.as_secs(),
        match .phase {
            Phase::Sending => format!("it took {sent} of {total} bytes"),
            Phase::Waiting => "it took all bytes and did not answer".to_owned(),
        }
    )]
    Stalled {
        /// The image.
        image: String,
        /// For how long.
        after: Duration,
        /// When.
        phase: Phase,
        /// Bytes that it took.
        sent: u64,
        /// Bytes of the archive.
        total: u64,
    },
    /// The connection broke.
    #[error(
        "the connection to the engine broke while {image} was loaded: the engine was stopped or has crashed; start it \
         (`systemctl start docker`) and load again"
    )]
    Lost {
        /// The image.
        image: String,
        /// The failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine said that it was loaded, and it is not.
    #[error("the engine took {image} without an error, but does not have it ({what})")]
    NotThere {
        /// The image.
        image: String,
        /// What was found instead.
        what: String,
    },
    /// It is loaded, and the engine's file system failed to write it out.
    #[error(
        "{image} is loaded, but the engine's file system cannot write it out: it would be damaged after a power cut; look          what the kernel says of the medium (`dmesg`)"
    )]
    NotDurable {
        /// The image.
        image: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Its files in the engine are not those of the cache, and could not be mended.
    #[error("{image} is damaged in the engine ({what}): {todo}")]
    Damaged {
        /// The image.
        image: String,
        /// In what way.
        what: String,
        /// What to do.
        todo: String,
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
}

impl LoadError {
    /// What it means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Export { source, .. } if source.is_corrupt() => ErrorKind::Corrupt,
            Self::Export { source, .. } if source.is_no_space() => ErrorKind::NoSpace,
            Self::Export { .. } => ErrorKind::Cache,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            _ => ErrorKind::Engine,
        }
    }

    /// Whether it is what an engine does that lacks a layer which was left out.
    pub(crate) fn may_be_a_hole(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotThere { .. })
    }
}

/// Why a run of loads did not start, or cannot be vouched for as a whole.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine's disk cannot take what has to be sent. Nothing was.
    #[error(
        "the engine's disk ({}) is too small: at least {} bytes are needed and {} are free, {} more; free some \
         (`docker image prune`), or load fewer images",
        .0.directory.display(), .0.certain, .0.free, .0.certain.saturating_sub(.0.free)
    )]
    NoSpace(Forecast),
    /// Somebody who takes part in the run ([`Around`](crate::Around)) could not do their part.
    #[error("{what}")]
    Around {
        /// What was not done, and what to do.
        what: String,
        /// What it means for the exit code.
        kind: ErrorKind,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RunError {
    /// What it means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSpace(_) => ErrorKind::NoSpace,
            Self::Around { kind, .. } => *kind,
        }
    }
}
