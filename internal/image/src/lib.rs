//! The vocabulary of container images. No I/O, no async, no clock.
//!
//! ```text
//!   "caddy:2.6.2@sha256:9f1c…"            Reference   what people write; Docker's rules
//!            │ resolves to
//!            ▼
//!   Descriptor {media type, digest, size}  Digest      sha256 only; Hasher computes it
//!            │ names the bytes of
//!            ▼
//!   Manifest ── Index ──► child Descriptors, one chosen by Platform (variant-aware)
//!            └─ Image ──► config Descriptor, layer Descriptors
//!                              │
//!                              ▼
//!                           Config   platform, diff IDs ──► chain IDs
//! ```
//!
//! What this crate promises:
//!
//! * parsing never panics and never allocates more than a small multiple of its input, and a manifest larger than
//!   [`Manifest::MAX_SIZE`] bytes is refused;
//! * a [`Manifest`] keeps the bytes it was parsed from. Nothing here can write a manifest back, because a
//!   re-serialised manifest has another digest;
//! * [`Reference`] says the same as Docker's `distribution/reference` about what is valid, what `docker.io` and
//!   `library/` are added to, and how a name is shown to people.
//!
//! What it never does: read a file, open a socket, ask the machine anything but its own architecture
//! ([`Platform::host`]), or guess `latest` (callers that want Docker's default tag say so with
//! [`Reference::or_latest`]).

mod config;
mod descriptor;
mod digest;
mod layer;
mod manifest;
pub mod media_type;
mod platform;
mod reference;

pub use config::{Config, ConfigError, chain_ids};
pub use descriptor::Descriptor;
pub use digest::{Digest, DigestError, Hasher};
pub use layer::LayerCompression;
pub use manifest::{ChildError, ImageManifest, Index, Manifest, ManifestError, ManifestKind};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
