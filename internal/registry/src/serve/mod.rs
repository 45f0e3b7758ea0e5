//! The registry that the cache is to others: read-only, and nothing but what the cache has.
//!
//! ```text
//!   GET /v2/acme/camera/manifests/1.2@…          Listener   so many connections, each with a limit of silence
//!            │                                       │
//!            ▼                                       ▼
//!   Question { registry, repository, what } ──► look_up: index.json, complete images only ──► Found
//!      Host, ?ns=, absolute form                     a lease for each request                │
//!                                                                                            ▼
//!                       manifests verified before they are sent; blobs hashed as they pass, the end held back
//! ```
//!
//! It speaks the pull half of the OCI distribution specification. What a daemon expects beyond its letter: dockerd
//! writes several `Accept` lines and refuses an index that only one of them allows; containerd names the registry in
//! `?ns=`; a proxy's client sends requests in absolute form; Docker 29 asks for referrers and fails where it gets an
//! error instead of an empty list.
//!
//! A name is served only where `index.json` has it, and only while every blob of the image is there. An image that
//! was rebuilt from an engine, or is listed under a digest which is not its own, is never served.

mod answer;
mod blob;
mod catalog;
mod connection;
mod question;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::PROXY_AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use palletjack_image::Platform;
use palletjack_store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use answer::Refusal;
use catalog::Catalog;
use connection::Gate;
use question::Question;

/// What the server says of itself; [`is_mirror`] looks for it.
const SERVER: &str = concat!("palletjack/", env!("CARGO_PKG_VERSION"));

/// The user that belongs to [`MirrorOptions::proxy_password`].
pub const PROXY_USER: &str = "palletjack";

/// How a [`Mirror`] serves.
#[derive(Debug, Clone)]
pub struct MirrorOptions {
    /// Whose images a bare tag means: of this platform only where it is set, else of the one that owns the tag.
    pub platform: Option<Platform>,
    /// The registry that is meant where a request names none. A daemon's mirror is for `docker.io` alone, and without
    /// this it would hand out another registry's image of the same path. Any registry unless set, Docker Hub's first.
    pub registry: Option<String>,
    /// Whether configs and layers are handed out. Without them it answers for names alone: whoever has an image
    /// already can ask what its digest is, and nobody can download one.
    pub blobs: bool,
    /// Answers are only for clients that have us as their proxy and give this password, with the user [`PROXY_USER`].
    pub proxy_password: Option<String>,
    /// How many connections are served at once; more wait in the system's queue. 64 unless set.
    pub connections: usize,
    /// How long a connection may go without a byte being sent on it, and how long a request may take to arrive. Two
    /// minutes unless set.
    pub silence: Duration,
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self {
            platform: None,
            registry: None,
            blobs: true,
            proxy_password: None,
            connections: 64,
            silence: Duration::from_mins(2),
        }
    }
}

/// What was asked of a [`Mirror`] so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Requests of any kind.
    pub requests: u64,
    /// Manifests and indexes handed out or, by HEAD, confirmed.
    pub manifests: u64,
    /// Requests for configs and layers, whatever came of them.
    pub blobs: u64,
    /// Bytes of configs and layers that were sent.
    pub blob_bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    manifests: AtomicU64,
    blobs: AtomicU64,
    blob_bytes: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Shared {
    catalog: Catalog,
    blobs: bool,
    /// The whole `Proxy-Authorization` that is asked for.
    authorization: Option<String>,
    local: SocketAddr,
    counters: Arc<Counters>,
}

/// A running server. Dropped, it breaks off what it is doing; [`Mirror::stop`] lets it finish.
#[derive(Debug)]
pub struct Mirror {
    address: SocketAddr,
    counters: Arc<Counters>,
    /// No new connections; open ones end with the answer that is being sent.
    closing: CancellationToken,
    /// Open connections end now.
    broken: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Mirror {
    /// Serves the cache on this listener until it is stopped. Belongs in a Tokio runtime.
    ///
    /// # Errors
    /// Those of the system, where the listener has no address.
    pub fn start(listener: TcpListener, store: Store, options: MirrorOptions) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            catalog: Catalog { store, platform: options.platform, registry: options.registry },
            blobs: options.blobs,
            authorization: options
                .proxy_password
                .map(|password| format!("Basic {}", BASE64.encode(format!("{PROXY_USER}:{password}")))),
            local: address,
            counters: counters.clone(),
        });
        let (closing, broken) = (CancellationToken::new(), CancellationToken::new());
        let gate = Gate::new(listener, options.connections, options.silence, broken.clone());
        let router = Router::new().fallback(handle).with_state(shared);
        let server = axum::serve(gate, router).with_graceful_shutdown(closing.clone().cancelled_owned());
        let server = tokio::spawn(std::future::IntoFuture::into_future(server));
        tracing::debug!(%address, "serving the cache");
        Ok(Self { address, counters, closing, broken, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked of it so far.
    pub fn served(&self) -> Served {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Served {
            requests: read(&self.counters.requests),
            manifests: read(&self.counters.manifests),
            blobs: read(&self.counters.blobs),
            blob_bytes: read(&self.counters.blob_bytes),
        }
    }

    /// Takes no more connections and lets answers that are being sent end, for at most `patience`. The address is
    /// free again on return.
    pub async fn stop(mut self, patience: Duration) -> Served {
        self.closing.cancel();
        if timeout(patience, &mut self.server).await.is_err() {
            self.broken.cancel();
            // Every connection sees that at once, and the server ends with the last of them.
            let _ = (&mut self.server).await;
        }
        self.served()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.closing.cancel();
        self.broken.cancel();
    }
}

/// Whether a server of this kind answers at an address. Anything else there, and nobody, is `false`.
pub async fn is_mirror(address: SocketAddr) -> bool {
    const PATIENCE: Duration = Duration::from_secs(2);
    const HEAD: u64 = 4096;
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /v2/ HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        stream.take(HEAD).read_to_end(&mut head).await?;
        std::io::Result::Ok(head)
    };
    let Ok(Ok(head)) = timeout(PATIENCE, ask).await else { return false };
    let head = String::from_utf8_lossy(&head);
    head.starts_with("HTTP/1.1 200 ")
        && head.lines().take_while(|line| !line.is_empty()).any(|line| {
            line.split_once(':').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("server") && value.trim().starts_with("palletjack/")
            })
        })
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    Counters::add(&shared.counters.requests, 1);
    let (Parts { method, uri, headers, .. }, _no_body) = request.into_parts();
    if let Some(wanted) = &shared.authorization
        && headers.get(PROXY_AUTHORIZATION).is_none_or(|given| given.as_bytes() != wanted.as_bytes())
    {
        return Refusal::not_for_everybody().response();
    }
    let answer = match Question::read(&method, &uri, &headers, shared.local) {
        Ok(question) => respond(&shared, question).await,
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok(response) => {
            tracing::debug!(%method, %uri, status = response.status().as_u16(), "served");
            response
        }
        Err(refusal) => {
            tracing::debug!(%method, %uri, %refusal, "not served");
            refusal.response()
        }
    }
}

async fn respond(shared: &Arc<Shared>, question: Question) -> Result<Response, Refusal> {
    if question.is_about_a_blob() {
        Counters::add(&shared.counters.blobs, 1);
        if !shared.blobs {
            return Err(Refusal::blob_unknown("only names are served here, no content"));
        }
    }
    let range = question.range.clone();
    let head = question.head;
    let found = {
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || shared.catalog.look_up(&question))
            .await
            .map_err(|error| Refusal::internal(error.to_string()))??
    };
    answer::response(found, head, range.as_deref(), &shared.counters)
}
