//! The files of an image, as a container of it would see them.
//!
//! ```text
//!   layer 0 ─┐ open_blob ─► hash ─► gunzip / unzstd ─► Tarball ─► path, kind, mode; contents hashed
//!   layer 1 ─┤                                                        │ whiteouts, opaque directories,
//!   layer 2 ─┘ lowest first, one at a time                            ▼ hard links
//!                                                                   Tree  path -> Node
//! ```
//!
//! Follows the OCI image specification, "Image Layer Filesystem Changeset". Nothing is unpacked: contents are hashed
//! as they pass, so memory is the tree's alone, some 150 bytes per file.

mod compare;
mod error;
mod layer;
mod tarball;
mod tree;

pub use compare::{Comparison, Difference, What};
pub use error::FlattenError;
pub use tarball::{Member, MemberKind, TarError, Tarball};
pub use tree::{Kind, Node, Tree};

use palletjack_store::{Image, Store};

/// Reads every layer of an image and says which files result. Each layer's blob is verified in passing.
///
/// Blocks for as long as unpacking takes: async callers run it on a blocking thread.
pub fn flatten(store: &Store, image: &Image) -> Result<Tree, FlattenError> {
    let mut tree = Tree::default();
    for layer in &image.layers {
        layer::apply(store, image, layer, &mut tree)?;
    }
    Ok(tree)
}
