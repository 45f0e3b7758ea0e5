//! Which images are to be seeded: all of them have to be in the cache.

use std::collections::BTreeMap;

use palletjack_engine::seed::{Device, SeedError};
use palletjack_image::{Platform, Reference};
use palletjack_pallet::Overrides;
use palletjack_store::{Entry, Image, Store};

use super::SeedFlags;
use crate::commands::cache::select as select_in_cache;
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::load::last_has_the_tag;
use crate::requirements::{PalletAt, Requirements, VersionCheck};

/// What is to be seeded, and who wants it.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub(super) entries: Vec<Entry>,
    wanted_by: BTreeMap<Reference, Vec<String>>,
    pub(super) platform: Option<Platform>,
}

impl Selected {
    pub(super) fn wanted_by(&self, reference: &Reference) -> Vec<String> {
        self.wanted_by.get(reference).cloned().unwrap_or_default()
    }
}

pub(super) fn select(
    context: &Context,
    store: &Store,
    device: &Device,
    flags: &SeedFlags,
) -> Result<Selected, CommandError> {
    let platform = platform(context, device)?;
    let snapshot = store.snapshot()?;
    let check = VersionCheck::Yes;
    let requirements = if let Some(directory) = &flags.which.plt {
        let overrides = Overrides::default();
        let at = PalletAt::Above(directory, &overrides);
        Some(Requirements::of_pallet(context, at, flags.include_disabled, check)?)
    } else if flags.which.stage {
        Some(Requirements::of_stage(context, None, flags.include_disabled, check)?)
    } else {
        None
    };
    let mut selected = Selected { platform: Some(platform.clone()), ..Selected::default() };
    let Some(requirements) = requirements else {
        selected.entries = if flags.references.is_empty() {
            snapshot.entries().iter().filter(|entry| entry.platform == platform).cloned().collect()
        } else {
            select_in_cache(&snapshot, &flags.references, Some(&platform))?
        };
        if selected.entries.is_empty() {
            let error = anyhow::anyhow!("the cache has no image for {platform}");
            return Err(CommandError::new(Exit::Missing, error)
                .hint(format!("fetch some first, with `palletjack plt cache-img --platform {platform}`")));
        }
        return Ok(selected);
    };
    let mut missing = Vec::new();
    for wish in requirements.wishes(context)? {
        match snapshot.find(&wish.reference, &platform) {
            Some(entry) => {
                selected.entries.push(entry.clone());
                selected.wanted_by.insert(wish.reference, wish.wanted_by);
            }
            None => missing.push(format!(
                "{} (needed by {})",
                wish.reference.familiar(),
                wish.wanted_by.join(", ")
            )),
        }
    }
    if !missing.is_empty() {
        let total = missing.len() + selected.entries.len();
        let error = anyhow::anyhow!(
            "{} of {total} images are not in the cache for {platform}, and nothing was done:\n    {}",
            missing.len(),
            missing.join("\n    ")
        );
        return Err(CommandError::new(Exit::Missing, error).hint(format!(
            "fetch what is missing first, with `cache-img --platform {platform}` of the same pallet or stage"
        )));
    }
    last_has_the_tag(&mut selected.entries);
    Ok(selected)
}

/// The platform that was asked for, else that of the device's programs, else this machine's.
fn platform(context: &Context, device: &Device) -> Result<Platform, CommandError> {
    let Some(asked) = context.asked_platform()? else {
        return Ok(device.platform.clone().unwrap_or_else(Platform::host));
    };
    match &device.platform {
        Some(tree) if !device.runs(&asked) => {
            let images = vec![format!("images for {asked} were asked for")];
            Err(SeedError::Architecture { tree: tree.clone(), images }.into())
        }
        _ => Ok(asked),
    }
}

/// Reads each image's manifest and config; one that is damaged fails all, because nothing is to be left out.
pub(super) fn read(store: &Store, selected: &Selected) -> Result<Vec<Image>, CommandError> {
    selected
        .entries
        .iter()
        .map(|entry| {
            let image = store.image(entry).map_err(CommandError::from).and_then(|image| {
                let missing = image.layers.iter().find(|layer| !store.has_blob(layer));
                match missing {
                    None => Ok(image),
                    Some(layer) => {
                        let digest = layer.digest;
                        Err(CommandError::from(palletjack_store::StoreError::Missing { digest }))
                    }
                }
            });
            image.map_err(|error| error.context(format!("{} cannot be seeded", entry.reference.familiar())))
        })
        .collect()
}
