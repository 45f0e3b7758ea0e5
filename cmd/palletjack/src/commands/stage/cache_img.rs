//! `cache-img`: from registries into the cache.

use crate::cli::{BundleSelection, FetchFlags};
use crate::context::Context;
use crate::error::CommandError;
use crate::fetch;
use crate::requirements::{Requirements, VersionCheck};

pub(crate) async fn cache_img(
    context: &Context,
    selection: &BundleSelection,
    flags: FetchFlags,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_stage(
        context,
        selection.bundle.as_deref(),
        selection.include_disabled,
        VersionCheck::Yes,
    )?;
    fetch::fetch(context, requirements.wishes(context)?, flags).await
}
