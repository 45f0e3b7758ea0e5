//! Values that fit the schema and still can't be converted to what they stand for.

use super::check::device_requests;
use super::error::Fault;
use super::value::{Data, Path, Value};
use super::words::{is_duration, splits_into_words, to_bool, to_float, to_int, to_size};

/// Checks all conversions of a model.
pub(super) fn check(model: &Value) -> Result<(), Fault> {
    let path = Path::ROOT.key("services");
    for (name, service) in model.entries(&["services"]) {
        self::service(service, &path.key(name))?;
    }
    for kind in ["secrets", "configs"] {
        let path = Path::ROOT.key(kind);
        for (name, resource) in model.entries(&[kind]) {
            let path = path.key(name);
            for (key, value) in resource.entries(&["driver_opts"]) {
                text(value).map_err(|m| Fault::new(value.at, &path.key(key), m))?;
            }
        }
    }
    Ok(())
}

type Check = fn(&Value) -> Result<(), String>;

/// Checks what is at some keys of a value, if there is anything.
fn at(value: &Value, keys: &[&str], check: Check, path: &Path<'_>) -> Result<(), Fault> {
    match value.at_path(keys) {
        None => Ok(()),
        Some(found) => check(found).map_err(|message| {
            let key = keys.join(".");
            Fault::new(found.at, &path.key(&key), message)
        }),
    }
}

fn service(service: &Value, path: &Path<'_>) -> Result<(), Fault> {
    let single: &[(&[&str], Check)] = &[
        (&["stop_grace_period"], duration),
        (&["healthcheck", "interval"], duration),
        (&["healthcheck", "timeout"], duration),
        (&["healthcheck", "start_period"], duration),
        (&["healthcheck", "start_interval"], duration),
        (&["healthcheck", "retries"], natural),
        (&["deploy", "update_config", "delay"], duration),
        (&["deploy", "update_config", "monitor"], duration),
        (&["deploy", "update_config", "parallelism"], natural),
        (&["deploy", "rollback_config", "delay"], duration),
        (&["deploy", "rollback_config", "monitor"], duration),
        (&["deploy", "rollback_config", "parallelism"], natural),
        (&["deploy", "restart_policy", "delay"], duration),
        (&["deploy", "restart_policy", "window"], duration),
        (&["deploy", "restart_policy", "max_attempts"], natural),
        (&["deploy", "placement", "max_replicas_per_node"], natural),
        (&["deploy", "resources", "limits", "memory"], size),
        (&["deploy", "resources", "limits", "cpus"], number),
        (&["deploy", "resources", "limits", "pids"], integer),
        (&["deploy", "resources", "reservations", "memory"], size),
        (&["deploy", "resources", "reservations", "cpus"], number),
        (&["mem_limit"], size),
        (&["mem_reservation"], size),
        (&["memswap_limit"], size),
        (&["mem_swappiness"], size),
        (&["shm_size"], size),
        (&["build", "shm_size"], size),
        (&["blkio_config", "weight"], natural),
        (&["command"], command),
        (&["entrypoint"], command),
        (&["environment"], variables),
        (&["build", "args"], arguments),
        (&["extra_hosts"], hosts),
        (&["build", "extra_hosts"], hosts),
        (&["attach"], boolean),
        (&["build", "no_cache"], boolean),
        (&["build", "pull"], boolean),
        (&["build", "privileged"], boolean),
        (&["ulimits"], limits),
        (&["build", "ulimits"], limits),
    ];
    for (keys, check) in single {
        at(service, keys, *check, path)?;
    }
    let lists: &[(&[&str], &[&str], Check)] = &[
        (&["deploy", "resources", "limits", "generic_resources"], GENERIC, integer),
        (&["deploy", "resources", "reservations", "generic_resources"], GENERIC, integer),
        (&["blkio_config", "weight_device"], &["weight"], natural),
        (&["blkio_config", "device_read_bps"], &["rate"], size),
        (&["blkio_config", "device_read_iops"], &["rate"], size),
        (&["blkio_config", "device_write_bps"], &["rate"], size),
        (&["blkio_config", "device_write_iops"], &["rate"], size),
        (&["post_start"], &["command"], command),
        (&["post_start"], &["privileged"], boolean),
        (&["post_start"], &["environment"], variables),
        (&["pre_stop"], &["command"], command),
        (&["pre_stop"], &["privileged"], boolean),
        (&["pre_stop"], &["environment"], variables),
        (&["env_file"], &["required"], boolean),
        (&["volumes"], &["bind", "create_host_path"], boolean),
        (&["volumes"], &["tmpfs", "size"], size),
        (&["volumes"], &["tmpfs", "mode"], natural),
        (&["secrets"], &["mode"], mode),
        (&["configs"], &["mode"], mode),
        (&["build", "secrets"], &["mode"], mode),
        (&["ports"], &["target"], natural),
        (&["ports"], &["published"], text),
        (&["group_add"], &[], text),
    ];
    for (list, keys, check) in lists {
        let name = list.join(".");
        for element in service.items(list) {
            at(element, keys, *check, &path.key(&name))?;
        }
    }
    for request in device_requests(service) {
        at(request, &["count"], count, path)?;
    }
    for (name, dependency) in service.entries(&["depends_on"]) {
        at(dependency, &["restart"], boolean, &path.key(name))?;
    }
    for (name, option) in service.entries(&["storage_opt"]) {
        at(option, &[], text, &path.key(name))?;
    }
    Ok(())
}

