//! From the cache into an engine: connecting, loading, and the summary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palletjack_engine::{
    DurableReport, Engine, EngineError, ErrorKind, Event, LoadError, LoadOptions, Loaded, RunError,
    Surroundings, Was, find,
};
use palletjack_image::Reference;
use palletjack_store::{Entry, Image, Store};
use serde::Serialize;

use crate::cli::{LoadFlags, Output};
use crate::context::Context;
use crate::durability::{self, Told};
use crate::error::{CommandError, Exit};
use crate::load_plan;
use crate::printer::human_bytes;
use crate::progress::LoadProgress;
use crate::repin::{self, Pins};
use crate::requirements::ImageWish;

/// The document of `load-img --output json`. Sizes are bytes.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    engine: String,
    endpoint: String,
    images: Vec<Verdict>,
    durability: Told,
}

#[derive(Serialize)]
struct Verdict {
    reference: String,
    required_by: Vec<String>,
    platform: String,
    /// `present`, `loaded`, `failed` or `missing`.
    state: &'static str,
    sent: u64,
    /// Layers among what was sent.
    sent_layers: u64,
    /// Whether all of it was sent after a part had not been enough.
    whole_again: bool,
    /// What a container can be started as without a network; absent where nothing works.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_as: Option<String>,
    /// Whether the engine resolves the reference exactly as it is written.
    resolves: bool,
    /// How it came to resolve, where the load itself did not do that.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// How long an engine may take for its first answer.
const HELLO: Duration = Duration::from_secs(30);

/// Finds the engine as Docker's client does, and asks what it is. Waits for it where that was asked for: which one is
/// looked for again with each try, because sockets come up.
pub(crate) async fn connect(context: &Context, flags: LoadFlags) -> Result<Engine, CommandError> {
    let surroundings = surroundings(context);
    let find = || {
        find(&surroundings, &|path| path.exists())
            .map_err(|error| CommandError::new(Exit::Usage, error).context("no engine can be chosen"))
    };
    let mut found = find()?;
    let mut told = false;
    let waited = Engine::wait_for(
        flags.wait.unwrap_or_default(),
        |pause| {
            if !std::mem::replace(&mut told, true) {
                context.printer.note("waiting for the engine");
            }
            tokio::time::sleep(pause)
        },
        |left| {
            if let Ok(again) = find() {
                found = again;
            }
            let hello = if flags.wait.is_some() { left.clamp(Duration::from_secs(1), HELLO) } else { HELLO };
            Engine::connect_within(found.endpoint.clone(), hello)
        },
    );
    let engine = tokio::select! {
        engine = waited => engine?,
        () = context.cancel.cancelled() => {
            return Err(CommandError::new(Exit::Interrupted, anyhow::anyhow!("interrupted while waiting for the engine")));
        }
    };
    context.printer.note(&format!(
        "engine: {} at {} ({})",
        engine.capabilities(),
        engine.endpoint(),
        found.because
    ));
    Ok(engine)
}

fn surroundings(context: &Context) -> Surroundings {
    let environment = &context.environment;
    let directory = environment.docker_client_dir();
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let contexts = directory
        .as_ref()
        .and_then(|directory| std::fs::read_dir(directory.join("contexts/meta")).ok())
        .map(|entries| entries.flatten().filter_map(|entry| read(&entry.path().join("meta.json"))).collect())
        .unwrap_or_default();
    Surroundings {
        docker_host: environment.docker_host.clone(),
        docker_tls_verify: environment.docker_tls_verify,
        docker_context: environment.docker_context.clone(),
        docker_config: directory.and_then(|directory| read(&directory.join("config.json"))),
        contexts,
        runtime_dir: environment.xdg_runtime.clone(),
    }
}

/// Loads the required images. What the cache lacks does not keep the rest from being loaded.
pub(crate) async fn load(
    context: &Context,
    wishes: Vec<ImageWish>,
    flags: LoadFlags,
    pins: Pins,
) -> Result<(), CommandError> {
    if wishes.is_empty() {
        context.printer.note("no images are required");
        return Ok(());
    }
    let store = context.filled_store()?;
    let engine = connect(context, flags).await?;
    let platform = context.asked_platform()?.unwrap_or_else(|| engine.capabilities().platform.clone());
    let snapshot = store.snapshot()?;
    let mut entries = Vec::new();
    let mut missing = Vec::new();
    for wish in wishes {
        match snapshot.find(&wish.reference, &platform) {
            Some(entry) => entries.push((entry.clone(), wish)),
            None => missing.push(wish),
        }
    }
    let wanted_by =
        entries.iter().map(|(entry, wish)| (entry.reference.clone(), wish.wanted_by.clone())).collect();
    let mut entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
    last_has_the_tag(&mut entries);
    load_entries(context, &store, &engine, entries, Wanted { by: wanted_by, missing, pins }, flags).await
}

/// Of images that share a tag, the last one gets it in the engine: wishes are ordered so, and what the cache says of
/// the tag may come from another pallet or bundle.
fn last_has_the_tag(entries: &mut [Entry]) {
    let tags: Vec<Option<String>> = entries.iter().map(|entry| entry.reference.tagged()).collect();
    for (at, entry) in entries.iter_mut().enumerate() {
        let is_shared_with = |from: &[Option<String>]| tags[at].is_some() && from.contains(&tags[at]);
        if is_shared_with(&tags[at + 1..]) {
            entry.owns_tag = false;
        } else if is_shared_with(&tags[..at]) {
            entry.owns_tag = true;
        }
    }
}

/// Who wants what is loaded, and what is wanted and not in the cache.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) by: BTreeMap<Reference, Vec<String>>,
    pub(crate) missing: Vec<ImageWish>,
    /// What is to be done for pins that the engine does not resolve.
    pub(crate) pins: Pins,
}

