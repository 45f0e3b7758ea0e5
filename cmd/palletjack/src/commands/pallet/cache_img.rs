//! `cache-img`: from registries into the cache.

use crate::cli::Selection;
use crate::context::Context;
use crate::error::CommandError;
use crate::fetch;
use crate::requirements::{PalletAt, Requirements, VersionCheck};

pub(crate) async fn cache_img(
    context: &Context,
    at: PalletAt<'_>,
    selection: Selection,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_pallet(context, at, selection.include_disabled, VersionCheck::Yes)?;
    fetch::fetch(context, requirements.wishes(context)?).await
}
