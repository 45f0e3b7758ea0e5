//! `load-img --dry-run`: what a load would send.

use palletjack_engine::{Engine, Forecast, LoadPlan, Step};
use palletjack_store::Image;
use serde::Serialize;

use crate::cli::Output;
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::load::Wanted;
use crate::printer::{human_bytes, short_reference, table};
use crate::repin;

/// The document of `load-img --dry-run --output json`. Sizes are bytes.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    engine: String,
    endpoint: String,
    /// How many requests would be in flight at once at most.
    parallel: usize,
    /// What the engine's disk would have to hold; absent where nothing is sent or the disk cannot be seen from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
    images: Vec<Row>,
}

#[derive(Serialize)]
struct Disk {
    directory: String,
    free: u64,
    needed: u64,
    /// At the peak, by an estimate of how far layers unpack.
    needed_estimate: u64,
}

#[derive(Serialize)]
struct Row {
    reference: String,
    required_by: Vec<String>,
    /// `nothing`, `metadata`, `missing-layers`, `everything`, `unknown`, or `missing` for what is not in the cache.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<usize>,
    send: u64,
    send_layers: usize,
    send_layer_bytes: u64,
    leave_out_layers: usize,
    leave_out_bytes: u64,
    /// Layers that are packed anew, because the engine does not read Zstandard.
    recode_layers: usize,
}

impl Row {
    fn new(reference: String, required_by: Vec<String>, state: &'static str) -> Self {
        Self {
            reference,
            required_by,
            state,
            turn: None,
            send: 0,
            send_layers: 0,
            send_layer_bytes: 0,
            leave_out_layers: 0,
            leave_out_bytes: 0,
            recode_layers: 0,
        }
    }
}

/// Prints the plan. Fails as a load would where something is known to be missing or too large.
pub(crate) fn print(
    context: &Context,
    engine: &Engine,
    images: &[Image],
    plan: LoadPlan,
    wanted: &Wanted,
) -> Result<(), CommandError> {
    let mut exit: Option<Exit> = None;
    let mut fail = |error: &CommandError| {
        exit = Some(exit.map_or(error.exit, |exit| exit.and(error.exit)));
        context.printer.error(error);
    };
    let mut rows = Vec::new();
    let mut pins = 0;
    for (image, planned) in images.iter().zip(plan.images) {
        let reference = &image.entry.reference;
        let wanted_by = wanted.by.get(reference).cloned().unwrap_or_default();
        let row = |state| Row::new(reference.familiar(), wanted_by.clone(), state);
        rows.push(match planned {
            Ok(plan) => {
                let named_by_id = wanted.naming.get(reference).is_some_and(|naming| !naming.by_reference);
                let is_pin = reference.digest().is_some() && !named_by_id;
                pins += usize::from(is_pin && !plan.resolves);
                Row {
                    turn: plan.turn,
                    send: plan.archive_bytes,
                    send_layers: plan.layers,
                    send_layer_bytes: plan.layer_bytes,
                    leave_out_layers: plan.omitted,
                    leave_out_bytes: plan.omitted_bytes,
                    recode_layers: plan.recoded,
                    ..row(state(plan.step))
                }
            }
            Err(error) => {
                fail(&error.into());
                row("unknown")
            }
        });
    }
    for wish in &wanted.missing {
        let text = format!("{} is not in the cache", wish.reference.familiar());
        fail(&CommandError::new(Exit::Missing, anyhow::anyhow!(text)));
        rows.push(Row::new(wish.reference.familiar(), wish.wanted_by.clone(), "missing"));
    }
    match &plan.disk {
        Some(disk) if disk.is_short() => {
            fail(&palletjack_engine::RunError::NoSpace(disk.clone()).into());
        }
        Some(disk) if disk.may_be_short() => context.printer.warning(&disk_warning(disk)),
        _ => {}
    }
    if context.globals.output == Output::Json {
        context.printer.json(&Document {
            schema: "palletjack.load-plan/1",
            engine: engine.capabilities().to_string(),
            endpoint: engine.endpoint().to_string(),
            parallel: plan.parallel,
            disk: plan.disk.map(|disk| Disk {
                directory: disk.directory.display().to_string(),
                free: disk.free,
                needed: disk.certain,
                needed_estimate: disk.estimated,
            }),
            images: rows,
        })?;
    } else {
        text(context, &rows)?;
        if pins > 0 && !engine.capabilities().resolves_pins() {
            context.printer.note(&format!(
                "this engine keeps no digests of loaded images: by the load alone, {pins} pinned {} would not resolve. {}",
                if pins == 1 { "reference" } else { "references" },
                repin::WAYS
            ));
        }
    }
    match exit {
        None => Ok(()),
        Some(exit) => Err(CommandError::new(exit, anyhow::anyhow!("not all of it could be loaded"))),
    }
}

fn state(step: Step) -> &'static str {
    match step {
        Step::Nothing => "nothing",
        Step::Metadata => "metadata",
        Step::MissingLayers => "missing-layers",
        Step::Everything => "everything",
    }
}

fn text(context: &Context, rows: &[Row]) -> Result<(), CommandError> {
    let mut lines = vec![vec![
        "IMAGE".to_owned(),
        "SEND".to_owned(),
        "BYTES".to_owned(),
        "LAYERS".to_owned(),
        "LEFT OUT".to_owned(),
    ]];
    for row in rows {
        lines.push(vec![
            short_reference(&row.reference).to_owned(),
            match row.recode_layers {
                0 => row.state.replace('-', " "),
                recoded => format!("{} ({recoded} recoded)", row.state.replace('-', " ")),
            },
            human_bytes(row.send),
            format!("{} of {}", row.send_layers, row.send_layers + row.leave_out_layers),
            human_bytes(row.leave_out_bytes),
        ]);
    }
    context.printer.result(&table(&lines, &[2, 3, 4]))?;
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    context.printer.note(&format!(
        "{} would be sent, {} of layers left out",
        human_bytes(sum(|row| row.send)),
        human_bytes(sum(|row| row.leave_out_bytes))
    ));
    Ok(())
}

/// A sentence for a disk that may be too small.
pub(crate) fn disk_warning(forecast: &Forecast) -> String {
    format!(
        "the engine's disk ({}) may be too small: about {} are needed at the peak, by an estimate of how far layers \
         unpack, and {} are free",
        forecast.directory.display(),
        human_bytes(forecast.estimated),
        human_bytes(forecast.free)
    )
}
