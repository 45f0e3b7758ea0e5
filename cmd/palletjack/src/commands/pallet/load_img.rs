//! `load-img`: from the cache into an engine.

use crate::cli::{LoadFlags, Selection};
use crate::context::Context;
use crate::error::CommandError;
use crate::load;
use crate::repin::{PinFlags, Pins};
use crate::requirements::{PalletAt, Requirements, VersionCheck};

pub(crate) async fn load_img(
    context: &Context,
    at: PalletAt<'_>,
    selection: Selection,
    flags: LoadFlags,
    pins: &PinFlags,
) -> Result<(), CommandError> {
    let requirements = Requirements::of_pallet(context, at, selection.include_disabled, VersionCheck::Yes)?;
    let pins = Pins::with_compose(pins, &requirements)?;
    load::load(context, requirements.wishes(context)?, flags, pins).await
}
