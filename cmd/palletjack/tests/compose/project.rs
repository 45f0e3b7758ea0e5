//! The deployments of a pallet as Compose projects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use palletjack_testkit::Ran;
use palletjack_testkit::real::Forky;
use serde_json::Value;

use crate::machine::Machine;

/// A deployment, as Forklift v0.8.0 hands it to Compose.
pub(crate) struct Project {
    pub(crate) deployment: String,
    /// The deployment's name with what Compose allows in one.
    pub(crate) name: String,
    /// The package's directory.
    pub(crate) directory: PathBuf,
    /// The package's Compose files, then those of the features, in order.
    pub(crate) files: Vec<PathBuf>,
    /// The services' images as Compose itself reads them in the pallet's files, before anything is loaded.
    pub(crate) services: BTreeMap<String, String>,
}

impl Project {
    pub(crate) fn new(machine: &Machine, deployment: &str, directory: &Path, files: &[String]) -> Self {
        let mut project = Self {
            deployment: deployment.to_owned(),
            name: deployment.replace('/', "_"),
            directory: directory.to_owned(),
            files: files.iter().map(|file| directory.join(file)).collect(),
            services: BTreeMap::new(),
        };
        let ran = project.compose(machine, None, &[], &["config", "--format", "json"]);
        let read: Value = serde_json::from_str(&ran.assert_success().stdout).unwrap();
        let image = |service: &Value| service["image"].as_str().unwrap().to_owned();
        let services = read["services"].as_object().unwrap().iter();
        project.services = services.map(|(name, service)| (name.clone(), image(service))).collect();
        project
    }

    /// `docker compose` on the project's files and more, in the machine's environment, with this engine.
    pub(crate) fn compose(
        &self,
        machine: &Machine,
        host: Option<String>,
        more: &[PathBuf],
        args: &[&str],
    ) -> Ran {
        let mut command = Command::new(Forky::install().unwrap().compose());
        command.env_clear().envs(machine.sandbox.environment()).current_dir(&self.directory);
        if let Some(host) = host {
            command.env("DOCKER_HOST", host);
        }
        command.args(["--project-name", &self.name]);
        for file in self.files.iter().chain(more) {
            command.arg("--file").arg(file);
        }
        let output = command.args(args).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            command: format!("docker compose {} ({})", args.join(" "), self.deployment),
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// The enabled deployments that a case of the corpus lists with images, their packages below this directory.
pub(crate) fn projects(machine: &Machine, per_deployment: &Value, root: &Path) -> Vec<Project> {
    let is_wanted = |deployment: &Value| {
        deployment["disabled"] == false && !deployment["images"].as_array().unwrap().is_empty()
    };
    let mut projects: Vec<Project> = per_deployment
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, deployment)| is_wanted(deployment))
        .map(|(name, deployment)| {
            let package = deployment["package"].as_str().unwrap().trim_start_matches('/');
            let files = crate::machine::strings(&deployment["compose-files"]);
            Project::new(machine, name, &root.join(package), &files)
        })
        .collect();
    // The one that makes the network which is external to the others.
    projects.sort_by_key(|project| project.deployment != "infra/caddy-ingress");
    projects
}