/// Loads images of the cache and reports on each.
pub(crate) async fn load_entries(
    context: &Context,
    store: &Store,
    engine: &Engine,
    entries: Vec<Entry>,
    wanted: Wanted,
    flags: LoadFlags,
) -> Result<(), CommandError> {
    let lease = store.lease()?;
    let mut report = Report { context, wanted: &wanted, verdicts: Vec::new(), exit: None, failures: 0 };
    let mut images: Vec<Image> = Vec::new();
    for entry in &entries {
        match store.image(entry) {
            Ok(image) => images.push(image),
            Err(error) => report.failed(entry, error.into()),
        }
    }
    let mut options = options(context, store)?;
    if flags.dry_run {
        let plan = engine.plan(store, &images, &options).await;
        return load_plan::print(context, engine, &images, plan, &wanted);
    }
    let durable = durability::guard(context, store, flags.repair);
    options.around.push(durable.clone());
    wanted.pins.prepare(context, engine).await?;
    let progress = LoadProgress::start(context, &images);
    let events = |event: Event<'_>| progress.show(&event);
    let results = tokio::select! {
        results = engine.load_all(store, &lease, &images, &options, &events) => results,
        () = context.cancel.cancelled() => {
            progress.finish();
            return Err(CommandError::new(Exit::Interrupted, anyhow::anyhow!("the load was interrupted")));
        }
    };
    progress.finish();
    let mut results = results?;
    let pins = wanted.pins.settle(context, store, engine, &images, &mut results).await;
    for (index, (image, result)) in images.iter().zip(results).enumerate() {
        match result {
            Ok(loaded) => report.loaded(&image.entry, &loaded, pins.way(index)),
            Err(error) => report.failed(&image.entry, error.into()),
        }
    }
    for wish in &wanted.missing {
        report.missing(wish);
    }
    pins.and(context, report.finish(engine, &durable.report()))
}

