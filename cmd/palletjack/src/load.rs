//! From the cache into an engine: connecting and loading.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palletjack_engine::{Engine, Event, LoadOptions, Surroundings, find};
use palletjack_image::Reference;
use palletjack_store::{Entry, Image, Store};

use crate::cli::LoadFlags;
use crate::context::Context;
use crate::durability;
use crate::error::{CommandError, Exit};
use crate::load_plan;
use crate::load_report::Report;
use crate::localize::Naming;
use crate::progress::LoadProgress;
use crate::repin::Pins;
use crate::requirements::ImageWish;
use crate::reset_store::reset_store;

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
    let naming = entries.iter().map(|(entry, wish)| (entry.reference.clone(), wish.naming.clone())).collect();
    let mut entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
    last_has_the_tag(&mut entries);
    load_entries(context, &store, &engine, entries, Wanted { by: wanted_by, missing, pins, naming }, flags)
        .await
}

/// Of images that share a tag, the last one gets it in the engine: wishes are ordered so, and what the cache says of
/// the tag may come from another pallet or bundle.
pub(crate) fn last_has_the_tag(entries: &mut [Entry]) {
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
    /// How those who want it name it; by its reference, where nothing is said.
    pub(crate) naming: BTreeMap<Reference, Naming>,
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
    let mut report = Report::new(context, &wanted);
    let mut images: Vec<Image> = Vec::new();
    for entry in &entries {
        match store.image(entry) {
            Ok(image) => images.push(image),
            Err(error) => report.failed(entry, error.into()),
        }
    }
    if flags.reset_store {
        reset_store(context, engine, flags.dry_run).await?;
    }
    let mut options = options(context, store)?;
    if flags.dry_run {
        let plan = engine.plan(store, &images, &options).await;
        return load_plan::print(context, engine, &images, plan, &wanted);
    }
    context.printer.service().writes_below(engine.capabilities().store_dir.as_deref());
    let durable = durability::guard(context, store, flags.repair || flags.reset_store);
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
            Ok(loaded) => {
                let naming = pins.naming().unwrap_or(&wanted.naming).get(&image.entry.reference);
                let naming = naming.cloned().unwrap_or_default();
                report.loaded(&image.entry, &loaded, pins.way(index), &naming);
            }
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

pub(crate) fn options(context: &Context, store: &Store) -> Result<LoadOptions, CommandError> {
    let state = store.root().join("state");
    let writable = rustix::fs::access(&state, rustix::fs::Access::WRITE_OK).is_ok();
    let mut options = LoadOptions {
        parallel: context.asked_parallel()?,
        scratch: (!writable).then(|| PathBuf::from(SCRATCH)),
        ..LoadOptions::default()
    };
    if context.environment.unit {
        // Before the unit as a whole is ended for it: then the image's failure says why, and the others are loaded.
        options.stall = context.config.unit_stall_timeout().mul_f64(0.9);
    }
    Ok(options)
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
            rebuilt: None,
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
