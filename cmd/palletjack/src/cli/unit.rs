//! `unit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::units::EngineName;

/// The units.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum UnitName {
    /// After the engine, before forklift-apply.service: loads what the engine lacks
    ///
    /// Asks the engine at each boot, and ends at once when nothing is missing.
    Load(UnitFlags),
    /// Before docker.service: puts images and their pins into a stopped Docker with a graph driver
    ///
    /// Ends without starting anything when every reference is there. Otherwise it runs `palletjack seed`.
    Pins(UnitFlags),
    /// After the boot, at idle priority: copies images from the engine into the cache
    ///
    /// For devices that were built without a cache.
    Fill(UnitFlags),
}

/// What a unit is about, and where it goes.
#[derive(Debug, Clone, Args)]
pub(crate) struct UnitFlags {
    /// Write the units into this OS image's tree, and have them started at boot
    #[arg(long, value_name = "ROOTFS")]
    pub(crate) install: Option<PathBuf>,
    /// Copy this program to /usr/local/bin/palletjack of the tree; refused when it is for another processor
    #[arg(long, value_name = "FILE", requires = "install")]
    pub(crate) binary: Option<PathBuf>,
    /// The images of staged bundles: all that the next apply can need, or BUNDLE's
    #[arg(long, value_name = "BUNDLE", num_args = 0..=1, require_equals = true, conflicts_with_all = ["plt", "references"])]
    #[allow(clippy::option_option, reason = "absent, without a value, with one")]
    pub(crate) stage: Option<Option<String>>,
    /// The images of the pallet in this directory
    #[arg(long, aliases = ["pallet"], value_name = "DIR", conflicts_with = "references")]
    pub(crate) plt: Option<PathBuf>,
    /// The engine [default: the tree's, else docker]
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineName>,
    /// These images [default: the stage store's where the tree has one, else all of the cache]
    #[arg(value_name = "REF")]
    pub(crate) references: Vec<String>,
}
