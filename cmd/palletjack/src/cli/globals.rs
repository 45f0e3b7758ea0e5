//! Flags that every command takes.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

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
