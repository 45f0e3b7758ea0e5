//! `forklift-stage-store.yml`.

use std::collections::BTreeMap;

use crate::yaml::{Decoder, Error, NodeId};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoreManifest {
    pub(crate) forklift_version: String,
    /// Index of the bundle that the next apply uses; 0 if none.
    pub(crate) next: i64,
    /// Whether applying it has failed before.
    pub(crate) next_failed: bool,
    /// Indices of the bundles that were applied, oldest first.
    pub(crate) history: Vec<i64>,
    pub(crate) names: BTreeMap<String, i64>,
}

impl StoreManifest {
    pub(crate) const FILE: &'static str = "forklift-stage-store.yml";

    pub(crate) fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        let index = |id| Ok(d.integer(id, i64::MIN..=i64::MAX)?.unwrap_or_default());
        let mut out = Self::default();
        d.fields(id, |key, value| {
            match key {
                "forklift-version" => out.forklift_version = d.string(value)?.unwrap_or_default(),
                "staged" => {
                    d.fields(value, |key, value| {
                        match key {
                            "next" => out.next = index(value)?,
                            "next-failed" => out.next_failed = d.boolean(value)?.unwrap_or_default(),
                            "history" => out.history = d.list(value, index)?,
                            "names" => out.names = d.map(value, index)?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }
}
