//! `cache del-img`: names first, then the blobs that no other image needs.

use crate::context::Context;
use crate::error::CommandError;
use crate::printer::human_bytes;

use super::select::select;

pub(crate) fn del_img(context: &Context, references: &[String]) -> Result<(), CommandError> {
    // Nothing is to be created where there is nothing to delete.
    context.filled_store()?;
    let store = context.writable_store()?;
    let lease = store.lease()?;
    let platform = context.asked_platform()?;
    let entries = select(&store.snapshot()?, references, platform.as_ref())?;
    let names: Vec<_> = entries.into_iter().map(|entry| (entry.reference, entry.platform)).collect();
    for entry in store.remove(&lease, &names)? {
        context.printer.note(&format!("removed {} ({})", entry.reference.familiar(), entry.platform));
    }
    drop(lease);
    match store.sweep()? {
        Some(swept) => context.printer.note(&format!(
            "freed {} in {} blob{}",
            human_bytes(swept.bytes),
            swept.blobs,
            if swept.blobs == 1 { "" } else { "s" }
        )),
        None => context.printer.note(
            "the blobs are still there because another process uses the cache; the next `cache del-img` frees them",
        ),
    }
    Ok(())
}
