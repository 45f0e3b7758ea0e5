//! `cache verify`: every blob hashed again, every name checked.

use indicatif::{ProgressBar, ProgressStyle};
use palletjack_store::{CheckReport, Depth, Problem, ProblemKind};
use serde::Serialize;

use crate::cli::Output;
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::printer::{count, human_bytes};
use crate::progress::shows_bars;

/// The document of `cache verify --output json`. Sizes are bytes.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    images: usize,
    blobs: usize,
    bytes: u64,
    problems: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    path: String,
    digest: Option<String>,
    problem: String,
    hurts: Vec<String>,
}

pub(crate) fn verify(context: &Context, discard: bool) -> Result<(), CommandError> {
    let store = context.filled_store()?;
    // Opening it to write completes what a crash has left undone; where that is not permitted, it is only checked.
    let store = context.writable_store().unwrap_or(store);
    let lease = store.lease()?;
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{spinner} {bytes} hashed, {bytes_per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    let bar = if shows_bars(context) { context.printer.bars().add(bar) } else { ProgressBar::hidden() };
    let report = store.check(&lease, Depth::Deep, &|bytes| {
        bar.inc(bytes);
        !context.cancel.is_cancelled()
    });
    bar.finish_and_clear();
    let report = report?;
    drop(lease);
    print(context, &report)?;
    if report.problems.is_empty() {
        return Ok(());
    }
    let corrupt: Vec<_> = report.problems.iter().filter(|problem| can_be_discarded(problem)).collect();
    let error = anyhow::anyhow!("{} in the cache", count(report.problems.len(), "problem"));
    let error = CommandError::new(Exit::Corrupt, error);
    if !discard {
        return Err(match &corrupt[..] {
            [] => error.hint("fetch the images again: what is missing is brought"),
            _ => error.hint("`palletjack cache verify --discard` deletes what is corrupt, so that the next download brings it again"),
        });
    }
    let digests: Vec<_> = corrupt.iter().filter_map(|problem| problem.digest).collect();
    if !context.writable_store()?.discard(&digests)? {
        return Err(error
            .hint("nothing was deleted because another process uses the cache: try again when it is done"));
    }
    context.printer.note(&format!("deleted {}", count(digests.len(), "corrupt blob")));
    Err(error.hint("what was corrupt is deleted: fetch the images again"))
}

fn can_be_discarded(problem: &Problem) -> bool {
    problem.digest.is_some()
        && matches!(problem.kind, ProblemKind::WrongContent { .. } | ProblemKind::WrongSize { .. })
}

fn print(context: &Context, report: &CheckReport) -> Result<(), CommandError> {
    if context.globals.output == Output::Json {
        let finding = |problem: &Problem| Finding {
            path: problem.path.display().to_string(),
            digest: problem.digest.map(|digest| digest.to_string()),
            problem: problem.kind.to_string(),
            hurts: problem.hurts.clone(),
        };
        return context.printer.json(&Document {
            schema: "palletjack.verification/1",
            images: report.images,
            blobs: report.blobs,
            bytes: report.bytes,
            problems: report.problems.iter().map(finding).collect(),
        });
    }
    let mut text = String::new();
    for problem in &report.problems {
        text.push_str(&format!("{} {}\n", problem.path.display(), problem.kind));
        for hurt in &problem.hurts {
            text.push_str(&format!("    hurts {hurt}\n"));
        }
    }
    let (images, blobs) = (count(report.images, "image"), count(report.blobs, "blob"));
    let bytes = human_bytes(report.bytes);
    if report.problems.is_empty() {
        text.push_str(&format!("{images} in {blobs}, {bytes}: all as it should be\n"));
    }
    context.printer.result(&text)
}
