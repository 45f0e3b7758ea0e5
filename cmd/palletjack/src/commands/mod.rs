//! One function per verb: arguments in, library calls, a summary out.

mod cache;
mod completions;
mod docs;
mod pallet;
pub(crate) mod seed;
mod stage;
mod unit;

use palletjack_pallet::Overrides;

use crate::cli::{CacheVerb, Command, DevCommand, PalletVerb, StageVerb};
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::Printer;
use crate::requirements::PalletAt;

/// Runs a command that needs neither configuration nor cache, so that no mistake in those can be in its way.
pub(crate) fn run_alone(printer: &Printer, command: &Command) -> Option<Result<(), CommandError>> {
    match command {
        Command::Completions { shell } => Some(completions::completions(printer, *shell)),
        Command::Docs { what } => Some(docs::run(printer, what)),
        _ => None,
    }
}

pub(crate) async fn run(context: &Context, command: &Command) -> Result<(), CommandError> {
    match command {
        Command::Plt { verb } => pallet(context, PalletAt::Workspace, verb).await,
        Command::Dev { cwd, command: DevCommand::Plt { pallets, repositories, verb } } => {
            let overrides = Overrides { pallets: pallets.clone(), repositories: repositories.clone() };
            pallet(context, PalletAt::Above(cwd, &overrides), verb).await
        }
        Command::Stage { verb } => match verb {
            StageVerb::LsImg(selection) => stage::ls_img(context, selection),
            StageVerb::CacheImg { selection, flags } => stage::cache_img(context, selection, *flags).await,
            StageVerb::Status { selection, status } => stage::status(context, selection, *status).await,
            StageVerb::LoadImg { selection, load, pins, localize } => {
                stage::load_img(context, selection, *load, pins, *localize).await
            }
            StageVerb::Delocalize { bundle } => stage::delocalize(context, bundle.as_deref()),
        },
        Command::Seed(flags) => seed::seed(context, flags).await,
        Command::Cache { verb } => match verb {
            CacheVerb::LsImg { no_trunc } => cache::ls_img(context, *no_trunc),
            CacheVerb::AddImg { references, all, flags } => {
                cache::add_img(context, references, *all, *flags).await
            }
            CacheVerb::Status { references, status } => cache::status(context, references, *status).await,
            CacheVerb::LoadImg { references, load, repin } => {
                cache::load_img(context, references, *load, repin).await
            }
            CacheVerb::DelImg { references } => cache::del_img(context, references),
            CacheVerb::Verify { discard } => cache::verify(context, *discard),
        },
        Command::Unit { flags, unit } => unit::unit(context, flags, unit.as_ref()),
        Command::Completions { .. } | Command::Docs { .. } => {
            run_alone(&context.printer, command).unwrap_or(Ok(()))
        }
    }
}

async fn pallet(context: &Context, at: PalletAt<'_>, verb: &PalletVerb) -> Result<(), CommandError> {
    match verb {
        PalletVerb::LsImg(selection) => pallet::ls_img(context, at, *selection),
        PalletVerb::CacheImg { selection, flags } => pallet::cache_img(context, at, *selection, *flags).await,
        PalletVerb::Status { selection, status } => pallet::status(context, at, *selection, *status).await,
        PalletVerb::LoadImg { selection, load, pins } => {
            pallet::load_img(context, at, *selection, *load, pins).await
        }
    }
}
