//! Loads that outlive a power cut: where they are written down, and what is told of it.

use std::path::PathBuf;
use std::sync::Arc;

use palletjack_engine::{Durability, Durable, DurableReport, RecoveredAs};
use palletjack_store::Store;
use serde::Serialize;

use crate::context::Context;

/// What takes part in a run of loads.
pub(crate) fn guard(context: &Context, store: &Store, repair: bool) -> Arc<Durable> {
    let durable = Durable::new(store, &instead(context));
    Arc::new(if repair { durable.repairing() } else { durable })
}

/// Where a load is written down when the cache cannot be written.
fn instead(context: &Context) -> Vec<PathBuf> {
    let environment = &context.environment;
    let system = environment.root.then(|| PathBuf::from("/var/lib"));
    let place = system.or_else(|| environment.xdg_state.clone());
    place.into_iter().map(|place| place.join("palletjack/unsettled")).collect()
}

/// A part of `load-img --output json`.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    /// Whether a power cut in the middle of this run would have been noticed by the next.
    protected: bool,
    images: Vec<DurableImage>,
    /// What came of images that were not believed.
    checked: Vec<CheckedImage>,
}

#[derive(Debug, Serialize)]
struct DurableImage {
    reference: String,
    /// `synced`, `unmounted` or `unproven`.
    durability: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct CheckedImage {
    reference: String,
    /// `whole`, `repaired`, `removed`, `stuck` or `doubtful`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Told {
    pub(crate) fn of(report: &DurableReport) -> Self {
        let images = report.images.iter().map(|(reference, durability)| {
            let (durability, note) = match durability {
                Durability::Synced => ("synced", None),
                Durability::Unmounted => ("unmounted", None),
                Durability::Unproven { why } => ("unproven", Some(why.clone())),
            };
            DurableImage { reference: reference.clone(), durability, note }
        });
        let checked = report.recovered.iter().map(|recovered| {
            let (outcome, note) = match &recovered.outcome {
                RecoveredAs::Whole => ("whole", None),
                RecoveredAs::Repaired => ("repaired", None),
                RecoveredAs::Removed => ("removed", None),
                RecoveredAs::Stuck { todo } => ("stuck", Some(todo.clone())),
                RecoveredAs::Doubtful { todo } => ("doubtful", Some(todo.clone())),
            };
            CheckedImage { reference: recovered.image.clone(), outcome, note }
        });
        Self { protected: report.unprotected.is_none(), images: images.collect(), checked: checked.collect() }
    }
}

/// Says what a person should know, on standard error. Whether an image stayed damaged.
pub(crate) fn tell(context: &Context, report: &DurableReport) -> bool {
    let printer = &context.printer;
    let mut stuck = false;
    for recovered in &report.recovered {
        match recovered.outcome {
            RecoveredAs::Whole | RecoveredAs::Repaired => printer.note(&recovered.to_string()),
            RecoveredAs::Removed | RecoveredAs::Doubtful { .. } => printer.warning(&recovered.to_string()),
            RecoveredAs::Stuck { .. } => {
                stuck = true;
                printer.warning(&recovered.to_string());
            }
        }
    }
    if let Some(why) = &report.unprotected {
        printer.warning(&format!(
            "this load was not protected: a power cut in the middle of it would have gone unnoticed ({why})"
        ));
    }
    let unproven: Vec<(&str, &str)> = report.unproven().collect();
    if let Some((_, why)) = unproven.first() {
        let count = unproven.len();
        printer.warning(&format!(
            "nobody knows whether {count} image{} would outlive a power cut now: {why}; `sync` on the engine's machine makes \
             sure",
            if count == 1 { "" } else { "s" }
        ));
    }
    stuck
}
