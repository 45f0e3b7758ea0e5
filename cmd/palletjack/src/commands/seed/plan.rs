//! `seed --dry-run`.

use palletjack_engine::seed::{Device, SeedError, SeedPlan};
use palletjack_store::Image;
use serde::Serialize;

use super::images::Selected;
use crate::cli::Output;
use crate::context::Context;
use crate::error::CommandError;
use crate::load_plan::disk_warning;
use crate::printer::{count, human_bytes, short_reference, table};

/// The document of `seed --dry-run --output json`. Sizes are bytes.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    place: String,
    store: String,
    storage_driver: String,
    data_root: String,
    containerd_root: String,
    /// Whether nothing is left to do, so that no engine would be started.
    done: bool,
    /// Whether an interrupted run left what has to be looked at.
    distrusted: bool,
    free: u64,
    needed: u64,
    /// At the peak, by an estimate of how far layers unpack.
    needed_estimate: u64,
    images: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    reference: String,
    required_by: Vec<String>,
    platform: String,
    done: bool,
    /// Layers that are missing and that no image before brings.
    missing: u64,
}

pub(super) fn print(
    context: &Context,
    device: &Device,
    images: &[Image],
    plan: &SeedPlan,
    selected: &Selected,
) -> Result<(), CommandError> {
    let rows: Vec<Row> = images
        .iter()
        .zip(&plan.images)
        .map(|(image, planned)| Row {
            reference: image.entry.reference.familiar(),
            required_by: selected.wanted_by(&image.entry.reference),
            platform: image.entry.platform.to_string(),
            done: planned.is_done,
            missing: planned.missing,
        })
        .collect();
    if context.globals.output == Output::Json {
        context.printer.json(&Document {
            schema: "palletjack.seed-plan/1",
            place: device.place.display().to_string(),
            store: device.store.to_string(),
            storage_driver: device.storage_driver.clone(),
            data_root: device.data_root.display().to_string(),
            containerd_root: device.containerd_root.display().to_string(),
            done: plan.is_done(),
            distrusted: plan.distrusted,
            free: plan.disk.free,
            needed: plan.disk.certain,
            needed_estimate: plan.disk.estimated,
            images: rows,
        })?;
    } else {
        let mut lines = vec![vec!["IMAGE".to_owned(), "LAYERS".to_owned(), String::new()]];
        lines.extend(rows.iter().map(|row| {
            let state = match (row.done, row.missing) {
                (true, _) => "there",
                (false, 0) => "names",
                (false, _) => "missing",
            };
            vec![short_reference(&row.reference).to_owned(), human_bytes(row.missing), state.to_owned()]
        }));
        context.printer.result(&table(&lines, &[1]))?;
        context.printer.note(&format!(
            "{}: {} of layers missing; about {} needed at the peak, {} free",
            count(images.len(), "image"),
            human_bytes(plan.missing()),
            human_bytes(plan.disk.estimated),
            human_bytes(plan.disk.free)
        ));
    }
    match &plan.disk {
        disk if disk.is_short() => Err(SeedError::NoSpace(disk.clone()).into()),
        disk if disk.may_be_short() => {
            context.printer.warning(&disk_warning(disk));
            Ok(())
        }
        _ => Ok(()),
    }
}
