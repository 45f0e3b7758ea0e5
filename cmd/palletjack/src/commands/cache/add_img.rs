//! `cache add-img`: images by reference into the cache, or all that an engine has.

use crate::cli::{FetchFlags, Source};
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::fetch;
use crate::requirements::wishes_of;
use crate::take;

pub(crate) async fn add_img(
    context: &Context,
    references: &[String],
    all: bool,
    flags: FetchFlags,
) -> Result<(), CommandError> {
    match (all, flags.from) {
        (false, _) => fetch::fetch(context, wishes_of(references)?, flags).await,
        (true, Source::Engine) => take::take_all(context, flags).await,
        (true, Source::Registry) => {
            let error = anyhow::anyhow!("--all means all that an engine has; a registry has no such list");
            Err(CommandError::new(Exit::Usage, error).hint("add --from engine"))
        }
    }
}
