//! Bundles whose Compose files name images by the IDs of one engine: what is to be written, and the record of it.
//!
//! ```text
//!   <bundle>/.palletjack-localized.json    the record: the files as they were, and digests of what they became
//!   <bundle>/packages/…/compose.yml        image: "sha256:…"  in place of  image: name:tag@sha256:…
//! ```
//!
//! Forklift reads `forklift-bundle.yml` and what lies below `packages/`, `exports/` and the pallets' directories, and
//! nothing else of a bundle; what it removes, it removes with all that is in it. So the record lies beside the manifest
//! and goes with the bundle. A bundle that has one is resolved from the files as they were.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use palletjack_image::Digest;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::compose::{self, Rewritten, Substitutes};
use crate::error::Error;
use crate::resolve::{Options, Resolver, app_of};
use crate::source::Source;

/// Name of the record in a bundle's directory.
pub const RECORD: &str = ".palletjack-localized.json";

/// The form of the record that this program writes. It reads no later one.
const FORMAT: u32 = 1;

/// Largest record that is read, in bytes.
const MAX_RECORD: u64 = 64 << 20;

/// What was rewritten in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The files, by path.
    pub files: Vec<LocalizedFile>,
}

/// A file as it was, and what it may be now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalizedFile {
    /// Path in the bundle, with slashes; no part of it is a link.
    pub path: String,
    /// All of the file as it was.
    pub original: String,
    /// What it is rewritten to: the digest of its bytes.
    pub rewritten: Digest,
    /// What it may still be from an earlier time, until the rewriting is finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Digest>,
    /// What was replaced in it.
    pub images: Vec<LocalizedImage>,
}

/// An image that is written as an ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalizedImage {
    /// The image as the file had it, after interpolation.
    pub image: String,
    /// The ID that stands there now.
    pub id: Digest,
}

/// What a recorded file is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// As it was before.
    Original,
    /// As it was rewritten last.
    Rewritten,
    /// As it was rewritten at an earlier time: a later one was interrupted.
    Earlier,
}

/// A file that is to be rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Localized {
    /// What the record is to say of it.
    pub file: LocalizedFile,
    /// What is to be in it, in bytes.
    pub content: Vec<u8>,
}

impl Record {
    /// A record of files that are going to be rewritten.
    pub fn new(files: Vec<LocalizedFile>) -> Self {
        Self { format: FORMAT, files }
    }

    /// Reads a bundle's record; `None` where nothing in it was rewritten.
    ///
    /// # Errors
    /// A record that cannot be read, is from a later program, or names a path outside of the bundle.
    pub fn read(bundle: &Path) -> Result<Option<Self>, Error> {
        let path = bundle.join(RECORD);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::read(&path, error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut bytes).map_err(|error| Error::read(&path, error))?;
        let wrong = |message: String| Error::Localized { path: path.clone(), message };
        let record: Self = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("not a record of rewritten Compose files: {error}")))?;
        if record.format != FORMAT {
            return Err(wrong(format!(
                "its format is {}, and this program knows {FORMAT}: use the one that wrote it",
                record.format
            )));
        }
        let is_inside = |path: &str| {
            !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
        };
        if let Some(file) = record.files.iter().find(|file| !is_inside(&file.path)) {
            return Err(wrong(format!("{:?} is no path in the bundle", file.path)));
        }
        Ok(Some(record))
    }

    /// The record as it is written.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and lists alone: there is nothing that JSON could not say.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// What each file is now, in the order of the record.
    ///
    /// # Errors
    /// A file that is none of what the record knows: somebody has changed it since.
    pub fn states(&self, bundle: &Path) -> Result<Vec<FileState>, Error> {
        self.files.iter().map(|file| file.state(bundle)).collect()
    }

    /// The IDs by which images are named now, if all files are rewritten; `None` for an interrupted rewriting.
    pub fn ids(&self, bundle: &Path) -> Result<Option<BTreeMap<String, Digest>>, Error> {
        if self.states(bundle)?.iter().any(|state| *state != FileState::Rewritten) {
            return Ok(None);
        }
        let images = self.files.iter().flat_map(|file| &file.images);
        Ok(Some(images.map(|image| (image.image.clone(), image.id)).collect()))
    }

    /// What is to be read in place of the files.
    fn originals(&self, bundle: &Path) -> Result<Substitutes, Error> {
        let root = real(bundle)?;
        self.states(bundle)?;
        let mut originals = Substitutes::default();
        for file in &self.files {
            originals.insert(root.join(&file.path), file.original.as_bytes());
        }
        Ok(originals)
    }
}

