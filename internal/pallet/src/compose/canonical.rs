//! Short forms to long ones, so that the checks know one form only.

use super::error::Fault;
use super::merge::{as_named, service_started};
use super::short::{Port, parse_ports, parse_volume};
use super::value::{At, Data, Map, Path, Value};
use crate::path::clean;

/// The forms with a long counterpart.
enum Form {
    /// A resource of the top level: null, or a map.
    Resource,
    Include,
    /// A secret or config that a service uses.
    Grant,
    /// A switch that may hold options: becomes text.
    Option,
    AdditionalContexts,
    Ssh,
    DependsOn,
    EnvFile,
    ListOrText,
    Extends,
    Gpus,
    Names,
    Volume,
    Device,
    Ports,
    Build,
    Ulimit,
    Other,
}

fn form(path: &[&str]) -> Form {
    match path {
        ["volumes" | "networks" | "secrets" | "configs", _] => Form::Resource,
        ["include", _] => Form::Include,
        ["services", _, rest @ ..] => match rest {
            ["build", "secrets", "[]"] | ["secrets" | "configs", "[]"] => Form::Grant,
            ["build", "provenance" | "sbom"] => Form::Option,
            ["build", "additional_contexts"] => Form::AdditionalContexts,
            ["build", "ssh"] => Form::Ssh,
            ["build"] => Form::Build,
            ["depends_on"] => Form::DependsOn,
            ["env_file"] => Form::EnvFile,
            ["label_file" | "dns"] | ["develop", "watch", _, "ignore" | "include"] => Form::ListOrText,
            ["extends"] => Form::Extends,
            ["gpus"] => Form::Gpus,
            ["networks" | "models"] => Form::Names,
            ["volumes", "[]"] => Form::Volume,
            ["devices", "[]"] => Form::Device,
            ["ports"] => Form::Ports,
            ["ulimits", _] | ["build", "ulimits", _] => Form::Ulimit,
            _ => Form::Other,
        },
        _ => Form::Other,
    }
}

/// Converts everything below a value.
pub(super) fn canonical(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let at = value.at;
    let is_text = matches!(value.data, Data::Text(_));
    match path.matching(form) {
        Form::Resource => resource(value, path),
        Form::Include if is_text => Ok(single(at, "path", value)),
        Form::Extends if is_text => Ok(single(at, "service", value)),
        Form::Grant if is_text => Ok(single(at, "source", value)),
        Form::Build if is_text => Ok(single(at, "context", value)),
        Form::Include | Form::Extends | Form::Grant => map_as_it_is(value, path),
        Form::Build => {
            let value = map_as_it_is(value, path)?;
            below(value, path)
        }
        Form::Option => Ok(if is_text { value } else { Value::text(at, value.to_string()) }),
        Form::AdditionalContexts => pairs(value, path, |_| false),
        Form::Ssh => pairs(value, path, |key| key == "default"),
        Form::DependsOn => depends_on(value, path),
        Form::EnvFile => env_files(value, path),
        Form::ListOrText if is_text => Ok(Value::new(at, Data::List(vec![value]))),
        Form::ListOrText => Ok(value),
        Form::Gpus if is_text => {
            let all = single(at, "count", Value::text(at, "all"));
            Ok(Value::new(at, Data::List(vec![all])))
        }
        Form::Gpus => list_as_it_is(value, path),
        Form::Names => as_named(value, false, path),
        Form::Volume => volume(value, path),
        Form::Device => device(value, path),
        Form::Ports => ports(value, path),
        Form::Ulimit => match value.data {
            Data::Int(_) => Ok(value),
            _ => map_as_it_is(value, path),
        },
        Form::Other => below(value, path),
    }
}

/// Converts the parts of a value.
fn below(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let at = value.at;
    let data = match value.data {
        Data::Map(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                let value = canonical(value, &path.key(&key))?;
                out.insert(key, value);
            }
            Data::Map(out)
        }
        Data::List(list) => {
            let converted = list.into_iter().map(|v| canonical(v, &path.element()));
            Data::List(converted.collect::<Result<_, _>>()?)
        }
        other => other,
    };
    Ok(Value::new(at, data))
}

fn single(at: At, key: &str, value: Value) -> Value {
    Value::new(at, Data::Map(Map::from([(key.to_owned(), value)])))
}

fn map_as_it_is(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    match value.data {
        Data::Map(_) => Ok(value),
        _ => Err(value.wrong(path, "a map")),
    }
}

fn list_as_it_is(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    match value.data {
        Data::List(_) => Ok(value),
        _ => Err(value.wrong(path, "a list")),
    }
}

fn resource(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    if value.is_null() {
        return Ok(value);
    }
    let mut value = below(map_as_it_is(value, path)?, path)?;
    let Some(map) = value.as_map_mut() else {
        return Ok(value);
    };
    // The old form `external: {name: x}`.
    let Some(external) = map.get_mut("external").filter(|e| e.as_map().is_some()) else {
        return Ok(value);
    };
    let at = external.at;
    let mut old = std::mem::replace(external, Value::new(at, Data::Bool(true)));
    if let Some(name) = old.as_map_mut().and_then(|m| m.remove("name")) {
        if map.get("name").is_some_and(|n| !n.same(&name)) {
            return Err(Fault::new(at, path, "name and external.name differ"));
        }
        map.insert("name".into(), name);
    }
    Ok(value)
}

