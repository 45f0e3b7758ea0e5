//! Relative paths of an included or extended file, made relative to where its reader's paths begin.

use super::error::Fault;
use super::value::{Data, Path, Value};
use crate::path;

/// Rewrites the paths that matter here, and refuses those of a wrong type as Compose does.
pub(super) fn rebase(model: &mut Value, base: &str) -> Result<(), Fault> {
    let root = Path::ROOT;
    if let Some(services) = model.as_map_mut().and_then(|m| m.get_mut("services")?.as_map_mut()) {
        let path = root.key("services");
        for (name, service) in services {
            rebase_service(service, base, &path.key(name))?;
        }
    }
    for (name, volume) in model.entries(&["volumes"]) {
        if volume.get("driver").and_then(Value::as_text) == Some("local")
            && let Some(options) = volume.get("driver_opts")
            && options.as_map().is_none()
        {
            let path = root.key("volumes");
            return Err(options.wrong(&path.key(name).key("driver_opts"), "a map"));
        }
    }
    Ok(())
}

fn rebase_service(service: &mut Value, base: &str, path: &Path<'_>) -> Result<(), Fault> {
    let Some(service) = service.as_map_mut() else {
        return Ok(());
    };
    if let Some(build) = service.get("build") {
        let path = path.key("build");
        if let Some(context) = build.get("context") {
            context.expect_text(&path.key("context"))?;
        }
        let contexts = match build.get("additional_contexts").map(|c| &c.data) {
            Some(Data::Map(map)) => map.values().collect(),
            Some(Data::List(list)) => list.iter().collect(),
            _ => Vec::new(),
        };
        for context in contexts {
            context.expect_text(&path.key("additional_contexts"))?;
        }
    }
    if let Some(Data::List(files)) = service.get_mut("env_file").map(|f| &mut f.data) {
        for file in files {
            if let Some(name) = file.as_map_mut().and_then(|m| m.get_mut("path")) {
                rebase_path(name, base, &path.key("env_file"))?;
            }
        }
    }
    if let Some(Data::List(files)) = service.get_mut("label_file").map(|f| &mut f.data) {
        for file in files {
            rebase_path(file, base, &path.key("label_file"))?;
        }
    }
    let extends = service.get_mut("extends").and_then(Value::as_map_mut);
    if let Some(file) = extends.and_then(|e| e.get_mut("file")) {
        rebase_path(file, base, &path.key("extends"))?;
    }
    if let Some(volumes) = service.get("volumes").and_then(Value::as_list) {
        let path = path.key("volumes");
        for volume in volumes {
            if volume.get("type").and_then(Value::as_text) == Some("bind")
                && volume.get("source").and_then(Value::as_text).is_none()
            {
                return Err(Fault::new(volume.at, &path, "a bind mount needs a source"));
            }
        }
    }
    Ok(())
}

fn rebase_path(value: &mut Value, base: &str, path: &Path<'_>) -> Result<(), Fault> {
    if let Data::List(list) = &mut value.data {
        for value in list {
            rebase_path(value, base, path)?;
        }
        return Ok(());
    }
    let text = value.expect_text(path)?;
    // A path in the home directory stays as it is: there is no home here.
    if !text.is_empty() && !text.starts_with(['/', '~']) {
        value.data = Data::Text(path::join([base, text]));
    }
    Ok(())
}
