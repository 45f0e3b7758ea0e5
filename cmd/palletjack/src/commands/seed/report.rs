//! What is said after a run: a verdict for each image, the summary, and the exit code.

use std::time::Duration;

use palletjack_engine::seed::{Device, Seeded};
use palletjack_engine::{DurableReport, LoadError, Loaded, RunsAs, Was};
use palletjack_store::Image;
use serde::Serialize;

use super::images::Selected;
use crate::cli::Output;
use crate::context::Context;
use crate::durability::{self, Told};
use crate::error::{CommandError, Exit};
use crate::printer::{count, human_bytes};
use crate::sharing::Sharing;

/// The document of `seed --output json`. Sizes are bytes.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    place: String,
    /// `graph driver` or `containerd`.
    store: String,
    storage_driver: String,
    data_root: String,
    containerd_root: String,
    platform: Option<String>,
    /// The private engine that did it; absent where nothing was left to do and none was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    images: Vec<Verdict>,
    summary: Summary,
    durability: Told,
}

#[derive(Serialize)]
struct Verdict {
    reference: String,
    required_by: Vec<String>,
    platform: String,
    /// `present`, `seeded` or `failed`.
    state: &'static str,
    /// Bytes of layers that were brought.
    layers: u64,
    /// Whether the device's engine will resolve the reference exactly as it is written.
    resolves: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_as: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    images: usize,
    seeded: usize,
    present: usize,
    failed: usize,
    #[serde(flatten)]
    sharing: Sharing,
    /// What the storage's file system has less now.
    space_taken: u64,
    space_free: u64,
    seconds: f64,
}

pub(super) fn finish(
    context: &Context,
    device: &Device,
    images: &[Image],
    seeded: Seeded,
    selected: &Selected,
    durable: &DurableReport,
    took: Duration,
) -> Result<(), CommandError> {
    let mut exit: Option<Exit> = None;
    let mut verdicts = Vec::with_capacity(images.len());
    let Seeded { images: results, engine, free_before, free_after, .. } = seeded;
    for (image, result) in images.iter().zip(results) {
        let wanted_by = selected.wanted_by(&image.entry.reference);
        verdicts.push(match result {
            Ok(loaded) => done(image, wanted_by, &loaded),
            Err(error) => {
                let error = failed(image, &wanted_by, error);
                exit = Some(exit.map_or(error.exit, |exit| exit.and(error.exit)));
                context.printer.error(&error);
                let note = Some(error.to_string());
                Verdict { state: "failed", note, ..verdict(image, wanted_by) }
            }
        });
    }
    if durability::tell(context, durable) {
        exit = Some(exit.map_or(Exit::Engine, |exit| exit.and(Exit::Engine)));
    }
    let of = |state| verdicts.iter().filter(|verdict| verdict.state == state).count();
    let summary = Summary {
        images: images.len(),
        seeded: of("seeded"),
        present: of("present"),
        failed: of("failed"),
        sharing: Sharing::of(images),
        space_taken: free_before.saturating_sub(free_after),
        space_free: free_after,
        seconds: took.as_secs_f64(),
    };
    let unresolved: Vec<String> = verdicts
        .iter()
        .filter(|verdict| verdict.state != "failed" && !verdict.resolves)
        .map(|verdict| verdict.reference.clone())
        .collect();
    let failures = summary.failed;
    if context.globals.output == Output::Json {
        context.printer.json(&Document {
            schema: "palletjack.seed/1",
            place: device.place.display().to_string(),
            store: device.store.to_string(),
            storage_driver: device.storage_driver.clone(),
            data_root: device.data_root.display().to_string(),
            containerd_root: device.containerd_root.display().to_string(),
            platform: selected.platform.as_ref().map(ToString::to_string),
            engine,
            images: verdicts,
            summary,
            durability: Told::of(durable),
        })?;
    } else {
        tell(context, &summary, engine.as_deref());
    }
    match exit {
        Some(exit) => Err(CommandError::new(
            exit,
            anyhow::anyhow!(
                "{failures} of {} are not in the storage, or not whole there",
                count(images.len(), "image")
            ),
        )),
        None if unresolved.is_empty() => Ok(()),
        None => {
            let error = anyhow::anyhow!(
                "{} of {} are there and do not resolve by their pinned reference: {}",
                unresolved.len(),
                count(images.len(), "image"),
                unresolved.join(", ")
            );
            Err(CommandError::new(Exit::Engine, error))
        }
    }
}

fn tell(context: &Context, summary: &Summary, engine: Option<&str>) {
    let printer = &context.printer;
    match engine {
        None => {
            printer
                .note(&format!("all {} were there: no engine was started", count(summary.images, "image")));
        }
        Some(engine) => printer.note(&format!(
            "{} seeded by a private {engine}, {} present before; {:.1} s",
            summary.seeded, summary.present, summary.seconds
        )),
    }
    printer.note(&format!(
        "{} of layers, {} saved by sharing; {} taken on the card, {} free",
        human_bytes(summary.sharing.layers),
        human_bytes(summary.sharing.shared_saved),
        human_bytes(summary.space_taken),
        human_bytes(summary.space_free)
    ));
}

fn verdict(image: &Image, required_by: Vec<String>) -> Verdict {
    Verdict {
        reference: image.entry.reference.familiar(),
        required_by,
        platform: image.config.platform.to_string(),
        state: "present",
        layers: 0,
        resolves: false,
        runs_as: None,
        note: None,
    }
}

fn done(image: &Image, wanted_by: Vec<String>, loaded: &Loaded) -> Verdict {
    let (state, layers) = match loaded.was {
        Was::Present => ("present", 0),
        Was::Sent { layer_bytes, .. } => ("seeded", layer_bytes),
    };
    let runs_as = match &loaded.runs_as {
        RunsAs::Reference => image.entry.reference.familiar(),
        other => other.to_string(),
    };
    Verdict {
        state,
        layers,
        resolves: loaded.resolves.exact,
        runs_as: Some(runs_as),
        note: loaded.note(),
        ..verdict(image, wanted_by)
    }
}

fn failed(image: &Image, wanted_by: &[String], error: LoadError) -> CommandError {
    let error = CommandError::from(error);
    if wanted_by.is_empty() {
        return error;
    }
    error.context(format!("{}, needed by {}", image.entry.reference.familiar(), wanted_by.join(", ")))
}
