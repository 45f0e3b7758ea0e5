//! `stage load-img --localize`: staged Compose files that name images by their IDs in this engine, and the way back.

mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use palletjack_engine::{LoadError, Loaded, Sighting};
use palletjack_image::{Digest, Reference};
use palletjack_pallet::localize::{Localized, localize};
use palletjack_pallet::{Bundle, Options, Source, resolve};
use palletjack_store::Image;

use crate::context::Context;
use crate::error::{CommandError, Exit};
use write::Locked;

/// What to do where staged Compose files name images by IDs of another engine.
pub(crate) const MENDS: &str = "`stage load-img --localize` names them as this engine knows them, `stage delocalize` by their references again";

/// How those who need an image name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Naming {
    /// Whether somebody names it by its reference.
    pub(crate) by_reference: bool,
    /// The IDs that stand in its place in staged Compose files.
    pub(crate) ids: BTreeSet<Digest>,
}

impl Default for Naming {
    fn default() -> Self {
        Self { by_reference: true, ids: BTreeSet::new() }
    }
}

impl Naming {
    /// Nobody yet.
    pub(crate) fn nobody() -> Self {
        Self { by_reference: false, ids: BTreeSet::new() }
    }

    /// Adds somebody, who names it by an ID or else by its reference.
    pub(crate) fn add(&mut self, id: Option<&Digest>) {
        match id {
            Some(id) => {
                self.ids.insert(*id);
            }
            None => self.by_reference = true,
        }
    }

    /// The same for those of another bundle.
    pub(crate) fn join(&mut self, other: &Self) {
        self.by_reference |= other.by_reference;
        self.ids.extend(&other.ids);
    }

    /// Whether the engine finds it under every name that is used.
    pub(crate) fn runs(&self, seen: &Sighting) -> bool {
        (!self.by_reference || seen.exact) && self.ids.iter().all(|id| seen.content && *id == seen.id)
    }
}

/// A bundle of a stage store.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    pub(crate) index: u64,
    pub(crate) directory: PathBuf,
}

/// Names images by their IDs in the Compose files of bundles, where their references do not resolve. In all bundles or,
/// where one of them cannot be rewritten, in none.
pub(crate) fn apply(
    context: &Context,
    bundles: &[Staged],
    images: &[Image],
    results: &[Result<Loaded, LoadError>],
) -> Result<BTreeMap<Reference, Naming>, CommandError> {
    let loaded: BTreeMap<&Reference, &Loaded> = images
        .iter()
        .zip(results)
        .filter_map(|(image, result)| Some((&image.entry.reference, result.as_ref().ok()?)))
        .collect();
    let mut naming: BTreeMap<Reference, Naming> = BTreeMap::new();
    let mut plans = Vec::with_capacity(bundles.len());
    for staged in bundles {
        let files = plan(staged, &loaded, &mut naming)
            .map_err(|error| error.context(format!("bundle {} is left as it is", staged.index)))?;
        plans.push((staged, Locked::new(&staged.directory)?, files));
    }
    for (staged, locked, files) in plans {
        let changed = locked.localize(&files, &|| Ok(()))?;
        let index = staged.index;
        if files.is_empty() {
            let what = if changed { ": its Compose files are as they were staged" } else { "" };
            context.printer.note(&format!("bundle {index}: all references resolve by themselves{what}"));
            continue;
        }
        let images: BTreeSet<&str> =
            files.iter().flat_map(|file| &file.file.images).map(|image| &*image.image).collect();
        context.printer.note(&format!(
            "bundle {index}: {} named by {} in this engine, in {}{}; `palletjack stage delocalize {index}` puts them back",
            count(images.len(), "image is", "images are"),
            if images.len() == 1 { "its ID" } else { "their IDs" },
            count(files.len(), "Compose file", "Compose files"),
            if changed { "" } else { " as before" }
        ));
    }
    Ok(naming)
}

fn plan(
    staged: &Staged,
    loaded: &BTreeMap<&Reference, &Loaded>,
    naming: &mut BTreeMap<Reference, Naming>,
) -> Result<Vec<Localized>, CommandError> {
    let bundle = Bundle::load(&staged.directory)?;
    let source = Source::Bundle(Box::new(bundle.clone()));
    let resolved = resolve(&source, Options::default())?;
    let mut ids = BTreeMap::new();
    for requirement in resolved.requirements.iter().chain(&resolved.extra) {
        let Ok(reference) = requirement.image.parse::<Reference>() else { continue };
        let Some(loaded) = loaded.get(&reference) else {
            let error = anyhow::anyhow!("{} is not in the engine", reference.familiar());
            return Err(CommandError::new(Exit::Engine, error));
        };
        let id = (!loaded.resolves.exact).then_some(loaded.resolves.id);
        naming.entry(reference).or_insert_with(Naming::nobody).add(id.as_ref());
        if let Some(id) = id {
            ids.insert(requirement.image.clone(), id);
        }
    }
    Ok(localize(&bundle, &ids)?)
}

/// Puts the Compose files of a bundle back. How many were not as they had been staged.
pub(crate) fn undo(staged: &Staged) -> Result<usize, CommandError> {
    let undone = Locked::new(&staged.directory)?.delocalize(&|| Ok(()));
    undone.map_err(|error| error.context(format!("bundle {} is left as it is", staged.index)))
}

pub(crate) fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}
