//! `load-img`: from the cache into an engine.

use crate::cli::{BundleSelection, LoadFlags};
use crate::context::Context;
use crate::error::CommandError;
use crate::load;
use crate::repin::{PinFlags, Pins};
use crate::requirements::{Requirements, VersionCheck};

pub(crate) async fn load_img(
    context: &Context,
    selection: &BundleSelection,
    flags: LoadFlags,
    pins: &PinFlags,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_stage(
        context,
        selection.bundle.as_deref(),
        selection.include_disabled,
        VersionCheck::Yes,
    )?;
    let pins = Pins::with_compose(pins, &requirements)?;
    load::load(context, requirements.wishes(context)?, flags, pins).await
}
