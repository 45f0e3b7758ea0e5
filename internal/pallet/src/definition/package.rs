//! `forklift-package.yml`.

use std::collections::BTreeMap;

use super::{skip_text, skip_texts};
use crate::yaml::{Decoder, Error, NodeId};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PackageFile {
    pub(crate) deployment: Spec,
    pub(crate) features: BTreeMap<String, Spec>,
}

/// What the deployment part and each feature bring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) compose_files: Vec<String>,
    pub(crate) file_exports: Vec<FileExport>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileExport {
    /// `local` (also if empty), `http`, `http-archive` or `oci-image`.
    pub(crate) source_type: String,
    pub(crate) url: String,
}

impl PackageFile {
    pub(crate) const FILE: &'static str = "forklift-package.yml";

    pub(crate) fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            match key {
                "package" => about(d, value)?,
                "host" => {
                    d.fields(value, |key, value| match key {
                        "tags" => skip_texts(d, value),
                        "provides" => provides(d, value).map(drop),
                        _ => Ok(()),
                    })?;
                }
                "deployment" => out.deployment = Spec::decode(d, value, false)?,
                "features" => out.features = d.map(value, |id| Spec::decode(d, id, true))?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }
}

impl Spec {
    fn decode(d: &Decoder<'_>, id: NodeId, feature: bool) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            match key {
                "description" if feature => skip_text(d, value)?,
                "compose-files" => out.compose_files = d.strings(value)?,
                "tags" => skip_texts(d, value)?,
                "requires" => requires(d, value)?,
                "provides" => out.file_exports = provides(d, value)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }
}

fn about(d: &Decoder<'_>, id: NodeId) -> Result<(), Error> {
    d.fields(id, |key, value| match key {
        "description" | "license" | "license-file" => skip_text(d, value),
        "sources" => skip_texts(d, value),
        "maintainers" => skip_list(d, value, |key, value| match key {
            "name" | "email" => skip_text(d, value),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
    .map(drop)
}

fn provides(d: &Decoder<'_>, id: NodeId) -> Result<Vec<FileExport>, Error> {
    let mut out = Vec::new();
    d.fields(id, |key, value| {
        match key {
            "file-exports" => out = d.list(value, |id| FileExport::decode(d, id))?,
            "listeners" => skip_list(d, value, |key, value| match key {
                "description" | "protocol" => skip_text(d, value),
                "port" => skip_int(d, value),
                _ => Ok(()),
            })?,
            _ => resource(d, key, value)?,
        }
        Ok(())
    })?;
    Ok(out)
}

fn requires(d: &Decoder<'_>, id: NodeId) -> Result<(), Error> {
    d.fields(id, |key, value| resource(d, key, value)).map(drop)
}

/// The kinds of resources that can be both required and provided.
fn resource(d: &Decoder<'_>, key: &str, id: NodeId) -> Result<(), Error> {
    match key {
        "networks" => skip_list(d, id, |key, value| match key {
            "description" | "name" => skip_text(d, value),
            _ => Ok(()),
        }),
        "services" => skip_list(d, id, |key, value| match key {
            "description" | "protocol" => skip_text(d, value),
            "port" => skip_int(d, value),
            "tags" | "paths" => skip_texts(d, value),
            "nonblocking" => d.boolean(value).map(drop),
            _ => Ok(()),
        }),
        "filesets" => skip_list(d, id, |key, value| match key {
            "description" => skip_text(d, value),
            "tags" | "paths" => skip_texts(d, value),
            "nonblocking" => d.boolean(value).map(drop),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

fn skip_list(
    d: &Decoder<'_>,
    id: NodeId,
    mut field: impl FnMut(&str, NodeId) -> Result<(), Error>,
) -> Result<(), Error> {
    d.list(id, |id| d.fields(id, &mut field).map(drop)).map(drop)
}

fn skip_int(d: &Decoder<'_>, id: NodeId) -> Result<(), Error> {
    d.integer(id, i64::MIN..=i64::MAX).map(drop)
}

impl FileExport {
    fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            match key {
                "description" | "source" | "target" => skip_text(d, value)?,
                "tags" => skip_texts(d, value)?,
                "source-type" => out.source_type = d.string(value)?.unwrap_or_default(),
                "url" => out.url = d.string(value)?.unwrap_or_default(),
                "permissions" => drop(d.integer(value, 0..=i64::from(u32::MAX))?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }
}
