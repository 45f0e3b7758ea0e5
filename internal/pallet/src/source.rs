//! What is asked: a pallet or a bundle.

use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::error::Error;
use crate::pallet::{Overrides, Pallet};
use crate::workspace::Workspace;

/// A pallet or bundle whose definition was loaded.
#[derive(Debug, Clone)]
pub enum Source {
    /// A pallet, its imports merged.
    Pallet(Box<Pallet>),
    /// A staged bundle.
    Bundle(Box<Bundle>),
}

impl Source {
    /// The workspace's local pallet.
    pub fn workspace_pallet(workspace: &Workspace) -> Result<Self, Error> {
        Self::pallet(&workspace.pallet(), workspace)
    }

    /// The pallet in a directory.
    pub fn pallet(directory: &Path, workspace: &Workspace) -> Result<Self, Error> {
        Ok(Self::Pallet(Box::new(Pallet::load(directory, workspace)?)))
    }

    /// The pallet under development that `cwd` lies in: the nearest one upwards.
    pub fn dev_pallet(cwd: &Path, workspace: &Workspace, overrides: &Overrides) -> Result<Self, Error> {
        Ok(Self::Pallet(Box::new(Pallet::load_above(cwd, workspace, overrides)?)))
    }

    /// The bundle in a directory.
    pub fn bundle(directory: &Path) -> Result<Self, Error> {
        Ok(Self::Bundle(Box::new(Bundle::load(directory)?)))
    }

    /// The directory of the pallet or bundle.
    pub fn directory(&self) -> PathBuf {
        match self {
            Self::Pallet(pallet) => pallet.directory(),
            Self::Bundle(bundle) => bundle.directory(),
        }
    }
}
