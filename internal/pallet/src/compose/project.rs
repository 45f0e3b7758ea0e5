//! The last step: a model to the services that are active and their images.

use std::collections::BTreeMap;

use super::error::Fault;
use super::loader::{Loader, read};
use super::services::Services;
use super::value::{At, Data, Path, Value};
use super::{Environment, Image, Project, Service, convert, env_file};
use crate::requirement::Usage;

/// Checks a complete model and lists its active services.
pub(super) fn finish(model: &Value, loader: &Loader) -> Result<Project, Fault> {
    values_are_given(model)?;
    convert::check(model)?;
    let services = Services::new(model);
    services.check()?;
    for (name, service) in &services.active {
        files(service, &Path::ROOT.key("services").key(name), loader)?;
    }
    let active = services.active.iter();
    let active =
        active.map(|(name, service)| Service { name: (*name).to_owned(), images: images(service, loader) });
    Ok(Project { services: active.collect() })
}

/// What the schema doesn't ask for, in services that a profile keeps out as well: every mount in long form
/// names its place, and a `pid` of null makes Compose crash.
fn values_are_given(model: &Value) -> Result<(), Fault> {
    let path = Path::ROOT.key("services");
    for (name, service) in model.entries(&["services"]) {
        let path = path.key(name);
        if let Some(pid) = service.get("pid") {
            pid.expect_text(&path.key("pid"))?;
        }
        for volume in service.items(&["volumes"]) {
            if volume.get("target").and_then(Value::as_text).is_none() {
                return Err(Fault::new(volume.at, &path.key("volumes"), "target is missing"));
            }
        }
    }
    Ok(())
}

fn images(service: &Value, loader: &Loader) -> Vec<Image> {
    let image = |value: Option<&Value>, usage| {
        let at = value.map_or_else(At::default, |v| v.at);
        // A service that is only built stands for itself.
        let origin = value.map_or(service.at, |v| v.at);
        Image {
            name: value.and_then(Value::as_text).unwrap_or_default().to_owned(),
            usage,
            file: loader.entry(origin.file),
            path: loader.path(origin.file).to_owned(),
            line: at.line,
        }
    };
    images_of(service).into_iter().map(|(value, usage)| image(value, usage)).collect()
}

/// The images that a service needs, the one that it runs first: none if it is only built.
pub(super) fn images_of(service: &Value) -> Vec<(Option<&Value>, Usage)> {
    let mut out = vec![(service.get("image"), Usage::Run)];
    for volume in service.items(&["volumes"]) {
        if volume.get("type").and_then(Value::as_text) == Some("image")
            && let Some(source) = volume.get("source")
        {
            out.push((Some(source), Usage::Mount));
        }
    }
    for hook in service.items(&["pre_start"]) {
        if let Some(own) = hook.get("image") {
            out.push((Some(own), Usage::PreStart));
        }
    }
    out
}

/// Reads the `env_file` and `label_file` of a service: they must be there, and valid. Their relative paths
/// begin at the current directory of the process in Forklift, where nothing of a pallet is: so a relative
/// one is not there.
fn files(service: &Value, path: &Path<'_>, loader: &Loader) -> Result<(), Fault> {
    let given: BTreeMap<String, String> = variables(service);
    let outer = |name: &str| {
        let own = loader.environment.get(name).map(str::to_owned);
        own.or_else(|| given.get(name).cloned())
    };
    let mut out = Environment::default();
    for file in service.items(&["env_file"]) {
        let name = file.get("path").and_then(Value::as_text).unwrap_or_default();
        let required = match file.get("required").map(|r| &r.data) {
            Some(Data::Bool(required)) => *required,
            Some(Data::Text(text)) => super::words::to_bool(text).unwrap_or(true),
            _ => true,
        };
        if !exists(name) {
            if required {
                return Err(missing(file, &path.key("env_file"), name));
            }
            continue;
        }
        let format = file.get("format").and_then(Value::as_text).unwrap_or_default();
        if !matches!(format, "" | ".env") {
            let message = format!("unknown format {format:?}");
            return Err(Fault::new(file.at, &path.key("env_file"), message));
        }
        env_file::parse(&read(name.as_ref())?, &mut out, &outer, false)?;
    }
    let mut out = Environment::default();
    for file in service.items(&["label_file"]) {
        let name = file.as_text().unwrap_or_default();
        if !exists(name) {
            return Err(missing(file, &path.key("label_file"), name));
        }
        env_file::parse(&read(name.as_ref())?, &mut out, &|_| None, false)?;
    }
    Ok(())
}

fn exists(name: &str) -> bool {
    name.starts_with('/') && std::path::Path::new(name).exists()
}

fn missing(value: &Value, path: &Path<'_>, name: &str) -> Fault {
    Fault::new(value.at, path, format!("{name:?} is not there"))
}

/// The variables that a service sets itself.
fn variables(service: &Value) -> BTreeMap<String, String> {
    let list = service.get("environment").cloned().map(super::merge::as_list);
    let list = list.unwrap_or_default();
    let pairs = list.iter().filter_map(|v| v.as_text()?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
