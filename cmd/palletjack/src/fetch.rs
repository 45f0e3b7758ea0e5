//! From registries into the cache: the client's configuration, the run, and the summary.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::{FetchFlags, Output, Source};
use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::fetch_document::{Document, Fault, Verdict};
use crate::printer::{count, human_bytes};
use crate::progress::FetchProgress;
use crate::requirements::ImageWish;
use crate::sharing::InCache;
use crate::take;
use palletjack_image::Platform;
use palletjack_registry::{
    Config, CredentialSources, ErrorKind, ImageOutcome, ProxyConfig, PullError, PullOptions, PullSummary,
    Puller, Refresh, RegistryConfig, Remote, Wanted,
};
use palletjack_store::{Entry, Snapshot, Store};

/// Has these images in the cache, if that can be done.
pub(crate) async fn fetch(
    context: &Context,
    wishes: Vec<ImageWish>,
    flags: FetchFlags,
) -> Result<(), CommandError> {
    if flags.from == Source::Engine {
        return take::take(context, wishes, flags).await;
    }
    let refresh = if flags.refresh { Refresh::Always } else { Refresh::Missing };
    if wishes.is_empty() {
        context.printer.note("no images are required");
        return Ok(());
    }
    let platform = context.platform()?;
    if context.globals.offline {
        return offline(context, &wishes, &platform);
    }
    // A cache on a read-only medium has nothing to add where everything is there.
    let store = match writable(context) {
        Err(error)
            if error.is_permission()
                && refresh == Refresh::Missing
                && has_all(context, &wishes, &platform)? =>
        {
            context
                .printer
                .note(&format!("{} in the cache, which cannot be written", count(wishes.len(), "image")));
            return Ok(());
        }
        other => other?,
    };
    let wanted: Vec<Wanted> = wishes.into_iter().map(wanted).collect();
    let progress = FetchProgress::start(context, wanted.len());
    let events = {
        let progress = progress.clone();
        Arc::new(move |event: palletjack_registry::Event| progress.show(&event))
    };
    let mut options = PullOptions::new(platform.clone());
    options.refresh = refresh;
    if let Some(parallel) = context.parallel()? {
        options.blobs = parallel;
        options.manifests = parallel.min(options.manifests);
    }
    let puller = Puller::new(store, Remote::new(client_config(context)?, events), options);
    let summary = puller.pull(wanted, &context.cancel).await;
    progress.finish();
    report(context, &platform, &summary?)
}

/// Opens the cache to write to it; that it can be leased tells whether it can.
fn writable(context: &Context) -> Result<Store, CommandError> {
    let store = context.writable_store()?;
    store.lease()?;
    Ok(store)
}

fn has_all(context: &Context, wishes: &[ImageWish], platform: &Platform) -> Result<bool, CommandError> {
    let Ok(store) = context.filled_store() else { return Ok(false) };
    let _lease = store.lease()?;
    let snapshot = store.snapshot()?;
    Ok(wishes.iter().all(|wish| is_complete(&store, &snapshot, wish, platform)))
}

fn wanted(wish: ImageWish) -> Wanted {
    Wanted {
        requested: wish.requested.into_iter().next().unwrap_or_else(|| wish.reference.familiar()),
        reference: wish.reference,
        wanted_by: wish.wanted_by,
    }
}

/// What is not in the cache is missing.
fn offline(context: &Context, wishes: &[ImageWish], platform: &Platform) -> Result<(), CommandError> {
    let store = context.filled_store()?;
    let _lease = store.lease()?;
    let snapshot = store.snapshot()?;
    let missing: Vec<String> =
        wishes.iter().filter(|wish| !is_complete(&store, &snapshot, wish, platform)).map(describe).collect();
    if missing.is_empty() {
        context.printer.note(&format!("{} required, all in the cache", count(wishes.len(), "image")));
        return Ok(());
    }
    let error = anyhow::anyhow!(
        "{} of {} images are not in the cache for {platform}, and the network is not to be used:\n  {}",
        missing.len(),
        wishes.len(),
        missing.join("\n  ")
    );
    Err(CommandError::new(Exit::Missing, error)
        .hint("run the same command without --offline where there is a network"))
}

fn is_complete(store: &Store, snapshot: &Snapshot, wish: &ImageWish, platform: &Platform) -> bool {
    snapshot.find(&wish.reference, platform).is_some_and(|entry| {
        store.image(entry).is_ok_and(|image| image.layers.iter().all(|layer| store.has_blob(layer)))
    })
}

fn describe(wish: &ImageWish) -> String {
    match &wish.wanted_by[..] {
        [] => wish.reference.familiar(),
        by => format!("{}, needed by {}", wish.reference.familiar(), by.join(", ")),
    }
}

