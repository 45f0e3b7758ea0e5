//! Writing another image into Compose files, in place, so that nothing but the image changes.
//!
//! ```text
//!   apps --load--> models --> places of images --splice--> new text --load again--> the same models but for these
//! ```
//!
//! Only the value of an `image:` (or of a mount's `source:`) is replaced, where it is written: comments, order, anchors
//! and quotes of everything else stay. What the text then means is not guessed but read again and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, Fault};
use super::loader::{self, read};
use super::project::images_of;
use super::value::{At, Data, Value};
use super::{Environment, File, Substitutes};
use crate::yaml::{Position, ValueSpan, value_spans};

/// One Compose app of several that may share files.
pub(crate) struct App {
    /// Who has it, for messages.
    pub(crate) name: String,
    pub(crate) files: Vec<File>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Environment,
}

/// A file with other images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// The real path of the file.
    pub(crate) path: PathBuf,
    pub(crate) original: Vec<u8>,
    pub(crate) content: Vec<u8>,
    /// What was replaced: the image after interpolation, what stands there now, and the line, counted from 1.
    pub(crate) images: Vec<(String, String, u32)>,
}

/// An app's model, with the real paths of its files by their number.
struct Model {
    value: Value,
    paths: Vec<PathBuf>,
}

/// Where an image is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    file: PathBuf,
    line: u32,
    column: u32,
}

/// What is to stand at a site; none for an image that stays.
struct Wish<'a> {
    app: &'a str,
    image: String,
    replacement: Option<String>,
}

