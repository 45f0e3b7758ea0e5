//! Small, deterministic images: the same description gives the same bytes, on every machine.
//!
//! ```text
//!   LayerBuilder ── files, whiteouts, filler ──► Layer   (gzip | zstd | raw, in memory or a file)
//!   ImageBuilder ── layers per platform ───────► Image   (Docker or OCI types; single, list or index; attestations)
//!   printer      ── a path ────────────────► a program that prints that file: `docker run` tells which image it was
//!   ImageSet     ── reference names ───────────► many Images that share layers as real ones do
//! ```

mod blob;
mod builder;
mod elf;
mod filler;
mod layer;
mod name;
mod printer;
mod program;
mod set;

pub use blob::Blob;
pub use builder::{Image, ImageBuilder, Kind, Manifest, PlatformImage};
pub use layer::{Compression, Layer, LayerBuilder};
pub use name::Name;
pub use printer::printer;
pub use set::{ImageSet, Shape};
