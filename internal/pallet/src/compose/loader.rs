//! Reading the files of a project one after the other into one model.

use std::io::Read as _;
use std::path::{Path as FilePath, PathBuf};

use super::canonical::canonical;
use super::error::{Error, Fault};
use super::extends::Extending;
use super::include;
use super::interpolate::interpolate;
use super::merge::merge_maps;
use super::read::{Document, Resets, document};
use super::unique::drop_doubles;
use super::value::{Data, Map, Path, Value};
use super::{Environment, File, Project, Substitutes, check, project, schema};
use crate::yaml::{self, Documents};

/// Most files that a project may be made of, included and extended ones counted each time.
const MAX_FILES: usize = 500;

/// What all parts of loading share.
pub(super) struct Loader {
    /// Paths of the files by their number in [`super::value::At`].
    paths: Vec<PathBuf>,
    /// For each of them the given file that led to it.
    entries: Vec<usize>,
    entry: usize,
    /// The project's own variables, which outrank those of any `.env`.
    pub(super) environment: Environment,
    substitutes: Substitutes,
}

/// A project with the model that it was made from.
pub(super) struct Whole {
    pub(super) project: Project,
    pub(super) model: Value,
    /// Paths of the files by their number in [`super::value::At`].
    pub(super) paths: Vec<PathBuf>,
}

/// How a file is read: where its relative paths begin, and with which variables.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) base: PathBuf,
    /// Where relative directories and `env_file` of `include` begin.
    pub(super) working_directory: String,
    pub(super) environment: Environment,
    /// Files that are being included, to find circles.
    pub(super) including: Vec<PathBuf>,
}

pub(super) fn load(
    files: &[File],
    directory: &FilePath,
    environment: Environment,
    substitutes: &Substitutes,
) -> Result<Whole, Error> {
    let mut loader = Loader {
        paths: Vec::new(),
        entries: Vec::new(),
        entry: 0,
        environment: environment.clone(),
        substitutes: substitutes.clone(),
    };
    let base = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let scope = Scope {
        working_directory: base.to_string_lossy().into_owned(),
        base,
        environment,
        including: Vec::new(),
    };
    match loader.project(files, &scope) {
        Ok((project, model)) => Ok(Whole { project, model, paths: loader.paths }),
        Err(fault) => Err(fault.resolve(|file| loader.path(file).to_owned())),
    }
}

impl Loader {
    /// The path of a file by its number.
    pub(super) fn path(&self, file: u16) -> &FilePath {
        self.paths.get(usize::from(file)).map_or(FilePath::new(""), |p| p)
    }

    /// Which of the given files led to a file.
    pub(super) fn entry(&self, file: u16) -> Option<usize> {
        self.entries.get(usize::from(file)).copied()
    }

    fn project(&mut self, files: &[File], scope: &Scope) -> Result<(Project, Value), Fault> {
        let mut model = Value::new(super::value::At::default(), Data::Map(Map::new()));
        for (number, file) in files.iter().enumerate() {
            self.entry = number;
            (model, _) = self.file(file, model, scope)?;
        }
        check::resources(&model)?;
        if model.as_map().is_none_or(Map::is_empty) {
            return Err(Fault::new(model.at, &Path::ROOT, "the Compose files are empty"));
        }
        Ok((project::finish(&model, self)?, model))
    }

    /// Loads included files as a project of their own.
    pub(super) fn included(&mut self, files: &[PathBuf], scope: &Scope) -> Result<Value, Fault> {
        let mut model = Value::new(super::value::At::default(), Data::Map(Map::new()));
        for path in files {
            (model, _) = self.file(&self.read(path)?, model, scope)?;
        }
        check::resources(&model)?;
        Ok(model)
    }

    /// Reads a Compose file that another one names.
    fn read(&self, path: &FilePath) -> Result<File, Fault> {
        match self.substitutes.of(path) {
            Some(bytes) => Ok(File { path: path.to_owned(), bytes: bytes.to_vec() }),
            None => read(path),
        }
    }

