//! `*.deploy.yml`, and the entries of `deploys` in a bundle's manifest.

use crate::yaml::{Decoder, Error, NodeId};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeploymentFile {
    pub(crate) package: String,
    pub(crate) features: Vec<String>,
    pub(crate) disabled: bool,
}

impl DeploymentFile {
    pub(crate) fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            match key {
                "package" => out.package = d.string(value)?.unwrap_or_default(),
                "features" => out.features = d.strings(value)?,
                "disabled" => out.disabled = d.boolean(value)?.unwrap_or_default(),
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }
}
