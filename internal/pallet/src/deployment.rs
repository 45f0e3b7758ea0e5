//! The deployments of a pallet or bundle, and what each takes from its package.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::definition::{DeploymentFile, FileExport, Spec, decode};
use crate::error::Error;
use crate::glob::{self, Find};
use crate::package::Package;
use crate::source::Source;
use crate::tree::Tree;

/// A deployment as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Path below `deployments/` without the suffix; may contain `/`.
    pub name: String,
    /// The file that declares it.
    pub file: PathBuf,
    /// Package path; begins with `/` for a package of the pallet itself.
    pub package: String,
    /// Enabled features, in the order written.
    pub features: Vec<String>,
    /// Whether it is disabled.
    pub disabled: bool,
}

/// A Compose file that a deployment merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeFile {
    /// Path relative to the package, as written.
    pub name: String,
    /// The feature which brings it; none for the package's own.
    pub feature: Option<String>,
}

/// A file export that must be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// URL or image reference, as written.
    pub url: String,
    /// Whether it is an image whose files are exported, rather than a file or archive from an HTTP server.
    pub is_image: bool,
    /// The feature which brings it; none for the package's own.
    pub feature: Option<String>,
}

/// What a deployment with its features takes from its package.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The deployment.
    pub deployment: Deployment,
    /// Compose files in merge order: the package's, then those of the features by name.
    pub compose_files: Vec<ComposeFile>,
    /// Downloads, in the same order.
    pub exports: Vec<Export>,
    pub(crate) tree: Tree,
}

impl Deployment {
    fn new(name: String, file: PathBuf, definition: DeploymentFile) -> Self {
        Self {
            name,
            file,
            package: definition.package,
            features: definition.features,
            disabled: definition.disabled,
        }
    }

    /// Adds to an error which deployment it is about.
    pub(crate) fn failed(&self, source: Error) -> Error {
        Error::Deployment { name: self.name.clone(), file: self.file.clone(), source: Box::new(source) }
    }

    /// What this deployment takes from its package. All its features must exist.
    pub(crate) fn select(&self, package: Package) -> Result<Selection, Error> {
        let known = &package.file.features;
        let unknown = |name: &&String| !known.contains_key(*name);
        let unknown: Vec<String> = self.features.iter().filter(unknown).cloned().collect();
        if !unknown.is_empty() {
            return Err(Error::UnknownFeatures { package: self.package.clone(), features: unknown });
        }
        let mut out = Selection {
            deployment: self.clone(),
            compose_files: Vec::new(),
            exports: Vec::new(),
            tree: package.tree,
        };
        out.add(&package.file.deployment, None);
        // Each once, by the bytes of the names.
        for name in self.features.iter().collect::<BTreeSet<_>>() {
            if let Some(spec) = package.file.features.get(name) {
                out.add(spec, Some(name));
            }
        }
        Ok(out)
    }
}

impl Selection {
    fn add(&mut self, spec: &Spec, feature: Option<&String>) {
        let files = spec
            .compose_files
            .iter()
            .map(|name| ComposeFile { name: name.clone(), feature: feature.cloned() });
        self.compose_files.extend(files);
        let exports = spec.file_exports.iter();
        self.exports.extend(exports.filter_map(|e| Export::new(e, feature)));
    }

    /// Whether the deployment has a Compose app: a list of empty names has none.
    pub fn has_app(&self) -> bool {
        self.compose_files.iter().any(|f| !f.name.is_empty())
    }
}

impl Export {
    fn new(export: &FileExport, feature: Option<&String>) -> Option<Self> {
        let is_image = match &*export.source_type {
            "http" | "http-archive" => false,
            "oci-image" => true,
            _ => return None,
        };
        Some(Self { url: export.url.clone(), is_image, feature: feature.cloned() })
    }
}

/// All deployments of a source, disabled ones included. One that can't be read is an error.
pub(crate) fn load_all(source: &Source) -> Result<Vec<Deployment>, Error> {
    const SUFFIX: &str = ".deploy.yml";
    let pallet = match source {
        Source::Bundle(bundle) => {
            let file = bundle.manifest_file();
            let declared = bundle.manifest().deploys.iter();
            let all = declared.map(|(n, d)| Deployment::new(n.clone(), file.clone(), d.clone()));
            return Ok(all.collect());
        }
        Source::Pallet(pallet) => pallet,
    };
    let tree = pallet.tree().sub("deployments");
    let mut out = Vec::new();
    for name in glob::search(&tree, &format!("**/*{SUFFIX}"), Find::Everything)? {
        let file = tree.location(&name);
        let bytes = tree.read(&name).map_err(|e| Error::read(&file, e))?;
        let definition = decode(&bytes, &file, DeploymentFile::decode)?;
        let name = name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned();
        out.push(Deployment::new(name, file, definition));
    }
    Ok(out)
}
