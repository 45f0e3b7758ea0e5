//! One image into a graph driver, as a registry's pull leaves it: with its digest, and with the record of which blob is
//! which layer, by which later pulls find what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptions, TagImageOptions};
use futures_util::StreamExt;
use palletjack_archive::ExportError;
use palletjack_image::Hasher;
use palletjack_store::{Image, Store, StoreError};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::answer::{is_no_space, one_line};
use crate::connect::{Engine, innermost};
use crate::error::{EngineError, LoadError};
use crate::job::Job;
use crate::outcome::{Loaded, Was};
use crate::run::loaded;

/// How long without a word. dockerd tells of every download and of every layer that it unpacks, several times a second.
const SILENCE: Duration = Duration::from_mins(10);

/// What a pull tells: bytes of layers that came so far, and whether all that is missing came.
pub(super) struct Came {
    pub(super) bytes: u64,
    pub(super) all: bool,
}

impl Engine {
    /// Pulls an image by its digest and gives it its tag.
    pub(super) async fn seed_one(
        &self,
        store: &Store,
        job: &Job<'_>,
        log: &(dyn Fn() -> String + Send + Sync),
        progress: &(dyn Fn(Came) + Send + Sync),
    ) -> Result<Loaded, LoadError> {
        let image = job.image;
        let unknown = |source| LoadError::Unknown { image: job.name(), source };
        let mut layers = Layers::default();
        let pulled = self.pull_by_digest(image, &mut layers, progress).await;
        if let Err(message) = pulled {
            let message = behind(&log(), image).unwrap_or(message);
            return Err(why(store, image, message).await);
        }
        let reference = &image.entry.reference;
        if let (Some(tag), true) = (reference.tag(), job.tag) {
            let options = TagImageOptions { repo: Some(reference.name()), tag: Some(tag.to_owned()) };
            let id = image.config_descriptor.digest.to_string();
            self.docker.tag_image(&id, Some(options)).await.map_err(|error| {
                unknown(EngineError::Ask { what: format!("the tag {tag}"), source: error.into() })
            })?;
        }
        let resolves = self.look(image).await.map_err(unknown)?;
        if !resolves.content {
            let what = "it was pulled, and is not there".to_owned();
            return Err(LoadError::NotThere { image: job.name(), what });
        }
        let bytes = layers.bytes();
        let was = Was::Sent { bytes, layer_bytes: bytes, whole_again: false };
        Ok(loaded(image, was, resolves))
    }

    async fn pull_by_digest(
        &self,
        image: &Image,
        layers: &mut Layers,
        progress: &(dyn Fn(Came) + Send + Sync),
    ) -> Result<(), String> {
        let entry = &image.entry;
        let options = CreateImageOptions {
            from_image: Some(entry.reference.familiar_name()),
            tag: Some(entry.target.digest.to_string()),
            platform: entry.platform.to_string(),
            ..CreateImageOptions::default()
        };
        let mut lines = std::pin::pin!(self.docker.create_image(Some(options), None, None));
        loop {
            match timeout(SILENCE, lines.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(line))) => {
                    if let Some(detail) = &line.error_detail {
                        return Err(one_line(detail.message.as_deref().unwrap_or_default()));
                    }
                    layers.take(&line);
                    progress(Came { bytes: layers.bytes(), all: layers.are_all_there() });
                }
                Ok(Some(Err(error))) => return Err(innermost(&error)),
                Err(_) => return Err(format!("not a word within {} s", SILENCE.as_secs())),
            }
        }
    }
}

/// The layers of a pull, by dockerd's short names.
#[derive(Debug, Default)]
struct Layers(BTreeMap<String, Layer>);

#[derive(Debug, Default)]
struct Layer {
    bytes: u64,
    came: bool,
}

impl Layers {
    fn take(&mut self, line: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&line.id, &line.status) else { return };
        // The first line has the reference in place of a layer.
        if status.starts_with("Pulling from") || status == "Already exists" {
            return;
        }
        let layer = self.0.entry(id.clone()).or_default();
        let detail = line.progress_detail.as_ref();
        match status.as_str() {
            "Downloading" => {
                let current = detail.and_then(|detail| detail.current).unwrap_or_default();
                layer.bytes = layer.bytes.max(u64::try_from(current).unwrap_or_default());
            }
            "Download complete" | "Verifying Checksum" | "Extracting" | "Pull complete" => {
                let total = detail.and_then(|detail| detail.total).unwrap_or_default();
                layer.bytes = layer.bytes.max(u64::try_from(total).unwrap_or_default());
                layer.came = true;
            }
            _ => {}
        }
    }

    fn bytes(&self) -> u64 {
        self.0.values().map(|layer| layer.bytes).sum()
    }

    fn are_all_there(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|layer| layer.came)
    }
}

/// After a mirror dockerd tries Docker Hub itself, is refused by us, and tells of that alone; why the mirror did not do is in
/// its log.
fn behind(log: &str, image: &Image) -> Option<String> {
    const NEXT: &str = "Attempting next endpoint for pull after error: ";
    if !super::way::is_hubs(image) {
        return None;
    }
    let lines = log.lines().rev().filter_map(|line| Some(line.split_once(NEXT)?.1));
    let line = lines.into_iter().find(|line| !line.contains("registry-1.docker.io"))?;
    Some(one_line(line.trim_end_matches('"')))
}

/// dockerd says "unexpected EOF" of a blob that our server broke off because it is corrupt: the cache is looked at.
async fn why(store: &Store, image: &Image, message: String) -> LoadError {
    let name = image.entry.reference.familiar();
    let checked = {
        let (store, image) = (store.clone(), image.clone());
        spawn_blocking(move || check(&store, &image)).await
    };
    match checked {
        Ok(Err(source)) => {
            let source = ExportError::Store { image: name.clone(), source };
            LoadError::Export { image: name, source: Box::new(source) }
        }
        _ if is_no_space(&message) => {
            let bytes = image.layers.iter().map(|layer| layer.size).sum();
            LoadError::NoSpace { image: name, message, bytes }
        }
        _ => LoadError::Refused { image: name, message },
    }
}

fn check(store: &Store, image: &Image) -> Result<(), StoreError> {
    for layer in &image.layers {
        let mut file = store.open_blob(layer)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match std::io::Read::read(&mut file, &mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&buffer[..read]),
                // dockerd's own words say more than we can.
                Err(_) => return Ok(()),
            }
        }
        let actual = hasher.finish();
        if actual != layer.digest {
            let what = format!("its content has the digest {actual}");
            return Err(StoreError::Corrupt {
                digest: layer.digest,
                path: store.blob_path(&layer.digest),
                what,
            });
        }
    }
    Ok(())
}
