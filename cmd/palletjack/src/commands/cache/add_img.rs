//! `cache add-img`: images by reference into the cache.

use crate::cli::FetchFlags;
use crate::context::Context;
use crate::error::CommandError;
use crate::fetch;
use crate::requirements::wishes_of;

pub(crate) async fn add_img(
    context: &Context,
    references: &[String],
    flags: FetchFlags,
) -> Result<(), CommandError> {
    fetch::fetch(context, wishes_of(references)?, flags).await
}
