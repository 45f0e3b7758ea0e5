//! systemd units that load a device's images at its boot.
//!
//! ```text
//!   Images ──────┐
//!   what a unit  ├─► render ──► text ──► printed, or install ──► <rootfs>/etc/systemd/system
//!   is about     │   escape                  tree: what the system has, choose: which units it needs
//!   Setting ─────┘
//!
//!   palletjack-pins.service   before docker.service: what a stopped graph driver lacks, with its pins (`seed`)
//!   palletjack-load.service   after the engine, before forklift-apply.service: what the engine lacks (`load-img`)
//!   palletjack-fill.service   after everything, at idle priority: from the engine into the cache
//! ```
//!
//! No unit is required by another: when one fails, the device boots on.

mod choose;
mod elf;
mod escape;
mod inside;
mod install;
mod render;

pub(crate) use choose::{Need, choose};
pub(crate) use escape::Unwritable;
pub(crate) use install::{InstallError, Installer};
pub(crate) use render::{EngineName, Setting, render};

use std::path::PathBuf;

/// The units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pins,
    Load,
    Fill,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Pins, Self::Load, Self::Fill];

    /// The unit's file name.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Pins => "palletjack-pins.service",
            Self::Load => "palletjack-load.service",
            Self::Fill => "palletjack-fill.service",
        }
    }

    /// What starts it.
    pub(crate) fn wanted_by(self) -> &'static str {
        match self {
            Self::Pins => "docker.service",
            Self::Load | Self::Fill => "multi-user.target",
        }
    }
}

/// Which images a unit is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Images {
    /// Those of staged bundles: all that the next apply can need, or one bundle's.
    Stage(Option<String>),
    /// Those of the pallet in this directory.
    Pallet(PathBuf),
    /// These references.
    References(Vec<String>),
    /// All of the cache.
    All,
}
