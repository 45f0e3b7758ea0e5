//! The command line: every flag and verb, and the help that teaches them.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::seed::{self, SeedFlags};
use crate::repin::{PinFlags, RepinFlags};
use crate::units::EngineName;

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

/// Flags that every command takes, before or after the verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// The Forklift workspace [default: the home directory] [env: PALLETJACK_WORKSPACE, FORKLIFT_WORKSPACE]
    #[arg(
        long,
        alias = "ws",
        global = true,
        value_name = "DIR",
        env = "PALLETJACK_WORKSPACE",
        hide_env_values = true,
        hide_env = true
    )]
    pub(crate) workspace: Option<PathBuf>,

    /// The stage store [default: the workspace's] [env: PALLETJACK_STAGE_STORE, FORKLIFT_STAGE_STORE]
    #[arg(
        long,
        alias = "ss",
        global = true,
        value_name = "DIR",
        env = "PALLETJACK_STAGE_STORE",
        hide_env_values = true,
        hide_env = true
    )]
    pub(crate) stage_store: Option<PathBuf>,

    /// Where the cache is [default: <workspace>/.cache/palletjack if one is named, else ~/.cache/palletjack]
    #[arg(long, global = true, value_name = "DIR", env = "PALLETJACK_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Read this configuration file only [default: /etc/palletjack/config.toml, ~/.config/palletjack/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "PALLETJACK_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Images for this platform, such as linux/arm64 or linux/arm/v7 [default: this machine's]
    #[arg(
        long,
        global = true,
        value_name = "OS/ARCH[/VARIANT]",
        env = "PALLETJACK_PLATFORM",
        hide_env_values = true
    )]
    pub(crate) platform: Option<String>,

    /// How many downloads, or loads into an engine, at once; `false` means one after the other
    #[arg(
        long,
        global = true,
        value_name = "N|true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        env = "PALLETJACK_PARALLEL", hide_env_values = true
    )]
    pub(crate) parallel: Option<Parallel>,

    /// Never use the network: what is not in the cache is missing
    #[arg(long, global = true, value_parser = FalseyValueParser::new(), env = "PALLETJACK_OFFLINE", hide_env_values = true)]
    pub(crate) offline: bool,

    /// Do not mind which Forklift version a pallet or bundle asks for [env: PALLETJACK_IGNORE_TOOL_VERSION, FORKLIFT_IGNORE_TOOL_VERSION]
    #[arg(long, global = true, value_parser = FalseyValueParser::new(), env = "PALLETJACK_IGNORE_TOOL_VERSION", hide_env = true)]
    pub(crate) ignore_tool_version: bool,

    /// How progress is shown, on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "HOW",
        default_value_t,
        env = "PALLETJACK_PROGRESS",
        hide_env_values = true
    )]
    pub(crate) progress: ProgressMode,

    /// How results are written, on standard output
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORM",
        default_value_t,
        env = "PALLETJACK_OUTPUT",
        hide_env_values = true
    )]
    pub(crate) output: Output,

    /// Errors only
    #[arg(short, long, global = true, value_parser = FalseyValueParser::new(), env = "PALLETJACK_QUIET", hide_env_values = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// More detail; twice for what happens on the wire
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// `--parallel`: a number, or Forklift's boolean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parallel {
    Default,
    Limit(usize),
}

impl std::str::FromStr for Parallel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(Self::Default),
            "false" | "no" | "off" => Ok(Self::Limit(1)),
            number => match number.parse() {
                Ok(limit @ 1..=64) => Ok(Self::Limit(limit)),
                _ => Err("write a number from 1 to 64, true or false".to_owned()),
            },
        }
    }
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// One line per image
    Plain,
    /// One JSON object per line
    Json,
    /// Nothing
    None,
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For scripts: one JSON document with a versioned `schema`
    Json,
}

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

const CACHE_IMG_EXAMPLES: &str = "\
Examples:
  For a Raspberry Pi, on any machine:
    palletjack plt cache-img --platform linux/arm64
  On a device that has them in Docker already, without a download:
    palletjack plt cache-img --from engine
  Through a mirror, in ~/.config/palletjack/config.toml:
    [registries.\"docker.io\"]
    mirrors = [\"http://127.0.0.1:5000\"]";

const ADD_IMG_EXAMPLES: &str = "\
Examples:
  palletjack cache add-img caddy:2.8.4 ghcr.io/acme/camera:1.2
  Everything that the machine's Docker has, without a download:
    palletjack cache add-img --from engine --all";

const LOAD_IMG_EXAMPLES: &str = "\
Examples:
  Into the machine's Docker:
    palletjack plt load-img
  Into another one:
    DOCKER_HOST=unix:///run/podman/podman.sock palletjack plt load-img
  What would be sent, and how much:
    palletjack plt load-img --dry-run
  Into a Docker without the containerd store, so that it runs what the pallet pins:
    sudo palletjack plt load-img --repin live";

/// Flags of every `load-img`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct LoadFlags {
    /// Only show what would be sent
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Compare what is there with the cache first, file by file, and load anew what is damaged
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) repair: bool,
    /// End what containerd keeps of interrupted loads, then repair
    ///
    /// A power cut during a load into Docker's containerd store leaves a lease behind, which keeps damaged layers for a day and
    /// gives them to every later load. This ends the leases of loads and pulls that were made before Docker was started, lists
    /// them, and goes on as --repair does. Images, containers and volumes stay; a lease that may be in use stays too. It needs
    /// containerd's own client, `ctr`, on this machine. With --dry-run, leases are only listed.
    #[arg(long, conflicts_with = "repair")]
    pub(crate) reset_store: bool,
    /// Wait for an engine that is not there yet or is starting; 60s unless a time is given
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub(crate) wait: Option<std::time::Duration>,
}

