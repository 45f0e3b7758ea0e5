//! `load-img`: from the cache into an engine.

use crate::cli::{BundleSelection, LoadFlags};
use crate::context::Context;
use crate::error::CommandError;
use crate::load;
use crate::repin::{PinFlags, Pins};
use crate::requirements::{Requirements, VersionCheck, needed_bundles};

pub(crate) async fn load_img(
    context: &Context,
    selection: &BundleSelection,
    flags: LoadFlags,
    pins: &PinFlags,
    localize: bool,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_stage(
        context,
        selection.bundle.as_deref(),
        selection.include_disabled,
        VersionCheck::Yes,
    )?;
    let mut pins = Pins::with_compose(pins, &requirements)?;
    if localize {
        pins.localize(needed_bundles(context, selection.bundle.as_deref())?);
    }
    load::load(context, requirements.wishes(context)?, flags, pins).await
}
