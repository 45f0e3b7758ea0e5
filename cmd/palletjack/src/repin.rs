//! `load-img` on an engine that keeps no digests: what is done for the pins, and what is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use palletjack_engine::repin::{LiveError, LiveOptions, LiveStep, Repinned, Way, undo_leftover};
use palletjack_engine::{Endpoint, Engine, LoadError, Loaded, RunsAs};
use palletjack_image::Reference;
use palletjack_store::{Entry, Image, Store};

use crate::compose_override::ComposeOverride;
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::localize::{self, Naming, Staged};
use crate::requirements::Requirements;

/// Where what must be undone is noted: it has to outlive a restart.
const STATE: &str = "/var/lib/palletjack";

/// What can be done, for those whose pins do not resolve.
pub(crate) const WAYS: &str = "to make the pins themselves resolve on this Docker: `load-img --repin live` (as root, leads its \
    daemon to palletjack for some seconds), `load-img --compose-override FILE` (Compose files that name what runs), `stage load-img --localize` (the same in the \
    staged files themselves), or a \
    registry mirror on loopback in its daemon.json, which palletjack then uses by itself";

/// Flags of every `load-img` that are about pins.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RepinFlags {
    /// Make pinned references resolve in a Docker that keeps no digests
    ///
    /// `live`: for some seconds, lead the running daemon to palletjack, and let it pull each pin from there: two or three
    /// small requests per image, no layer. For that its daemon.json gets a registry mirror (reloaded by SIGHUP; no
    /// container stops) and /etc/hosts an entry for the other registries; both are put back, also after an interruption, and
    /// by the next run after a crash. Needs root, an engine on this machine, and port 80 of 127.0.0.5. Meanwhile every program
    /// on this machine resolves these registries' names to loopback.
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) repin: Option<Repin>,

    /// The daemon's configuration file, for --repin live [default: --config-file of the running dockerd, else /etc/docker/daemon.json]
    #[arg(long, value_name = "FILE", requires = "repin")]
    pub(crate) daemon_config: Option<PathBuf>,
}

/// The same where Compose files are known.
#[derive(Debug, Clone, Args)]
pub(crate) struct PinFlags {
    #[command(flatten)]
    repin: RepinFlags,
    /// Write a Compose file that names images as this engine knows them, where it does not know their digests
    ///
    /// It is given to `docker compose` as the last `-f`. With several deployments, FILE is a directory and gets one file
    /// for each: FILE/<deployment>.yml. Services whose images resolve as they are written are left out. It is of this
    /// engine alone, and to be written anew after each load. Images that services mount are not covered.
    #[arg(long, value_name = "FILE")]
    compose_override: Option<PathBuf>,
}

/// `--repin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Repin {
    /// By leading the running daemon to palletjack for some seconds
    Live,
}

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    flags: RepinFlags,
    compose: Option<ComposeOverride>,
    /// Bundles in which images are to be named by their IDs.
    localize: Option<Vec<Staged>>,
}

impl Pins {
    pub(crate) fn of(flags: &RepinFlags) -> Self {
        Self { flags: flags.clone(), ..Self::default() }
    }

    pub(crate) fn with_compose(flags: &PinFlags, requirements: &Requirements) -> Result<Self, CommandError> {
        let compose = ComposeOverride::of(flags.compose_override.as_deref(), requirements)?;
        Ok(Self { flags: flags.repin.clone(), compose, localize: None })
    }

    /// Images are to be named by their IDs in these bundles.
    pub(crate) fn localize(&mut self, bundles: Vec<Staged>) {
        self.localize = Some(bundles);
    }

    /// Whether Compose files are written that name what runs.
    pub(crate) fn has_compose_override(&self) -> bool {
        self.compose.is_some()
    }

    /// Before a load: puts back what a killed run left, and refuses early what cannot be done.
    pub(crate) async fn prepare(&self, context: &Context, engine: &Engine) -> Result<(), CommandError> {
        recover(context).await;
        if self.flags.repin != Some(Repin::Live) || engine.capabilities().resolves_pins() {
            return Ok(());
        }
        if matches!(engine.endpoint(), Endpoint::Tcp(_)) {
            let error = LiveError::Remote { endpoint: engine.endpoint().clone() };
            return Err(CommandError::new(Exit::Usage, error));
        }
        if !context.environment.root {
            let error = anyhow::anyhow!("--repin live changes the daemon's configuration and /etc/hosts");
            return Err(CommandError::new(Exit::Usage, error).hint("run it as root; sudo uses your cache"));
        }
        Ok(())
    }

