//! The way that changes nothing: the daemon asks a mirror on loopback anyway.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use palletjack_registry::serve::{Mirror, MirrorOptions, Served, is_mirror};
use palletjack_store::{Image, Store};
use tokio::net::TcpListener;

use super::pull::Servers;
use super::{Repinned, Way};
use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::endpoint::Endpoint;
use crate::error::EngineError;

/// How long open answers may take when the server stops.
pub(super) const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The registry that mirrors are for.
pub(super) const HUB: &str = "docker.io";

impl Engine {
    /// Makes the pins of these images resolve by pulling them from a loopback mirror that the engine is configured
    /// with, where there is one at which we can listen, or at which a server of ours listens already. `None` where
    /// there is none, where the engine is not on this machine, and where it keeps digests without that.
    ///
    /// The images have to be in the engine: no content is handed out.
    pub async fn repin_by_mirror(
        &self,
        store: &Store,
        images: &[&Image],
    ) -> Result<Option<Repinned>, EngineError> {
        if self.capabilities().kind != EngineKind::DockerGraph
            || !matches!(self.endpoint(), Endpoint::Unix(_))
        {
            return Ok(None);
        }
        if !images.iter().any(|image| is_hubs(image) && image.entry.has_pin()) {
            return Ok(None);
        }
        for address in self.loopback_mirrors().await? {
            let (mirror, way) = match TcpListener::bind(address).await {
                Ok(listener) => match Mirror::start(listener, store.clone(), names_only()) {
                    Ok(mirror) => (Some(mirror), Way::Mirror(address)),
                    Err(_) => continue,
                },
                Err(_) if is_mirror(address).await => (None, Way::Standing(address)),
                Err(error) => {
                    tracing::debug!(%address, %error, "another server has the engine's mirror");
                    continue;
                }
            };
            let mut results = Vec::with_capacity(images.len());
            let servers = Servers(mirror.as_slice());
            for image in images {
                results.push(if is_hubs(image) {
                    Some(self.pull_pin(image, &servers, Duration::ZERO).await)
                } else {
                    None
                });
            }
            let served = match mirror {
                Some(mirror) => mirror.stop(LAST_ANSWERS).await,
                None => Served::default(),
            };
            return Ok(Some(Repinned { way, images: results, served }));
        }
        Ok(None)
    }

    /// The mirrors for Docker Hub that the engine asks and that are on its own machine.
    async fn loopback_mirrors(&self) -> Result<Vec<SocketAddr>, EngineError> {
        let mirrors = self.mirrors().await?;
        Ok(mirrors.iter().filter_map(|url| loopback(url)).collect())
    }

    /// The URLs of the mirrors that the engine asks.
    pub(super) async fn mirrors(&self) -> Result<Vec<String>, EngineError> {
        let info = self.docker.info().await.map_err(|error| EngineError::Ask {
            what: "its configuration".to_owned(),
            source: error.into(),
        })?;
        Ok(info.registry_config.and_then(|config| config.mirrors).unwrap_or_default())
    }
}

pub(super) fn is_hubs(image: &Image) -> bool {
    image.entry.reference.domain() == HUB
}

/// For a daemon that has the images: no content, and no other registry's image under Docker Hub's name.
pub(super) fn names_only() -> MirrorOptions {
    MirrorOptions { registry: Some(HUB.to_owned()), blobs: false, ..MirrorOptions::default() }
}

/// The address of `http://127.0.0.1:5000/`; `None` for what is not plain HTTP on loopback, or has a path.
fn loopback(url: &str) -> Option<SocketAddr> {
    let rest = url.strip_prefix("http://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let address = authority.parse::<SocketAddr>().ok().or_else(|| {
        let host = |text: &str| match text {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            text => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
        };
        match host(authority) {
            Some(ip) => Some(SocketAddr::new(ip, 80)),
            None => {
                let (name, port) = authority.rsplit_once(':')?;
                Some(SocketAddr::new(host(name)?, port.parse().ok()?))
            }
        }
    })?;
    (address.ip().is_loopback() && address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_loopback_mirrors_are_ours_to_answer_for() {
        for (url, want) in [
            ("http://127.0.0.1:5000/", Some("127.0.0.1:5000")),
            ("http://127.0.0.5", Some("127.0.0.5:80")),
            ("http://localhost:5000", Some("127.0.0.1:5000")),
            ("http://localhost/", Some("127.0.0.1:80")),
            ("http://[::1]:81/", Some("[::1]:81")),
            ("http://[::1]", Some("[::1]:80")),
            ("https://127.0.0.1:5000/", None),
            ("http://mirror.gcr.io/", None),
            ("http://10.0.0.1:5000/", None),
            ("http://127.0.0.1:5000/hub/", None),
            ("http://127.0.0.1:0/", None),
            ("http://localhost:x", None),
            ("", None),
        ] {
            assert_eq!(loopback(url), want.map(|address| address.parse().unwrap()), "{url}");
        }
    }
}
