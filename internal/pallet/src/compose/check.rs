//! Checks of a loaded model that need no other part of it.

use super::error::Fault;
use super::value::{Path, Value};
use super::words::is_ip;

/// Volumes, configs and secrets, and what services say about ports, devices and watched paths.
pub(super) fn resources(model: &Value) -> Result<(), Fault> {
    volumes(model)?;
    sources(model, "configs", &["file", "environment", "content"])?;
    sources(model, "secrets", &["file", "environment"])?;
    let path = Path::ROOT.key("services");
    for (name, service) in model.entries(&["services"]) {
        self::service(service, &path.key(name))?;
    }
    Ok(())
}

fn volumes(model: &Value) -> Result<(), Fault> {
    let path = Path::ROOT.key("volumes");
    for (name, volume) in model.entries(&["volumes"]) {
        let path = path.key(name);
        let Some(external) = volume.get("external") else {
            continue;
        };
        match external.as_bool() {
            Some(true) => {}
            Some(false) => continue,
            None => return Err(external.wrong(&path.key("external"), "true or false")),
        }
        let other = |key: &&str| !matches!(*key, "name" | "external") && !key.starts_with("x-");
        if let Some(key) = volume.entries(&[]).map(|(k, _)| k).find(other) {
            let message = format!("an external volume has no {key:?}");
            return Err(Fault::new(volume.at, &path, message));
        }
    }
    Ok(())
}

/// Each config and secret has exactly one source.
fn sources(model: &Value, kind: &str, keys: &[&str]) -> Result<(), Fault> {
    let path = Path::ROOT.key(kind);
    for (name, resource) in model.entries(&[kind]) {
        let path = path.key(name);
        let Some(map) = resource.as_map() else {
            return Err(resource.wrong(&path, "a map"));
        };
        let given = keys.iter().filter(|key| map.contains_key(**key)).count();
        let elsewhere = map.contains_key("driver") || map.contains_key("external");
        if given > 1 || (given == 0 && !elsewhere) {
            let message = format!("exactly one of {} is needed", keys.join(", "));
            return Err(Fault::new(resource.at, &path, message));
        }
    }
    Ok(())
}

fn service(service: &Value, path: &Path<'_>) -> Result<(), Fault> {
    for port in service.items(&["ports"]) {
        if let Some(ip) = port.get("host_ip") {
            let path = path.key("ports");
            let path = path.key("host_ip");
            if !is_ip(ip.expect_text(&path)?) {
                return Err(Fault::new(ip.at, &path, "is no IP address"));
            }
        }
    }
    for request in device_requests(service) {
        if request.get("count").is_some() && request.get("device_ids").is_some() {
            let message = "count and device_ids exclude each other";
            return Err(Fault::new(request.at, path, message));
        }
    }
    for watch in service.items(&["develop", "watch"]) {
        if watch.get("path").and_then(Value::as_text).is_none_or(str::is_empty) {
            let path = path.key("develop");
            return Err(Fault::new(watch.at, &path.key("watch"), "path is empty"));
        }
    }
    Ok(())
}

/// Devices that a service asks for, in either place.
pub(super) fn device_requests(service: &Value) -> impl Iterator<Item = &Value> {
    let reserved = service.items(&["deploy", "resources", "reservations", "devices"]);
    service.items(&["gpus"]).iter().chain(reserved)
}
