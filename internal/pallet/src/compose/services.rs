//! Checks of the services that are active: whatever they refer to must be there.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Fault;
use super::value::{At, Data, Path, Value};
use super::words::{to_int, to_size};

/// A model with its services sorted by whether a profile keeps them out.
pub(super) struct Services<'a> {
    pub(super) model: &'a Value,
    pub(super) active: BTreeMap<&'a str, &'a Value>,
    pub(super) inactive: BTreeMap<&'a str, &'a Value>,
    /// Networks that are defined, the default one included if anybody uses it.
    networks: BTreeSet<&'a str>,
}

/// A service that another one needs.
struct Dependency<'a> {
    name: &'a str,
    required: bool,
    at: At,
}

impl<'a> Services<'a> {
    pub(super) fn new(model: &'a Value) -> Self {
        let (mut active, mut inactive) = (BTreeMap::new(), BTreeMap::new());
        let mut networks: BTreeSet<&str> = model.entries(&["networks"]).map(|(n, _)| n).collect();
        for (name, service) in model.entries(&["services"]) {
            if service.items(&["profiles"]).is_empty() {
                active.insert(name, service);
            } else {
                inactive.insert(name, service);
            }
            let own = service.get("provider").is_some() || service.get("network_mode").is_some();
            let mut used = service.entries(&["networks"]).map(|(n, _)| n).peekable();
            if !own && (used.peek().is_none() || used.any(|n| n == "default")) {
                networks.insert("default");
            }
        }
        Self { model, active, inactive, networks }
    }

