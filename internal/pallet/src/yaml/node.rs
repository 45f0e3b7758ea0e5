//! The tree: an arena of nodes, so that anchors are shared and dropping never recurses.

use std::path::PathBuf;

use super::{Error, Scalar};

/// Where something stands in a file; both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// Index of a node in its [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(super) u32);

/// The tag of a node, reduced to what a reader can tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tag {
    /// No tag, or the lone `!`: the text and style decide.
    None,
    /// `!!name`, in short form also when it was written out.
    Core(Box<str>),
    /// Anything else with its leading `!`, such as `!reset`.
    Local(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// Text after escapes and folding; `plain` if it wasn't quoted and no block.
    Scalar {
        text: Box<str>,
        plain: bool,
    },
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
    Alias(NodeId),
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) tag: Tag,
    pub(crate) at: Position,
}

/// The documents of one file.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) file: PathBuf,
    pub(super) nodes: Vec<Node>,
    pub(super) documents: Vec<NodeId>,
}

impl Stream {
    pub(crate) fn documents(&self) -> &[NodeId] {
        &self.documents
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node itself, or what an alias points to (an anchor is never on an alias).
    pub(crate) fn resolve(&self, id: NodeId) -> NodeId {
        match self.node(id).kind {
            NodeKind::Alias(target) => target,
            _ => id,
        }
    }

    /// An unquoted `<<`.
    pub(crate) fn is_merge_key(&self, id: NodeId) -> bool {
        let node = self.node(id);
        match (&node.kind, &node.tag) {
            (NodeKind::Scalar { text, plain }, Tag::None) => *plain && &**text == "<<",
            (NodeKind::Scalar { text, .. }, Tag::Core(tag)) => &**tag == "merge" && &**text == "<<",
            _ => false,
        }
    }

    /// What a scalar means, by its tag or else by its look.
    pub(crate) fn scalar(&self, node: &Node) -> Result<Scalar, Error> {
        let NodeKind::Scalar { text, plain } = &node.kind else {
            return Err(self.error(node.at, format!("expected a scalar, found {}", node.what())));
        };
        Scalar::resolve(text, *plain, &node.tag).map_err(|m| self.error(node.at, m))
    }

    pub(crate) fn error(&self, at: Position, message: impl Into<String>) -> Error {
        Error::new(&self.file, Some(at), message)
    }
}

impl Node {
    /// The node's kind for messages.
    pub(crate) fn what(&self) -> &'static str {
        match self.kind {
            NodeKind::Scalar { .. } => "a single value",
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a map",
            NodeKind::Alias(_) => "an alias",
        }
    }
}
