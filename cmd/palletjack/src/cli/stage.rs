//! The verbs of `stage`.

use clap::{Args, Subcommand};

use crate::repin::PinFlags;

use super::images::{FetchFlags, LoadFlags, STATUS_EXAMPLES, StatusFlags};

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
