//! `cache-img`: from registries into the cache.

use crate::cli::{FetchFlags, Selection};
use crate::context::Context;
use crate::error::CommandError;
use crate::fetch;
use crate::requirements::{PalletAt, Requirements, VersionCheck};

pub(crate) async fn cache_img(
    context: &Context,
    at: PalletAt<'_>,
    selection: Selection,
    flags: FetchFlags,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_pallet(context, at, selection.include_disabled, VersionCheck::Yes)?;
    fetch::fetch(context, requirements.wishes(context)?, flags).await
}
