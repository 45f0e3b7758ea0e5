//! A YAML document to a model, with `!reset` and `!override` noted and taken out.

use std::collections::HashSet;

use super::error::Fault;
use super::value::{At, Data, Map, Path, Value};
use crate::yaml::{self, NodeId, NodeKind, Position, Scalar, Stream, Tag, merge_sources};

/// A document and the paths that it wants cleared in what was merged before.
pub(super) struct Document {
    pub(super) model: Value,
    pub(super) resets: Resets,
}

/// Paths of `!reset` and `!override`.
#[derive(Debug, Clone, Default)]
pub(super) struct Resets(Vec<Vec<String>>);

impl Resets {
    /// Removes what is at the paths.
    pub(super) fn apply(&self, model: &mut Value) {
        for path in &self.0 {
            let Some((last, above)) = path.split_last() else {
                continue;
            };
            let mut holder = Some(&mut *model);
            for key in above {
                holder = holder.and_then(|v| v.as_map_mut()?.get_mut(key));
            }
            if let Some(map) = holder.and_then(Value::as_map_mut) {
                map.remove(last);
            }
        }
    }

    /// The same for one service that will be found under `name`.
    pub(super) fn apply_to_service(&self, name: &str, service: &mut Value) {
        for path in &self.0 {
            if let [top, of, below @ ..] = &path[..]
                && top == "services"
                && of == name
                && !below.is_empty()
            {
                Self(vec![below.to_vec()]).apply(service);
            }
        }
    }
}

/// Converts a document. `file` is its number in the project.
pub(super) fn document(stream: &Stream, root: NodeId, file: u16) -> Result<Document, Fault> {
    let mut reader = Reader {
        stream,
        file,
        budget: yaml::MAX_NODES,
        path: Vec::new(),
        in_list: 0,
        resets: Resets::default(),
        open: HashSet::new(),
    };
    let at = reader.at(stream.node(root).at);
    let model = reader.value(root, false, 0)?;
    let message = match &model {
        Some(Value { data: Data::Map(_), .. }) => None,
        Some(other) => Some(format!("a Compose file must be a map, found {}", other.what())),
        None => Some("the whole document is !reset".to_owned()),
    };
    if let Some(message) = message {
        return Err(Fault::new(at, &Path::ROOT, message));
    }
    Ok(Document { model: model.unwrap_or_default(), resets: reader.resets })
}

struct Reader<'a> {
    stream: &'a Stream,
    file: u16,
    /// Nodes that may still be visited: aliases make that more than there are.
    budget: usize,
    path: Vec<String>,
    in_list: usize,
    resets: Resets,
    /// Anchors that are being expanded.
    open: HashSet<NodeId>,
}

impl Reader<'_> {
    fn at(&self, position: Position) -> At {
        At { file: self.file, line: position.line, column: position.column }
    }

    fn fault(&self, id: NodeId, message: impl Into<String>) -> Fault {
        self.stream.error(self.stream.node(id).at, message).into()
    }

    /// None for a node that is to be reset. Below `!override` tags have no meaning.
    fn value(&mut self, id: NodeId, overriding: bool, depth: usize) -> Result<Option<Value>, Fault> {
        if depth > yaml::MAX_DEPTH {
            return Err(self.fault(id, "nested too deeply"));
        }
        self.budget = match self.budget.checked_sub(1) {
            Some(left) => left,
            None => return Err(self.fault(id, "aliases expand to too many values")),
        };
        let stream = self.stream;
        let target = stream.resolve(id);
        let is_alias = target != id;
        if is_alias && !self.open.insert(target) {
            return Err(self.fault(id, "an anchor contains itself"));
        }
        let node = stream.node(target);
        let at = self.at(stream.node(id).at);
        let mut overriding = overriding;
        if !overriding && let Tag::Local(tag) = &node.tag {
            match &**tag {
                "!reset" => {
                    self.note();
                    self.open.remove(&target);
                    return Ok(None);
                }
                "!override" => {
                    self.note();
                    overriding = true;
                }
                _ => {}
            }
        }
        let data = match &node.kind {
            NodeKind::Scalar { .. } => scalar(stream.scalar(node)?),
            NodeKind::Sequence(items) => {
                let mut out = Vec::with_capacity(items.len());
                self.in_list += 1;
                for item in items {
                    out.extend(self.value(*item, overriding, depth + 1)?);
                }
                self.in_list -= 1;
                Data::List(out)
            }
            NodeKind::Mapping(_) => {
                let mut out = Map::new();
                self.entries(target, overriding, depth, &mut out)?;
                Data::Map(out)
            }
            // An anchor is never put on an alias.
            NodeKind::Alias(_) => Data::Null,
        };
        if is_alias {
            self.open.remove(&target);
        }
        Ok(Some(Value::new(at, data)))
    }

    fn note(&mut self) {
        // Neither tag works on what is inside of lists.
        if self.in_list == 0 {
            self.resets.0.push(self.path.clone());
        }
    }

    /// The entries of a map: own keys win, then the first of the maps that `<<` names.
    fn entries(&mut self, id: NodeId, overriding: bool, depth: usize, out: &mut Map) -> Result<(), Fault> {
        let stream = self.stream;
        let NodeKind::Mapping(pairs) = &stream.node(id).kind else {
            return Ok(());
        };
        yaml::check_duplicates(stream, pairs)?;
        let (mut merge, mut own) = (None, HashSet::new());
        for (key, value) in pairs {
            if stream.is_merge_key(*key) {
                merge = Some(*value);
                continue;
            }
            let name = self.key(*key)?;
            self.path.push(name);
            let read = self.value(*value, overriding, depth + 1);
            let name = self.path.pop().unwrap_or_default();
            let Some(mut read) = read? else {
                continue;
            };
            read.at = self.at(stream.node(*key).at);
            if !own.insert(name.clone()) {
                return Err(self.fault(*key, format!("key {name:?} is there twice")));
            }
            out.entry(name).or_insert(read);
        }
        let Some(merge) = merge else {
            return Ok(());
        };
        if depth > yaml::MAX_DEPTH {
            return Err(self.fault(merge, "nested too deeply"));
        }
        for source in merge_sources(stream, merge)? {
            if !self.open.insert(source) {
                return Err(self.fault(merge, "an anchor contains itself"));
            }
            self.entries(source, overriding, depth + 1, out)?;
            self.open.remove(&source);
        }
        Ok(())
    }

    fn key(&mut self, id: NodeId) -> Result<String, Fault> {
        let node = self.stream.node(self.stream.resolve(id));
        match node.kind {
            NodeKind::Scalar { .. } => match self.stream.scalar(node)? {
                Scalar::Text(text) | Scalar::Binary(text) => Ok(text),
                other => {
                    let found = other.what();
                    Err(self.fault(id, format!("a key must be text, found {found}; put it in quotes")))
                }
            },
            _ => Err(self.fault(id, format!("a key must be text, found {}", node.what()))),
        }
    }
}

fn scalar(scalar: Scalar) -> Data {
    match scalar {
        Scalar::Null => Data::Null,
        Scalar::Bool(b) => Data::Bool(b),
        Scalar::Int(i) => Data::Int(i),
        Scalar::Uint(u) => Data::Uint(u),
        Scalar::Float(f) => Data::Float(f),
        Scalar::Timestamp => Data::Time,
        Scalar::Text(text) | Scalar::Binary(text) => Data::Text(text),
    }
}
