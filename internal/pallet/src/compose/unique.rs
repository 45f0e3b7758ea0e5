//! Dropping doubles from lists: the later one takes the earlier one's place.

use std::collections::HashMap;

use super::error::Fault;
use super::short::parse_volume;
use super::value::{Data, Path, Value};

/// What makes two elements the same.
#[derive(Clone, Copy)]
enum Key {
    /// The text before `=`.
    Name,
    /// The place in the container.
    Volume,
    Device,
    Expose,
    Port,
    EnvFile,
    /// The target, by default the source in this directory.
    Mount(&'static str),
}

fn key(path: &[&str]) -> Option<Key> {
    let found = match path {
        ["services", _, rest @ ..] => match rest {
            [
                "annotations" | "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "environment"
                | "labels" | "links" | "profiles" | "sysctls" | "tmpfs",
            ]
            | ["build", "args" | "additional_contexts" | "platform" | "tags" | "labels"]
            | ["deploy", "labels"]
            | ["networks", _, "aliases" | "link_local_ips"] => Key::Name,
            ["volumes"] => Key::Volume,
            ["devices"] => Key::Device,
            ["expose"] => Key::Expose,
            ["ports"] => Key::Port,
            ["env_file"] => Key::EnvFile,
            ["configs"] => Key::Mount(""),
            ["secrets"] => Key::Mount("/run/secrets"),
            _ => return None,
        },
        ["networks", _, "labels"] | ["networks", _, "ipam", "options"] => Key::Name,
        _ => return None,
    };
    Some(found)
}

/// Drops doubles everywhere below a value.
pub(super) fn drop_doubles(value: &mut Value, path: &Path<'_>) -> Result<(), Fault> {
    match &mut value.data {
        Data::Map(map) => {
            for (name, value) in map {
                drop_doubles(value, &path.key(name))?;
            }
        }
        Data::List(list) => {
            if let Some(key) = path.matching(key) {
                let mut places: HashMap<String, usize> = HashMap::new();
                let mut out: Vec<Value> = Vec::with_capacity(list.len());
                for value in std::mem::take(list) {
                    match places.entry(identity(key, &value, &path.element())?) {
                        std::collections::hash_map::Entry::Occupied(place) => {
                            out[*place.get()] = value;
                        }
                        std::collections::hash_map::Entry::Vacant(place) => {
                            place.insert(out.len());
                            out.push(value);
                        }
                    }
                }
                *list = out;
            }
        }
        _ => {}
    }
    Ok(())
}

fn identity(key: Key, value: &Value, path: &Path<'_>) -> Result<String, Fault> {
    let entry = |name: &str| value.get(name);
    let text_at = |name: &str| -> Result<String, Fault> {
        match entry(name) {
            Some(text) => Ok(text.expect_text(&path.key(name))?.to_owned()),
            None => Err(Fault::new(value.at, path, format!("{name} is missing"))),
        }
    };
    match key {
        Key::Name => {
            let text = value.expect_text(path)?;
            Ok(text.split_once('=').map_or(text, |(name, _)| name).to_owned())
        }
        Key::Volume => match &value.data {
            Data::Map(_) => text_at("target"),
            Data::Text(text) => match parse_volume(text) {
                Ok(volume) => Ok(volume.target),
                Err(message) => Err(Fault::new(value.at, path, message)),
            },
            _ => Ok(String::new()),
        },
        Key::Device => match &value.data {
            Data::Map(_) => text_at("target"),
            Data::Text(text) => {
                let mut parts = text.split(':');
                let source = parts.next().unwrap_or_default();
                Ok(parts.next().unwrap_or(source).to_owned())
            }
            _ => Ok(String::new()),
        },
        Key::Expose => match value.data {
            Data::Text(_) | Data::Int(_) => Ok(value.to_string()),
            _ => Err(value.wrong(path, "a port or a range of ports")),
        },
        Key::Port => match &value.data {
            Data::Map(_) => {
                let Some(target) = entry("target") else {
                    return Err(Fault::new(value.at, path, "target is missing"));
                };
                let or =
                    |name, default: &str| entry(name).map_or_else(|| default.to_owned(), ToString::to_string);
                let (ip, protocol) = (or("host_ip", "0.0.0.0"), or("protocol", "tcp"));
                let published = or("published", "<nil>");
                Ok(format!("{ip}:{published}:{target}/{protocol}"))
            }
            Data::Text(_) | Data::Int(_) => Ok(value.to_string()),
            _ => Ok(String::new()),
        },
        Key::EnvFile => match &value.data {
            Data::Map(_) => text_at("path"),
            Data::Text(text) => Ok(text.clone()),
            _ => Ok(String::new()),
        },
        Key::Mount(directory) => match &value.data {
            Data::Text(text) => Ok(format!("{directory}/{text}")),
            Data::Map(map) => match map.get("target") {
                Some(target) => Ok(target.expect_text(&path.key("target"))?.to_owned()),
                None => {
                    let source = entry("source").map_or_else(|| "<nil>".to_owned(), ToString::to_string);
                    Ok(format!("{directory}/{source}"))
                }
            },
            _ => Err(value.wrong(path, "text or a map")),
        },
    }
}
