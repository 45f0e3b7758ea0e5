//! How a private engine comes to pull from us, and from nobody else.
//!
//! ```text
//!   dockerd ── HTTP_PROXY, HTTPS_PROXY with a password ──► Mirror on 127.0.0.1
//!     docker.io:  --registry-mirror http://docker.io       GET http://docker.io/v2/…
//!     ghcr.io:    --insecure-registry ghcr.io              CONNECT ghcr.io:443 ✗, then GET http://ghcr.io/v2/…
//! ```
//!
//! Nothing of the machine is changed, and no privilege is needed beyond what dockerd needs. Whatever the engine asks for
//! goes to the proxy, which only has what the cache has: it has no other network. Nobody without the password is
//! answered, so the cache is not open to the machine's other users meanwhile. The other way, a hosts entry in a mount and
//! network namespace of the engine's own, needs a server of ours in there; what both leave in the data root is the same.
//!
//! Go's proxies are not asked for `localhost` and addresses of 127.0.0.0/8 (`golang.org/x/net/http/httpproxy`): a
//! registry of such a name cannot be led to us, and its images are loaded instead.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use palletjack_image::Digest;
use palletjack_registry::serve::{Mirror, MirrorOptions, PROXY_USER, Served};
use palletjack_store::{Image, Store};
use tokio::net::TcpListener;

use super::error::SeedError;

const HUB: &str = "docker.io";
/// How long answers may take when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// A server that one engine can ask.
#[derive(Debug)]
pub(super) struct Way {
    mirror: Mirror,
    password: String,
    hosts: Vec<String>,
}

impl Way {
    pub(super) async fn open(store: &Store, images: &[Image]) -> Result<Self, SeedError> {
        let failed = |source| SeedError::System { what: "serve the cache on loopback".to_owned(), source };
        let password = secret().map_err(failed)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let options = MirrorOptions { proxy_password: Some(password.clone()), ..MirrorOptions::default() };
        let mirror = Mirror::start(listener, store.clone(), options).map_err(failed)?;
        let mut hosts: Vec<String> =
            images.iter().map(|image| image.entry.reference.domain().to_owned()).collect();
        hosts.sort();
        hosts.dedup();
        Ok(Self { mirror, password, hosts })
    }

    pub(super) fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--registry-mirror".into(), format!("http://{HUB}").into()];
        for host in self.hosts.iter().filter(|host| *host != HUB) {
            args.extend(["--insecure-registry".into(), host.into()]);
        }
        args
    }

    pub(super) fn env(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://{PROXY_USER}:{}@{}", self.password, self.mirror.address());
        ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"].map(|name| (name, url.clone())).to_vec()
    }

    pub(super) async fn close(self) -> Served {
        self.mirror.stop(LAST_ANSWERS).await
    }
}

/// Whether a registry's images can be pulled by this way.
pub(super) fn leads(image: &Image) -> bool {
    let reference = &image.entry.reference;
    let domain = reference.domain();
    let host = match domain.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => domain,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    // What was put together from an engine is not what the registry has, and is served to nobody.
    !is_loopback && image.entry.rebuilt.is_none()
}

/// Whether dockerd asks a mirror for it, and then the registry itself.
pub(super) fn is_hubs(image: &Image) -> bool {
    image.entry.reference.domain() == HUB
}

fn secret() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Digest::of(&bytes).hex())
}
