//! A registry, a cache, and a pull between them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palletjack_image::{Digest, Platform};
use palletjack_registry::{
    Config, Event, Events, PullOptions, PullSummary, Puller, RegistryConfig, Remote, RetryPolicy, Sleep,
    Wanted,
};
use palletjack_store::{Access, Store};
use palletjack_testkit::image::{Image, ImageBuilder, Layer, LayerBuilder};
use palletjack_testkit::registry::Registry;
use tokio_util::sync::CancellationToken;

pub(crate) const PLATFORM: &str = "linux/amd64";

pub(crate) fn platform() -> Platform {
    PLATFORM.parse().unwrap()
}

/// A layer of about this many bytes.
pub(crate) fn layer(seed: u64, size: u64) -> Layer {
    LayerBuilder::new().filler(&format!("file-{seed}"), seed, size * 5 / 3).build().unwrap()
}

/// A single-platform image behind an index.
pub(crate) fn image(reference: &str, layers: impl IntoIterator<Item = Layer>) -> Image {
    ImageBuilder::new(reference).platform(PLATFORM, layers).index().build().unwrap()
}

/// Where the pull happens: a cache of its own, events and pauses noted, nobody really waiting.
pub(crate) struct Bench {
    pub(crate) config: Config,
    pub(crate) options: PullOptions,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) cache: PathBuf,
    pub(crate) cancel: CancellationToken,
    events: Arc<Mutex<Vec<Event>>>,
    pauses: Arc<Mutex<Vec<Duration>>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnMut(&Event) + Send>;

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let retry = RetryPolicy { base: Duration::from_millis(8), ..RetryPolicy::default() };
        Self {
            config: Config { retry, ..Config::default() },
            options: PullOptions::new(platform()),
            cache: directory.path().join("cache"),
            directory,
            cancel: CancellationToken::new(),
            events: Arc::default(),
            pauses: Arc::default(),
            hook: Arc::default(),
        }
    }

    /// Asks these servers for images of `domain` before the registry itself.
    pub(crate) fn mirrors(&mut self, domain: &str, urls: &[String]) {
        let mirrors = urls.iter().map(|url| url.parse().unwrap()).collect();
        let config = RegistryConfig { mirrors, ..RegistryConfig::default() };
        self.config.registries.insert(domain.to_owned(), config);
    }

    /// Calls this with every event.
    pub(crate) fn on_event(&self, hook: impl FnMut(&Event) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.cache, Access::Write, &platform()).unwrap()
    }

    pub(crate) fn remote(&self) -> Remote {
        let (events, hook) = (self.events.clone(), self.hook.clone());
        let events: Events = Arc::new(move |event| {
            if let Some(hook) = &mut *hook.lock().unwrap() {
                hook(&event);
            }
            events.lock().unwrap().push(event);
        });
        let pauses = self.pauses.clone();
        let sleep = Sleep::new(move |pause| {
            pauses.lock().unwrap().push(pause);
            tokio::task::yield_now()
        });
        Remote::with_sleep(self.config.clone(), events, sleep)
    }

    pub(crate) async fn pull(&self, references: &[String]) -> PullSummary {
        let wanted = references.iter().map(|reference| wanted(reference)).collect();
        let puller = Puller::new(self.store(), self.remote(), self.options.clone());
        puller.pull(wanted, &self.cancel).await.unwrap()
    }

    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let text = |event| if let Event::Warning(text) = event { Some(text) } else { None };
        self.events().into_iter().filter_map(text).collect()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Has the registry's user's credentials in a Docker config.
    pub(crate) fn log_in(&mut self, host: &str, user: &str, password: &str) {
        let path = self.file("config.json");
        let text = format!(r#"{{"auths":{{"{host}":{{"username":"{user}","password":"{password}"}}}}}}"#);
        std::fs::write(&path, text).unwrap();
        self.config.credentials.files = vec![path];
    }

    /// Every blob that the cache names is there with the right content, and these images are complete.
    pub(crate) fn assert_cached(&self, images: &[&str]) {
        let store = self.store();
        let snapshot = store.snapshot().unwrap();
        for reference in images {
            let reference = reference.parse().unwrap();
            let Some(entry) = snapshot.find(&reference, &self.options.platform) else {
                panic!("{reference} is not in the cache")
            };
            let image = store.image(entry).unwrap();
            for layer in &image.layers {
                let bytes = std::fs::read(self.blob(&layer.digest)).unwrap();
                assert_eq!(Digest::of(&bytes), layer.digest);
            }
        }
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.store().archives().join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.cache.join("state/ingest").join(format!("sha256-{}", digest.hex()))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let snapshot = self.store().snapshot().unwrap();
        snapshot.entries().iter().map(|entry| entry.reference.familiar()).collect()
    }
}

pub(crate) fn wanted(reference: &str) -> Wanted {
    Wanted {
        reference: reference.parse().unwrap(),
        requested: reference.to_owned(),
        wanted_by: vec!["infra/caddy".to_owned()],
    }
}

/// `host/repository:tag` at this registry.
pub(crate) fn at(registry: &Registry, name: &str) -> String {
    format!("{}/{name}", registry.host())
}

pub(crate) fn all_ok(summary: &PullSummary) {
    let failures: Vec<String> = summary.failures().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The one failure of a pull of one image.
pub(crate) fn failure(summary: &PullSummary) -> &palletjack_registry::PullError {
    assert_eq!(summary.images.len(), 1);
    summary.images[0].outcome.as_ref().unwrap_err()
}

pub(crate) fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}