impl LocalizedFile {
    fn state(&self, bundle: &Path) -> Result<FileState, Error> {
        let path = real(bundle)?.join(&self.path);
        let changed = |what: &str| Error::Localized {
            path: path.clone(),
            message: format!(
                "{what} after its images were replaced by IDs, so it is not known what it should be: put it back, or, to \
                 keep it as it is, delete {RECORD} in the bundle"
            ),
        };
        let bytes = match read_real(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(changed("was removed")),
            Err(error) => return Err(Error::read(&path, error)),
        };
        let digest = Digest::of(&bytes);
        if bytes == self.original.as_bytes() {
            Ok(FileState::Original)
        } else if digest == self.rewritten {
            Ok(FileState::Rewritten)
        } else if self.earlier.contains(&digest) {
            Ok(FileState::Earlier)
        } else {
            Err(changed("was changed"))
        }
    }
}

/// A file of which no part of the path may be a link.
fn read_real(path: &Path) -> io::Result<Vec<u8>> {
    if fs::canonicalize(path)? != path || !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it, or a directory on the way, was replaced by a link"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_RECORD).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn real(bundle: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(bundle).map_err(|error| Error::read(bundle, error))
}

/// What stands for the files of a bundle, if any of them was rewritten.
pub(crate) fn originals(bundle: &Path) -> Result<Substitutes, Error> {
    match Record::read(bundle)? {
        None => Ok(Substitutes::default()),
        Some(record) => record.originals(bundle),
    }
}

/// What is to be written so that the enabled deployments of a bundle name images by IDs: those images that are keys of
/// `ids`, as Compose files have them. Begins with the files as they were before any rewriting. Changes nothing.
///
/// # Errors
/// A file where that cannot be done without changing anything else, with the line.
pub fn localize(bundle: &Bundle, ids: &BTreeMap<String, Digest>) -> Result<Vec<Localized>, Error> {
    let directory = bundle.directory();
    let root = real(&directory)?;
    let source = Source::Bundle(Box::new(bundle.clone()));
    let resolver = Resolver::new(&source);
    let mut apps = Vec::new();
    for selection in resolver.select_all(Options::default())? {
        if selection.has_app() {
            let app = app_of(&selection, bundle.originals());
            apps.push(app.map_err(|error| selection.deployment.failed(error))?);
        }
    }
    let replacement = |image: &str| ids.get(image).map(Digest::to_string);
    let rewritten = compose::rewrite(&apps, bundle.originals(), &root.join("packages"), &replacement)?;
    rewritten.into_iter().map(|file| localized(file, &root, ids)).collect()
}

fn localized(file: Rewritten, root: &Path, ids: &BTreeMap<String, Digest>) -> Result<Localized, Error> {
    let Rewritten { path, original, content, images } = file;
    let wrong = |message: &str| Error::Localized { path: path.clone(), message: message.to_owned() };
    let inside = path.strip_prefix(root).ok().and_then(Path::to_str);
    let inside = inside.ok_or_else(|| wrong("its path is not UTF-8, which the record is"))?;
    let original = String::from_utf8(original).map_err(|_| wrong("it is not UTF-8, which the record is"))?;
    let images = images.into_iter().filter_map(|(image, _, _)| {
        let id = *ids.get(&image)?;
        Some(LocalizedImage { image, id })
    });
    let mut images: Vec<LocalizedImage> = images.collect();
    images.dedup();
    let rewritten = Digest::of(&content);
    let file = LocalizedFile { path: inside.to_owned(), original, rewritten, earlier: Vec::new(), images };
    Ok(Localized { file, content })
}
