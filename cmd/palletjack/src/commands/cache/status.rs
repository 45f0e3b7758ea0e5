//! `cache status`: would images by reference, or all of the cache, run offline now?

use crate::cli::StatusFlags;
use crate::context::Context;
use crate::error::CommandError;
use crate::requirements::wishes_of;
use crate::status;

pub(crate) async fn status(
    context: &Context,
    references: &[String],
    flags: StatusFlags,
) -> Result<(), CommandError> {
    if !references.is_empty() {
        return status::status(context, wishes_of(references)?, flags).await;
    }
    let store = context.filled_store()?;
    let asked = context.asked_platform()?;
    let listed: Vec<String> = store
        .snapshot()?
        .entries()
        .iter()
        .filter(|entry| asked.as_ref().is_none_or(|platform| entry.platform == *platform))
        .map(|entry| entry.reference.to_string())
        .collect();
    status::status(context, wishes_of(&listed)?, flags).await
}
