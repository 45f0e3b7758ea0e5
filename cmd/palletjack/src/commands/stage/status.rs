//! `status`: would the staged bundles run offline now?

use crate::cli::{BundleSelection, StatusFlags};
use crate::context::Context;
use crate::error::CommandError;
use crate::requirements::{Requirements, VersionCheck};
use crate::status;

pub(crate) async fn status(
    context: &Context,
    selection: &BundleSelection,
    flags: StatusFlags,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_stage(
        context,
        selection.bundle.as_deref(),
        selection.include_disabled,
        VersionCheck::No,
    )?;
    status::status(context, requirements.wishes(context)?, flags).await
}
