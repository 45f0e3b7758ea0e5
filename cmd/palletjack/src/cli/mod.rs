//! The command line: every flag and verb, and the help that teaches them.

mod cache;
mod globals;
mod images;
mod pallet;
mod stage;
mod unit;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::seed::{self, SeedFlags};

pub(crate) use cache::CacheVerb;
pub(crate) use globals::{Globals, Output, Parallel, ProgressMode};
pub(crate) use images::{FetchFlags, LoadFlags, Source, StatusFlags};
pub(crate) use pallet::{DevCommand, PalletVerb, Selection};
pub(crate) use stage::{BundleSelection, StageVerb};
pub(crate) use unit::{UnitFlags, UnitName};

/// Container images for devices that are offline: from a Forklift pallet to Docker.
///
/// Finds every image that a pallet or a staged bundle requires, downloads them without a Docker daemon into one
/// deduplicated, verified cache, and loads them into Docker or Podman.
#[derive(Debug, Parser)]
#[command(
    name = "palletjack",
    version,
    max_term_width = 100,
    propagate_version = true,
    after_help = EXAMPLES,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  List what the workspace's pallet requires, then fetch it without a daemon:
    palletjack plt ls-img
    palletjack plt cache-img

  The same for a pallet in this directory, for another processor:
    palletjack dev --cwd . plt cache-img --platform linux/arm64

  Everything that the next `forklift stage apply` can need, into Docker:
    palletjack stage cache-img
    palletjack stage load-img

Exit status:
  0 done   1 failed   2 wrong usage   3 an image is at none of the permitted sources
  4 network or registry   5 engine   6 corrupt content   7 no space   130/143 interrupted
  When several apply: 6, 7, 5, 4, 3, 1, the first of these.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The workspace's pallet
    #[command(visible_alias = "pallet")]
    Plt {
        #[command(subcommand)]
        verb: PalletVerb,
    },
    /// Pallets under development: the pallet in or above a directory
    #[command(visible_alias = "development")]
    Dev {
        /// Look for the pallet from here upward
        #[arg(long, value_name = "DIR", env = "FORKLIFT_CWD", hide_env_values = true, default_value = ".")]
        cwd: PathBuf,
        #[command(subcommand)]
        command: DevCommand,
    },
    /// Staged bundles: what the next apply can need, or one bundle
    Stage {
        #[command(subcommand)]
        verb: StageVerb,
    },
    /// Fill the storage of a Docker that does not run: an OS image's, or this device's own
    ///
    /// A private engine, without any network, does it, so that the device's own Docker has every image and resolves every
    /// pin when it is started: nothing is loaded at boot. Needs root.
    #[command(after_help = seed::EXAMPLES)]
    Seed(SeedFlags),
    /// The image cache itself
    Cache {
        #[command(subcommand)]
        verb: CacheVerb,
    },
    /// systemd units that load a device's images at its boot
    ///
    /// Without a unit's name and with --install, the units that the system in ROOTFS needs are chosen by its engine and by the
    /// images: `load`, and `pins` for pinned references on a Docker with a graph driver. Paths are the device's; one
    /// below ROOTFS is understood so.
    #[command(args_conflicts_with_subcommands = true, after_help = UNIT_EXAMPLES)]
    Unit {
        #[command(flatten)]
        flags: UnitFlags,
        #[command(subcommand)]
        unit: Option<UnitName>,
    },
    /// Print what a shell needs to complete this program's commands and flags
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write what packages and the project's documentation are made of
    #[command(hide = true)]
    Docs {
        #[command(subcommand)]
        what: DocsVerb,
    },
}

const UNIT_EXAMPLES: &str = "\
Examples:
  What the card's system needs, into its tree, with the program:
    palletjack unit --install /mnt/card --binary target/aarch64-unknown-linux-gnu/release/palletjack
  One unit, to be read:
    palletjack unit load --stage

  On the device, systemd starts them; their lines are in the journal:
    journalctl -u palletjack-load";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  For yourself, in bash and in fish:
    palletjack completions bash >~/.local/share/bash-completion/completions/palletjack
    palletjack completions fish >~/.config/fish/completions/palletjack.fish
  For everybody, in zsh:
    palletjack completions zsh >/usr/local/share/zsh/site-functions/_palletjack";

#[derive(Debug, Subcommand)]
pub(crate) enum DocsVerb {
    /// A manual page for each command
    Man {
        /// An existing directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// The reference of the command line
    Markdown,
}
