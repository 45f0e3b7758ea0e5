//! Which images a command is about: read from a pallet, from staged bundles, or from the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use palletjack_image::{Digest, Reference};
use palletjack_pallet::localize::Record;
use palletjack_pallet::{
    FORKLIFT_VERSION, Options, Overrides, Requirement, Source, StageStore, compat, resolve,
};

use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::localize::{Naming, Staged};

/// Which pallet is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PalletAt<'a> {
    /// The workspace's own.
    Workspace,
    /// The one in or above a directory, with what stands in for its requirements.
    Above(&'a Path, &'a Overrides),
}

/// Whether Forklift versions are compared: `ls-*` never does, commands that fetch or load do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionCheck {
    No,
    Yes,
}

/// The images that a pallet or bundles require.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requirements {
    /// Forklift's list, sorted.
    pub(crate) listed: Vec<Requirement>,
    /// What services mount or run before they start: needed on the device, not listed by Forklift.
    pub(crate) extra: Vec<Requirement>,
    /// The images of the bundle that the next apply uses, where several bundles are looked at: a tag that bundles pin to
    /// different digests is to mean theirs.
    preferred: BTreeSet<String>,
    /// How images are named, where staged Compose files were rewritten.
    naming: BTreeMap<String, Naming>,
}

/// An image to fetch or load: one normalised reference, however often and however it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageWish {
    pub(crate) reference: Reference,
    /// The spellings, the first of which is shown.
    pub(crate) requested: Vec<String>,
    /// The deployments that need it; empty for references from the command line.
    pub(crate) wanted_by: Vec<String>,
    pub(crate) naming: Naming,
}

impl Requirements {
    /// Resolves a pallet.
    pub(crate) fn of_pallet(
        context: &Context,
        at: PalletAt<'_>,
        include_disabled: bool,
        check: VersionCheck,
    ) -> Result<Self, CommandError> {
        let workspace = context.workspace()?;
        let source = match at {
            PalletAt::Workspace => Source::workspace_pallet(&workspace),
            PalletAt::Above(directory, overrides) => Source::dev_pallet(directory, &workspace, overrides),
        };
        let source = source.map_err(|error| match at {
            PalletAt::Workspace if !workspace.pallet().exists() => CommandError::from(error)
                .hint("`palletjack dev --cwd DIR plt …` is for a pallet elsewhere, --workspace DIR for another workspace"),
            _ => error.into(),
        })?;
        Self::of_source(context, &source, include_disabled, check)
    }

    /// Resolves staged bundles: the one named, or all that the next apply can need.
    pub(crate) fn of_stage(
        context: &Context,
        bundle: Option<&str>,
        include_disabled: bool,
        check: VersionCheck,
    ) -> Result<Self, CommandError> {
        let store = StageStore::open(&context.stage_store()?)?;
        let indices = match bundle {
            Some(identifier) => vec![index_of(&store, identifier)?],
            None => store.needed(),
        };
        if indices.is_empty() {
            context.printer.warning(&format!(
                "the stage store {} has neither a next nor a current bundle: there is nothing to apply",
                store.directory().display()
            ));
        }
        let applied = store.applicable();
        let mut all = Self::default();
        for index in indices {
            let bundle = Source::bundle(&store.bundle_directory(index))
                .map_err(CommandError::from)
                .and_then(|source| Self::of_source(context, &source, include_disabled, check))
                .map_err(|error| error.context(format!("bundle {index} of the stage store")))?;
            let named = names(context, index, &store.bundle_directory(index))?;
            all.add(bundle, applied == Some(index), &named);
        }
        Ok(all)
    }

    fn of_source(
        context: &Context,
        source: &Source,
        include_disabled: bool,
        check: VersionCheck,
    ) -> Result<Self, CommandError> {
        if check == VersionCheck::Yes {
            let newer = compat::check(source, FORKLIFT_VERSION)?;
            // As in Forklift, what is older than its minimum stays an error all the same.
            for newer in newer.iter().filter(|_| !context.ignores_tool_version()) {
                context.printer.warning(&newer.to_string());
            }
        }
        let resolved = resolve(source, Options { include_disabled })?;
        Ok(Self { listed: resolved.requirements, extra: resolved.extra, ..Self::default() })
    }

    fn add(&mut self, other: Self, preferred: bool, named: &BTreeMap<String, Digest>) {
        for requirement in other.listed.iter().chain(&other.extra) {
            let naming = self.naming.entry(requirement.image.clone()).or_insert_with(Naming::nobody);
            naming.add(named.get(&requirement.image));
        }
        if preferred {
            let images = other.listed.iter().chain(&other.extra).map(|requirement| requirement.image.clone());
            self.preferred.extend(images);
        }
        self.listed = united(std::mem::take(&mut self.listed), other.listed);
        self.extra = united(std::mem::take(&mut self.extra), other.extra);
    }