/// Where a layer that has to be packed anew lies meanwhile, when the cache cannot be written.
const SCRATCH: &str = "/var/tmp";

fn options(context: &Context, store: &Store) -> Result<LoadOptions, CommandError> {
    let state = store.root().join("state");
    let writable = rustix::fs::access(&state, rustix::fs::Access::WRITE_OK).is_ok();
    Ok(LoadOptions {
        parallel: context.asked_parallel()?,
        scratch: (!writable).then(|| PathBuf::from(SCRATCH)),
        ..LoadOptions::default()
    })
}

struct Report<'a> {
    context: &'a Context,
    wanted: &'a Wanted,
    verdicts: Vec<Verdict>,
    exit: Option<Exit>,
    failures: usize,
}

impl Report<'_> {
    fn wanted_by(&self, entry: &Entry) -> Vec<String> {
        self.wanted.by.get(&entry.reference).cloned().unwrap_or_default()
    }

    fn loaded(&mut self, entry: &Entry, loaded: &Loaded, way: Option<&'static str>) {
        let (state, sent, sent_layers, whole_again) = match loaded.was {
            Was::Present => ("present", 0, 0, false),
            Was::Sent { bytes, layer_bytes, whole_again } => ("loaded", bytes, layer_bytes, whole_again),
        };
        let note = loaded.note();
        self.verdicts.push(Verdict {
            reference: entry.reference.familiar(),
            required_by: self.wanted_by(entry),
            platform: entry.platform.to_string(),
            state,
            sent,
            sent_layers,
            whole_again,
            runs_as: Some(match &loaded.runs_as {
                palletjack_engine::RunsAs::Reference => entry.reference.familiar(),
                other => other.to_string(),
            }),
            resolves: loaded.resolves.exact,
            way,
            note,
        });
    }

    fn failed(&mut self, entry: &Entry, error: CommandError) {
        let wanted_by = self.wanted_by(entry);
        let note = Some(error.to_string());
        self.exit = Some(self.exit.map_or(error.exit, |exit| exit.and(error.exit)));
        self.failures += 1;
        let error = if wanted_by.is_empty() {
            error
        } else {
            error.context(format!("{}, needed by {}", entry.reference.familiar(), wanted_by.join(", ")))
        };
        self.context.printer.error(&error);
        self.verdicts.push(Verdict {
            reference: entry.reference.familiar(),
            required_by: wanted_by,
            platform: entry.platform.to_string(),
            state: "failed",
            sent: 0,
            sent_layers: 0,
            whole_again: false,
            runs_as: None,
            resolves: false,
            way: None,
            note,
        });
    }

    fn missing(&mut self, wish: &ImageWish) {
        let mut text = format!("{} is not in the cache", wish.reference.familiar());
        if !wish.wanted_by.is_empty() {
            text.push_str(&format!(", needed by {}", wish.wanted_by.join(", ")));
        }
        let error = CommandError::new(Exit::Missing, anyhow::anyhow!(text));
        self.exit = Some(self.exit.map_or(error.exit, |exit| exit.and(error.exit)));
        self.failures += 1;
        self.context.printer.error(&error);
        self.verdicts.push(Verdict {
            reference: wish.reference.familiar(),
            required_by: wish.wanted_by.clone(),
            platform: String::new(),
            state: "missing",
            sent: 0,
            sent_layers: 0,
            whole_again: false,
            runs_as: None,
            resolves: false,
            way: None,
            note: Some("not in the cache".to_owned()),
        });
    }

    fn finish(mut self, engine: &Engine, durable: &DurableReport) -> Result<(), CommandError> {
        let printer = &self.context.printer;
        if durability::tell(self.context, durable) {
            self.exit = Some(self.exit.map_or(Exit::Engine, |exit| exit.and(Exit::Engine)));
            // One that this run wanted has its own error.
            self.failures = self.failures.max(1);
        }
        let total = self.verdicts.len();
        let is_unresolved = |verdict: &&Verdict| verdict.runs_as.is_some() && !verdict.resolves;
        let unresolved = self.verdicts.iter().filter(is_unresolved).count();
        if self.context.globals.output == Output::Json {
            printer.json(&Document {
                schema: "palletjack.load/1",
                engine: engine.capabilities().to_string(),
                endpoint: engine.endpoint().to_string(),
                images: self.verdicts,
                durability: Told::of(durable),
            })?;
        } else {
            let count = |state| self.verdicts.iter().filter(|verdict| verdict.state == state).count();
            let sent = self.verdicts.iter().map(|verdict| verdict.sent).sum();
            printer.note(&format!(
                "{} loaded, {} sent; {} present before",
                count("loaded"),
                human_bytes(sent),
                count("present")
            ));
            if unresolved > 0 {
                printer.warning(&format!(
                    "{unresolved} of {total} do not resolve offline by their pinned reference on this engine, which keeps no \
                     digests of loaded images; each runs as:"
                ));
                for verdict in self.verdicts.iter().filter(is_unresolved) {
                    let name = verdict.runs_as.as_deref().unwrap_or_default();
                    printer.note(&format!("  {}\n    as {name}", verdict.reference));
                }
                if !engine.capabilities().resolves_pins() {
                    printer.note(repin::WAYS);
                }
            }
        }
        match self.exit {
            // Compose files that name what runs were asked for and written.
            None if unresolved == 0 || self.wanted.pins.has_compose_override() => Ok(()),
            None => {
                let error = anyhow::anyhow!(
                    "{unresolved} of {total} images are loaded and do not resolve by their pinned reference: as it is, the app that \
                     names one would not start offline"
                );
                Err(CommandError::new(Exit::Engine, error))
            }
            Some(exit) => {
                let failures = self.failures;
                let error = CommandError::new(
                    exit,
                    anyhow::anyhow!("{failures} of {total} images are not in the engine, or not whole there"),
                );
                Err(match exit {
                    Exit::Missing => {
                        error.hint("fetch what is missing first, with the same command's `cache-img`")
                    }
                    _ => error,
                })
            }
        }
    }
}

