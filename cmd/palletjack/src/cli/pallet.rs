//! The verbs of `plt` and `dev plt`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::repin::PinFlags;

use super::images::{
    CACHE_IMG_EXAMPLES, FetchFlags, LOAD_IMG_EXAMPLES, LoadFlags, STATUS_EXAMPLES, StatusFlags,
};

#[derive(Debug, Subcommand)]
pub(crate) enum DevCommand {
    /// The pallet in or above the directory
    #[command(visible_alias = "pallet")]
    Plt {
        /// Use the pallets found in this directory in place of required ones
        #[arg(long = "plt", aliases = ["plts", "pallet", "pallets"], value_name = "DIR")]
        pallets: Vec<PathBuf>,
        /// Use the package repositories (and pallets) found in this directory in place of required ones
        #[arg(long = "repo", aliases = ["repos", "repository", "repositories"], value_name = "DIR")]
        repositories: Vec<PathBuf>,
        #[command(subcommand)]
        verb: PalletVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PalletVerb {
    /// List the images that the pallet requires, exactly as Forklift lists them
    #[command(visible_alias = "list-images")]
    LsImg(Selection),
    /// Download them into the cache, without a daemon
    #[command(visible_alias = "cache-images", after_help = CACHE_IMG_EXAMPLES)]
    CacheImg {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        flags: FetchFlags,
    },
    /// Load them from the cache into Docker or Podman
    #[command(visible_alias = "load-images", after_help = LOAD_IMG_EXAMPLES)]
    LoadImg {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        load: LoadFlags,
        #[command(flatten)]
        pins: PinFlags,
    },
    /// Say whether the pallet would run offline now
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        status: StatusFlags,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Selection {
    /// Disabled deployments too
    #[arg(long)]
    pub(crate) include_disabled: bool,
}