const STATUS_EXAMPLES: &str = "\
States:
  runs       the engine resolves exactly this reference
  unnamed    the engine has the image, but does not resolve the reference
  unsettled  its load was interrupted; nobody knows whether it is whole
  damaged    its files in the engine are not those of the cache (--deep)
  cached     only the cache has it
  missing    neither has it

Exit status:
  0 all would run offline now   3 something would not   6 files differ (--deep)";

/// Flags of every `status`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StatusFlags {
    /// Compare the files of each image in the engine with the layers in the cache; nothing is started
    #[arg(long)]
    pub(crate) deep: bool,
    /// Wait for an engine that is not there yet or is starting; 60s unless a time is given
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub(crate) wait: Option<std::time::Duration>,
}

/// How `cache-img` and `add-img` fetch.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FetchFlags {
    /// Ask registries (or the engine) what the tags in the cache mean now; pinned images are never asked for again
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Where images come from
    ///
    /// `engine` takes what the machine's Docker or Podman has, without a download: exactly what the registry handed out
    /// where the engine keeps that (a containerd image store) or the cache has it, else rebuilt from the engine's layers.
    /// What is rebuilt loads and runs, is not what its digest pins, and is replaced by the next fetch from a registry.
    #[arg(long, value_enum, value_name = "SOURCE", default_value_t, hide_default_value = true)]
    pub(crate) from: Source,
}

/// `--from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Source {
    /// The registries that the references name, or their mirrors (default)
    #[default]
    Registry,
    /// Docker or Podman on this machine, or wherever DOCKER_HOST leads
    Engine,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Selection {
    /// Disabled deployments too
    #[arg(long)]
    pub(crate) include_disabled: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StageVerb {
    /// List the images of staged bundles
    #[command(visible_alias = "list-images")]
    LsImg(BundleSelection),
    /// Download them into the cache, without a daemon
    #[command(visible_alias = "cache-images")]
    CacheImg {
        #[command(flatten)]
        selection: BundleSelection,
        #[command(flatten)]
        flags: FetchFlags,
    },
    /// Load them from the cache into Docker or Podman
    #[command(visible_alias = "load-images")]
    LoadImg {
        #[command(flatten)]
        selection: BundleSelection,
        #[command(flatten)]
        load: LoadFlags,
        #[command(flatten)]
        pins: PinFlags,
        /// Name images by their IDs in the staged Compose files, where the engine does not know their digests
        ///
        /// The value of each `image:` whose reference does not resolve in this engine is replaced, in place, by the ID of the
        /// image that was verified after the load; `forklift stage apply` then runs it without a network. Nothing else of a file
        /// changes, and where that cannot be done no file does. What the files were is kept in the bundle: all other commands
        /// go on reading that, and `stage delocalize` puts it back. It is for this engine alone, and is done anew with each
        /// load that is given this flag.
        #[arg(long, conflicts_with_all = ["compose_override", "dry_run"])]
        localize: bool,
    },
    /// Put back the staged Compose files that `load-img --localize` rewrote, byte for byte
    ///
    /// A file that was changed since is named and left as it is, with all others of its bundle.
    Delocalize {
        /// A bundle: its number, `next`, `current`, `rollback`, `pending` or a name [default: all of the stage store]
        #[arg(value_name = "BUNDLE")]
        bundle: Option<String>,
    },
    /// Say whether the staged bundles would run offline now
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        #[command(flatten)]
        selection: BundleSelection,
        #[command(flatten)]
        status: StatusFlags,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BundleSelection {
    /// A bundle: its number, `next`, `current`, `rollback`, `pending` or a name
    ///
    /// Without it: all that the next apply can need, which is the current bundle if it differs, and the next one.
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: Option<String>,
    /// Disabled deployments too
    #[arg(long)]
    pub(crate) include_disabled: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// List the images in the cache
    #[command(visible_alias = "list-images")]
    LsImg {
        /// Whole references and digests
        #[arg(long)]
        no_trunc: bool,
    },
    /// Download images by reference, or take them from an engine
    #[command(visible_alias = "add-images", after_help = ADD_IMG_EXAMPLES)]
    AddImg {
        /// Image references, with a tag or a digest
        #[arg(required_unless_present = "all", value_name = "REF")]
        references: Vec<String>,
        /// With --from engine: every image that the engine has a name for
        #[arg(long, conflicts_with = "references")]
        all: bool,
        #[command(flatten)]
        flags: FetchFlags,
    },
    /// Load images from the cache into Docker or Podman; without REF, all of them
    #[command(visible_alias = "load-images")]
    LoadImg {
        /// References as `cache ls-img` shows them; a bare name:tag means every pin of it
        #[arg(value_name = "REF")]
        references: Vec<String>,
        #[command(flatten)]
        load: LoadFlags,
        #[command(flatten)]
        repin: RepinFlags,
    },
    /// Say whether images would run offline now; without REF, all of the cache
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Image references, with a tag or a digest
        #[arg(value_name = "REF")]
        references: Vec<String>,
        #[command(flatten)]
        status: StatusFlags,
    },
    /// Remove images and every blob that no other image needs
    #[command(visible_alias = "delete-images")]
    DelImg {
        /// References as `cache ls-img` shows them; a bare name:tag means every pin of it
        #[arg(required = true, value_name = "REF")]
        references: Vec<String>,
    },
    /// Hash every blob again and check every name
    #[command(after_help = "Example:\n  palletjack cache verify --discard; palletjack plt cache-img")]
    Verify {
        /// Delete corrupt blobs, so that the next download brings them again
        #[arg(long)]
        discard: bool,
    },
}