/// Replaces the images of active services in all apps, as `replacement` says. `originals` is what files are to be read as
/// before; `root` is a real path, and no file outside of it is rewritten.
///
/// # Errors
/// A file in which this cannot be done so that only images change, with the line.
pub(crate) fn rewrite(
    apps: &[App],
    originals: &Substitutes,
    root: &Path,
    replacement: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Rewritten>, Error> {
    let mut before = Vec::with_capacity(apps.len());
    for app in apps {
        before.push(load(app, originals)?);
    }
    let mut sites: BTreeMap<Site, Wish<'_>> = BTreeMap::new();
    for (app, model) in apps.iter().zip(&before) {
        for image in active_images(&model.value) {
            let text = image.as_text().unwrap_or_default();
            let wish = Wish { app: &app.name, image: text.to_owned(), replacement: replacement(text) };
            let site = site(model, image.at);
            match sites.get(&site) {
                None => {
                    sites.insert(site, wish);
                }
                Some(known) if known.replacement == wish.replacement => {}
                Some(known) => {
                    let message = format!(
                        "one text is {} in deployment {} and {} in deployment {}, so it cannot be replaced by one ID",
                        known.image, known.app, wish.image, wish.app
                    );
                    return Err(fault(&site, message));
                }
            }
        }
    }
    sites.retain(|_, wish| wish.replacement.is_some());
    let files: BTreeSet<&Path> = sites.keys().map(|site| &*site.file).collect();
    let mut out = Vec::new();
    let mut after = originals.clone();
    for file in files {
        let file = splice(file, root, originals, &sites)?;
        after.insert(file.path.clone(), &file.content);
        out.push(file);
    }
    for (app, before) in apps.iter().zip(&before) {
        let model = load(app, &after)?;
        same_but_for(&before.value, &model.value, before, &sites)?;
    }
    Ok(out)
}

fn load(app: &App, substitutes: &Substitutes) -> Result<Model, Error> {
    let files: Vec<File> = app
        .files
        .iter()
        .map(|file| match substitutes.of(&file.path) {
            Some(bytes) => File { path: file.path.clone(), bytes: bytes.to_vec() },
            None => file.clone(),
        })
        .collect();
    let whole = loader::load(&files, &app.directory, app.environment.clone(), substitutes)?;
    let real = |path: &PathBuf| fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    Ok(Model { paths: whole.paths.iter().map(real).collect(), value: whole.model })
}

/// The images of services without a profile, as values with their places.
fn active_images(model: &Value) -> impl Iterator<Item = &Value> {
    let services = model.entries(&["services"]);
    let active = services.filter(|(_, service)| service.items(&["profiles"]).is_empty());
    active.flat_map(|(_, service)| images_of(service)).filter_map(|(image, _)| image)
}

fn site(model: &Model, at: At) -> Site {
    let file = model.paths.get(usize::from(at.file)).cloned().unwrap_or_default();
    Site { file, line: at.line, column: at.column }
}

fn splice(
    path: &Path,
    root: &Path,
    originals: &Substitutes,
    sites: &BTreeMap<Site, Wish<'_>>,
) -> Result<Rewritten, Error> {
    let here: Vec<(&Site, &Wish<'_>)> = sites.iter().filter(|(site, _)| site.file == path).collect();
    if let Some((site, _)) = here.first()
        && !path.starts_with(root)
    {
        return Err(fault(
            site,
            format!("the file is outside of {}, where nothing is rewritten", root.display()),
        ));
    }
    let original = match originals.of(path) {
        Some(bytes) => bytes.to_vec(),
        None => read(path).map_err(done)?.bytes,
    };
    let spans = value_spans(&original, path).map_err(|error| done(error.into()))?;
    let mut ranges = Vec::with_capacity(here.len());
    let mut images = Vec::with_capacity(here.len());
    for (site, wish) in here {
        let key = Position { line: site.line, column: site.column };
        let range = match spans.get(&key) {
            Some(ValueSpan::Inline(range)) => range.clone(),
            Some(ValueSpan::Block) => {
                return Err(fault(
                    site,
                    "the image is written as a block (`|` or `>`), which cannot be replaced in place; write it on one line",
                ));
            }
            Some(ValueSpan::Collection) | None => {
                return Err(fault(
                    site,
                    "the image is not written as one text, so that it cannot be replaced",
                ));
            }
        };
        let replacement = wish.replacement.clone().unwrap_or_default();
        // Quoted, because it then stands for itself in every context, flow mappings and JSON included.
        ranges.push((range, format!("\"{replacement}\"")));
        images.push((wish.image.clone(), replacement, site.line));
    }
    ranges.sort_by_key(|(range, _)| range.start);
    let mut content = Vec::with_capacity(original.len());
    let mut at = 0;
    for (range, text) in ranges {
        content.extend_from_slice(original.get(at..range.start).unwrap_or_default());
        content.extend_from_slice(text.as_bytes());
        at = range.end;
    }
    content.extend_from_slice(original.get(at..).unwrap_or_default());
    Ok(Rewritten { path: path.to_owned(), original, content, images })
}

/// Whether two models mean the same, but for what was replaced.
fn same_but_for(
    before: &Value,
    after: &Value,
    model: &Model,
    sites: &BTreeMap<Site, Wish<'_>>,
) -> Result<(), Error> {
    let site = site(model, before.at);
    let replacement = || sites.get(&site)?.replacement.as_deref();
    let changed = || {
        Err(fault(
            &site,
            "this would change with an image that is replaced, because both are written in one place",
        ))
    };
    match (&before.data, &after.data) {
        (Data::Text(_), Data::Text(new)) if replacement() == Some(new) => Ok(()),
        // Every place that was chosen must have changed.
        (Data::Text(_), _) if replacement().is_some() => changed(),
        (Data::List(old), Data::List(new)) if old.len() == new.len() => {
            old.iter().zip(new).try_for_each(|(old, new)| same_but_for(old, new, model, sites))
        }
        (Data::Map(old), Data::Map(new)) if old.keys().eq(new.keys()) => {
            old.values().zip(new.values()).try_for_each(|(old, new)| same_but_for(old, new, model, sites))
        }
        (Data::List(_) | Data::Map(_), _) => changed(),
        _ if before.same(after) => Ok(()),
        _ => changed(),
    }
}

fn fault(site: &Site, message: impl Into<String>) -> Error {
    done(Fault::in_file(&site.file, Some(site.line), message))
}

/// These faults name their file themselves.
fn done(fault: Fault) -> Error {
    fault.resolve(|_| PathBuf::new())
}

#[cfg(test)]
mod tests;
