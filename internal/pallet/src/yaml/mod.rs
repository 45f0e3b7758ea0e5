//! Bytes of YAML in, a bounded tree with raw text, tags and positions out.
//!
//! ```text
//!   bytes --text--> str --events--> Stream (arena of Nodes) --+--> decode   Forklift's own files
//!                                                             +--> compose  Compose files
//! ```
//!
//! A generic value tree would lose what matters: `1.10`, `0644`, `yes` and `!reset null` mean different
//! things to different readers. So a [`Stream`] keeps each scalar's text and style, and the readers ask for
//! what they want. The rules are those of Go's `gopkg.in/yaml.v3`, which Forklift and Compose use.

mod decode;
mod error;
mod node;
mod parse;
mod scalar;
mod span;
mod tabs;

pub(crate) use decode::{Decoder, check_duplicates, merge_sources};
pub use error::Error;
pub(crate) use node::{Node, NodeId, NodeKind, Position, Stream, Tag};
pub(crate) use parse::{Documents, parse};
pub(crate) use scalar::{Scalar, is_no, is_yes};
pub(crate) use span::{ValueSpan, value_spans};

/// Largest YAML file that is read, in bytes. Real ones have some kilobytes.
pub(crate) const MAX_BYTES: u64 = 4 << 20;
/// Most nodes of one file, and most nodes that one file's aliases may expand to.
pub(crate) const MAX_NODES: usize = 200_000;
/// Deepest nesting, aliases expanded.
pub(crate) const MAX_DEPTH: usize = 200;

#[cfg(test)]
mod tests;
