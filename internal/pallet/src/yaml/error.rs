//! What is wrong with a YAML file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Position;

/// A YAML text that can't be read, or that has another shape than its reader needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    file: PathBuf,
    position: Option<Position>,
    message: String,
}

impl Error {
    pub(crate) fn new(file: &Path, position: Option<Position>, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), position, message: message.into() }
    }

    /// The file, as its reader named it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Line of the fault, counted from 1; none if the file as a whole is at fault.
    pub fn line(&self) -> Option<u32> {
        self.position.map(|p| p.line)
    }

    /// Column of the fault in characters, counted from 1.
    pub fn column(&self) -> Option<u32> {
        self.position.map(|p| p.column)
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(p) = self.position {
            write!(f, ":{}:{}", p.line, p.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Error {}