    /// Adds a file's documents to the model. Also returns the resets of its last document.
    fn file(&mut self, file: &File, mut model: Value, scope: &Scope) -> Result<(Value, Resets), Fault> {
        let number = self.number(&file.path)?;
        let stream = yaml::parse(&file.bytes, &file.path, Documents::All)?;
        let mut last = Resets::default();
        let mut scope = scope.clone();
        for root in stream.documents() {
            let Document { model: mut new, resets } = document(&stream, *root, number)?;
            interpolate(&mut new, &scope.environment, &Path::ROOT)?;
            let mut new = Extending::new(self, &scope, &file.path, &resets).apply(new)?;
            resets.apply(&mut model);
            scope.including.push(file.path.clone());
            include::apply(self, &mut new, &scope)?;
            model = merged(model, new)?;
            drop_doubles(&mut model, &Path::ROOT)?;
            schema::check(&model)?;
            if let Some(map) = model.as_map_mut() {
                map.remove("version");
            }
            model = canonical(model, &Path::ROOT)?;
            drop_doubles(&mut model, &Path::ROOT)?;
            last = resets;
        }
        Ok((model, last))
    }

    /// Reads a file from which a service is extended: neither its `extends` nor its `include` are followed
    /// here, and it isn't checked by itself.
    pub(super) fn extended(
        &mut self,
        path: &FilePath,
        environment: &Environment,
    ) -> Result<(Value, Resets), Fault> {
        let file = self.read(path)?;
        let number = self.number(path)?;
        let stream = yaml::parse(&file.bytes, path, Documents::All)?;
        let mut model = Value::new(super::value::At::default(), Data::Map(Map::new()));
        let mut last = Resets::default();
        for root in stream.documents() {
            let Document { model: mut new, resets } = document(&stream, *root, number)?;
            interpolate(&mut new, environment, &Path::ROOT)?;
            resets.apply(&mut model);
            model = merged(model, new)?;
            drop_doubles(&mut model, &Path::ROOT)?;
            model = canonical(model, &Path::ROOT)?;
            drop_doubles(&mut model, &Path::ROOT)?;
            last = resets;
        }
        Ok((model, last))
    }

    fn number(&mut self, path: &FilePath) -> Result<u16, Fault> {
        if self.paths.len() >= MAX_FILES {
            let message = format!("the project is made of more than {MAX_FILES} files");
            return Err(Fault::in_file(path, None, message));
        }
        self.paths.push(path.to_owned());
        self.entries.push(self.entry);
        // MAX_FILES is far below u16::MAX.
        Ok(u16::try_from(self.paths.len() - 1).unwrap_or(u16::MAX))
    }
}

fn merged(model: Value, new: Value) -> Result<Value, Fault> {
    let at = model.at;
    let (model, new) = (model.expect_map(&Path::ROOT)?, new.expect_map(&Path::ROOT)?);
    Ok(Value::new(at, Data::Map(merge_maps(model, new, &Path::ROOT)?)))
}

/// Reads a file that another one names.
pub(super) fn read(path: &FilePath) -> Result<File, Fault> {
    let bytes = read_bytes(path).map_err(|e| Fault::unreadable(path, e))?;
    Ok(File { path: path.to_owned(), bytes })
}

fn read_bytes(path: &FilePath) -> std::io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        let message = "is not a regular file";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed is enough for the YAML reader to refuse it.
    std::fs::File::open(path)?.take(yaml::MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path that a file names, from where that file's paths begin; shortest form.
pub(super) fn absolute(base: &FilePath, name: &str) -> PathBuf {
    if name.starts_with('/') {
        return name.into();
    }
    let joined = format!("{}/{name}", base.to_string_lossy());
    crate::path::clean(&joined).into()
}

/// The directory of a file (or the directory itself), relative to `base`.
pub(super) fn directory_of(base: &FilePath, name: &str) -> String {
    let mut directory = absolute(base, name);
    if !directory.is_dir() {
        directory = absolute(base, &crate::path::parent(name));
    }
    let base = crate::path::clean(&base.to_string_lossy());
    let directory = directory.to_string_lossy().into_owned();
    let (mut from, mut to) = (base.split('/').peekable(), directory.split('/').peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let up = from.filter(|part| !part.is_empty()).map(|_| "..");
    let parts: Vec<&str> = up.chain(to).collect();
    crate::path::clean(&parts.join("/"))
}
