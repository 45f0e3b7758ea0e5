//! `*.imports.yml` of import groups and `*.feature.yml` of pallet features.

use crate::yaml::{Decoder, Error, NodeId};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImportGroup {
    pub(crate) disabled: bool,
    pub(crate) modifiers: Vec<Modifier>,
}

/// A step of an import, its defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Modifier {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) only_matching_any: Vec<String>,
}

impl ImportGroup {
    pub(crate) fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            match key {
                "description" | "deprecated" => super::skip_text(d, value)?,
                "disabled" => out.disabled = d.boolean(value)?.unwrap_or_default(),
                "modifiers" => out.modifiers = d.list(value, |id| Modifier::decode(d, id))?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }
}

impl Modifier {
    fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            let text = || d.string(value).map(Option::unwrap_or_default);
            match key {
                "description" => super::skip_text(d, value)?,
                "type" => out.kind = text()?,
                "source" => out.source = text()?,
                "target" => out.target = text()?,
                "only-matching-any" => out.only_matching_any = d.strings(value)?,
                _ => {}
            }
            Ok(())
        })?;
        if out.kind.is_empty() {
            out.kind = "add".into();
        }
        if out.target.is_empty() {
            out.target = "/".into();
        }
        if out.source.is_empty() {
            out.source.clone_from(&out.target);
        }
        if out.only_matching_any.is_empty() {
            out.only_matching_any.push(String::new());
        }
        Ok(out)
    }
}
