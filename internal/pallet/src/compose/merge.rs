//! Merging a document into what came before it.
//!
//! Maps merge by key, lists are appended, of other values the later one wins; a later null keeps the earlier
//! value. Some places have rules of their own.

use super::error::Fault;
use super::value::{At, Data, Map, Path, Value};

/// How two values at some place become one.
enum Rule {
    Default,
    /// The later one replaces the earlier one, null too.
    Replace,
    /// Lists, maps and single texts become one list.
    Lists,
    /// Lists and maps become one map; the flag is for the entries of `depends_on`.
    Named {
        started: bool,
    },
    Build,
    Logging,
    Hosts,
    AddressPools,
}

fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, rest @ ..] => match rest {
            ["command" | "entrypoint"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
            [
                "annotations" | "dns" | "dns_opt" | "dns_search" | "env_file" | "label_file" | "environment"
                | "labels" | "sysctls" | "tmpfs",
            ]
            | ["build", "args" | "additional_contexts" | "labels"]
            | ["deploy", "labels"] => Rule::Lists,
            ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Hosts,
            ["build"] => Rule::Build,
            ["logging"] => Rule::Logging,
            ["depends_on"] => Rule::Named { started: true },
            ["models" | "networks"] => Rule::Named { started: false },
            _ => Rule::Default,
        },
        ["networks" | "volumes", _, "labels"] => Rule::Lists,
        ["networks", _, "ipam", "config"] => Rule::AddressPools,
        _ => Rule::Default,
    }
}

/// Merges `later` into `earlier`.
pub(super) fn merge(earlier: Value, later: Value, path: &Path<'_>) -> Result<Value, Fault> {
    match path.matching(rule) {
        Rule::Replace => Ok(later),
        Rule::Lists => {
            let at = earlier.at;
            let mut list = as_list(earlier);
            list.extend(as_list(later));
            Ok(Value::new(at, Data::List(list)))
        }
        Rule::Hosts => {
            let at = earlier.at;
            let mut list = as_list(earlier);
            let more = as_list(later).into_iter();
            let more: Vec<Value> = more.filter(|v| !list.iter().any(|w| w.same(v))).collect();
            list.extend(more);
            Ok(Value::new(at, Data::List(list)))
        }
        Rule::Named { started } => named(earlier, later, started, path),
        Rule::Build => {
            let context = |value: Value| match value.data {
                Data::Text(_) => {
                    let at = value.at;
                    Value::new(at, Data::Map(Map::from([("context".to_owned(), value)])))
                }
                _ => value,
            };
            maps(context(earlier), context(later), path)
        }
        Rule::Logging => logging(earlier, later, path),
        Rule::AddressPools => address_pools(earlier, later, path),
        Rule::Default => default(earlier, later, path),
    }
}

fn default(earlier: Value, later: Value, path: &Path<'_>) -> Result<Value, Fault> {
    match (earlier.data, later.data) {
        (data, Data::Null) => Ok(Value::new(earlier.at, data)),
        (Data::Map(a), Data::Map(b)) => Ok(Value::new(earlier.at, Data::Map(merge_maps(a, b, path)?))),
        (Data::List(mut a), Data::List(b)) => {
            a.extend(b);
            Ok(Value::new(earlier.at, Data::List(a)))
        }
        (a @ (Data::Map(_) | Data::List(_)), b) => {
            let (a, b) = (Value::new(earlier.at, a), Value::new(later.at, b));
            let message = format!("{} can't override {}", b.what(), a.what());
            Err(Fault::new(b.at, path, message))
        }
        (_, data) => Ok(Value::new(later.at, data)),
    }
}

/// Merges maps by key.
pub(super) fn merge_maps(mut earlier: Map, later: Map, path: &Path<'_>) -> Result<Map, Fault> {
    for (key, value) in later {
        let value = match earlier.remove(&key) {
            Some(old) => merge(old, value, &path.key(&key))?,
            None => value,
        };
        earlier.insert(key, value);
    }
    Ok(earlier)
}

