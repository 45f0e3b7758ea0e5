//! What is said after a load: a verdict for each image, the summary, and the exit code.

use palletjack_engine::{DurableReport, Engine, EngineError, ErrorKind, LoadError, Loaded, RunError, Was};
use palletjack_store::Entry;
use serde::Serialize;

use crate::cli::Output;
use crate::context::Context;
use crate::durability::{self, Told};
use crate::error::{CommandError, Exit};
use crate::load::Wanted;
use crate::localize::{self, Naming};
use crate::printer::human_bytes;
use crate::repin;
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "fields of a document, each of which answers a question of its own"
)]
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
    /// Whether whoever wants it finds it offline, by its reference or by the ID that staged Compose files name.
    runs_offline: bool,
    /// How it came to resolve, where the load itself did not do that.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'static str>,
    /// Whether the cache has it as it was rebuilt from an engine.
    rebuilt: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// Whether it does not run because staged Compose files name it by an ID that is not its own in this engine; `note` says so.
    #[serde(skip)]
    strange_id: bool,
}

/// Gathers the verdicts of one load.
pub(crate) struct Report<'a> {
    context: &'a Context,
    wanted: &'a Wanted,
    verdicts: Vec<Verdict>,
    exit: Option<Exit>,
    failures: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn new(context: &'a Context, wanted: &'a Wanted) -> Self {
        Self { context, wanted, verdicts: Vec::new(), exit: None, failures: 0 }
    }

    fn wanted_by(&self, entry: &Entry) -> Vec<String> {
        self.wanted.by.get(&entry.reference).cloned().unwrap_or_default()
    }

    pub(crate) fn loaded(
        &mut self,
        entry: &Entry,
        loaded: &Loaded,
        way: Option<&'static str>,
        naming: &Naming,
    ) {
        let (state, sent, sent_layers, whole_again) = match loaded.was {
            Was::Present => ("present", 0, 0, false),
            Was::Sent { bytes, layer_bytes, whole_again } => ("loaded", bytes, layer_bytes, whole_again),
        };
        let runs_offline = naming.runs(&loaded.resolves);
        let by_id = runs_offline && !loaded.resolves.exact && !naming.ids.is_empty();
        let way = way.or(by_id.then_some("by its ID in the staged Compose files"));
        let strange = naming.ids.iter().find(|id| **id != loaded.resolves.id);
        let note = match strange {
            Some(id) => Some(format!(
                "staged Compose files name it {id}, which is not its ID in this engine: {}",
                localize::MENDS
            )),
            None => loaded.note().filter(|_| !by_id),
        };
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
            runs_offline,
            way,
            rebuilt: entry.rebuilt.is_some(),
            note,
            strange_id: strange.is_some() && !runs_offline,
        });
    }

    pub(crate) fn failed(&mut self, entry: &Entry, error: CommandError) {
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
            runs_offline: false,
            way: None,
            rebuilt: entry.rebuilt.is_some(),
            note,
            strange_id: false,
        });
    }

    pub(crate) fn missing(&mut self, wish: &ImageWish) {
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
            runs_offline: false,
            way: None,
            rebuilt: false,
            note: Some("not in the cache".to_owned()),
            strange_id: false,
        });
    }

    pub(crate) fn finish(mut self, engine: &Engine, durable: &DurableReport) -> Result<(), CommandError> {
        let printer = &self.context.printer;
        if durability::tell(self.context, durable) {
            self.exit = Some(self.exit.map_or(Exit::Engine, |exit| exit.and(Exit::Engine)));
            // One that this run wanted has its own error.
            self.failures = self.failures.max(1);
        }
        let total = self.verdicts.len();
        let is_unresolved = |verdict: &&Verdict| verdict.runs_as.is_some() && !verdict.runs_offline;
        let unresolved = self.verdicts.iter().filter(is_unresolved).count();
        let strange = self.verdicts.iter().filter(|verdict| verdict.strange_id).count();
        let is_unnamed = |verdict: &&Verdict| is_unresolved(verdict) && !verdict.strange_id;
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
            let summary = format!(
                "{} loaded, {} sent; {} present before",
                count("loaded"),
                human_bytes(sent),
                count("present")
            );
            printer.service().last_status(&summary);
            printer.note(&summary);
            if strange > 0 {
                printer.warning(&format!(
                    "the staged Compose files name {strange} of {total} by IDs that are not theirs in this engine: {}",
                    localize::MENDS
                ));
            }
            if unresolved > strange {
                let why = if engine.capabilities().resolves_pins() {
                    ""
                } else {
                    ", which keeps no digests of loaded images"
                };
                printer.warning(&format!(
                    "{} of {total} do not resolve offline by their pinned reference on this engine{why}; each runs as:",
                    unresolved - strange
                ));
                for verdict in self.verdicts.iter().filter(is_unnamed) {
                    let name = verdict.runs_as.as_deref().unwrap_or_default();
                    printer.note(&format!("  {}\n    as {name}", verdict.reference));
                    if verdict.rebuilt {
                        printer.note(REBUILT);
                    }
                }
                if self.wanted.pins.has_compose_override() {
                    printer.note("with the Compose files above, each service has the very image that its reference pins");
                } else if !engine.capabilities().resolves_pins() {
                    printer.note(repin::WAYS);
                }
            }
        }
        match self.exit {
            // Compose files that name what runs were asked for and written.
            None if unresolved == 0 || self.wanted.pins.has_compose_override() => Ok(()),
            None => {
                let why = match strange {
                    0 => "do not resolve by their pinned reference",
                    all if all == unresolved => {
                        "staged Compose files name them by IDs that are not theirs in this engine"
                    }
                    _ => "do not resolve as the Compose files name them",
                };
                let error = anyhow::anyhow!(
                    "{unresolved} of {total} images are loaded and {why}: as it is, the app that names one would not start offline"
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

/// Said of an image that no way to re-pin is for.
const REBUILT: &str =
    "    rebuilt from an engine: only `cache-img` where there is a network brings what its digest pins";

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
