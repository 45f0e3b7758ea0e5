//! The model: values that know which file and line they came from.

use std::collections::BTreeMap;
use std::fmt;

use super::error::Fault;

/// Where a value stands: of a map's entry it is the key's place, else the value's own. A line of 0 means
/// that it stands nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct At {
    pub(super) file: u16,
    pub(super) line: u32,
    pub(super) column: u32,
}

pub(super) type Map = BTreeMap<String, Value>;

#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    pub(super) at: At,
    pub(super) data: Data,
}

#[derive(Debug, Clone, Default)]
pub(super) enum Data {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`: no integer for most readers.
    Uint(u64),
    Float(f64),
    /// A date, which is neither text nor number.
    Time,
    Text(String),
    List(Vec<Value>),
    Map(Map),
}

impl Value {
    pub(super) fn new(at: At, data: Data) -> Self {
        Self { at, data }
    }

    pub(super) fn text(at: At, text: impl Into<String>) -> Self {
        Self::new(at, Data::Text(text.into()))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Value]> {
        match &self.data {
            Data::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) fn as_map(&self) -> Option<&Map> {
        match &self.data {
            Data::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.data {
            Data::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self.data {
            Data::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// The entry of a map; none of anything else.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// The entry at the end of some keys, unless it or one on the way is missing or null.
    pub(super) fn at_path(&self, keys: &[&str]) -> Option<&Value> {
        let mut value = self;
        for key in keys {
            value = value.get(key)?;
        }
        Some(value).filter(|v| !v.is_null())
    }

    /// The elements of a list at some keys; none if there is no list.
    pub(super) fn items(&self, keys: &[&str]) -> &[Value] {
        self.at_path(keys).and_then(Value::as_list).unwrap_or_default()
    }

    /// The entries of a map at some keys; none if there is no map.
    pub(super) fn entries(&self, keys: &[&str]) -> impl Iterator<Item = (&str, &Value)> {
        let map = self.at_path(keys).and_then(Value::as_map);
        map.into_iter().flatten().map(|(k, v)| (&**k, v))
    }

    pub(super) fn expect_map(self, path: &Path<'_>) -> Result<Map, Fault> {
        match self.data {
            Data::Map(map) => Ok(map),
            _ => Err(self.wrong(path, "a map")),
        }
    }

    pub(super) fn expect_list(self, path: &Path<'_>) -> Result<Vec<Value>, Fault> {
        match self.data {
            Data::List(list) => Ok(list),
            _ => Err(self.wrong(path, "a list")),
        }
    }

    pub(super) fn expect_text(&self, path: &Path<'_>) -> Result<&str, Fault> {
        self.as_text().ok_or_else(|| self.wrong(path, "text"))
    }

    /// The fault that something else was wanted here.
    pub(super) fn wrong(&self, path: &Path<'_>, wanted: &str) -> Fault {
        let found = self.what();
        Fault::new(self.at, path, format!("expected {wanted}, found {found}"))
    }

    pub(super) fn what(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing (null)",
            Data::Bool(_) => "a yes/no value",
            Data::Int(_) | Data::Uint(_) => "an integer",
            Data::Float(_) => "a number",
            Data::Time => "a date (quote it)",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }

    /// Equal in content, wherever it stands. Numbers compare by value; a bool is no number.
    pub(super) fn same(&self, other: &Value) -> bool {
        match (&self.data, &other.data) {
            (Data::Null, Data::Null) => true,
            (Data::Bool(a), Data::Bool(b)) => a == b,
            (Data::Text(a), Data::Text(b)) => a == b,
            (Data::Int(a), Data::Int(b)) => a == b,
            (Data::Uint(a), Data::Uint(b)) => a == b,
            (Data::List(a), Data::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Data::Map(a), Data::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((k, v), (l, w))| k == l && v.same(w))
            }
            _ => match (self.number(), other.number()) {
                // Equal means the same number here, not nearly the same.
                (Some(a), Some(b)) => a.partial_cmp(&b).is_some_and(std::cmp::Ordering::is_eq),
                _ => false,
            },
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self.data {
            Data::Int(i) => Some(i as f64),
            Data::Uint(u) => Some(u as f64),
            Data::Float(f) => Some(f),
            _ => None,
        }
    }
}

/// How a value looks when it becomes part of a text.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.data {
            Data::Null => f.write_str("<nil>"),
            Data::Bool(b) => b.fmt(f),
            Data::Int(i) => i.fmt(f),
            Data::Uint(u) => u.fmt(f),
            Data::Float(x) => x.fmt(f),
            Data::Text(text) => f.write_str(text),
            Data::Time | Data::List(_) | Data::Map(_) => f.write_str(self.what()),
        }
    }
}

/// The name of list elements in a [`Path`].
pub(super) const ELEMENT: &str = "[]";

/// Rules go no deeper than this.
const PARTS: usize = 8;

/// The keys that lead to a value, kept on the stack.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    above: Option<&'a Path<'a>>,
    key: &'a str,
    depth: usize,
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Path<'static> = Path { above: None, key: "", depth: 0 };

    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { above: Some(self), key, depth: self.depth + 1 }
    }

    pub(super) fn element(&'a self) -> Path<'a> {
        self.key(ELEMENT)
    }

    /// The keys for matching against rules; none if there are more than any rule has.
    pub(super) fn parts<'b>(&'b self, room: &'b mut [&'b str; PARTS]) -> &'b [&'b str] {
        if self.depth > PARTS {
            return &[];
        }
        let mut path = self;
        for slot in room[..self.depth].iter_mut().rev() {
            *slot = path.key;
            match path.above {
                Some(above) => path = above,
                None => break,
            }
        }
        &room[..self.depth]
    }

    /// Runs a rule on the keys.
    pub(super) fn matching<T>(&self, rule: impl FnOnce(&[&str]) -> T) -> T {
        let mut room = [""; PARTS];
        rule(self.parts(&mut room))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(above) = self.above else {
            return Ok(());
        };
        above.fmt(f)?;
        if above.above.is_some() && self.key != ELEMENT {
            f.write_str(".")?;
        }
        f.write_str(self.key)
    }
}
