//! The deployments of a pallet as Compose projects.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A deployment, as Forklift v0.8.0 hands it to Compose.
pub(crate) struct Project {
    pub(crate) deployment: String,
    /// The deployment's name with what Compose allows in one.
    pub(crate) name: String,
    /// The package's directory.
    pub(crate) directory: PathBuf,
    /// The package's Compose files, then those of the features, in order.
    pub(crate) files: Vec<PathBuf>,
}

impl Project {
    pub(crate) fn new(deployment: &str, directory: &Path, files: &[String]) -> Self {
        Self {
            deployment: deployment.to_owned(),
            name: deployment.replace('/', "_"),
            directory: directory.to_owned(),
            files: files.iter().map(|file| directory.join(file)).collect(),
        }
    }
}

/// The enabled deployments that a case of the corpus lists with images, their packages below this directory.
pub(crate) fn projects(per_deployment: &Value, root: &Path) -> Vec<Project> {
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
            Project::new(name, &root.join(package), &crate::machine::strings(&deployment["compose-files"]))
        })
        .collect();
    // The one that makes the network which is external to the others.
    projects.sort_by_key(|project| project.deployment != "infra/caddy-ingress");
    projects
}
