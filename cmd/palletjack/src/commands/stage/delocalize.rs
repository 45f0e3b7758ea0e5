//! `delocalize`: staged Compose files as they were before `load-img --localize`.

use crate::context::Context;
use crate::error::CommandError;
use crate::localize::{self, count};
use crate::requirements::staged_bundles;

/// All bundles of the store, unless one is named: also those that nothing needs now. One that cannot be put back does not
/// keep the others from it.
pub(crate) fn delocalize(context: &Context, bundle: Option<&str>) -> Result<(), CommandError> {
    let mut failure = None;
    let mut files = 0;
    for staged in staged_bundles(context, bundle)? {
        match localize::undo(&staged) {
            Ok(0) => {}
            Ok(undone) => {
                files += undone;
                let what = count(undone, "Compose file is", "Compose files are");
                context.printer.note(&format!("bundle {}: {what} as staged again", staged.index));
            }
            Err(error) => match &failure {
                None => failure = Some(error),
                Some(_) => context.printer.error(&error),
            },
        }
    }
    if files == 0 && failure.is_none() {
        context.printer.note("all Compose files are as they were staged");
    }
    failure.map_or(Ok(()), Err)
}