    /// Checks each active service, then their dependencies for circles.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let path = Path::ROOT.key("services");
        for (name, service) in &self.active {
            self.service(service, &path.key(name))?;
        }
        self.secrets()?;
        self.circles()
    }

    fn service(&self, service: &Value, path: &Path<'_>) -> Result<(), Fault> {
        let image = service.get("image").and_then(Value::as_text).unwrap_or_default();
        let has = |key| service.at_path(&[key]).is_some();
        if !has("build") && image.is_empty() && !has("provider") {
            let message = "has neither an image nor a build context";
            return Err(Fault::new(service.at, path, message));
        }
        self.build(service, path)?;
        self.networks(service, path)?;
        if let Some(first) = service.items(&["healthcheck", "test"]).first()
            && !matches!(first.as_text(), Some("CMD" | "CMD-SHELL" | "NONE"))
        {
            let message = "a list must begin with CMD, CMD-SHELL or NONE";
            let path = path.key("healthcheck");
            return Err(Fault::new(first.at, &path.key("test"), message));
        }
        for dependency in dependencies(service) {
            let left_out = self.inactive.contains_key(dependency.name) && !dependency.required;
            if !self.active.contains_key(dependency.name) && !left_out {
                let why = if self.inactive.contains_key(dependency.name) {
                    "needs a profile that isn't active"
                } else {
                    "is not defined"
                };
                let message = format!("needs the service {:?}, which {why}", dependency.name);
                return Err(Fault::new(dependency.at, path, message));
            }
        }
        self.mounts(service, path)?;
        self.granted(service, path)?;
        scale(service, path)?;
        watch(service, path)?;
        targets(service, path)
    }

    fn build(&self, service: &Value, path: &Path<'_>) -> Result<(), Fault> {
        let Some(build) = service.at_path(&["build"]) else {
            return Ok(());
        };
        let path = path.key("build");
        let filled = |key| build.get(key).and_then(Value::as_text).is_some_and(|t| !t.is_empty());
        if filled("dockerfile") && filled("dockerfile_inline") {
            let message = "dockerfile and dockerfile_inline exclude each other";
            return Err(Fault::new(build.at, &path, message));
        }
        for (_, context) in build.entries(&["additional_contexts"]) {
            let text = context.to_string();
            let Some(name) = text.strip_prefix("service:") else {
                continue;
            };
            let is_built = self.active.get(name).is_some_and(|s| s.at_path(&["build"]).is_some());
            if !is_built {
                let message = format!("{text} is no service that is built");
                return Err(Fault::new(context.at, &path, message));
            }
        }
        let platforms = build.items(&["platforms"]);
        if let Some(platform) = service.get("platform").filter(|p| p.as_text() != Some(""))
            && !platforms.is_empty()
            && !platforms.iter().any(|p| p.same(platform))
        {
            let message = format!("platforms must include the service's platform {platform}");
            return Err(Fault::new(build.at, &path, message));
        }
        Ok(())
    }

    fn networks(&self, service: &Value, path: &Path<'_>) -> Result<(), Fault> {
        let mode = service.get("network_mode").filter(|m| m.as_text().is_some_and(|m| !m.is_empty()));
        for (name, network) in service.entries(&["networks"]) {
            if let Some(mode) = mode {
                let message = "network_mode and networks exclude each other";
                return Err(Fault::new(mode.at, path, message));
            }
            if !name.starts_with("x-") && !self.networks.contains(name) {
                let message = format!("uses the network {name:?}, which is not defined");
                return Err(Fault::new(network.at, path, message));
            }
        }
        let service = mode.and_then(|m| m.as_text()?.strip_prefix("service:").map(|name| (m.at, name)));
        match service {
            Some((at, name)) if !self.active.contains_key(name) => {
                let message = format!("uses the network of {name:?}, which is no active service");
                Err(Fault::new(at, path, message))
            }
            _ => Ok(()),
        }
    }

    fn mounts(&self, service: &Value, path: &Path<'_>) -> Result<(), Fault> {
        for volume in service.items(&["volumes"]) {
            let kind = volume.get("type").and_then(Value::as_text);
            let source = volume.get("source").and_then(Value::as_text);
            if let (Some("volume"), Some(name)) = (kind, source)
                && !name.is_empty()
                && !self.defines("volumes", name)
            {
                let message = format!("uses the volume {name:?}, which is not defined");
                return Err(Fault::new(volume.at, path, message));
            }
        }
        Ok(())
    }

    fn granted(&self, service: &Value, path: &Path<'_>) -> Result<(), Fault> {
        let lists = [
            ("secrets", service.items(&["build", "secrets"])),
            ("secrets", service.items(&["secrets"])),
            ("configs", service.items(&["configs"])),
        ];
        for (kind, list) in lists {
            for grant in list {
                let name = grant.get("source").and_then(Value::as_text).unwrap_or_default();
                if !self.defines(kind, name) {
                    let message = format!("{name:?} is not defined in the top-level {kind}");
                    return Err(Fault::new(grant.at, &path.key(kind), message));
                }
            }
        }
        for (name, model) in service.entries(&["models"]) {
            if !name.starts_with("x-") && !self.defines("models", name) {
                let message = format!("uses the model {name:?}, which is not defined");
                return Err(Fault::new(model.at, path, message));
            }
        }
        Ok(())
    }

    fn defines(&self, kind: &str, name: &str) -> bool {
        let resources = self.model.get(kind).and_then(Value::as_map);
        resources.is_some_and(|map| map.contains_key(name))
    }

    /// Secrets that aren't external must say where they come from, used or not.
    fn secrets(&self) -> Result<(), Fault> {
        let path = Path::ROOT.key("secrets");
        for (name, secret) in self.model.entries(&["secrets"]) {
            let external = secret.get("external").is_some_and(|e| match &e.data {
                Data::Bool(external) => *external,
                Data::Text(text) => super::words::to_bool(text).unwrap_or_default(),
                _ => false,
            });
            let filled = |key| secret.get(key).and_then(Value::as_text).is_some_and(|t| !t.is_empty());
            if !external && !filled("file") && !filled("environment") {
                let message = "needs a file or an environment variable";
                return Err(Fault::new(secret.at, &path.key(name), message));
            }
        }
        Ok(())
    }

    /// Refuses active services that depend on each other in a circle.
    fn circles(&self) -> Result<(), Fault> {
        // Services without unmet dependencies are taken away until none is left, or only circles are.
        let mut waiting: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, service) in &self.active {
            let needs = dependencies(service).into_iter().map(|d| d.name);
            let needs: BTreeSet<&str> = needs.filter(|n| self.active.contains_key(n)).collect();
            for need in &needs {
                needed_by.entry(need).or_default().push(name);
            }
            waiting.insert(name, needs);
        }
        let free = waiting.iter().filter(|(_, needs)| needs.is_empty());
        let mut ready: Vec<&str> = free.map(|(name, _)| *name).collect();
        while let Some(name) = ready.pop() {
            waiting.remove(name);
            for dependant in needed_by.remove(name).unwrap_or_default() {
                if let Some(needs) = waiting.get_mut(dependant) {
                    needs.remove(name);
                    if needs.is_empty() {
                        ready.push(dependant);
                    }
                }
            }
        }
        match waiting.keys().next() {
            None => Ok(()),
            Some(name) => {
                let at = self.active.get(name).map_or_else(At::default, |s| s.at);
                let names: Vec<&str> = waiting.keys().copied().collect();
                let message = format!("services depend on each other in a circle: {}", names.join(", "));
                Err(Fault::new(at, &Path::ROOT.key("services"), message))
            }
        }
    }
}

/// What a service depends on: `depends_on`, and whatever else names a service.
fn dependencies(service: &Value) -> Vec<Dependency<'_>> {
    let mut out: Vec<Dependency<'_>> = Vec::new();
    for (name, dependency) in service.entries(&["depends_on"]) {
        out.push(Dependency {
            name,
            required: dependency.get("required").and_then(Value::as_bool).unwrap_or_default(),
            at: dependency.at,
        });
    }
    let declared: BTreeSet<&str> = out.iter().map(|d| d.name).collect();
    let mut implied: Vec<(&str, At)> = Vec::new();
    for link in service.items(&["links"]) {
        let text = link.as_text().unwrap_or_default();
        let mut parts = text.split(':');
        let name = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(_), None) => name,
            _ => text,
        };
        implied.push((name, link.at));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(value) = service.get(key)
            && let Some(name) = value.as_text().and_then(|t| t.strip_prefix("service:"))
        {
            implied.push((name, value.at));
        }
    }
    for volume in service.items(&["volumes_from"]) {
        let text = volume.as_text().unwrap_or_default();
        if !text.starts_with("container:") {
            implied.push((text.split(':').next().unwrap_or(text), volume.at));
        }
    }
    let implied = implied.into_iter().filter(|(name, _)| !declared.contains(name));
    out.extend(implied.map(|(name, at)| Dependency { name, required: true, at }));
    out
}

