//! From a pallet or bundle to its images and downloads.

use std::collections::BTreeMap;

use crate::compose::{self, Environment, Substitutes};
use crate::deployment::{Deployment, Selection, load_all};
use crate::error::Error;
use crate::package::Packages;
use crate::requirement::{Download, DownloadKind, DownloadOrigin, Origin, Requirement, Usage};
use crate::source::Source;

/// What to resolve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Disabled deployments as well. Without it they aren't looked into, so errors in them don't matter.
    pub include_disabled: bool,
}

/// The answer for a pallet or bundle.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The images that services run: Forklift's `ls-img`, sorted by bytes, each once.
    pub requirements: Vec<Requirement>,
    /// Images that services mount or that hooks run. Forklift doesn't list them, but without them the
    /// deployments don't start.
    pub extra: Vec<Requirement>,
    /// Downloads of file exports: Forklift's `ls-dl`, URLs before images, sorted by bytes, each once.
    pub downloads: Vec<Download>,
    /// The deployments one by one, in the order of the search.
    pub deployments: Vec<ResolvedDeployment>,
}

/// The answer for one deployment.
#[derive(Debug, Clone)]
pub struct ResolvedDeployment {
    /// The deployment with its Compose files and exports.
    pub selection: Selection,
    /// Its active services; empty if it has no Compose app.
    pub services: Vec<compose::Service>,
}

/// Lists the images and downloads of a source. One deployment that can't be resolved fails it all.
pub fn resolve(source: &Source, options: Options) -> Result<Resolved, Error> {
    let resolver = Resolver::new(source);
    let selections = resolver.select_all(options)?;
    let mut deployments = Vec::with_capacity(selections.len());
    for selection in selections {
        let services = resolver.services(&selection)?;
        deployments.push(ResolvedDeployment { selection, services });
    }
    Ok(Resolved {
        requirements: requirements(&deployments, |usage| usage == Usage::Run),
        extra: requirements(&deployments, |usage| usage != Usage::Run),
        downloads: downloads(deployments.iter().map(|d| &d.selection)),
        deployments,
    })
}

/// Lists only the downloads, for which no Compose file needs to be read.
pub fn resolve_downloads(source: &Source, options: Options) -> Result<Vec<Download>, Error> {
    let selections = Resolver::new(source).select_all(options)?;
    Ok(downloads(&selections))
}

/// Resolves deployments one at a time. What several deployments share is read once.
pub struct Resolver<'a> {
    source: &'a Source,
    packages: Packages<'a>,
}

impl<'a> Resolver<'a> {
    /// A resolver for a pallet or bundle.
    pub fn new(source: &'a Source) -> Self {
        let packages = match source {
            Source::Pallet(pallet) => Packages::of_pallet(pallet),
            Source::Bundle(bundle) => Packages::Bundle(bundle),
        };
        Self { source, packages }
    }

    /// All deployments, disabled ones included. One that can't be read is an error.
    pub fn deployments(&self) -> Result<Vec<Deployment>, Error> {
        load_all(self.source)
    }

    /// Finds a deployment's package and what the deployment takes from it.
    pub fn select(&self, deployment: &Deployment) -> Result<Selection, Error> {
        let package = self.packages.load(&deployment.package);
        let selection = package.and_then(|p| deployment.select(p));
        selection.map_err(|e| deployment.failed(e))
    }

    /// Loads a deployment's Compose app as Forklift does: without environment, without profiles.
    pub fn services(&self, selection: &Selection) -> Result<Vec<compose::Service>, Error> {
        if !selection.has_app() {
            return Ok(Vec::new());
        }
        let nothing = Substitutes::default();
        let originals = match self.source {
            Source::Bundle(bundle) => bundle.originals(),
            Source::Pallet(_) => &nothing,
        };
        load_app(selection, originals).map_err(|e| selection.deployment.failed(e))
    }

    pub(crate) fn select_all(&self, options: Options) -> Result<Vec<Selection>, Error> {
        let all = self.deployments()?.into_iter();
        let wanted = all.filter(|d| options.include_disabled || !d.disabled);
        wanted.map(|d| self.select(&d)).collect()
    }
}

/// The Compose app of a selection that has one.
pub(crate) fn app_of(selection: &Selection, originals: &Substitutes) -> Result<compose::App, Error> {
    let tree = &selection.tree;
    let mut files = Vec::with_capacity(selection.compose_files.len());
    for file in &selection.compose_files {
        let path = tree.location(&file.name);
        let bytes = tree.read(&file.name).map_err(|e| Error::read(&path, e))?;
        let bytes = originals.of(&path).map_or(bytes, <[u8]>::to_vec);
        files.push(compose::File { path, bytes });
    }
    let project = project_name(&selection.deployment.name)?;
    Ok(compose::App {
        name: selection.deployment.name.clone(),
        files,
        directory: tree.root(),
        environment: Environment::project(&project),
    })
}

fn load_app(selection: &Selection, originals: &Substitutes) -> Result<Vec<compose::Service>, Error> {
    let app = app_of(selection, originals)?;
    let project = compose::load_with(&app.files, &app.directory, app.environment, originals)?;
    Ok(project.services)
}

/// The deployment's name with `_` for `/`, which must do without any further change.
fn project_name(deployment: &str) -> Result<String, Error> {
    let name = deployment.replace('/', "_");
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let first = name.bytes().next().is_some_and(allowed);
    if first && name.bytes().all(|c| allowed(c) || matches!(c, b'-' | b'_')) {
        return Ok(name);
    }
    Err(Error::ProjectName { name })
}

fn requirements(deployments: &[ResolvedDeployment], wanted: impl Fn(Usage) -> bool) -> Vec<Requirement> {
    let mut by_image: BTreeMap<&str, Vec<Origin>> = BTreeMap::new();
    for resolved in deployments {
        let selection = &resolved.selection;
        for service in &resolved.services {
            for image in service.images.iter().filter(|i| wanted(i.usage)) {
                let file = image.file.and_then(|i| selection.compose_files.get(i));
                by_image.entry(&image.name).or_default().push(Origin {
                    deployment: selection.deployment.name.clone(),
                    service: service.name.clone(),
                    feature: file.and_then(|f| f.feature.clone()),
                    compose_file: image.path.clone(),
                    line: image.line,
                    usage: image.usage,
                });
            }
        }
    }
    let sorted = by_image.into_iter();
    sorted.map(|(image, origins)| Requirement { image: image.to_owned(), origins }).collect()
}

fn downloads<'a>(selections: impl IntoIterator<Item = &'a Selection>) -> Vec<Download> {
    // One string is one download: what is fetched over HTTP isn't listed as an image again.
    let mut by_url: BTreeMap<&str, (DownloadKind, Vec<DownloadOrigin>)> = BTreeMap::new();
    for selection in selections {
        for export in &selection.exports {
            let kind = if export.is_image { DownloadKind::OciImage } else { DownloadKind::Http };
            let (known, origins) = by_url.entry(&export.url).or_insert_with(|| (kind, Vec::new()));
            *known = (*known).min(kind);
            origins.push(DownloadOrigin {
                deployment: selection.deployment.name.clone(),
                feature: export.feature.clone(),
            });
        }
    }
    let mut out: Vec<Download> = by_url
        .into_iter()
        .map(|(url, (kind, origins))| Download { kind, url: url.to_owned(), origins })
        .collect();
    out.sort_by_key(|d| d.kind);
    out
}