pub(crate) fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Engine => Exit::Engine,
        ErrorKind::Corrupt => Exit::Corrupt,
        ErrorKind::NoSpace => Exit::NoSpace,
        ErrorKind::Cache => Exit::Failed,
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        Self::new(exit_of(error.kind()), error)
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        Self::new(exit_of(error.kind()), error)
    }
}

impl From<LoadError> for CommandError {
    fn from(error: LoadError) -> Self {
        let exit = exit_of(error.kind());
        let error = Self::new(exit, error);
        match exit {
            Exit::Corrupt => error.hint(
                "`palletjack cache verify --discard` deletes what is corrupt; then fetch the image again",
            ),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use palletjack_image::{Descriptor, Digest};

    use super::*;

    fn entry(reference: &str, owns_tag: bool) -> Entry {
        let descriptor = Descriptor::new("", Digest::of(reference.as_bytes()), 1);
        Entry {
            reference: reference.parse().unwrap(),
            requested: reference.to_owned(),
            platform: "linux/amd64".parse().unwrap(),
            target: descriptor.clone(),
            manifest: descriptor,
            fetched: std::time::UNIX_EPOCH,
            upstream: String::new(),
            pinned: false,
            owns_tag,
        }
    }

    #[test]
    fn of_several_pins_the_last_one_has_the_tag() {
        let pin = |content: &str| format!("caddy:2@{}", Digest::of(content.as_bytes()));
        let mut entries = [
            entry(&pin("current"), true),
            entry("alpine:3", true),
            entry(&pin("next"), false),
            entry("busybox:1", false),
        ];
        last_has_the_tag(&mut entries);
        assert_eq!(entries.map(|entry| entry.owns_tag), [false, true, true, false]);
    }
}
