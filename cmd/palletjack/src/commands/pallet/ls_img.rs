//! `ls-img`: the images that are required.

use crate::cli::Selection;
use crate::context::Context;
use crate::error::CommandError;
use crate::listing;
use crate::requirements::{PalletAt, Requirements, VersionCheck};

pub(crate) fn ls_img(context: &Context, at: PalletAt<'_>, selection: Selection) -> Result<(), CommandError> {
    let requirements = Requirements::of_pallet(context, at, selection.include_disabled, VersionCheck::No)?;
    listing::print(context, &requirements)
}
