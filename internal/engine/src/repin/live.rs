//! The way that leads a running daemon to us for some seconds.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use palletjack_registry::serve::Mirror;
use palletjack_store::{Image, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::changes::{self, ChangeError, Changes, Turn, Wish};
use super::daemon::{Daemon, DaemonError};
use super::mirror::{HUB, LAST_ANSWERS, is_hubs, names_only};
use super::pull::Servers;
use super::{RepinError, Repinned, Way};
use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::endpoint::Endpoint;
use crate::error::EngineError;

/// How long a daemon may go on with what it read of the hosts file before: Go's resolver looks at it every five
/// seconds.
const HOSTS_PATIENCE: Duration = Duration::from_secs(7);
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Where things are on the machine.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// The daemon's configuration file, where the one on its command line (else Docker's default) is not meant.
    pub daemon_config: Option<PathBuf>,
    /// The machine's hosts file.
    pub hosts: PathBuf,
    /// A directory for what must be undone. It has to outlive a restart of the machine.
    pub state: PathBuf,
    /// The address that the daemon is led to: one of 127.0.0.0/8, which Docker speaks plain HTTP with, and none that
    /// something else is likely to listen on.
    pub address: Ipv4Addr,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            daemon_config: None,
            hosts: "/etc/hosts".into(),
            state: "/var/lib/palletjack".into(),
            address: Ipv4Addr::new(127, 0, 0, 5),
        }
    }
}

/// What is being done.
#[derive(Debug)]
pub enum LiveStep<'a> {
    /// An earlier run was killed, and what it left was undone.
    Recovered,
    /// The changes are about to be made.
    Changing {
        /// The configuration that the daemon is made to read, twice; `None` where no name of Docker Hub is at issue.
        config: Option<&'a std::path::Path>,
        /// The hosts that every program on the machine resolves to us meanwhile.
        hosts: &'a [String],
        /// To where.
        address: Ipv4Addr,
    },
    /// The daemon has heard, and is about to pull.
    Changed,
    /// All is as before.
    Undone {
        /// For how long it was not.
        after: Duration,
    },
}

/// Why a daemon could not be led to us. Where something had been changed, it was undone.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// It runs on another machine.
    #[error(
        "live re-pinning is for a Docker on this machine behind its own socket; {endpoint} may be anywhere. \
         Run palletjack there"
    )]
    Remote {
        /// Where it is.
        endpoint: Endpoint,
    },
    /// It keeps digests by itself.
    #[error("{engine} keeps the digests of loaded images by itself: there is nothing to re-pin")]
    Needless {
        /// What it is.
        engine: String,
    },
    /// Something has the port.
    #[error(
        "{address} cannot be listened on, so dockerd cannot be led to it: {}",
        match .source.kind() {
            io::ErrorKind::AddrInUse => "another program has the port, on this address or on all \
                (`ss -ltnp` says which); stop it for the time, or use --compose-override",
            io::ErrorKind::PermissionDenied => "ports below 1024 need root",
            _ => "the system does not allow it",
        }
    )]
    Port {
        /// The address and port.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something answers where dockerd tries HTTPS first.
    #[error(
        "something listens on {address}, where dockerd would try HTTPS before it comes to us on port 80; \
         stop it for the time, or use --compose-override"
    )]
    Https {
        /// The address and port.
        address: SocketAddr,
    },
    /// The daemon's command line has mirrors, and it refuses to be given others.
    #[error(
        "dockerd (process {pid}) was started with --registry-mirror and takes no mirror from its configuration file; \
         use --compose-override, or give it http://127.0.0.1:5000 as one of its mirrors"
    )]
    MirrorFlag {
        /// Its process ID.
        pid: u32,
    },
    /// Something could not be changed or undone.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The daemon was not found, or cannot be told.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// It did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Which images go which way.
#[derive(Debug, Default)]
struct Route {
    hub: bool,
    /// Hosts without ports.
    hosts: Vec<String>,
    ports: BTreeSet<u16>,
    /// In the order of the images: why one cannot be reached.
    unreachable: Vec<Option<String>>,
}

