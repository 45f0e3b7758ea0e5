//! From an engine into the cache: the run, and the summary.

use std::time::Instant;

use palletjack_engine::{Engine, ErrorKind, TakeError, TakeEvent, TakeOptions, TakeWish, Taken};
use palletjack_image::Reference;
use palletjack_store::Entry;

use crate::cli::{FetchFlags, LoadFlags, Output};
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::fetch_document::{Document, Fault, Verdict};
use crate::load;
use crate::load_report;
use crate::printer::{count, human_bytes};
use crate::progress::TakeProgress;
use crate::requirements::{ImageWish, wishes_of};
use crate::sharing::InCache;

/// Has these images in the cache, from what the machine's engine has of them.
pub(crate) async fn take(
    context: &Context,
    wishes: Vec<ImageWish>,
    flags: FetchFlags,
) -> Result<(), CommandError> {
    let engine = load::connect(context, LoadFlags::default()).await?;
    run(context, &engine, wishes, flags, Others::Fail).await
}

/// The same for every image that the engine has a name for.
pub(crate) async fn take_all(context: &Context, flags: FetchFlags) -> Result<(), CommandError> {
    let engine = load::connect(context, LoadFlags::default()).await?;
    let named = engine.named().await?;
    let wishes = wishes_of(&named.iter().map(Reference::familiar).collect::<Vec<_>>())?;
    if wishes.is_empty() {
        context.printer.note("the engine has no image with a name");
    }
    run(context, &engine, wishes, flags, Others::LeaveOut).await
}

/// What is made of images for other platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Fail,
    LeaveOut,
}

async fn run(
    context: &Context,
    engine: &Engine,
    wishes: Vec<ImageWish>,
    flags: FetchFlags,
    others: Others,
) -> Result<(), CommandError> {
    let store = context.writable_store()?;
    let platform = context.asked_platform()?.unwrap_or_else(|| engine.capabilities().platform.clone());
    let mut options = TakeOptions::new(platform);
    options.refresh = flags.refresh;
    let asked: Vec<TakeWish> = wishes.iter().map(asked).collect();
    let progress = TakeProgress::start(context, &asked);
    let events = |event: TakeEvent<'_>| progress.show(&event);
    let started = Instant::now();
    let results = tokio::select! {
        results = engine.take_back(&store, &asked, &options, &events) => results,
        () = context.cancel.cancelled() => {
            progress.finish();
            return Err(CommandError::new(Exit::Interrupted, anyhow::anyhow!("interrupted")));
        }
    };
    progress.finish();
    let mut report = Report::default();
    for (wish, result) in wishes.into_iter().zip(results) {
        match result {
            Ok(taken) => report.taken(&wish, &taken),
            Err(error) if others == Others::LeaveOut && error.is_platform() => {
                context.printer.note(&format!(
                    "{}: left out: {}",
                    wish.reference.familiar(),
                    CommandError::from(error)
                ));
            }
            Err(error) => report.failed(context, &wish, error),
        }
    }
    report.finish(context, &options, started)
}

fn asked(wish: &ImageWish) -> TakeWish {
    TakeWish {
        requested: wish.requested.first().cloned().unwrap_or_else(|| wish.reference.familiar()),
        reference: wish.reference.clone(),
    }
}

#[derive(Default)]
struct Report {
    verdicts: Vec<Verdict>,
    entries: Vec<Entry>,
    read: u64,
    written: u64,
    exit: Option<Exit>,
}

impl Report {
    fn taken(&mut self, wish: &ImageWish, taken: &Taken) {
        self.read += taken.read;
        self.written += taken.written;
        self.entries.push(taken.entry.clone());
        self.verdicts.push(Verdict {
            reference: wish.reference.familiar(),
            requested: taken.entry.requested.clone(),
            required_by: wish.wanted_by.clone(),
            state: if taken.cached { "cached" } else { "fetched" },
            digest: Some(taken.entry.target.digest.to_string()),
            rebuilt: taken.entry.rebuilt.is_some(),
            fetched: taken.read,
            error: None,
        });
    }

    fn failed(&mut self, context: &Context, wish: &ImageWish, error: TakeError) {
        let code = code(&error);
        let mut error = CommandError::from(error);
        if !wish.wanted_by.is_empty() {
            error = error.context(format!(
                "{}, needed by {}",
                wish.reference.familiar(),
                wish.wanted_by.join(", ")
            ));
        }
        self.exit = Some(self.exit.map_or(error.exit, |exit| exit.and(error.exit)));
        context.printer.error(&error);
        self.verdicts.push(Verdict {
            reference: wish.reference.familiar(),
            requested: asked(wish).requested,
            required_by: wish.wanted_by.clone(),
            state: "failed",
            digest: None,
            rebuilt: false,
            fetched: 0,
            error: Some(Fault { code, message: error.to_string() }),
        });
    }

    fn finish(self, context: &Context, options: &TakeOptions, started: Instant) -> Result<(), CommandError> {
        let total = self.verdicts.len();
        let counted = |state: &str| self.verdicts.iter().filter(|verdict| verdict.state == state).count();
        let (taken, cached, failed) = (counted("fetched"), counted("cached"), counted("failed"));
        let rebuilt = self.verdicts.iter().filter(|verdict| verdict.rebuilt).count();
        let elapsed = started.elapsed();
        let in_cache = InCache::of(context, &self.entries);
        match context.globals.output {
            Output::Json => context.printer.json(&Document {
                schema: "palletjack.fetch/1",
                from: "engine",
                platform: options.platform.to_string(),
                images: self.verdicts,
                requests: 0,
                bytes_fetched: self.read,
                bytes_reused: self.read.saturating_sub(self.written),
                bytes_written: Some(self.written),
                elapsed_ms: elapsed.as_millis(),
                in_cache,
            })?,
            Output::Text => {
                context.printer.note(&format!(
                    "{taken} taken from the engine, {cached} in the cache before, {failed} failed; {} read, {} of it \
                     written, {:.1} s",
                    human_bytes(self.read),
                    human_bytes(self.written),
                    elapsed.as_secs_f64()
                ));
                if let Some(in_cache) = in_cache {
                    in_cache.note(context);
                }
                if rebuilt > 0 {
                    context.printer.note(&format!(
                        "{rebuilt} of {total} rebuilt: the engine has lost what the registry handed out. They load and run; \
                         `cache-img` where there is a network brings what their digests pin"
                    ));
                }
            }
        }
        match self.exit {
            None => Ok(()),
            Some(exit) => {
                let error = anyhow::anyhow!("not in the cache: {failed} of {}", count(total, "image"));
                Err(CommandError::new(exit, error))
            }
        }
    }
}

/// The codes that scripts may rely on.
fn code(error: &TakeError) -> &'static str {
    match error.kind() {
        None if error.is_platform() => "no-platform",
        None => "not-found",
        Some(ErrorKind::Corrupt) => "corrupt",
        Some(ErrorKind::NoSpace) => "no-space",
        Some(ErrorKind::Engine) => "engine",
        Some(ErrorKind::Cache) => "cache",
    }
}

impl From<TakeError> for CommandError {
    fn from(error: TakeError) -> Self {
        let exit = error.kind().map_or(Exit::Missing, load_report::exit_of);
        Self::new(exit, error)
    }
}