    /// The images to fetch or load, those last that are to have a tag which several pin: a tag belongs to the image
    /// that is published last.
    ///
    /// # Errors
    /// One for all strings that are no references, or have neither a tag nor a digest: Forklift cannot pull them
    /// either, and to guess `latest` would pin a device to whatever that is today.
    pub(crate) fn wishes(&self, context: &Context) -> Result<Vec<ImageWish>, CommandError> {
        let mut wishes: BTreeMap<Reference, ImageWish> = BTreeMap::new();
        let mut faults = Vec::new();
        for requirement in self.listed.iter().chain(&self.extra) {
            let mut deployments: Vec<String> =
                requirement.origins.iter().map(|origin| origin.deployment.clone()).collect();
            deployments.sort();
            deployments.dedup();
            if requirement.image.is_empty() {
                context.printer.warning(&format!(
                    "a service without an image is left out (needed by {}): it can only be built",
                    deployments.join(", ")
                ));
                continue;
            }
            match requirement.image.parse::<Reference>().and_then(Reference::specific) {
                Ok(reference) => {
                    let wish = wishes.entry(reference.clone()).or_insert_with(|| ImageWish {
                        reference,
                        requested: Vec::new(),
                        wanted_by: Vec::new(),
                        naming: Naming::nobody(),
                    });
                    wish.naming.join(self.naming.get(&requirement.image).unwrap_or(&Naming::default()));
                    if !wish.requested.contains(&requirement.image) {
                        wish.requested.push(requirement.image.clone());
                    }
                    wish.wanted_by.extend(deployments);
                    wish.wanted_by.sort();
                    wish.wanted_by.dedup();
                }
                Err(error) => {
                    let origin = requirement.origins.first();
                    let place = origin.map_or_else(String::new, |origin| {
                        format!(", {}:{}", origin.compose_file.display(), origin.line)
                    });
                    faults.push(format!("{error} (needed by {}{place})", deployments.join(", ")));
                }
            }
        }
        match &faults[..] {
            [] => {
                let mut wishes: Vec<ImageWish> = wishes.into_values().collect();
                let is_preferred =
                    |wish: &ImageWish| wish.requested.iter().any(|r| self.preferred.contains(r));
                wishes.sort_by_key(is_preferred);
                Ok(wishes)
            }
            faults => Err(CommandError::new(Exit::Failed, anyhow::anyhow!(faults.join("\n  and: ")))),
        }
    }
}

fn index_of(store: &StageStore, identifier: &str) -> Result<u64, CommandError> {
    let index = store.index_of(identifier).map_err(|error| with_bundles(error, store))?;
    if store.indices().contains(&index) {
        return Ok(index);
    }
    let error = palletjack_pallet::Error::Stage(format!("the stage store has no bundle {index}"));
    Err(with_bundles(error, store))
}

/// The bundle that is named, or all that the next apply can need.
pub(crate) fn needed_bundles(context: &Context, bundle: Option<&str>) -> Result<Vec<Staged>, CommandError> {
    bundles(context, bundle, StageStore::needed)
}

/// The bundle that is named, or all of the stage store.
pub(crate) fn staged_bundles(context: &Context, bundle: Option<&str>) -> Result<Vec<Staged>, CommandError> {
    bundles(context, bundle, |store| store.indices().to_vec())
}

fn bundles(
    context: &Context,
    bundle: Option<&str>,
    otherwise: fn(&StageStore) -> Vec<u64>,
) -> Result<Vec<Staged>, CommandError> {
    let store = StageStore::open(&context.stage_store()?)?;
    let indices = match bundle {
        Some(identifier) => vec![index_of(&store, identifier)?],
        None => otherwise(&store),
    };
    let staged = |index| Staged { index, directory: store.bundle_directory(index) };
    Ok(indices.into_iter().map(staged).collect())
}

/// The IDs that stand in a bundle's Compose files in place of images.
fn names(context: &Context, index: u64, bundle: &Path) -> Result<BTreeMap<String, Digest>, CommandError> {
    let Some(record) = Record::read(bundle)? else { return Ok(BTreeMap::new()) };
    if let Some(ids) = record.ids(bundle)? {
        return Ok(ids);
    }
    context.printer.warning(&format!(
        "bundle {index}: naming its images by their IDs was interrupted; `stage load-img --localize` completes that, \
         `stage delocalize` undoes it"
    ));
    Ok(BTreeMap::new())
}

/// Says where the stage store is and what is in it.
fn with_bundles(error: palletjack_pallet::Error, store: &StageStore) -> CommandError {
    let directory = store.directory();
    let numbers: Vec<String> = store.indices().iter().map(ToString::to_string).collect();
    let bundles =
        if numbers.is_empty() { "no bundles".to_owned() } else { format!("bundles {}", numbers.join(", ")) };
    CommandError::from(error).hint(format!("the stage store {} has {bundles}", directory.display()))
}

/// References from the command line.
pub(crate) fn wishes_of(references: &[String]) -> Result<Vec<ImageWish>, CommandError> {
    let mut wishes: BTreeMap<Reference, ImageWish> = BTreeMap::new();
    for text in references {
        let reference: Reference = text
            .parse()
            .and_then(Reference::specific)
            .map_err(|error| CommandError::new(Exit::Usage, error))?;
        let wish = wishes.entry(reference.clone()).or_insert_with(|| ImageWish {
            reference,
            requested: Vec::new(),
            wanted_by: Vec::new(),
            naming: Naming::default(),
        });
        wish.requested.push(text.clone());
    }
    Ok(wishes.into_values().collect())
}

/// Both lists as one, sorted by bytes, each image once.
fn united(mut a: Vec<Requirement>, b: Vec<Requirement>) -> Vec<Requirement> {
    for requirement in b {
        match a.iter_mut().find(|known| known.image == requirement.image) {
            Some(known) => known.origins.extend(requirement.origins),
            None => a.push(requirement),
        }
    }
    a.sort_by(|a, b| a.image.cmp(&b.image));
    a
}

impl From<palletjack_pallet::Error> for CommandError {
    fn from(error: palletjack_pallet::Error) -> Self {
        let exit = match &error {
            palletjack_pallet::Error::Stage(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}