impl Engine {
    /// Makes the pins of these images resolve by pulling them from a server of ours, to which the running daemon is
    /// led for some seconds: by a mirror in its configuration (reloaded by SIGHUP, no container stops) and by entries
    /// in the hosts file. All of that is undone before this returns, when it is cancelled, and, after a kill or a
    /// power cut, by the next run. Needs root. The images have to be in the engine: no content is handed out.
    pub async fn repin_live(
        &self,
        store: &Store,
        images: &[&Image],
        options: &LiveOptions,
        tell: &(dyn Fn(LiveStep<'_>) + Send + Sync),
    ) -> Result<Repinned, LiveError> {
        let Endpoint::Unix(socket) = self.endpoint() else {
            return Err(LiveError::Remote { endpoint: self.endpoint().clone() });
        };
        if self.capabilities().kind != EngineKind::DockerGraph {
            return Err(LiveError::Needless { engine: self.capabilities().to_string() });
        }
        let daemon = Daemon::behind(socket)?;
        let turn = Turn::take(&options.state)?;
        if changes::undo_before(&turn)? {
            tell(LiveStep::Recovered);
        }
        let route = self.route(images).await?;
        if route.hub && daemon.mirrors_by_flag {
            return Err(LiveError::MirrorFlag { pid: daemon.pid });
        }
        let servers = listen(store, options.address, &route).await?;

        let config = options.daemon_config.clone().unwrap_or_else(|| daemon.config.clone());
        let wish = Wish {
            socket: socket.clone(),
            mirror: route.hub.then(|| (format!("http://{}", options.address), config)),
            hosts: (!route.hosts.is_empty())
                .then(|| (options.address.to_string(), route.hosts.clone(), options.hosts.clone())),
        };
        tell(LiveStep::Changing {
            config: wish.mirror.as_ref().map(|(_, path)| path.as_path()),
            hosts: &route.hosts,
            address: options.address,
        });
        let start = Instant::now();
        let changes = Changes::begin(turn, &wish)?;
        changes.apply(&daemon)?;
        self.wait_until_heard(&changes).await?;
        tell(LiveStep::Changed);

        let mut results = Vec::with_capacity(images.len());
        let mirrors = Servers(&servers);
        for (image, unreachable) in images.iter().zip(route.unreachable) {
            results.push(Some(match unreachable {
                Some(why) => Err(RepinError::Unreachable { image: image.entry.reference.familiar(), why }),
                None => {
                    let patience = if is_hubs(image) { Duration::ZERO } else { HOSTS_PATIENCE };
                    self.pull_pin(image, &mirrors, patience).await
                }
            }));
        }
        // A task that has begun is ended also when nobody waits for it any more.
        tokio::task::spawn_blocking(move || changes.undo()).await.map_err(|error| ChangeError::File {
            what: "undo what was written to",
            path: options.hosts.clone(),
            source: io::Error::other(error),
        })??;
        let served = mirrors.served();
        for server in servers {
            server.stop(LAST_ANSWERS).await;
        }
        tell(LiveStep::Undone { after: start.elapsed() });
        Ok(Repinned { way: Way::Live, images: results, served })
    }

    async fn wait_until_heard(&self, changes: &Changes) -> Result<(), LiveError> {
        let start = Instant::now();
        while !changes.heard(&self.mirrors().await?) {
            if start.elapsed() > changes::RELOAD {
                return Err(changes.not_reloaded().into());
            }
            sleep(changes::PAUSE).await;
        }
        Ok(())
    }

    async fn route(&self, images: &[&Image]) -> Result<Route, LiveError> {
        let info = self.docker.info().await.map_err(|error| EngineError::Ask {
            what: "its configuration".to_owned(),
            source: error.into(),
        })?;
        let proxy = [info.http_proxy, info.https_proxy].into_iter().flatten().find(|proxy| !proxy.is_empty());
        let domains = images.iter().map(|image| image.entry.reference.domain());
        Ok(Route::of(domains, proxy.is_some()))
    }
}

impl Route {
    fn of<'a>(domains: impl Iterator<Item = &'a str>, proxy: bool) -> Self {
        let mut route = Self::default();
        for domain in domains {
            if domain == HUB {
                route.hub = true;
                route.ports.insert(HTTP);
                route.unreachable.push(None);
                continue;
            }
            let (host, port) = match domain.rsplit_once(':') {
                Some((host, port)) if !domain.ends_with(']') => (host, port.parse().unwrap_or(HTTP)),
                _ => (domain, HTTP),
            };
            let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
            let why = if is_address || host == "localhost" {
                Some(format!("its registry {domain} is an address, which no hosts file leads elsewhere"))
            } else if proxy {
                Some(
                    "the engine reaches registries through a proxy, which the hosts file does not lead to us"
                        .to_owned(),
                )
            } else {
                None
            };
            if why.is_none() {
                route.ports.insert(port);
                if !route.hosts.iter().any(|known| known == host) {
                    route.hosts.push(host.to_owned());
                }
            }
            route.unreachable.push(why);
        }
        route
    }
}

/// A server on each port that a name of the route has.
async fn listen(store: &Store, address: Ipv4Addr, route: &Route) -> Result<Vec<Mirror>, LiveError> {
    let mut servers = Vec::new();
    for port in &route.ports {
        let address = SocketAddr::from((address, *port));
        let refused = |source| LiveError::Port { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        servers.push(Mirror::start(listener, store.clone(), names_only()).map_err(refused)?);
    }
    let https = SocketAddr::from((address, HTTPS));
    // Where a registry's own port is that of HTTPS, it is us who answer there.
    if !route.hosts.is_empty() && !route.ports.contains(&HTTPS) {
        let answers = timeout(Duration::from_secs(2), TcpStream::connect(https)).await;
        if matches!(answers, Ok(Ok(_))) {
            return Err(LiveError::Https { address: https });
        }
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_led_by_a_mirror_or_by_the_hosts_file() {
        let domains = [
            "docker.io",
            "ghcr.io",
            "quay.io:443",
            "ghcr.io",
            "reg.local:5000",
            "127.0.0.1:5000",
            "[::1]",
            "localhost:5000",
        ];
        let route = Route::of(domains.into_iter(), false);
        assert!(route.hub);
        assert_eq!(route.hosts, ["ghcr.io", "quay.io", "reg.local"]);
        assert_eq!(route.ports.iter().copied().collect::<Vec<_>>(), [80, 443, 5000]);
        let reached: Vec<bool> = route.unreachable.iter().map(Option::is_none).collect();
        assert_eq!(reached, [true, true, true, true, true, false, false, false]);

        let route = Route::of(["docker.io", "ghcr.io"].into_iter(), true);
        assert!(route.hosts.is_empty());
        assert!(route.unreachable[0].is_none() && route.unreachable[1].as_ref().unwrap().contains("proxy"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_told() {
        let other = TcpListener::bind("127.0.0.6:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let platform = palletjack_image::Platform::host();
        let store = Store::open(directory.path(), palletjack_store::Access::Write, &platform).unwrap();
        let port = other.local_addr().unwrap().port();
        let route = Route { ports: [port].into(), ..Route::default() };
        let error = listen(&store, Ipv4Addr::new(127, 0, 0, 6), &route).await.unwrap_err();
        assert!(error.to_string().contains("another program has the port"), "{error}");
        assert!(error.to_string().contains(&format!("127.0.0.6:{port}")), "{error}");
    }
}
