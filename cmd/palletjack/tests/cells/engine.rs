//! Real engines behind one face.

use std::net::TcpListener;

use palletjack_testkit::Ran;
use palletjack_testkit::real::{Docker29, DockerCli, Dockerd, DockerdOptions, Part, Podman, Store};

use crate::cell::EngineKind;

pub(crate) enum Engine {
    Docker { daemon: Box<Dockerd>, client: DockerCli },
    Podman(Podman),
}

impl Engine {
    pub(crate) fn start(kind: EngineKind) -> Self {
        let options = || {
            // What listens there is the program, for the moment that it needs.
            let address = free_address(kind);
            let args = vec!["--registry-mirror".to_owned(), format!("http://{address}")];
            DockerdOptions { args, ..DockerdOptions::default() }
        };
        let daemon = match kind {
            EngineKind::Podman => return Self::Podman(Podman::start().unwrap()),
            EngineKind::Docker20 => Dockerd::debian_with(options()),
            EngineKind::Docker28Graph => Dockerd::forky_with(Store::GraphDriver, options()),
            EngineKind::Docker29Graph => Dockerd::built_with(Store::GraphDriver, options()),
            EngineKind::Docker28Containerd => Dockerd::forky(Store::Containerd),
            EngineKind::Docker29Containerd => Dockerd::built(Store::Containerd),
        };
        let daemon = Box::new(daemon.unwrap());
        Self::Docker { client: daemon.docker().unwrap(), daemon }
    }

    pub(crate) fn host(&self) -> String {
        match self {
            Self::Docker { daemon, .. } => daemon.host(),
            Self::Podman(podman) => podman.host(),
        }
    }

    pub(crate) fn version(&self, kind: EngineKind) -> String {
        match self {
            _ if kind.part() == Part::Docker29 => format!("moby {}", Docker29::VERSION),
            Self::Docker { daemon, .. } => format!("Docker {}", daemon.version()),
            Self::Podman(_) => self.run(&["--version"]).stdout.trim().to_owned(),
        }
    }

    /// Runs the engine's client.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        match self {
            Self::Docker { client, .. } => client.run(args),
            Self::Podman(podman) => podman.run(args),
        }
        .unwrap()
    }

    /// A container of it, not started.
    pub(crate) fn create(&self, reference: &str) -> Ran {
        match self {
            Self::Docker { client, .. } => client.create_never(reference),
            Self::Podman(podman) => podman.create_never(reference),
        }
        .unwrap()
    }

    /// A container of it, created as by [`Self::create`] and run to its end.
    pub(crate) fn start_container(&self, reference: &str) -> Ran {
        self.run(&["run", "--rm", "--pull=never", "--network=none", reference])
    }

    /// Whether Docker's containerd store keeps a record of an image beside its names. It is in no listing, so it is
    /// removed if it is there.
    pub(crate) fn had_nameless_record(&self, id: &str) -> bool {
        let is_containerds =
            matches!(self, Self::Docker { daemon, .. } if daemon.store() == Store::Containerd);
        is_containerds && self.run(&["rmi", &format!("moby-dangling@{id}")]).success()
    }
}

/// An address of loopback where nothing listens, and where no other process of these tests looks for a free port.
fn free_address(kind: EngineKind) -> std::net::SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = std::net::Ipv4Addr::new(127, 1 + kind as u8, high, low);
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}
