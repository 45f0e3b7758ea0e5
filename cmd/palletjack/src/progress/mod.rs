//! Progress on standard error: bars on a terminal, lines elsewhere, JSON for programs.

mod fetch;
mod load;
mod take;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::cli::ProgressMode;
use crate::context::Context;
use crate::printer::Printer;

pub(crate) use fetch::FetchProgress;
pub(crate) use load::LoadProgress;
pub(crate) use take::TakeProgress;

/// How often a JSON line tells bytes.
const JSON_INTERVAL: Duration = Duration::from_millis(200);

/// Whether progress is drawn as bars.
pub(crate) fn shows_bars(context: &Context) -> bool {
    !context.globals.quiet
        && !context.environment.unit
        && context.globals.verbose == 0
        && context.globals.progress == ProgressMode::Auto
        // Standard error is a terminal, and one that can move its cursor: `TERM=dumb` gets lines.
        && !context.printer.bars().is_hidden()
}

/// A panic elsewhere does not matter to what is only shown.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn json_line(printer: &Printer, line: &impl Serialize) {
    // The lines' types have nothing that JSON cannot say.
    if let Ok(text) = serde_json::to_string(line) {
        printer.note(&text);
    }
}
