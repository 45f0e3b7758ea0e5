//! Typed reading of Forklift's own files.
//!
//! Strings take the raw text of any scalar, so `timestamp: 010` is fine; null is nothing, and vanishes from
//! lists; unknown keys are skipped unread; a wrong shape is an error even where nobody needs the value.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};

use super::{Error, MAX_DEPTH, MAX_NODES, NodeId, NodeKind, Scalar, Stream, is_no, is_yes};

/// Reads values out of one [`Stream`], and counts what aliases make it read again.
pub(crate) struct Decoder<'a> {
    stream: &'a Stream,
    budget: Cell<usize>,
    depth: Cell<usize>,
}

/// A key's text with the node of its value.
struct Pair {
    name: String,
    value: NodeId,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(stream: &'a Stream) -> Self {
        Self { stream, budget: Cell::new(MAX_NODES), depth: Cell::new(0) }
    }

    /// The root of the first document; none if there is none or it is null.
    pub(crate) fn root(&self) -> Option<NodeId> {
        self.stream.documents().first().copied()
    }

    /// Hands each known or unknown key of a map to `field`. Returns false for null.
    pub(crate) fn fields(
        &self,
        id: NodeId,
        mut field: impl FnMut(&str, NodeId) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let Some(pairs) = self.pairs(id)? else {
            return Ok(false);
        };
        self.deeper(id, || {
            for pair in &pairs {
                field(&pair.name, pair.value)?;
            }
            Ok(true)
        })
    }

    /// A map with free keys; null is an empty one.
    pub(crate) fn map<T>(
        &self,
        id: NodeId,
        mut value: impl FnMut(NodeId) -> Result<T, Error>,
    ) -> Result<BTreeMap<String, T>, Error> {
        let mut out = BTreeMap::new();
        self.fields(id, |name, id| {
            out.insert(name.to_owned(), value(id)?);
            Ok(())
        })?;
        Ok(out)
    }

    /// A list; null is an empty one, and null elements vanish.
    pub(crate) fn list<T>(
        &self,
        id: NodeId,
        mut element: impl FnMut(NodeId) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let target = self.visit(id)?;
        let node = self.stream.node(target);
        match &node.kind {
            NodeKind::Sequence(items) => self.deeper(id, || {
                let mut out = Vec::with_capacity(items.len());
                for item in items {
                    if !self.is_null(*item)? {
                        out.push(element(*item)?);
                    }
                }
                Ok(out)
            }),
            NodeKind::Scalar { .. } if self.is_null(target)? => Ok(Vec::new()),
            _ => Err(self.wrong(id, "a list")),
        }
    }

    /// A list of texts.
    pub(crate) fn strings(&self, id: NodeId) -> Result<Vec<String>, Error> {
        self.list(id, |id| Ok(self.string(id)?.unwrap_or_default()))
    }

    /// The raw text of a scalar; none for null.
    pub(crate) fn string(&self, id: NodeId) -> Result<Option<String>, Error> {
        let target = self.visit(id)?;
        let node = self.stream.node(target);
        let NodeKind::Scalar { text, .. } = &node.kind else {
            return Err(self.wrong(id, "text"));
        };
        match self.stream.scalar(node)? {
            Scalar::Null => Ok(None),
            Scalar::Binary(text) => Ok(Some(text)),
            _ => Ok(Some(text.to_string())),
        }
    }

    /// A yes/no value; none for null. `"true"` in quotes is none, `"yes"` is one.
    pub(crate) fn boolean(&self, id: NodeId) -> Result<Option<bool>, Error> {
        match self.value(id)? {
            Some(Scalar::Null) => Ok(None),
            Some(Scalar::Bool(b)) => Ok(Some(b)),
            Some(Scalar::Text(t) | Scalar::Binary(t)) if is_yes(&t) => Ok(Some(true)),
            Some(Scalar::Text(t) | Scalar::Binary(t)) if is_no(&t) => Ok(Some(false)),
            _ => Err(self.wrong(id, "true or false")),
        }
    }

    /// A whole number within `range`; fractions are cut. None for null.
    pub(crate) fn integer(
        &self,
        id: NodeId,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, Error> {
        let number = match self.value(id)? {
            Some(Scalar::Null) => return Ok(None),
            Some(Scalar::Int(i)) => Some(i),
            // The cast saturates, and what is out of i64's range is refused before.
            #[allow(clippy::cast_possible_truncation)]
            Some(Scalar::Float(f)) if f.abs() < 9.3e18 => Some(f as i64),
            _ => None,
        };
        match number.filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(self.wrong(id, "a whole number in range")),
        }
    }

