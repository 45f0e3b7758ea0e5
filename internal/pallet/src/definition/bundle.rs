//! `forklift-bundle.yml`.
//!
//! `imports`, `downloads` and `exports` are what Forklift computed when it made the bundle. They decide
//! nothing and their form has changed (before v0.8.0-alpha.6 `downloads` and `exports` were plain lists),
//! so they are not looked at.

use std::collections::BTreeMap;

use super::DeploymentFile;
use crate::lock::VersionLock;
use crate::yaml::{Decoder, Error, NodeId};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BundleManifest {
    pub(crate) forklift_version: String,
    pub(crate) pallet: BundledPallet,
    /// Locks of the pallets and repositories that the pallet requires directly, by path.
    pub(crate) pallets: BTreeMap<String, VersionLock>,
    pub(crate) repositories: BTreeMap<String, VersionLock>,
    pub(crate) deploys: BTreeMap<String, DeploymentFile>,
}

/// The pallet from which a bundle was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BundledPallet {
    pub(crate) path: String,
    pub(crate) version: String,
    pub(crate) clean: bool,
}

impl BundleManifest {
    pub(crate) const FILE: &'static str = "forklift-bundle.yml";

    pub(crate) fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            match key {
                "forklift-version" => out.forklift_version = d.string(value)?.unwrap_or_default(),
                "pallet" => out.pallet = pallet(d, value)?,
                "includes" => {
                    d.fields(value, |key, value| {
                        match key {
                            "pallets" => out.pallets = d.map(value, |id| inclusion(d, id))?,
                            "repositories" => {
                                out.repositories = d.map(value, |id| inclusion(d, id))?;
                            }
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                "deploys" => out.deploys = d.map(value, |id| DeploymentFile::decode(d, id))?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }
}

fn pallet(d: &Decoder<'_>, id: NodeId) -> Result<BundledPallet, Error> {
    let mut out = BundledPallet::default();
    d.fields(id, |key, value| {
        match key {
            "path" => out.path = d.string(value)?.unwrap_or_default(),
            "version" => out.version = d.string(value)?.unwrap_or_default(),
            "clean" => out.clean = d.boolean(value)?.unwrap_or_default(),
            "description" => super::skip_text(d, value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn inclusion(d: &Decoder<'_>, id: NodeId) -> Result<VersionLock, Error> {
    let mut out = VersionLock::default();
    d.fields(id, |key, value| {
        if key == "version-lock" {
            out = VersionLock::decode(d, value)?;
        }
        Ok(())
    })?;
    Ok(out)
}
