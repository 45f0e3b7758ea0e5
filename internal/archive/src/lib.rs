//! Images of the cache as one byte stream that every engine loads, and back from what an engine hands out.
//!
//! ```text
//!   store::Image ──┐                     ┌─ oci-layout
//!   store::Image ──┼─► Export::plan ─►   ├─ index.json      the pinned descriptors, byte for byte; one entry per name
//!      Item: which │   exact length,     ├─ manifest.json   config, name:tag, layers: Docker's own form
//!      name, which │   nothing read      ├─ blobs/sha256/…  indexes, manifests, configs: verified before the start
//!      layers out ─┘                     └─ blobs/sha256/…  layers: hashed as they pass, the end held back
//!                                                   │
//!                        Export::write ◄────────────┘   pieces of at most 512 KiB, each blob read once
//! ```
//!
//! The stream is a tar that is an OCI image layout (image-layout specification) *and* what `docker save` writes
//! (`manifest.json`): Docker's graph drivers read the second, its containerd store and Podman the first, and the
//! layers lie in it once, compressed as the registry has them.
//!
//! For a receiver that does not read Zstandard, such layers are packed anew, as gzip, one after the other, each verified
//! as a whole before it is begun; the archive then is a docker-archive only.
//!
//! What this crate promises:
//!
//! * the length is known before the first byte (but for recoded layers), and the same images give the same bytes;
//! * **no blob is completed before its digest is verified**: the last piece of each is held back, and on a mismatch
//!   the stream ends there with [`ExportError::Corrupt`], so that a receiver sees a member cut short;
//! * a layer is never held in memory: peak use is two pieces.
//!
//! * on the way back ([`Contents`], [`Shelf`]) every byte is hashed before it becomes a blob, and nothing is found by its name.
//!
//! What it never does: give an image its name, spool more to disk than one layer that is being recoded, open a socket,
//! re-serialise a manifest.

mod error;
mod flatten;
mod hashed;
mod header;
mod import;
mod metadata;
mod plan;
mod recode;
mod stream;

pub use error::{ExportError, SinkClosed};
pub use flatten::{
    Comparison, Difference, FlattenError, Kind, Member as TarMember, MemberKind, Node, TarError, Tarball,
    Tree, What, flatten,
};
pub use import::{Contents, Found, ImportError, KnownLayers, Parts, Shelf};
pub use plan::{Export, Item, Member, Names, Source};
pub use stream::Written;