/// A whole number, written as number or text.
fn whole(value: &Value) -> Option<i64> {
    match &value.data {
        Data::Int(i) => Some(*i),
        // The cast saturates; such numbers differ from any other all the same.
        #[allow(clippy::cast_possible_truncation)]
        Data::Float(f) => Some(*f as i64),
        Data::Text(text) => to_int(text).ok(),
        _ => None,
    }
}

/// Settings that exist twice must agree, and one name is enough for one container only.
fn scale(service: &Value, path: &Path<'_>) -> Result<(), Fault> {
    let fault = |message: &str| Err(Fault::new(service.at, path, message));
    let scale = service.at_path(&["scale"]).and_then(whole);
    let replicas = service.at_path(&["deploy", "replicas"]).and_then(whole);
    if let (Some(scale), Some(replicas)) = (scale, replicas)
        && scale != replicas
    {
        return fault("scale and deploy.replicas differ");
    }
    let count = scale.or(replicas);
    if count.is_some_and(|n| n < 0) || replicas.is_some_and(|n| n < 0) {
        return fault("scale is negative");
    }
    let limit = |keys: &[&str]| service.at_path(keys);
    // Compose keeps these as 32-bit numbers.
    #[allow(clippy::cast_possible_truncation)]
    let cpus = |value: Option<&Value>| value.and_then(number).unwrap_or_default() as f32;
    let bytes = |value: Option<&Value>| match value.map(|v| &v.data) {
        Some(Data::Int(i)) => *i,
        Some(Data::Text(text)) => to_size(text).unwrap_or_default(),
        _ => 0,
    };
    let number = |value: Option<&Value>| value.and_then(whole).unwrap_or_default();
    if limit(&["deploy", "resources", "limits"]).is_some() {
        let own = cpus(limit(&["cpus"]));
        #[allow(clippy::float_cmp)]
        if own != 0.0 && own != cpus(limit(&["deploy", "resources", "limits", "cpus"])) {
            return fault("cpus and deploy.resources.limits.cpus differ");
        }
        let own = bytes(limit(&["mem_limit"]));
        if own != 0 && own != bytes(limit(&["deploy", "resources", "limits", "memory"])) {
            return fault("mem_limit and deploy.resources.limits.memory differ");
        }
        let own = number(limit(&["pids_limit"]));
        if own != 0 && own != number(limit(&["deploy", "resources", "limits", "pids"])) {
            return fault("pids_limit and deploy.resources.limits.pids differ");
        }
    }
    if limit(&["deploy", "resources", "reservations"]).is_some() {
        let own = bytes(limit(&["mem_reservation"]));
        if own != 0 && own != bytes(limit(&["deploy", "resources", "reservations", "memory"])) {
            return fault("mem_reservation and deploy.resources.reservations.memory differ");
        }
    }
    let named = service.get("container_name").and_then(Value::as_text).is_some_and(|n| !n.is_empty());
    if named && count.unwrap_or(1) > 1 {
        return fault("container_name allows one container only");
    }
    Ok(())
}

fn number(value: &Value) -> Option<f64> {
    match &value.data {
        Data::Text(text) => super::words::to_float(text).ok(),
        _ => value.number(),
    }
}

fn watch(service: &Value, path: &Path<'_>) -> Result<(), Fault> {
    for watch in service.items(&["develop", "watch"]) {
        let text = |key| watch.get(key).and_then(Value::as_text).unwrap_or_default();
        if text("target").is_empty() && !matches!(text("action"), "rebuild" | "restart") {
            let path = path.key("develop");
            return Err(Fault::new(watch.at, &path.key("watch"), "target is missing"));
        }
    }
    Ok(())
}

/// No two mounts may have the same place in the container.
fn targets(service: &Value, path: &Path<'_>) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    let mut add = |target: String, at: At| {
        if seen.contains(&target) {
            return Err(Fault::new(at, path, format!("{target} is mounted twice")));
        }
        seen.insert(target);
        Ok(())
    };
    let before_colon = |text: &str| text.split(':').next().unwrap_or(text).to_owned();
    match service.get("tmpfs") {
        Some(Value { at, data: Data::Text(text) }) => add(before_colon(text), *at)?,
        Some(Value { data: Data::List(list), .. }) => {
            for value in list {
                add(before_colon(value.as_text().unwrap_or_default()), value.at)?;
            }
        }
        _ => {}
    }
    for volume in service.items(&["volumes"]) {
        let path = path.key("volumes");
        let Some(target) = volume.get("target").and_then(Value::as_text) else {
            return Err(Fault::new(volume.at, &path, "target is missing"));
        };
        add(crate::path::clean(target), volume.at)?;
    }
    Ok(())
}
