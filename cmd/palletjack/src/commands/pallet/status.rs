//! `status`: would the pallet run offline now?

use crate::cli::{Selection, StatusFlags};
use crate::context::Context;
use crate::error::CommandError;
use crate::requirements::{PalletAt, Requirements, VersionCheck};
use crate::status;

pub(crate) async fn status(
    context: &Context,
    at: PalletAt<'_>,
    selection: Selection,
    flags: StatusFlags,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_pallet(context, at, selection.include_disabled, VersionCheck::No)?;
    status::status(context, requirements.wishes(context)?, flags).await
}