/// A list of `key=value` as a map. `bare` says which keys need no value.
fn pairs(value: Value, path: &Path<'_>, bare: impl Fn(&str) -> bool) -> Result<Value, Fault> {
    if value.as_map().is_some() {
        return Ok(value);
    }
    let at = value.at;
    let mut out = Map::new();
    for element in value.expect_list(path)? {
        let text = element.expect_text(&path.element())?;
        match text.split_once('=') {
            Some((key, value)) => out.insert(key.to_owned(), Value::text(element.at, value)),
            None if bare(text) => out.insert(text.to_owned(), Value::new(element.at, Data::Null)),
            None => {
                let message = format!("expected key=value, found {text:?}");
                return Err(Fault::new(element.at, path, message));
            }
        };
    }
    Ok(Value::new(at, Data::Map(out)))
}

fn depends_on(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let at = value.at;
    let Data::Map(map) = value.data else {
        list_as_it_is(value.clone(), path)?;
        return as_named(value, true, path);
    };
    let mut out = Map::new();
    for (name, dependency) in map {
        let here = dependency.at;
        let mut entry = dependency.expect_map(&path.key(&name))?;
        if let Data::Map(defaults) = service_started(here).data {
            for (key, value) in defaults {
                entry.entry(key).or_insert(value);
            }
        }
        out.insert(name, Value::new(here, Data::Map(entry)));
    }
    Ok(Value::new(at, Data::Map(out)))
}

fn env_files(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let at = value.at;
    let list = match value.data {
        Data::Text(_) => vec![value],
        _ => value.expect_list(path)?,
    };
    let mut out = Vec::with_capacity(list.len());
    for element in list {
        let at = element.at;
        let required = Value::new(at, Data::Bool(true));
        let data = match element.data {
            Data::Text(_) => {
                Data::Map(Map::from([("path".to_owned(), element), ("required".to_owned(), required)]))
            }
            Data::Map(mut map) => {
                map.entry("required".into()).or_insert(required);
                Data::Map(map)
            }
            _ => Data::Null,
        };
        out.push(Value::new(at, data));
    }
    Ok(Value::new(at, Data::List(out)))
}

fn volume(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let Data::Text(spec) = &value.data else {
        return map_as_it_is(value, path);
    };
    let at = value.at;
    let volume = parse_volume(spec).map_err(|message| Fault::new(at, path, message))?;
    let kind = if volume.is_bind { "bind" } else { "volume" };
    let mut out = Map::from([("type".to_owned(), Value::text(at, kind))]);
    if !volume.source.is_empty() {
        out.insert("source".into(), Value::text(at, volume.source));
    }
    if !volume.target.is_empty() {
        out.insert("target".into(), Value::text(at, clean(&volume.target)));
    }
    Ok(Value::new(at, Data::Map(out)))
}

fn device(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let Data::Text(spec) = &value.data else {
        return map_as_it_is(value, path);
    };
    let at = value.at;
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.len() > 3 {
        let message = format!("device {spec:?} has more than three parts");
        return Err(Fault::new(at, path, message));
    }
    let target = parts.get(1).filter(|t| !t.is_empty()).unwrap_or(&parts[0]);
    let permissions = parts.get(2).unwrap_or(&"rwm");
    let fields = [("source", parts[0]), ("target", target), ("permissions", permissions)];
    let fields = fields.map(|(key, text)| (key.to_owned(), Value::text(at, text)));
    Ok(Value::new(at, Data::Map(Map::from(fields))))
}

fn ports(value: Value, path: &Path<'_>) -> Result<Value, Fault> {
    let list_at = value.at;
    let mut out = Vec::new();
    for element in value.expect_list(path)? {
        let at = element.at;
        match &element.data {
            Data::Text(_) | Data::Int(_) => {
                let ports = parse_ports(&element.to_string());
                let ports = ports.map_err(|message| Fault::new(at, path, message))?;
                out.extend(ports.into_iter().map(|port| long_port(at, port)));
            }
            _ => out.push(map_as_it_is(element, &path.element())?),
        }
    }
    Ok(Value::new(list_at, Data::List(out)))
}

fn long_port(at: At, port: Port) -> Value {
    let mut out = Map::from([
        ("mode".to_owned(), Value::text(at, "ingress")),
        ("protocol".to_owned(), Value::text(at, port.protocol)),
    ]);
    if port.target > 0 {
        let target = Data::Int(i64::from(port.target));
        out.insert("target".into(), Value::new(at, target));
    }
    for (key, text) in [("host_ip", port.host_ip), ("published", port.published)] {
        if !text.is_empty() {
            out.insert(key.into(), Value::text(at, text));
        }
    }
    Value::new(at, Data::Map(out))
}
