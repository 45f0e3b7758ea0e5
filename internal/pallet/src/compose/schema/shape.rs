//! What a value may be.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::compose::error::Fault;
use crate::compose::value::{Data, Path, Value};

/// What a value may be.
pub(super) enum Shape {
    Null,
    Bool,
    /// A number without fraction.
    Integer,
    /// A number without fraction from the first to the second.
    Range(i64, i64),
    Number,
    Text,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Text that passes a test, and what the test wants.
    Like(fn(&str) -> bool, &'static str),
    List(&'static Shape),
    /// A list without doubles.
    Set(&'static Shape),
    /// A map with keys that are known.
    Fields(Fields),
    /// A map with free keys.
    Free(Key, &'static Shape),
    /// A map with free keys, in which other keys may hold anything.
    Loose(Key, &'static Shape),
    /// One of several shapes, of which each is for another kind of value.
    Either(&'static [Shape]),
}

/// The known keys of a map.
pub(super) struct Fields {
    pub(super) known: &'static [(&'static str, Shape)],
    pub(super) required: &'static [&'static str],
    /// Whether keys that begin with `x-` may hold anything.
    pub(super) extensible: bool,
    /// Whether unknown keys may hold anything.
    pub(super) open: bool,
}

/// Keys of free maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Letters, digits, `.`, `_` and `-`.
    Name,
    /// Lower-case letters.
    Lower,
    /// One line that isn't empty.
    Line,
    /// Anything but line breaks alone.
    Some,
}

impl Key {
    fn allows(self, key: &str) -> bool {
        match self {
            Self::Name => {
                !key.is_empty()
                    && key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
            }
            Self::Lower => !key.is_empty() && key.bytes().all(|c| c.is_ascii_lowercase()),
            Self::Line => !key.is_empty() && !key.contains('\n'),
            Self::Some => key.contains(|c| c != '\n'),
        }
    }
}

/// A map that takes `x-` keys, none required.
pub(super) const fn fields(known: &'static [(&'static str, Shape)]) -> Shape {
    with_required(known, &[])
}

/// A map that takes `x-` keys, some required.
pub(super) const fn with_required(
    known: &'static [(&'static str, Shape)],
    required: &'static [&'static str],
) -> Shape {
    Shape::Fields(Fields { known, required, extensible: true, open: false })
}

/// A map with no other keys at all.
pub(super) const fn strict(
    known: &'static [(&'static str, Shape)],
    required: &'static [&'static str],
) -> Shape {
    Shape::Fields(Fields { known, required, extensible: false, open: false })
}

/// A map whose unknown keys may hold anything.
pub(super) const fn open(
    known: &'static [(&'static str, Shape)],
    required: &'static [&'static str],
) -> Shape {
    Shape::Fields(Fields { known, required, extensible: true, open: true })
}