/// Merges what should be maps; anything else counts as nothing, into which nothing can be merged.
fn maps(earlier: Value, later: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let (at, later_at) = (earlier.at, later.at);
    let later = match later.data {
        Data::Map(map) => map,
        _ => Map::new(),
    };
    match earlier.data {
        Data::Map(map) => Ok(Value::new(at, Data::Map(merge_maps(map, later, path)?))),
        _ if later.is_empty() => Ok(Value::new(at, Data::Null)),
        _ => Err(Fault::new(later_at, path, "there is nothing before that this could be merged into")),
    }
}

fn named(earlier: Value, later: Value, started: bool, path: &Path<'_>) -> Result<Value, Fault> {
    let earlier = as_named(earlier, started, path)?;
    let later = as_named(later, started, path)?;
    maps(earlier, later, path)
}

/// A list of names as a map.
pub(super) fn as_named(value: Value, started: bool, path: &Path<'_>) -> Result<Value, Fault> {
    let Data::List(list) = value.data else {
        return Ok(value);
    };
    let mut map = Map::new();
    for name in list {
        let key = name.expect_text(&path.element())?.to_owned();
        let entry = if started { service_started(name.at) } else { Value::new(name.at, Data::Null) };
        map.insert(key, entry);
    }
    Ok(Value::new(value.at, Data::Map(map)))
}

/// What a plain name in `depends_on` means.
pub(super) fn service_started(at: At) -> Value {
    Value::new(
        at,
        Data::Map(Map::from([
            ("condition".to_owned(), Value::text(at, "service_started")),
            ("required".to_owned(), Value::new(at, Data::Bool(true))),
        ])),
    )
}

fn logging(earlier: Value, later: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let (at, later_at) = (earlier.at, later.at);
    let (earlier, later) = (earlier.expect_map(path)?, later.expect_map(path)?);
    match (earlier.get("driver"), later.get("driver")) {
        (Some(a), Some(b)) if !a.same(b) => Ok(Value::new(later_at, Data::Map(later))),
        _ => Ok(Value::new(at, Data::Map(merge_maps(earlier, later, path)?))),
    }
}

/// Pools of the same subnet are merged.
fn address_pools(earlier: Value, later: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let at = earlier.at;
    let (earlier, later) = (earlier.expect_list(path)?, later.expect_list(path)?);
    let same_subnet = |a: &Value, b: &Value| match (a.get("subnet"), b.get("subnet")) {
        (None, None) => true,
        (Some(a), Some(b)) => a.same(b),
        _ => false,
    };
    let mut out: Vec<Value> = Vec::new();
    for right in earlier {
        let mut right = as_named(right, false, path)?;
        for left in &later {
            let left = as_named(left.clone(), false, path)?;
            let known = out.iter().any(|pool| same_subnet(pool, &left));
            if !same_subnet(&left, &right) && !known {
                out.push(left);
                continue;
            }
            right = maps(right, left, path)?;
            match out.iter_mut().find(|pool| same_subnet(pool, &right)) {
                Some(pool) => *pool = right.clone(),
                None => out.push(right.clone()),
            }
        }
    }
    Ok(Value::new(at, Data::List(out)))
}

/// A map as sorted `key=value` texts, a single text as a list of one.
pub(super) fn as_list(value: Value) -> Vec<Value> {
    match value.data {
        Data::List(list) => list,
        Data::Text(_) => vec![value],
        Data::Map(map) => {
            let mut out = Vec::new();
            for (key, value) in map {
                match &value.data {
                    Data::Null => out.push(Value::text(value.at, key)),
                    Data::List(list) => {
                        let texts = list.iter().map(|v| Value::text(v.at, format!("{key}={v}")));
                        out.extend(texts);
                    }
                    _ => out.push(Value::text(value.at, format!("{key}={value}"))),
                }
            }
            out.sort_by(|a, b| a.as_text().cmp(&b.as_text()));
            out
        }
        _ => Vec::new(),
    }
}