/// Brings together what the configuration and the environment say about registries.
fn client_config(context: &Context) -> Result<Config, CommandError> {
    let environment = &context.environment;
    let url = |text: &str, what: &str| {
        text.parse()
            .map_err(|_| CommandError::new(Exit::Usage, anyhow::anyhow!("{what}: `{text}` is not a URL")))
    };
    let mut config = Config::default();
    for (name, registry) in &context.config.registries {
        let what = format!("mirror of {name}");
        let mirrors = registry.mirrors.iter().map(|mirror| url(mirror, &what)).collect::<Result<_, _>>()?;
        config.registries.insert(name.clone(), RegistryConfig { mirrors, ..RegistryConfig::default() });
    }
    // A proxy may be written without its scheme, as curl and Docker take it.
    let proxy = |text: &Option<String>, what: &str| match text {
        None => Ok(None),
        Some(text) if text.contains("://") => url(text, what).map(Some),
        Some(text) => url(&format!("http://{text}"), what).map(Some),
    };
    config.proxy = ProxyConfig {
        http: proxy(&environment.http_proxy, "HTTP_PROXY")?,
        https: proxy(&environment.https_proxy, "HTTPS_PROXY")?,
        except: environment.no_proxy.clone().unwrap_or_default(),
    };
    config.credentials = CredentialSources {
        files: credential_files(context),
        helper_directories: environment.path.clone(),
        ..CredentialSources::default()
    };
    config.user_agent = format!("palletjack/{}", env!("CARGO_PKG_VERSION"));
    Ok(config)
}

/// In the order in which they are asked: what was named, then Docker's, then Podman's.
fn credential_files(context: &Context) -> Vec<PathBuf> {
    let environment = &context.environment;
    let candidates = [
        environment.registry_auth_file.clone(),
        environment.docker_client_dir().map(|directory| directory.join("config.json")),
        environment.xdg_runtime.as_ref().map(|directory| directory.join("containers/auth.json")),
        environment.xdg_config.as_ref().map(|directory| directory.join("containers/auth.json")),
        // Under sudo, the logins are the caller's.
        environment.sudo_home.as_ref().map(|home| home.join(".docker/config.json")),
    ];
    candidates.into_iter().flatten().collect()
}

fn report(context: &Context, platform: &Platform, summary: &PullSummary) -> Result<(), CommandError> {
    let mut exit: Option<Exit> = None;
    for failure in summary.failures() {
        let error = CommandError::from(failure.clone());
        exit = Some(exit.map_or(error.exit, |exit| exit.and(error.exit)));
        context.printer.error(&error);
    }
    let total = summary.images.len();
    let failed = summary.failures().count();
    let entries: Vec<Entry> = summary
        .images
        .iter()
        .filter_map(|image| image.outcome.as_ref().ok().map(|pulled| pulled.entry.clone()))
        .collect();
    let in_cache = InCache::of(context, &entries);
    match context.globals.output {
        Output::Json => context.printer.json(&Document {
            schema: "palletjack.fetch/1",
            from: "registry",
            platform: platform.to_string(),
            images: summary.images.iter().map(verdict).collect(),
            requests: summary.requests,
            bytes_fetched: summary.bytes_fetched,
            bytes_reused: summary.bytes_reused,
            bytes_written: None,
            elapsed_ms: summary.elapsed.as_millis(),
            in_cache,
        })?,
        Output::Text => {
            let cached = summary
                .images
                .iter()
                .filter(|image| image.outcome.as_ref().is_ok_and(|pulled| pulled.cached))
                .count();
            context.printer.note(&format!(
                "{} fetched, {cached} in the cache before, {failed} failed; {} fetched in {} request{}, {} reused, {:.1} s",
                total - cached - failed,
                human_bytes(summary.bytes_fetched),
                summary.requests,
                if summary.requests == 1 { "" } else { "s" },
                human_bytes(summary.bytes_reused),
                summary.elapsed.as_secs_f64()
            ));
            if let Some(in_cache) = in_cache {
                in_cache.note(context);
            }
        }
    }
    match exit {
        None => Ok(()),
        Some(exit) => Err(CommandError::new(
            exit,
            anyhow::anyhow!("not in the cache: {failed} of {}", count(total, "image")),
        )),
    }
}

fn verdict(image: &ImageOutcome) -> Verdict {
    let (state, digest, fetched, error) = match &image.outcome {
        Ok(pulled) => {
            let state = if pulled.cached { "cached" } else { "fetched" };
            (state, Some(pulled.entry.target.digest.to_string()), pulled.fetched_bytes, None)
        }
        Err(error) => {
            let fault = Fault { code: code(error.kind()), message: error.reason.to_string() };
            ("failed", None, 0, Some(fault))
        }
    };
    Verdict {
        reference: image.reference.familiar(),
        requested: image.requested.clone(),
        required_by: image.wanted_by.clone(),
        state,
        digest,
        rebuilt: image.outcome.as_ref().is_ok_and(|pulled| pulled.entry.rebuilt.is_some()),
        fetched,
        error,
    }
}

/// The codes that scripts may rely on.
fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::NoSpace => "no-space",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Refused => "refused",
        ErrorKind::Network => "network",
        ErrorKind::Platform => "no-platform",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Cancelled => "cancelled",
        _ => "cache",
    }
}

impl From<PullError> for CommandError {
    fn from(error: PullError) -> Self {
        let exit = match error.kind() {
            ErrorKind::Corrupt => Exit::Corrupt,
            ErrorKind::NoSpace => Exit::NoSpace,
            ErrorKind::NotFound
            | ErrorKind::Refused
            | ErrorKind::Network
            | ErrorKind::Platform
            | ErrorKind::Unsupported => Exit::Network,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}
