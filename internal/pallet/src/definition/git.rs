//! `forklift-pallet.yml` and `forklift-repository.yml`, which have the same form.

use crate::yaml::{Decoder, Error, NodeId};

/// What a pallet or a repository says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GitDefinition {
    pub(crate) forklift_version: String,
    /// Such as `github.com/o/r`; empty if it isn't given.
    pub(crate) path: String,
}

impl GitDefinition {
    pub(crate) const PALLET_FILE: &'static str = "forklift-pallet.yml";
    pub(crate) const REPOSITORY_FILE: &'static str = "forklift-repository.yml";

    pub(crate) fn pallet(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        Self::decode(d, id, "pallet")
    }

    pub(crate) fn repository(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        Self::decode(d, id, "repository")
    }

    fn decode(d: &Decoder<'_>, id: NodeId, section: &str) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            if key == "forklift-version" {
                out.forklift_version = d.string(value)?.unwrap_or_default();
            } else if key == section {
                d.fields(value, |key, value| {
                    match key {
                        "path" => out.path = d.string(value)?.unwrap_or_default(),
                        "description" | "readme-file" => super::skip_text(d, value)?,
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        Ok(out)
    }
}
