//! What is wrong with a Compose project, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::value::{At, Path as ValuePath};

/// A Compose file that can't be read, or a project that isn't valid.
#[derive(Debug)]
pub struct Error {
    file: PathBuf,
    /// Line and column, counted from 1.
    position: Option<(u32, u32)>,
    place: String,
    message: String,
    source: Option<io::Error>,
}

impl Error {
    /// The file with the fault.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line of the fault, counted from 1; none if it is the file as a whole.
    pub fn line(&self) -> Option<u32> {
        self.position.map(|p| p.0)
    }

    /// Where in the model, such as `services.web.image`; empty for the project as a whole.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

/// An [`Error`] whose file is still a number.
#[derive(Debug)]
pub(super) struct Fault(Box<Inner>);

#[derive(Debug)]
enum Inner {
    Here { at: At, place: String, message: String },
    Done(Error),
}

impl Fault {
    /// A fault at a place of the model.
    pub(super) fn new(at: At, path: &ValuePath<'_>, message: impl Into<String>) -> Self {
        Self(Box::new(Inner::Here { at, place: path.to_string(), message: message.into() }))
    }

    /// A file that another one names can't be read.
    pub(super) fn unreadable(file: &Path, source: io::Error) -> Self {
        Self(Box::new(Inner::Done(Error {
            file: file.to_owned(),
            position: None,
            place: String::new(),
            message: "can't be read".into(),
            source: Some(source),
        })))
    }

    /// A fault in a file that isn't part of the model, such as an `.env`.
    pub(super) fn in_file(file: &Path, line: Option<u32>, message: impl Into<String>) -> Self {
        Self(Box::new(Inner::Done(Error {
            file: file.to_owned(),
            position: line.map(|l| (l, 1)),
            place: String::new(),
            message: message.into(),
            source: None,
        })))
    }

    pub(super) fn resolve(self, file: impl FnOnce(u16) -> PathBuf) -> Error {
        match *self.0 {
            Inner::Done(error) => error,
            Inner::Here { at, place, message } => Error {
                file: file(at.file),
                position: (at.line > 0).then_some((at.line, at.column)),
                place,
                message,
                source: None,
            },
        }
    }
}

impl From<crate::yaml::Error> for Fault {
    fn from(e: crate::yaml::Error) -> Self {
        Self(Box::new(Inner::Done(Error {
            file: e.file().to_owned(),
            position: e.line().zip(e.column()),
            place: String::new(),
            message: e.message().to_owned(),
            source: None,
        })))
    }
}
