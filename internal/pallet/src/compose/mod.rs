//! Compose files: which services are active, and which images they need.
//!
//! ```text
//!   file --read--> tree without !reset/!override --interpolate--> --extends, include--> --merge--> model so far
//!                                        after each document: drop doubles, schema, short forms to long ones
//!   model --defaults, checks--> --profiles--> --consistency--> Project
//! ```
//!
//! The rules are those of compose-go, as far as they decide an image or whether the project is valid at all.
//! A pallet's Compose app sees no environment but `COMPOSE_PROJECT_NAME`; the [`Environment`] is a parameter.

mod canonical;
mod check;
mod convert;
mod env_file;
mod error;
mod extends;
mod include;
mod interpolate;
mod loader;
mod merge;
mod project;
mod read;
mod rebase;
mod rewrite;
mod schema;
mod services;
mod short;
mod unique;
mod value;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::Error;
pub(crate) use rewrite::{App, Rewritten, rewrite};

use crate::requirement::Usage;

/// A Compose file's content and its place.
#[derive(Debug, Clone)]
pub struct File {
    /// Where it lies; also the base for what it refers to.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// The variables that Compose files may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    values: BTreeMap<String, String>,
}

impl Environment {
    /// No variable but `COMPOSE_PROJECT_NAME`, as Forklift loads apps.
    pub fn project(name: &str) -> Self {
        let values = [("COMPOSE_PROJECT_NAME".to_owned(), name.to_owned())];
        Self { values: values.into() }
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|v| &**v)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    /// Takes those variables of `other` that are not set here.
    pub(crate) fn fill(&mut self, other: &Environment) {
        for (name, value) in &other.values {
            let slot = self.values.entry(name.clone());
            slot.or_insert_with(|| value.clone());
        }
    }
}

/// A loaded and checked project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Services without a profile, by name.
    pub services: Vec<Service>,
}

/// An active service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The images that it needs. The first is the one that it runs; its name is empty if the service is
    /// only built.
    pub images: Vec<Image>,
}

/// An image as a Compose file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The text after interpolation.
    pub name: String,
    /// What for.
    pub usage: Usage,
    /// Which of the given files gave it; one that such a file includes or extends counts as that file.
    pub file: Option<usize>,
    /// The file that has the text.
    pub path: PathBuf,
    /// The line there, counted from 1; 0 if the service has no image.
    pub line: u32,
}

/// Merges Compose files and lists the active services without any profile.
///
/// `directory` is the project's directory. All of `files` belong to it, whatever their paths.
pub fn load(files: &[File], directory: &Path, environment: Environment) -> Result<Project, Error> {
    load_with(files, directory, environment, &Substitutes::default())
}

/// The same with other content in some of the files that these include or extend.
pub(crate) fn load_with(
    files: &[File],
    directory: &Path,
    environment: Environment,
    substitutes: &Substitutes,
) -> Result<Project, Error> {
    loader::load(files, directory, environment, substitutes).map(|whole| whole.project)
}

/// What is to be read in place of what is in some files, by their real paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Substitutes(BTreeMap<PathBuf, Arc<[u8]>>);

impl Substitutes {
    /// `path` is real: no part of it is a link.
    pub(crate) fn insert(&mut self, path: PathBuf, bytes: &[u8]) {
        self.0.insert(path, bytes.into());
    }

    /// What stands for a file, whatever path leads to it.
    pub(crate) fn of(&self, path: &Path) -> Option<&[u8]> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&std::fs::canonicalize(path).ok()?).map(|bytes| &**bytes)
    }
}

#[cfg(test)]
mod tests;
