//! The verbs of `cache`.

use clap::Subcommand;

use crate::repin::RepinFlags;

use super::images::{FetchFlags, LoadFlags, STATUS_EXAMPLES, StatusFlags};

const ADD_IMG_EXAMPLES: &str = "\
Examples:
  palletjack cache add-img caddy:2.8.4 ghcr.io/acme/camera:1.2
  Everything that the machine's Docker has, without a download:
    palletjack cache add-img --from engine --all";

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
