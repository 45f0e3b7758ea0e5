//! `cache load-img`: images by reference, or all, into an engine.

use crate::cli::LoadFlags;
use crate::context::Context;
use crate::error::CommandError;
use crate::load;
use crate::repin::{Pins, RepinFlags};

use super::select::select;

pub(crate) async fn load_img(
    context: &Context,
    references: &[String],
    flags: LoadFlags,
    repin: &RepinFlags,
) -> Result<(), CommandError> {
    let store = context.filled_store()?;
    let engine = load::connect(context, flags).await?;
    let platform = context.asked_platform()?.unwrap_or_else(|| engine.capabilities().platform.clone());
    let snapshot = store.snapshot()?;
    let entries = if references.is_empty() {
        snapshot.entries().iter().filter(|entry| entry.platform == platform).cloned().collect()
    } else {
        select(&snapshot, references, Some(&platform))?
    };
    let wanted = load::Wanted { pins: Pins::of(repin), ..load::Wanted::default() };
    load::load_entries(context, &store, &engine, entries, wanted, flags).await
}
