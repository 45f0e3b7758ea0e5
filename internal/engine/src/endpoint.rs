//! Where the engine is: read from values that the caller found, chosen as Docker's own client chooses.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP over TCP, `host:port`.
    Tcp(String),
}

/// Docker's own socket, where everybody looks first.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Podman's socket for root (`podman.socket` of the system manager).
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
/// The port that Docker means where `tcp://` has none.
const DEFAULT_PORT: u16 = 2375;

/// Why a text is no endpoint that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A host to be reached by ssh.
    #[error(
        "`{0}`: an engine is not reached over ssh; forward its socket \
         (`ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST`) and use unix:///tmp/engine.sock"
    )]
    Ssh(String),
    /// A Windows pipe or an inherited file descriptor.
    #[error("`{0}` cannot be used on this system: use unix:///path or tcp://host:port")]
    Unsupported(String),
    /// An engine behind TLS.
    #[error(
        "`{0}`: TLS to an engine is not supported; forward its socket \
         (`ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST`) and use unix:///tmp/engine.sock"
    )]
    Tls(String),
    /// Anything else.
    #[error("`{text}` is no engine address ({what}): use unix:///path or tcp://host:port")]
    Malformed {
        /// The text, shortened.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The chosen docker context is not among those that were found.
    #[error("docker context `{0}` does not exist: `docker context ls` lists them")]
    NoContext(String),
    /// The same, where some that were found cannot be read, so that it may be one of them.
    #[error(
        "docker context `{name}` does not exist, or its meta.json is damaged ({damaged} below `contexts/meta` of Docker's \
         client directory cannot be read): make it anew with `docker context create`, or set DOCKER_HOST"
    )]
    DamagedContext {
        /// The name that was looked for.
        name: String,
        /// How many cannot be read.
        damaged: usize,
    },
    /// The chosen docker context is for something else than Docker.
    #[error(
        "docker context `{0}` has no address of a Docker engine: `docker context inspect {0}` shows what it has"
    )]
    ContextWithoutDocker(String),
    /// The chosen docker context has an engine's address that cannot be used.
    #[error("docker context `{name}` cannot be used")]
    Context {
        /// Its name.
        name: String,
        /// What is wrong with its address.
        #[source]
        source: Box<EndpointError>,
    },
    /// Docker's client configuration is not JSON.
    #[error("docker's config.json is not valid: {0}")]
    Config(String),
}

impl Endpoint {
    /// Reads an address as `DOCKER_HOST` has it: `unix:///path`, `tcp://host[:port]` or `http://host[:port]`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let shown = || shown(text);
        let malformed = |what| EndpointError::Malformed { text: shown(), what };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(malformed("it has no `://`"));
        };
        match scheme {
            "unix" if rest.is_empty() => Ok(Self::Unix(DOCKER_SOCKET.into())),
            "unix" if !rest.starts_with('/') => Err(malformed("the socket's path is not absolute")),
            "unix" if rest.contains('\0') => Err(malformed("the socket's path has a NUL in it")),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "http" => authority(rest).map(Self::Tcp).map_err(malformed),
            "https" => Err(EndpointError::Tls(shown())),
            "ssh" => Err(EndpointError::Ssh(shown())),
            "npipe" | "fd" => Err(EndpointError::Unsupported(shown())),
            _ => Err(malformed("its scheme is not known")),
        }
    }
}

/// An address for a message: one short line, without what may be a password.
fn shown(text: &str) -> String {
    let text = match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    };
    text.chars().take(120).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `host:port` with the port filled in.
fn authority(text: &str) -> Result<String, &'static str> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '?', '#', '@']) {
        return Err("more than host and port");
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("the `[` is never closed")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("no IPv6 address in the brackets");
            }
            let port =
                if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or("no `:port`")?) };
            (format!("[{address}]"), port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || (!host.starts_with('[') && !host.bytes().all(is_host)) {
        return Err("no host name");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().map_err(|_| "no port number after the `:`")?,
    };
    Ok(format!("{host}:{port}"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// What the caller found in its environment and in Docker's files. Nothing of it is read here.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// An option of the command line, or `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// Whether `DOCKER_TLS_VERIFY` is set and not empty.
    pub docker_tls_verify: bool,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// The content of `config.json` in Docker's client directory (`~/.docker`).
    pub docker_config: Option<String>,
    /// The content of each `contexts/meta/*/meta.json` in the same directory.
    pub contexts: Vec<String>,
    /// `XDG_RUNTIME_DIR`, where rootless engines have their sockets.
    pub runtime_dir: Option<PathBuf>,
}

/// A chosen endpoint, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where the engine should be.
    pub endpoint: Endpoint,
    /// For messages: "DOCKER_HOST", "docker context `pi`", "the default".
    pub because: String,
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(default, rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(default, rename = "Endpoints")]
    endpoints: std::collections::HashMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(default, rename = "Host")]
    host: String,
}

