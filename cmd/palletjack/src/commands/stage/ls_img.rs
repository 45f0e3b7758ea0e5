//! `ls-img`: the images that are required.

use crate::cli::BundleSelection;
use crate::context::Context;
use crate::error::CommandError;
use crate::listing;
use crate::requirements::{Requirements, VersionCheck};

pub(crate) fn ls_img(context: &Context, selection: &BundleSelection) -> Result<(), CommandError> {
    let requirements = Requirements::of_stage(
        context,
        selection.bundle.as_deref(),
        selection.include_disabled,
        VersionCheck::No,
    )?;
    listing::print(context, &requirements)
}
