//! `load-img --compose-override`: Compose files that name images as this engine knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use palletjack_engine::{LoadError, Loaded};
use palletjack_image::Reference;
use palletjack_pallet::Usage;
use palletjack_store::Image;

use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::requirements::Requirements;

/// Which service wants which image, by deployment, and where that is to be written.
#[derive(Debug)]
pub(crate) struct ComposeOverride {
    target: PathBuf,
    deployments: BTreeMap<String, BTreeMap<String, Reference>>,
}

impl ComposeOverride {
    /// What the requirements say about services. `None` where no file is wanted.
    pub(crate) fn of(
        target: Option<&Path>,
        requirements: &Requirements,
    ) -> Result<Option<Self>, CommandError> {
        let Some(target) = target else { return Ok(None) };
        let mut deployments: BTreeMap<String, BTreeMap<String, Reference>> = BTreeMap::new();
        for requirement in &requirements.listed {
            let Ok(reference) = requirement.image.parse::<Reference>() else { continue };
            for origin in requirement.origins.iter().filter(|origin| origin.usage == Usage::Run) {
                let services = deployments.entry(origin.deployment.clone()).or_default();
                let known = services.entry(origin.service.clone()).or_insert_with(|| reference.clone());
                if *known != reference {
                    let error = anyhow::anyhow!(
                        "service {} of deployment {} has one image in one bundle and another in the other: {} and {}",
                        origin.service,
                        origin.deployment,
                        known.familiar(),
                        reference.familiar()
                    );
                    return Err(CommandError::new(Exit::Usage, error)
                        .hint("--compose-override is for one bundle: name it, as in `stage load-img next`"));
                }
            }
        }
        Ok(Some(Self { target: target.to_owned(), deployments }))
    }

    /// Writes a file for each deployment, with the images that do not resolve by their own references.
    pub(crate) fn write(
        &self,
        context: &Context,
        images: &[Image],
        results: &[Result<Loaded, LoadError>],
    ) -> Result<(), CommandError> {
        let mut ids = BTreeMap::new();
        let mut there = BTreeSet::new();
        for (image, result) in images.iter().zip(results) {
            let Ok(loaded) = result else { continue };
            there.insert(&image.entry.reference);
            if !loaded.resolves.exact {
                ids.insert(&image.entry.reference, loaded.resolves.id.to_string());
            }
        }
        let one_file = self.deployments.len() == 1 && !self.target.is_dir();
        for (deployment, services) in &self.deployments {
            if let Some(missing) = services.values().find(|reference| !there.contains(reference)) {
                let error = anyhow::anyhow!("{} is not in the engine", missing.familiar());
                return Err(CommandError::new(Exit::Engine, error)
                    .context(format!("no Compose override is written for deployment {deployment}")));
            }
            let path = if one_file { self.target.clone() } else { self.path_of(deployment)? };
            let text = text(deployment, services, &ids);
            replace(&path, &text).map_err(|error| {
                CommandError::new(Exit::Failed, error).context(format!("cannot write {}", path.display()))
            })?;
            context.printer.note(&format!(
                "deployment {deployment}: add `-f {}` after its other Compose files",
                path.display()
            ));
        }
        Ok(())
    }

    /// A deployment's name may have slashes, and comes from a pallet: it must not lead out of the directory.
    fn path_of(&self, deployment: &str) -> Result<PathBuf, CommandError> {
        let name = Path::new(deployment);
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || deployment.is_empty() {
            let error = anyhow::anyhow!("`{deployment}` cannot be the name of a file");
            return Err(CommandError::new(Exit::Failed, error));
        }
        let mut path = self.target.join(name).into_os_string();
        path.push(".yml");
        Ok(path.into())
    }
}

/// A Compose file (compose-spec, "Merge and override") with images alone. Strings are written as JSON, which YAML reads.
fn text(
    deployment: &str,
    services: &BTreeMap<String, Reference>,
    ids: &BTreeMap<&Reference, String>,
) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!(
        "# Made by `palletjack load-img --compose-override` for deployment {}.\n\
         # Each image is the one that the reference above it pins, by the ID that it has in this engine, which was\n\
         # verified after the load. Use it as the last `-f` file, and make it anew after each load.\n",
        // A comment ends with its line.
        deployment.replace(char::is_control, " ")
    );
    let entries: Vec<(&String, &Reference, &String)> = services
        .iter()
        .filter_map(|(service, reference)| Some((service, reference, ids.get(reference)?)))
        .collect();
    if entries.is_empty() {
        text.push_str("# All references resolve by themselves.\nservices: {}\n");
        return text;
    }
    text.push_str("services:\n");
    for (service, reference, id) in entries {
        text.push_str(&format!(
            "  # {}\n  {}:\n    image: {}\n    pull_policy: never\n",
            reference.familiar(),
            quoted(service),
            quoted(id)
        ));
    }
    text
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = directory.join(format!(".{name}.palletjack"));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use palletjack_image::Digest;

    use super::*;

    #[test]
    fn only_what_does_not_resolve_is_named_otherwise() {
        let reference =
            |name: &str| -> Reference { format!("{name}@{}", Digest::of(name.as_bytes())).parse().unwrap() };
        let (pinned, resolves) = (reference("caddy:2"), reference("ghcr.io/acme/two:1"));
        let services = BTreeMap::from([
            ("web \"1\"".to_owned(), pinned.clone()),
            ("other".to_owned(), resolves.clone()),
        ]);
        let id = Digest::of(b"id").to_string();
        let ids = BTreeMap::from([(&pinned, id.clone())]);
        let written = text("infra/caddy", &services, &ids);
        let body: Vec<&str> = written.lines().filter(|line| !line.trim().starts_with('#')).collect();
        assert_eq!(
            body,
            ["services:", "  \"web \\\"1\\\"\":", &format!("    image: \"{id}\""), "    pull_policy: never"]
        );
        assert!(written.contains(&format!("# caddy:2@{}", Digest::of(b"caddy:2"))));
        let none = text("a\nb: c", &services, &BTreeMap::new());
        assert!(none.ends_with("services: {}\n"));
        assert!(none.lines().filter(|line| !line.starts_with('#')).eq(["services: {}"]), "{none}");
    }

    #[test]
    fn a_deployments_name_stays_in_the_directory() {
        let at =
            |name: &str| ComposeOverride { target: "dir".into(), deployments: BTreeMap::new() }.path_of(name);
        assert_eq!(at("infra/caddy").unwrap(), Path::new("dir/infra/caddy.yml"));
        assert_eq!(at("a.b").unwrap(), Path::new("dir/a.b.yml"));
        for bad in ["", "..", "../x", "a/../../x", "/etc/x", "./x"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}