const GENERIC: &[&str] = &["discrete_resource_spec", "value"];

fn duration(value: &Value) -> Result<(), String> {
    let text = value.to_string();
    if is_duration(&text) {
        return Ok(());
    }
    Err(format!("expected a duration such as 1m30s, found {text:?}"))
}

fn size(value: &Value) -> Result<(), String> {
    match &value.data {
        Data::Text(text) => to_size(text).map(drop),
        _ => Ok(()),
    }
}

fn number(value: &Value) -> Result<(), String> {
    match &value.data {
        Data::Text(text) => to_float(text).map(drop),
        _ => Ok(()),
    }
}

fn integer(value: &Value) -> Result<(), String> {
    match &value.data {
        Data::Text(text) => to_int(text).map(drop),
        _ => Ok(()),
    }
}

fn boolean(value: &Value) -> Result<(), String> {
    match &value.data {
        Data::Text(text) => to_bool(text).map(drop),
        _ => Ok(()),
    }
}

fn natural(value: &Value) -> Result<(), String> {
    match value.number() {
        Some(n) if n >= 0.0 => Ok(()),
        _ => Err(format!("expected a number that isn't negative, found {value}")),
    }
}

fn mode(value: &Value) -> Result<(), String> {
    let octal = |text: &str| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|c| matches!(c, b'0'..=b'7'))
    };
    match &value.data {
        Data::Int(_) => Ok(()),
        Data::Text(text) if octal(text) => Ok(()),
        _ => Err(format!("expected an octal mode such as 0440, found {value}")),
    }
}

fn text(value: &Value) -> Result<(), String> {
    match value.data {
        Data::Null | Data::Text(_) | Data::Int(_) => Ok(()),
        _ => Err(format!("expected text or an integer, found {}", value.what())),
    }
}

fn count(value: &Value) -> Result<(), String> {
    match &value.data {
        Data::Int(_) => Ok(()),
        Data::Text(text) if text.eq_ignore_ascii_case("all") || to_int(text).is_ok() => Ok(()),
        _ => Err(format!("expected a whole number or \"all\", found {value}")),
    }
}

fn command(value: &Value) -> Result<(), String> {
    match value.as_text() {
        Some(line) if !splits_into_words(line) => {
            Err("this can't be split into words: a quote or bracket isn't closed".into())
        }
        _ => Ok(()),
    }
}

fn variables(value: &Value) -> Result<(), String> {
    for element in value.as_list().unwrap_or_default() {
        let text = element.to_string();
        let name = text.split_once('=').map_or(&*text, |(name, _)| name);
        let blank = |c: char| matches!(c, '\t'..='\r' | ' ' | '\u{85}' | '\u{a0}');
        if name.ends_with(blank) {
            return Err(format!("the variable name {name:?} ends with a space"));
        }
    }
    Ok(())
}

/// As variables, but a name without a value is left out before anybody looks at it.
fn arguments(value: &Value) -> Result<(), String> {
    let list = value.as_list().unwrap_or_default();
    let given = list.iter().filter(|v| v.as_text().is_some_and(|t| t.contains('='))).cloned();
    variables(&Value::new(value.at, Data::List(given.collect())))
}

fn hosts(value: &Value) -> Result<(), String> {
    let check = |name: &str| {
        if name.is_empty() || name.contains([':', '=']) {
            return Err(format!("{name:?} can't be a host name"));
        }
        Ok(())
    };
    match &value.data {
        Data::List(list) => {
            for element in list {
                let text = element.to_string();
                let separator = if text.contains('=') { '=' } else { ':' };
                let Some((name, _)) = text.split_once(separator) else {
                    return Err(format!("host {text:?} has no address"));
                };
                check(name)?;
            }
            Ok(())
        }
        Data::Map(map) => map.keys().try_for_each(|name| check(name)),
        _ => Err(format!("expected a list or a map, found {}", value.what())),
    }
}

fn limits(value: &Value) -> Result<(), String> {
    for (name, limit) in value.entries(&[]) {
        for key in ["soft", "hard"] {
            if limit.get(key).is_some_and(|v| !matches!(v.data, Data::Int(_))) {
                return Err(format!("{name}.{key} must be a whole number"));
            }
        }
    }
    Ok(())
}
