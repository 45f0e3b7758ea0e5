//! Images back from an engine: the stream of `GET /images/…/get` into the cache.
//!
//! ```text
//!   Docker, graph driver       <id>/layer.tar, <config>.json      raw layers, links between them
//!   Docker 25+, graph driver   blobs/sha256/…                     raw layers, manifests of Docker's own
//!   Docker, containerd store   blobs/sha256/…                     the registry's own bytes, index and all
//!   Podman                     <diff id>.tar, <config>.json       raw layers
//!                 │
//!                 ▼  every member is hashed as it passes, into scratch
//!             Contents     by digest; what a member is called means nothing
//!                 │
//!        Shelf ───┴── whole:   index → manifest → config → layers, each by its digest
//!        (and the     rebuilt: config → diff IDs → raw layers, or blobs of the cache that unpack to them
//!         cache)
//!                 │
//!                 ▼  only what an image needs becomes a blob; then it can be published
//! ```
//!
//! A member is found by what it is and never by what it is called, so neither its order in the stream nor names, links and
//! lists in it decide anything. A name is believed in one case: where it claims a digest whose content is in the cache
//! already, the member's bytes are let pass unread, and it is the cache's content that counts.

mod contents;
mod error;
mod known;
mod rebuild;
mod shelf;

pub use contents::Contents;
pub use error::ImportError;
pub use known::KnownLayers;
pub use shelf::{Found, Parts, Shelf};