impl Shape {
    /// Checks a value and all below it.
    pub(super) fn check(&self, value: &Value, path: &Path<'_>) -> Result<(), Fault> {
        if !self.is_kind_of(value) {
            return Err(value.wrong(path, &self.describe()));
        }
        let fault = |message: String| Err(Fault::new(value.at, path, message));
        match (self, &value.data) {
            (Self::Either(shapes), _) => match shapes.iter().find(|s| s.is_kind_of(value)) {
                Some(shape) => shape.check(value, path),
                None => Ok(()),
            },
            (Self::Range(low, high), _) => match value.number() {
                Some(n) if n >= *low as f64 && n <= *high as f64 => Ok(()),
                _ => fault(format!("{value} is not in the range {low} to {high}")),
            },
            (Self::Word(words), Data::Text(text)) if !words.contains(&&**text) => {
                fault(format!("{text:?} is none of {}", words.join(", ")))
            }
            (Self::Like(accepts, wanted), Data::Text(text)) if !accepts(text) => {
                fault(format!("{text:?} is no {wanted}"))
            }
            (Self::List(shape), Data::List(list)) => elements(shape, list, path),
            (Self::Set(shape), Data::List(list)) => {
                elements(shape, list, path)?;
                let mut seen = HashSet::new();
                for element in list {
                    if !seen.insert(fingerprint(element)) {
                        let message = format!("{element} is there twice");
                        return Err(Fault::new(element.at, path, message));
                    }
                }
                Ok(())
            }
            (Self::Fields(fields), Data::Map(_)) => fields.check(value, path),
            (Self::Free(key, shape) | Self::Loose(key, shape), Data::Map(map)) => {
                let loose = matches!(self, Self::Loose(..));
                for (name, value) in map {
                    if key.allows(name) {
                        shape.check(value, &path.key(name))?;
                    } else if !loose {
                        let message = format!("{name:?} is not allowed as a name");
                        return Err(Fault::new(value.at, path, message));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a value is of the kind that this shape is for.
    fn is_kind_of(&self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Bool => matches!(value.data, Data::Bool(_)),
            Self::Integer | Self::Range(..) => match value.data {
                Data::Int(_) | Data::Uint(_) => true,
                Data::Float(f) => f.is_finite() && f.fract() == 0.0,
                _ => false,
            },
            Self::Number => value.number().is_some(),
            Self::Text | Self::Word(_) | Self::Like(..) => value.as_text().is_some(),
            Self::List(_) | Self::Set(_) => value.as_list().is_some(),
            Self::Fields(_) | Self::Free(..) | Self::Loose(..) => value.as_map().is_some(),
            Self::Either(shapes) => shapes.iter().any(|s| s.is_kind_of(value)),
        }
    }

    fn describe(&self) -> String {
        let plain = match self {
            Self::Null => "nothing",
            Self::Bool => "true or false",
            Self::Integer | Self::Range(..) => "an integer",
            Self::Number => "a number",
            Self::Text | Self::Word(_) | Self::Like(..) => "text",
            Self::List(_) | Self::Set(_) => "a list",
            Self::Fields(_) | Self::Free(..) | Self::Loose(..) => "a map",
            Self::Either(shapes) => {
                let all: Vec<String> = shapes.iter().map(Shape::describe).collect();
                return all.join(" or ");
            }
        };
        plain.to_owned()
    }
}

fn elements(shape: &Shape, list: &[Value], path: &Path<'_>) -> Result<(), Fault> {
    let path = path.element();
    list.iter().try_for_each(|value| shape.check(value, &path))
}

impl Fields {
    fn check(&self, value: &Value, path: &Path<'_>) -> Result<(), Fault> {
        let Some(map) = value.as_map() else {
            return Ok(());
        };
        for key in self.required {
            if !map.contains_key(*key) {
                return Err(Fault::new(value.at, path, format!("{key} is missing")));
            }
        }
        for (name, value) in map {
            match self.known.iter().find(|(key, _)| key == name) {
                Some((_, shape)) => shape.check(value, &path.key(name))?,
                None if self.open || (self.extensible && name.starts_with("x-")) => {}
                None => {
                    let message = format!("there is no key {name:?} here");
                    return Err(Fault::new(value.at, path, message));
                }
            }
        }
        Ok(())
    }
}

/// A text that is the same for equal values.
fn fingerprint(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        // Writing to a text can't fail.
        let _ = match &value.data {
            Data::Null => write!(out, "n"),
            Data::Time => write!(out, "t"),
            Data::Bool(b) => write!(out, "b{b}"),
            Data::Int(i) => write!(out, "i{i}"),
            Data::Uint(u) => write!(out, "i{u}"),
            Data::Float(f) => write!(out, "i{f}"),
            Data::Text(text) => write!(out, "{text:?}"),
            Data::List(list) => {
                out.push('[');
                for value in list {
                    write(value, out);
                    out.push(',');
                }
                write!(out, "]")
            }
            Data::Map(map) => {
                out.push('{');
                for (key, value) in map {
                    let _ = write!(out, "{key:?}:");
                    write(value, out);
                    out.push(',');
                }
                write!(out, "}}")
            }
        };
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}