/// Chooses the endpoint as Docker's client does (docker/cli, "resolveContextName"): `DOCKER_HOST`, else the context
/// named by `DOCKER_CONTEXT` or `config.json`, else the default socket. Where that does not exist, a rootless
/// Docker's and Podman's sockets are tried in turn; `exists` looks for a path.
pub fn find(surroundings: &Surroundings, exists: &dyn Fn(&Path) -> bool) -> Result<Found, EndpointError> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
    if let Some(host) = given(&surroundings.docker_host) {
        let endpoint = Endpoint::parse(&host)?;
        if surroundings.docker_tls_verify && matches!(endpoint, Endpoint::Tcp(_)) {
            return Err(EndpointError::Tls(endpoint.to_string()));
        }
        return Ok(Found { endpoint, because: "DOCKER_HOST".to_owned() });
    }
    let context = match given(&surroundings.docker_context) {
        Some(name) => Some(name),
        None => current_context(surroundings.docker_config.as_deref())?,
    };
    match context {
        Some(name) if name != "default" => context_endpoint(&surroundings.contexts, &name),
        _ => Ok(default_endpoint(surroundings.runtime_dir.as_deref(), exists)),
    }
}

fn current_context(config: Option<&str>) -> Result<Option<String>, EndpointError> {
    let Some(config) = config.filter(|config| !config.trim().is_empty()) else { return Ok(None) };
    let config: ClientConfig =
        serde_json::from_str(config).map_err(|error| EndpointError::Config(error.to_string()))?;
    Ok(config.current_context.filter(|name| !name.is_empty()))
}

fn context_endpoint(contexts: &[String], name: &str) -> Result<Found, EndpointError> {
    let failed = |source| EndpointError::Context { name: name.to_owned(), source: Box::new(source) };
    let metas: Vec<ContextMeta> =
        contexts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let damaged = contexts.len() - metas.len();
    let meta = metas.into_iter().find(|meta| meta.name == name).ok_or_else(|| match damaged {
        0 => EndpointError::NoContext(name.to_owned()),
        damaged => EndpointError::DamagedContext { name: name.to_owned(), damaged },
    })?;
    let host = meta.endpoints.get("docker").map(|endpoint| &*endpoint.host).filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| EndpointError::ContextWithoutDocker(name.to_owned()))?;
    let endpoint = Endpoint::parse(host).map_err(failed)?;
    Ok(Found { endpoint, because: format!("docker context `{name}`") })
}

