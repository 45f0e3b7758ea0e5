//! What the verbs on images have in common, whichever group they are in.

use clap::{Args, ValueEnum};

pub(super) const CACHE_IMG_EXAMPLES: &str = "\
Examples:
  For a Raspberry Pi, on any machine:
    palletjack plt cache-img --platform linux/arm64
  On a device that has them in Docker already, without a download:
    palletjack plt cache-img --from engine
  Through a mirror, in ~/.config/palletjack/config.toml:
    [registries.\"docker.io\"]
    mirrors = [\"http://127.0.0.1:5000\"]";

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

pub(super) const LOAD_IMG_EXAMPLES: &str = "\
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

pub(super) const STATUS_EXAMPLES: &str = "\
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