    /// Does it, after a load, and enters in the results what resolves now.
    pub(crate) async fn settle(
        &self,
        context: &Context,
        store: &Store,
        engine: &Engine,
        images: &[Image],
        results: &mut [Result<Loaded, LoadError>],
    ) -> Settled {
        let mut ways = vec![None; images.len()];
        let mut failure = repin(context, store, engine, images, results, &self.flags, &mut ways).await.err();
        if let Some(compose) = &self.compose
            && let Err(error) = compose.write(context, images, results)
        {
            failure.get_or_insert(error);
        }
        let mut naming = None;
        if let Some(bundles) = &self.localize {
            match localize::apply(context, bundles, images, results) {
                Ok(named) => naming = Some(named),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Settled { ways, failure, naming }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Settled {
    ways: Vec<Option<&'static str>>,
    failure: Option<CommandError>,
    naming: Option<BTreeMap<Reference, Naming>>,
}

impl Settled {
    /// How an image came to resolve, where the load itself did not do that.
    pub(crate) fn way(&self, index: usize) -> Option<&'static str> {
        self.ways.get(index).copied().flatten()
    }

    /// How images are named now, where this run has changed that.
    pub(crate) fn naming(&self) -> Option<&BTreeMap<Reference, Naming>> {
        self.naming.as_ref()
    }

    /// A load's own failure says more than that of a re-pinning after it.
    pub(crate) fn and(self, context: &Context, loaded: Result<(), CommandError>) -> Result<(), CommandError> {
        match (loaded, self.failure) {
            (Ok(()), Some(failure)) => Err(failure),
            (Err(error), Some(failure)) => {
                context.printer.error(&failure);
                Err(error)
            }
            (loaded, None) => loaded,
        }
    }
}

/// Puts back what a killed run left, if one did. A failure is said and does not keep images from being loaded.
async fn recover(context: &Context) {
    let undone = tokio::task::spawn_blocking(|| undo_leftover(Path::new(STATE))).await;
    match undone {
        Ok(Ok(true)) => context.printer.warning(RECOVERED),
        Ok(Ok(false)) | Err(_) => {}
        Ok(Err(error)) => {
            let error = CommandError::new(Exit::Failed, error)
                .context("what an earlier run changed for `--repin live` could not be undone")
                .hint("run it again as root");
            context.printer.error(&error);
        }
    }
}

const RECOVERED: &str =
    "an earlier run was stopped amid `--repin live`; what it had changed is as before again";

/// Makes the pins of loaded images resolve where there is a way, and says which.
async fn repin(
    context: &Context,
    store: &Store,
    engine: &Engine,
    images: &[Image],
    results: &mut [Result<Loaded, LoadError>],
    flags: &RepinFlags,
    ways: &mut [Option<&'static str>],
) -> Result<(), CommandError> {
    if flags.repin.is_some() && engine.capabilities().resolves_pins() {
        context.printer.note("this engine keeps digests of loaded images: --repin has nothing to do");
    }
    if let Some(indices) = unresolved(images, results) {
        let wanted = pick(images, &indices);
        let repinned = tokio::select! {
            repinned = engine.repin_by_mirror(store, &wanted) => repinned,
            () = context.cancel.cancelled() => return Err(interrupted("nothing was changed for it")),
        };
        match repinned {
            Ok(Some(repinned)) => {
                say_mirror(context, &repinned);
                enter(context, &indices, repinned, results, ways);
            }
            Ok(None) => {}
            Err(error) => context.printer.error(&error.into()),
        }
    }
    if let (Some(Repin::Live), Some(indices)) = (flags.repin, unresolved(images, results))
        && !engine.capabilities().resolves_pins()
    {
        let wanted = pick(images, &indices);
        let options = LiveOptions {
            daemon_config: flags.daemon_config.clone(),
            state: STATE.into(),
            ..LiveOptions::default()
        };
        let tell = |step: LiveStep<'_>| say_live(context, &step);
        let repinned = tokio::select! {
            repinned = engine.repin_live(store, &wanted, &options, &tell) => repinned?,
            // Dropping it puts everything back.
            () = context.cancel.cancelled() => {
                return Err(interrupted("what was changed for it is as before again"));
            }
        };
        enter(context, &indices, repinned, results, ways);
    }
    keep(context, store, engine, images, results).await;
    Ok(())
}

fn interrupted(state: &str) -> CommandError {
    CommandError::new(Exit::Interrupted, anyhow::anyhow!("re-pinning was interrupted; {state}"))
}

/// The images that are there and do not resolve by their pins.
fn unresolved(images: &[Image], results: &[Result<Loaded, LoadError>]) -> Option<Vec<usize>> {
    let indices: Vec<usize> = images
        .iter()
        .zip(results)
        .enumerate()
        .filter(|(_, (image, result))| {
            image.entry.reference.digest().is_some()
                // What was rebuilt has no manifest to be pulled: its verdict says so.
                && image.entry.has_pin()
                && result.as_ref().is_ok_and(|loaded| loaded.resolves.content && !loaded.resolves.exact)
        })
        .map(|(index, _)| index)
        .collect();
    (!indices.is_empty()).then_some(indices)
}

fn pick<'a>(images: &'a [Image], indices: &[usize]) -> Vec<&'a Image> {
    indices.iter().map(|index| &images[*index]).collect()
}

fn enter(
    context: &Context,
    indices: &[usize],
    repinned: Repinned,
    results: &mut [Result<Loaded, LoadError>],
    ways: &mut [Option<&'static str>],
) {
    let way = match repinned.way {
        Way::Mirror(_) | Way::Standing(_) => "re-pinned by pull",
        Way::Live => "re-pinned live",
    };
    for (index, outcome) in indices.iter().zip(repinned.images) {
        match outcome {
            None => {}
            Some(Ok(seen)) => {
                if let Ok(loaded) = &mut results[*index] {
                    loaded.resolves = seen;
                    loaded.runs_as = RunsAs::Reference;
                    ways[*index] = Some(way);
                }
            }
            Some(Err(error)) => context.printer.error(&CommandError::new(Exit::Engine, error)),
        }
    }
}

fn say_mirror(context: &Context, repinned: &Repinned) {
    let done = repinned.images.iter().flatten().filter(|result| result.is_ok()).count();
    let (Way::Mirror(address) | Way::Standing(address)) = &repinned.way else { return };
    let through = match &repinned.way {
        Way::Standing(_) => "a server of palletjack at its mirror",
        _ => "its mirror",
    };
    context.printer.note(&format!(
        "re-pinned by pull: {done} of {} pins of docker.io, through {through} {address}, without a layer",
        repinned.images.iter().flatten().count()
    ));
}

fn say_live(context: &Context, step: &LiveStep<'_>) {
    let printer = &context.printer;
    match step {
        LiveStep::Recovered => printer.warning(RECOVERED),
        LiveStep::Changing { config, hosts, address } => {
            let mut cost = Vec::new();
            if let Some(config) = config {
                cost.push(format!("dockerd reads {} twice (no container stops)", config.display()));
            }
            if !hosts.is_empty() {
                cost.push(format!(
                    "every program on this machine resolves {} to {address}, and dockerd speaks plain HTTP there; what \
                     asks these registries meanwhile fails, in dockerd for up to five seconds more",
                    hosts.join(", ")
                ));
            }
            printer.note(&format!("re-pinning live; for some seconds {}", cost.join(", and ")));
        }
        LiveStep::Changed => {}
        LiveStep::Undone { after } => {
            printer.note(&format!("re-pinning took {:.1} s; everything is as before", after.as_secs_f32()));
        }
    }
}

/// What has no tag, or lost it to another image, must not go with the next prune: neither what this run loaded nor what
/// an earlier one did from the same cache.
async fn keep(
    context: &Context,
    store: &Store,
    engine: &Engine,
    images: &[Image],
    results: &[Result<Loaded, LoadError>],
) {
    let loaded =
        images.iter().zip(results).filter_map(|(image, result)| Some((image, result.as_ref().ok()?)));
    let has_no_tag = |loaded: &Loaded| loaded.resolves.content && loaded.resolves.tag != Some(true);
    let mut needy: Vec<&Image> =
        loaded.clone().filter(|(_, loaded)| has_no_tag(loaded)).map(|(image, _)| image).collect();
    let holders = loaded.filter(|(_, loaded)| loaded.resolves.tag == Some(true)).map(|(image, _)| image);
    let displaced = displaced(store, &holders.collect::<Vec<_>>(), images);
    needy.extend(&displaced);
    for kept in engine.keep_pins(&needy).await {
        match kept {
            Ok(Some(tag)) => tracing::debug!(tag, "kept from prunes"),
            Ok(None) => {}
            Err(error) => context.printer.error(&CommandError::new(Exit::Engine, error)),
        }
    }
}

/// Other pins of the cache under tags that are these images' now.
fn displaced(store: &Store, holders: &[&Image], images: &[Image]) -> Vec<Image> {
    let Ok(snapshot) = store.snapshot() else { return Vec::new() };
    let is_displaced = |entry: &&Entry| {
        let is_other = |holder: &&Image| {
            let held = &holder.entry;
            held.reference.tagged() == entry.reference.tagged()
                && held.platform == entry.platform
                && held.target.digest != entry.target.digest
        };
        holders.iter().any(is_other) && images.iter().all(|image| image.entry.reference != entry.reference)
    };
    let pinned = snapshot.entries().iter().filter(|entry| entry.reference.digest().is_some());
    pinned.filter(is_displaced).filter_map(|entry| store.image(entry).ok()).collect()
}

impl From<LiveError> for CommandError {
    fn from(error: LiveError) -> Self {
        Self::new(Exit::Engine, error).context("the images are loaded, but not re-pinned")
    }
}
