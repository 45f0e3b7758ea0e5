//! The files that result from layers put on each other.

use std::collections::BTreeMap;
use std::ops::Bound;

use palletjack_image::Digest;

use super::tarball::TarError;

/// More files than this are no image that a device could hold.
const MAX_FILES: usize = 4_000_000;

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-ID, set-group-ID and sticky bit. `None` where engines differ: for directories that
    /// a layer has files in without listing them, and for files with several names.
    pub mode: Option<u32>,
    /// Which layer it is of, the lowest being 0.
    layer: u32,
    /// Where a comparison has come to.
    pub(super) seen: Seen,
}

/// Whether a comparison has come by, and what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    No,
    Alike,
    Different,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The digest of its content.
        digest: Digest,
    },
    /// A regular file whose content is not known: it is stored with holes, or is a hard link to nothing.
    Unknown,
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A device or a pipe.
    Special,
}

/// The files of an image by path. Paths are bytes without leading slash; the root is not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<Box<[u8]>, Node>,
    /// Symbolic links that a higher layer put files below. A graph driver hides the link behind a directory, containerd
    /// follows it: what is there depends on the engine.
    ambiguous: Vec<Box<[u8]>>,
    /// The layer that is being applied.
    layer: u32,
}

impl Tree {
    /// How many files, directories and links there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What is at a path.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Everything, ordered by path.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (&**path, node))
    }

    /// Paths at and below which engines differ: a layer has files below a lower layer's symbolic link.
    pub fn ambiguous(&self) -> &[Box<[u8]>] {
        &self.ambiguous
    }

    pub(super) fn node_mut(&mut self, path: &[u8]) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }

    pub(super) fn next_layer(&mut self) {
        self.layer += 1;
    }

    pub(super) fn insert(&mut self, path: Vec<u8>, kind: Kind, mode: Option<u32>) -> Result<(), TarError> {
        self.make_parents(&path);
        let is_directory = kind == Kind::Directory;
        let path = path.into_boxed_slice();
        let replaced =
            self.nodes.insert(path.clone(), Node { kind, mode, layer: self.layer, seen: Seen::No });
        if !is_directory && replaced.is_some_and(|node| node.kind == Kind::Directory) {
            self.remove_below(&path, u32::MAX);
        }
        if self.nodes.len() > MAX_FILES { Err(TarError::TooLarge("millions of files")) } else { Ok(()) }
    }

    /// What another name of this file is. Engines give the file the mode of whichever of its names they unpack last, and
    /// not all the same one, so that the mode of none is known.
    pub(super) fn link(&mut self, target: &[u8]) -> Kind {
        match self.nodes.get_mut(target) {
            Some(node) if node.kind != Kind::Directory => {
                node.mode = None;
                node.kind.clone()
            }
            _ => Kind::Unknown,
        }
    }

    /// Hides what lower layers have at a path (a whiteout).
    pub(super) fn hide(&mut self, path: &[u8]) {
        self.remove_below(path, self.layer);
        if self.nodes.get(path).is_some_and(|node| node.layer < self.layer) {
            self.nodes.remove(path);
        }
    }

    /// Hides what lower layers have in a directory (an opaque whiteout).
    pub(super) fn hide_below(&mut self, path: &[u8]) {
        self.remove_below(path, self.layer);
    }

    /// Directories that a layer does not list but has files in: they are its own too, so that its whiteouts, which may
    /// come later, spare them.
    fn make_parents(&mut self, path: &[u8]) {
        let mut end = path.len();
        while let Some(slash) = path[..end].iter().rposition(|&byte| byte == b'/') {
            let parent = &path[..slash];
            end = slash;
            match self.nodes.get_mut(parent) {
                Some(Node { kind: Kind::Directory, layer, mode, .. }) => {
                    if *layer == self.layer {
                        return;
                    }
                    (*layer, *mode) = (self.layer, None);
                    continue;
                }
                Some(Node { kind: Kind::Symlink(_), .. }) => self.ambiguous.push(parent.into()),
                _ => {}
            }
            let node = Node { kind: Kind::Directory, mode: None, layer: self.layer, seen: Seen::No };
            self.nodes.insert(parent.into(), node);
        }
    }

    /// Removes everything below a path that is of a layer lower than `limit`; the root is the empty path.
    fn remove_below(&mut self, path: &[u8], limit: u32) {
        let (mut first, mut after) = (path.to_vec(), path.to_vec());
        let end = if path.is_empty() {
            Bound::Unbounded
        } else {
            // What is below `a/b` lies between `a/b/` and `a/b0`: `0` is the byte after the slash.
            first.push(b'/');
            after.push(b'/' + 1);
            Bound::Excluded(after.into_boxed_slice())
        };
        let range = (Bound::Included(first.into_boxed_slice()), end);
        let doomed: Vec<Box<[u8]>> = self
            .nodes
            .range(range)
            .filter(|(_, node)| node.layer < limit)
            .map(|(path, _)| path.clone())
            .collect();
        for path in doomed {
            self.nodes.remove(&path);
        }
    }
}