    fn value(&self, id: NodeId) -> Result<Option<Scalar>, Error> {
        let node = self.stream.node(self.visit(id)?);
        match node.kind {
            NodeKind::Scalar { .. } => self.stream.scalar(node).map(Some),
            _ => Ok(None),
        }
    }

    fn is_null(&self, id: NodeId) -> Result<bool, Error> {
        let node = self.stream.node(self.stream.resolve(id));
        match node.kind {
            NodeKind::Scalar { .. } => Ok(self.stream.scalar(node)? == Scalar::Null),
            _ => Ok(false),
        }
    }

    fn wrong(&self, id: NodeId, wanted: &str) -> Error {
        let node = self.stream.node(id);
        let found = self.stream.node(self.stream.resolve(id));
        let found = match self.stream.scalar(found) {
            Ok(scalar) => scalar.what(),
            Err(_) => found.what(),
        };
        self.stream.error(node.at, format!("expected {wanted}, found {found}"))
    }

    /// Follows an alias and pays for the visit.
    fn visit(&self, id: NodeId) -> Result<NodeId, Error> {
        let left = self.budget.get();
        if left == 0 {
            let at = self.stream.node(id).at;
            return Err(self.stream.error(at, "aliases expand to too many values"));
        }
        self.budget.set(left - 1);
        Ok(self.stream.resolve(id))
    }

    fn deeper<T>(&self, id: NodeId, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let depth = self.depth.get();
        if depth >= MAX_DEPTH {
            return Err(self.stream.error(self.stream.node(id).at, "nested too deeply"));
        }
        self.depth.set(depth + 1);
        let out = f();
        self.depth.set(depth);
        out
    }

    /// The keys of a map with merge keys resolved: own keys win, then the first merged map. None for null.
    fn pairs(&self, id: NodeId) -> Result<Option<Vec<Pair>>, Error> {
        let target = self.visit(id)?;
        match self.stream.node(target).kind {
            NodeKind::Mapping(_) => {}
            NodeKind::Scalar { .. } if self.is_null(target)? => return Ok(None),
            _ => return Err(self.wrong(id, "a map")),
        }
        let (mut out, mut seen) = (Vec::new(), HashSet::new());
        self.collect(target, &mut out, &mut seen)?;
        Ok(Some(out))
    }

    fn collect(&self, id: NodeId, out: &mut Vec<Pair>, seen: &mut HashSet<String>) -> Result<(), Error> {
        let NodeKind::Mapping(pairs) = &self.stream.node(id).kind else {
            return Err(self.wrong(id, "a map to merge"));
        };
        check_duplicates(self.stream, pairs)?;
        let (mut merge, mut own) = (None, HashSet::new());
        for (key, value) in pairs {
            if self.stream.is_merge_key(*key) {
                merge = Some(*value);
                continue;
            }
            let Some(name) = self.string(*key)? else {
                continue;
            };
            if !own.insert(name.clone()) {
                let at = self.stream.node(*key).at;
                return Err(self.stream.error(at, format!("key {name:?} is there twice")));
            }
            if seen.insert(name.clone()) {
                out.push(Pair { name, value: *value });
            }
        }
        let Some(merge) = merge else {
            return Ok(());
        };
        self.deeper(id, || {
            for source in merge_sources(self.stream, merge)? {
                self.visit(source)?;
                self.collect(source, out, seen)?;
            }
            Ok(())
        })
    }
}

/// The maps that the value of a `<<` names.
pub(crate) fn merge_sources(stream: &Stream, merge: NodeId) -> Result<Vec<NodeId>, Error> {
    let node = stream.node(merge);
    let sources = match &node.kind {
        NodeKind::Sequence(items) => items.iter().map(|i| stream.resolve(*i)).collect(),
        _ => vec![stream.resolve(merge)],
    };
    for source in &sources {
        if !matches!(stream.node(*source).kind, NodeKind::Mapping(_)) {
            return Err(stream.error(node.at, "only maps can be merged with <<"));
        }
    }
    Ok(sources)
}

/// Refuses a map in which two keys have the same text (`1` and `"1"` are the same).
pub(crate) fn check_duplicates(stream: &Stream, pairs: &[(NodeId, NodeId)]) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(pairs.len());
    for (key, _) in pairs {
        let node = stream.node(*key);
        if let NodeKind::Scalar { text, .. } = &node.kind
            && !seen.insert(&**text)
        {
            return Err(stream.error(node.at, format!("key {text:?} is there twice")));
        }
    }
    Ok(())
}
