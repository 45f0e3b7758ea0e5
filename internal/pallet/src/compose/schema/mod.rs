//! The shape that a model must have after each document: which keys there are, and what they may hold.
//!
//! The facts are those of the JSON schema of the Compose Specification, as compose-go applies it; they are
//! stated as [`Shape`]s so that a fault can be told in plain words.

mod service;
mod shape;
mod top;

use super::error::Fault;
use super::value::{Path, Value};

/// Checks a model.
pub(super) fn check(model: &Value) -> Result<(), Fault> {
    top::MODEL.check(model, &Path::ROOT)
}
