//! Reaching an engine, and saying well why not.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ClientError;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::capabilities::Capabilities;
use crate::endpoint::Endpoint;
use crate::error::EngineError;

/// How long a first connection over TCP may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an engine may take to say what it is. Under socket activation the socket accepts before Docker is up,
/// and on a small device that takes a while.
const HELLO: Duration = Duration::from_secs(30);
/// The client's own limit covers the whole upload of an archive, because Docker answers only when it has swallowed
/// all of it. It is set out of the way; uploads have their own watch, questions their own limit.
const CLIENT_LIMIT_SECONDS: u64 = 24 * 60 * 60;

/// An engine that answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) docker: Docker,
    endpoint: Endpoint,
    capabilities: Capabilities,
}

impl Engine {
    /// Connects and asks what it is. Makes three small requests.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, EngineError> {
        Self::connect_within(endpoint, HELLO).await
    }

    /// The same with another limit for the engine's first answer.
    pub async fn connect_within(endpoint: Endpoint, hello: Duration) -> Result<Self, EngineError> {
        probe(&endpoint).await?;
        let docker = client(&endpoint)?;
        match timeout(hello, Box::pin(introduce(docker))).await {
            Ok(Ok((docker, capabilities))) => {
                tracing::debug!(%endpoint, %capabilities, "connected");
                Ok(Self { docker, endpoint, capabilities })
            }
            Ok(Err(error)) => Err(introduction_error(endpoint, error)),
            Err(_) => {
                let what = format!("nothing came within {} s", hello.as_secs_f32());
                Err(EngineError::Starting { endpoint, what })
            }
        }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What it is.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

/// A bare connection, because the system's own answer to it says why an engine cannot be reached.
async fn probe(endpoint: &Endpoint) -> Result<(), EngineError> {
    let result = match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(drop),
        Endpoint::Tcp(authority) => match timeout(CONNECT, TcpStream::connect(authority)).await {
            Ok(result) => result.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    };
    result.map_err(|source| connect_error(endpoint.clone(), source))
}

fn connect_error(endpoint: Endpoint, source: io::Error) -> EngineError {
    match (source.kind(), &endpoint) {
        (io::ErrorKind::NotFound, Endpoint::Unix(_)) => EngineError::Absent { endpoint },
        (io::ErrorKind::PermissionDenied, Endpoint::Unix(path)) => {
            let group = group_of(path);
            EngineError::Permission { endpoint, group, source }
        }
        (io::ErrorKind::ConnectionRefused, Endpoint::Unix(path)) => match other_than_a_socket(path) {
            Some(what) => EngineError::NotASocket { endpoint, what },
            None => EngineError::Refused { endpoint, source },
        },
        (io::ErrorKind::ConnectionRefused, Endpoint::Tcp(_)) => EngineError::Refused { endpoint, source },
        _ => EngineError::Connect { endpoint, source },
    }
}

/// What lies at a path where a socket should: the system's answer is the same as for a socket without a listener.
fn other_than_a_socket(path: &Path) -> Option<&'static str> {
    let kind = fs::metadata(path).ok()?.file_type();
    if kind.is_socket() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else {
        Some("a file")
    }
}

/// The group that owns a socket, by name where `/etc/group` has one.
fn group_of(path: &Path) -> Option<String> {
    let id = fs::metadata(path).ok()?.gid();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    Some(group_name(&groups, id).unwrap_or_else(|| id.to_string()))
}

/// Finds a group's name in the text of `/etc/group` (group(5)).
fn group_name(groups: &str, id: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    })
}

fn client(endpoint: &Endpoint) -> Result<Docker, EngineError> {
    let version = bollard::API_DEFAULT_VERSION;
    let client = match endpoint {
        Endpoint::Unix(path) => {
            let Some(path) = path.to_str() else {
                let what = "its path is not UTF-8".to_owned();
                return Err(EngineError::NotAnEngine { endpoint: endpoint.clone(), what });
            };
            Docker::connect_with_unix(path, CLIENT_LIMIT_SECONDS, version)
        }
        Endpoint::Tcp(authority) => Docker::connect_with_http(authority, CLIENT_LIMIT_SECONDS, version),
    };
    client.map_err(|error| match error {
        // The socket went away since it was probed.
        ClientError::SocketNotFoundError(_) => EngineError::Absent { endpoint: endpoint.clone() },
        other => EngineError::NotAnEngine { endpoint: endpoint.clone(), what: other.to_string() },
    })
}

async fn introduce(docker: Docker) -> Result<(Docker, Capabilities), ClientError> {
    let docker = docker.negotiate_version().await?;
    let version = docker.version().await?;
    let info = docker.info().await?;
    let capabilities = Capabilities::read(&version, &info).ok_or(ClientError::APIVersionParseError {})?;
    Ok((docker, capabilities))
}

fn introduction_error(endpoint: Endpoint, error: ClientError) -> EngineError {
    match error {
        // systemd's socket, a proxy in front, or the daemon itself while it restores its state.
        ClientError::DockerResponseServerError { status_code: status_code @ 500.., message } => {
            EngineError::Starting {
                endpoint,
                what: format!("HTTP {status_code}: {}", crate::answer::one_line(&message)),
            }
        }
        ClientError::DockerResponseServerError { status_code, .. } => EngineError::NotAnEngine {
            endpoint,
            what: format!("it answers HTTP {status_code} to GET /version"),
        },
        ClientError::APIVersionParseError {} => EngineError::NotAnEngine {
            endpoint,
            what: "its answer to GET /version has no API version".to_owned(),
        },
        other => EngineError::NotAnEngine { endpoint, what: innermost(&other) },
    }
}

/// The last cause is the one that says something: the client's own layers say "client error".
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    crate::answer::one_line(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_may_not_be_opened_says_who_may() {
        let denied = |path: &str| {
            connect_error(Endpoint::Unix(path.into()), io::ErrorKind::PermissionDenied.into()).to_string()
        };
        // Root's on every Linux, and one that cannot be looked at.
        assert!(denied("/proc").contains("only root may; use sudo"), "{}", denied("/proc"));
        assert!(denied("/no/such/socket").contains("mostly `docker`"), "{}", denied("/no/such/socket"));
        let error = EngineError::Permission {
            endpoint: Endpoint::Unix("/var/run/docker.sock".into()),
            group: Some("docker".to_owned()),
            source: io::ErrorKind::PermissionDenied.into(),
        };
        assert!(error.to_string().contains("usermod -aG docker USER"), "{error}");
    }

    #[test]
    fn a_group_is_found_by_its_number() {
        let groups = "root:x:0:\nbroken\ndocker:x:998:pi,anna\nlast:x:1000:";
        assert_eq!(group_name(groups, 998).as_deref(), Some("docker"));
        assert_eq!(group_name(groups, 0).as_deref(), Some("root"));
        assert_eq!(group_name(groups, 5), None);
        assert_eq!(group_name("", 5), None);
    }
}
