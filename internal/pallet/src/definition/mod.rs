//! Forklift's own YAML files, typed.
//!
//! Only what decides an image or a download is kept. The other known fields are read and dropped, because a
//! wrong shape in them makes Forklift refuse the file.

mod bundle;
mod deployment;
mod git;
mod imports;
mod package;
mod store;

use std::path::Path;

pub(crate) use bundle::BundleManifest;
pub(crate) use deployment::DeploymentFile;
pub(crate) use git::GitDefinition;
pub(crate) use imports::{ImportGroup, Modifier};
pub(crate) use package::{FileExport, PackageFile, Spec};
pub(crate) use store::StoreManifest;

use crate::yaml::{Decoder, Documents, Error, NodeId, parse};

/// Reads the first document of a file; nothing, comments only and null give the default.
pub(crate) fn decode<T: Default>(
    bytes: &[u8],
    file: &Path,
    read: impl FnOnce(&Decoder<'_>, NodeId) -> Result<T, Error>,
) -> Result<T, Error> {
    let stream = parse(bytes, file, Documents::First)?;
    let decoder = Decoder::new(&stream);
    match decoder.root() {
        Some(root) => read(&decoder, root),
        None => Ok(T::default()),
    }
}

/// Reads a text field and drops it.
fn skip_text(d: &Decoder<'_>, id: NodeId) -> Result<(), Error> {
    d.string(id).map(drop)
}

/// Reads a list of texts and drops it.
fn skip_texts(d: &Decoder<'_>, id: NodeId) -> Result<(), Error> {
    d.strings(id).map(drop)
}