fn default_endpoint(runtime_dir: Option<&Path>, exists: &dyn Fn(&Path) -> bool) -> Found {
    let rootless = |name: &str| {
        runtime_dir.filter(|directory| directory.is_absolute()).map(|directory| directory.join(name))
    };
    let candidates = [
        Some((PathBuf::from(DOCKER_SOCKET), "the default")),
        rootless("docker.sock").map(|path| (path, "a rootless Docker")),
        rootless("podman/podman.sock").map(|path| (path, "a rootless Podman")),
        Some((PathBuf::from(PODMAN_SOCKET), "Podman")),
    ];
    let (path, because) = candidates
        .into_iter()
        .flatten()
        .find(|(path, _)| exists(path))
        .unwrap_or_else(|| (DOCKER_SOCKET.into(), "the default"));
    Found { endpoint: Endpoint::Unix(path), because: because.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &Path) -> bool {
        false
    }

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        for (text, want) in [
            ("unix:///run/d.sock", "unix:///run/d.sock"),
            (" unix:///run/d.sock\n", "unix:///run/d.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("tcp://device.local", "tcp://device.local:2375"),
            ("tcp://127.0.0.1:99/", "tcp://127.0.0.1:99"),
            ("http://[::1]:2375", "tcp://[::1]:2375"),
            ("tcp://[fe80::1]", "tcp://[fe80::1]:2375"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), want);
        }
    }

    #[test]
    fn a_message_is_one_line_without_a_password() {
        for text in
            ["tcp://user:s3cret@device:2375", "https://user:s3cret@device", "ssh://u:s3cret@x\nsecond"]
        {
            let message = Endpoint::parse(text).unwrap_err().to_string();
            assert!(!message.contains("s3cret") && !message.contains('\n'), "{message}");
            assert!(message.contains("://***@"), "{message}");
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_way_out() {
        for (text, want) in [
            ("", "no `://`"),
            ("/var/run/docker.sock", "use unix:///path"),
            ("unix://run/d.sock", "not absolute"),
            ("ssh://pi@device", "ssh -nNT -L"),
            ("npipe:////./pipe/docker_engine", "cannot be used on this system"),
            ("fd://", "cannot be used on this system"),
            ("https://device", "TLS"),
            ("tcp://", "no host name"),
            ("tcp://device:http", "no port number"),
            ("tcp://device:99999", "no port number"),
            ("tcp://device/prefix", "more than host and port"),
            ("tcp://user@device", "more than host and port"),
            ("tcp://[::1", "never closed"),
            ("tcp://[device]:1", "no IPv6 address"),
            ("ftp://device", "scheme"),
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn the_variable_comes_before_the_context_and_the_context_before_the_default() {
        let meta = |name: &str, host: &str| {
            format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#)
        };
        let mut around = Surroundings {
            docker_config: Some(r#"{"auths":{},"currentContext":"pi"}"#.to_owned()),
            contexts: vec!["broken".to_owned(), meta("pi", "tcp://pi:2375"), meta("far", "ssh://far")],
            ..Surroundings::default()
        };
        let found = find(&around, &nothing).unwrap();
        assert_eq!(
            (found.endpoint.to_string(), &*found.because),
            ("tcp://pi:2375".into(), "docker context `pi`")
        );

        around.docker_context = Some("default".to_owned());
        assert_eq!(find(&around, &nothing).unwrap().endpoint.to_string(), "unix:///var/run/docker.sock");
        around.docker_context = Some("far".to_owned());
        assert!(matches!(find(&around, &nothing), Err(EndpointError::Context { .. })));
        around.docker_context = Some("gone".to_owned());
        let damaged = EndpointError::DamagedContext { name: "gone".to_owned(), damaged: 1 };
        assert_eq!(find(&around, &nothing), Err(damaged));
        around.contexts.remove(0);
        assert_eq!(find(&around, &nothing), Err(EndpointError::NoContext("gone".to_owned())));
        around.contexts.push(r#"{"Name":"cluster","Endpoints":{"kubernetes":{"Host":"x"}}}"#.to_owned());
        around.docker_context = Some("cluster".to_owned());
        assert_eq!(find(&around, &nothing), Err(EndpointError::ContextWithoutDocker("cluster".to_owned())));

        around.docker_host = Some("unix:///run/other.sock".to_owned());
        assert_eq!(find(&around, &nothing).unwrap().because, "DOCKER_HOST");
        around.docker_host = Some("tcp://device:2376".to_owned());
        around.docker_tls_verify = true;
        assert!(matches!(find(&around, &nothing), Err(EndpointError::Tls(_))));
        around = Surroundings { docker_config: Some("{".to_owned()), ..Surroundings::default() };
        assert!(matches!(find(&around, &nothing), Err(EndpointError::Config(_))));
    }

    #[test]
    fn without_dockers_socket_the_next_engine_is_taken() {
        let around = Surroundings { runtime_dir: Some("/run/user/1000".into()), ..Surroundings::default() };
        for (there, want) in [
            (vec![], "/var/run/docker.sock"),
            (vec!["/run/podman/podman.sock"], "/run/podman/podman.sock"),
            (
                vec!["/run/podman/podman.sock", "/run/user/1000/podman/podman.sock"],
                "/run/user/1000/podman/podman.sock",
            ),
            (vec!["/run/podman/podman.sock", "/var/run/docker.sock"], "/var/run/docker.sock"),
        ] {
            let exists = |path: &Path| there.iter().any(|there| Path::new(there) == path);
            assert_eq!(find(&around, &exists).unwrap().endpoint, Endpoint::Unix(want.into()));
        }
    }
}
