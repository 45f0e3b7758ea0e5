//! OCI distribution: the client that pulls into the cache, and the read-only server over it ([`serve`]).
//!
//! ```text
//!                         Wanted, Wanted, …
//!                               │
//!   ┌─ Puller ──────────────────▼─────────────────────────────────────────────┐
//!   │  resolve ── each image ──► board ── each digest once, largest first     │
//!   │                              │                                          │
//!   │  publish ◄── last blob ── transfer: socket ─► pieces ─► hash and write ──────► store
//!   └──────┬───────────────────────┬──────────────────────────────────────────┘
//!          ▼                       ▼
//!   Remote: resolve, manifest, blob_from, tags, digest_of_tag        the seam
//!          │ mirrors in order, then the registry; one line of error for each
//!          ├─ auth      challenges, credentials, one token per repository
//!          ├─ retry     what is tried again, when, and when no more
//!          ├─ http      one pool; TLS built when first needed; redirects by hand
//!          └─ tags      oci-client, where neither status nor header matters
//!
//!   serve: manifests and blobs that the cache has ──► daemons, skopeo, neighbours        names nothing else, fetches nothing
//! ```
//!
//! What this crate promises:
//!
//! * An image that is published, pinned and complete costs no request, and a run that has nothing to fetch opens no
//!   socket.
//! * Nothing is published before every byte of it was verified by digest and is durable. One image's failure stops no
//!   other; whatever shares a blob that cannot be had fails by name.
//! * Memory does not grow with layers: what was read and is not yet written stays below 8 MiB over all transfers.
//!   Manifests and configs of more than [`Manifest::MAX_SIZE`](palletjack_image::Manifest::MAX_SIZE) bytes are refused.
//! * A credential goes to the server that it was stored for and to the token service that this server names, over TLS
//!   or on loopback, unless the configuration says otherwise; never along a redirect to another origin.
//! * Everything that is tried again comes to an end: after six tries without progress, or ten minutes, or sooner where
//!   the server asks for more patience than that.
//! * What a server says is quoted shortened and without control characters.
//! * Cancelling leaves partial downloads that the next run continues.
//!
//! What it never does: read the environment (`rustls-native-certs` looks at `SSL_CERT_FILE` and `SSL_CERT_DIR`, as
//! every TLS program does), print, exit, choose what is to be fetched, or follow HTTPS to plain HTTP.
//!
//! All calls belong in a Tokio runtime with time and I/O enabled; file work goes to its blocking threads.

mod auth;
mod config;
mod error;
mod event;
mod http;
mod pull;
mod quote;
mod remote;
mod retry;
pub mod serve;
mod tags;
mod tls;

pub use auth::{CredentialError, CredentialSources};
pub use config::{Config, ProxyConfig, RegistryConfig, Timeouts};
pub use error::{Cause, ErrorKind, Failure, RemoteError};
pub use event::{Event, Events};
pub use pull::{ImageOutcome, PullError, PullOptions, PullSummary, Pulled, Puller, Reason, Refresh, Wanted};
pub use remote::{BlobBody, Fetched, Remote, Traffic};
pub use reqwest::Url;
pub use retry::{RetryPolicy, Sleep};
