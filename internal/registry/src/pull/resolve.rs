//! From a reference to what it consists of: cache first, then index, child, config.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use palletjack_image::{
    Config, Descriptor, Digest, ImageManifest, LayerCompression, Manifest, ManifestKind, Reference,
};
use palletjack_store::{Entry, StoreError};

use super::board::Plan;
use super::outcome::Reason;
use super::{Job, Refresh, blocking};
use crate::error::{Cause, ErrorKind, Failure, RemoteError};
use crate::event::Event;
use crate::remote::Fetched;
use crate::retry::Retry;

/// How many tags are named where one does not exist.
const SIMILAR: usize = 5;

/// What a reference turned out to be.
#[derive(Debug)]
pub(super) enum Resolution {
    /// It is in the cache, complete.
    Cached { entry: Box<Entry>, layers: Vec<Descriptor>, unchecked: Option<String> },
    /// It is to be fetched; index, manifest and config are in the cache by now.
    Plan(Box<Plan>),
}

/// Finds out what a reference consists of. Asks no registry for what the cache says already.
pub(super) async fn resolve(job: &Arc<Job>, reference: &Reference) -> Result<Resolution, Reason> {
    let complete = complete(job, reference).await?;
    let Some((entry, layers)) = complete else { return plan(job, reference).await };
    let cached =
        |unchecked| Resolution::Cached { entry: Box::new(entry.clone()), layers: layers.clone(), unchecked };
    // What was rebuilt from an engine gives way to what the registry has.
    if entry.rebuilt.is_none() {
        if reference.digest().is_some() || job.options.refresh == Refresh::Missing {
            return Ok(cached(None));
        }
        if job.remote.digest_of_tag(reference).await == Some(entry.target.digest) {
            return Ok(cached(None));
        }
    }
    match plan(job, reference).await {
        Ok(Resolution::Plan(plan)) if plan.target.digest == entry.target.digest => Ok(cached(None)),
        Ok(resolution) => Ok(resolution),
        Err(reason @ Reason::Remote(_)) => {
            let why = reason.to_string();
            let image = reference.familiar();
            (job.remote.events())(Event::Warning(match entry.rebuilt {
                None => format!("{image} could not be checked, using what is cached: {why}"),
                Some(_) => {
                    format!("{image} could not be fetched, using what was rebuilt from an engine: {why}")
                }
            }));
            Ok(cached(Some(why)))
        }
        Err(reason) => Err(reason),
    }
}

/// The entry of a reference, if all its blobs are there.
async fn complete(job: &Arc<Job>, reference: &Reference) -> Result<Option<(Entry, Vec<Descriptor>)>, Reason> {
    let Some(entry) = job.snapshot.find(reference, &job.options.platform) else { return Ok(None) };
    // An entry of another digest than its own name is not worth a name.
    if entry.rebuilt.is_none() && reference.digest().is_some_and(|digest| digest != entry.target.digest) {
        return Ok(None);
    }
    let (job, entry) = (job.clone(), entry.clone());
    blocking(move || {
        // Whatever is wrong with it: fetching it again mends it.
        let image = job.store.image(&entry).ok()?;
        image.layers.iter().all(|layer| job.store.has_blob(layer)).then_some((entry, image.layers))
    })
    .await
    .ok_or(Reason::Cancelled)
}

async fn plan(job: &Arc<Job>, reference: &Reference) -> Result<Resolution, Reason> {
    (job.remote.events())(Event::Resolving { image: reference.familiar() });
    let Fetched { manifest: top, upstream } = target(job, reference).await?;
    let target = top.descriptor();
    keep(job, &target, top.bytes()).await?;
    let (manifest, image, is_child) = match top.kind() {
        ManifestKind::Image(image) => (target.clone(), image.clone(), false),
        ManifestKind::Index(index) => {
            let child = index.choose(&job.options.platform)?;
            let manifest = self::child(job, reference, child).await?;
            let ManifestKind::Image(image) = manifest.kind() else {
                return Err(Reason::NestedIndex(child.digest));
            };
            (manifest.descriptor(), image.clone(), child.platform.is_some())
        }
    };
    if let Some(foreign) = image.layers.iter().find(|layer| LayerCompression::is_foreign(&layer.media_type)) {
        return Err(Reason::Foreign(foreign.digest));
    }
    check_config(job, reference, &image, is_child).await?;
    let mut seen = HashSet::new();
    let total = image.layers.iter().filter(|layer| seen.insert(layer.digest)).map(|layer| layer.size);
    let total = total.fold(0, u64::saturating_add);
    (job.remote.events())(Event::Resolved { image: reference.familiar(), total });
    Ok(Resolution::Plan(Box::new(Plan { target, manifest, layers: image.layers, upstream })))
}

/// What the reference means. A digest that another image of the cache has as well is not asked for.
async fn target(job: &Arc<Job>, reference: &Reference) -> Result<Fetched, Reason> {
    let known = reference
        .digest()
        .and_then(|digest| job.snapshot.entries().iter().find(|entry| entry.target.digest == digest));
    if let Some(entry) = known
        && let Some(manifest) = read_manifest(job, &entry.target).await?
    {
        return Ok(Fetched { manifest, upstream: entry.upstream.clone() });
    }
    match job.remote.resolve(reference).await {
        Ok(fetched) => Ok(fetched),
        Err(error) if error.kind() == ErrorKind::NotFound && reference.digest().is_none() => {
            let tags = job.remote.tags(reference).await;
            let similar = similar(tags, reference.tag().unwrap_or_default());
            if similar.is_empty() { Err(error.into()) } else { Err(Reason::NoSuchTag { error, similar }) }
        }
        Err(error) => Err(error.into()),
    }
}

/// Tags that begin like the one that does not exist, those that share most of it first. None where the registry lists
/// the very tag that it does not find: then something else is wrong with it.
fn similar(mut tags: Vec<String>, tag: &str) -> Vec<String> {
    if tags.iter().any(|other| other == tag) {
        return Vec::new();
    }
    let shared = |other: &String| tag.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    tags.sort_by_cached_key(|other| (std::cmp::Reverse(shared(other)), other.len().abs_diff(tag.len())));
    tags.truncate(SIMILAR);
    tags
}

/// The manifest that an index names for the platform.
async fn child(job: &Arc<Job>, reference: &Reference, child: &Descriptor) -> Result<Manifest, Reason> {
    if let Some(manifest) = read_manifest(job, child).await? {
        return Ok(manifest);
    }
    let manifest = job.remote.manifest(reference, child.digest).await?.manifest;
    let descriptor = manifest.descriptor();
    if descriptor.size != child.size {
        let (digest, size, other) = (child.digest, descriptor.size, child.size);
        return Err(Reason::SizeConflict { digest, size, other });
    }
    keep(job, &descriptor, manifest.bytes()).await?;
    Ok(manifest)
}

/// The config describes this very image: platform and number of layers.
async fn check_config(
    job: &Arc<Job>,
    reference: &Reference,
    image: &ImageManifest,
    is_child: bool,
) -> Result<(), Reason> {
    let digest = image.config.digest;
    let bytes = small(job, reference, &image.config).await?;
    let config =
        Config::parse(&bytes).map_err(|source| Reason::Config { digest, source: Arc::new(source) })?;
    let (layers, diff_ids) = (image.layers.len(), config.diff_ids.len());
    if layers != diff_ids {
        return Err(Reason::LayerCount { layers, diff_ids });
    }
    // What an index says of its child was believed already. A variant alone decides nothing: many single images
    // were built without saying theirs.
    let wanted = &job.options.platform;
    let fits = config.platform.os == wanted.os && config.platform.architecture == wanted.architecture;
    if !is_child && !fits {
        return Err(Reason::OtherPlatform {
            wanted: Box::new(wanted.clone()),
            has: Box::new(config.platform),
        });
    }
    Ok(())
}

/// Small content: from the cache, else from the registry, verified and kept.
async fn small(job: &Arc<Job>, reference: &Reference, blob: &Descriptor) -> Result<Bytes, Reason> {
    if blob.size > Manifest::MAX_SIZE as u64 {
        return Err(Reason::HugeConfig { digest: blob.digest, size: blob.size });
    }
    if let Some(bytes) = read(job, blob).await? {
        return Ok(bytes);
    }
    let mut retry = Retry::new(job.remote.http().config().retry);
    let mut avoid = None;
    loop {
        let error = match fetch_small(job, reference, blob, avoid.as_deref()).await {
            Ok(bytes) => {
                keep(job, blob, &bytes).await?;
                return Ok(bytes);
            }
            Err(error) => error,
        };
        let Some(pause) = retry.after(error.transience()) else { return Err(error.into()) };
        avoid = error.failures.last().map(|failure| failure.endpoint.clone());
        job.remote.pause(&error.what, pause, &error).await;
    }
}

async fn fetch_small(
    job: &Job,
    reference: &Reference,
    blob: &Descriptor,
    avoid: Option<&str>,
) -> Result<Bytes, RemoteError> {
    let mut body = job.remote.blob_from(reference, blob, 0, avoid).await?;
    let failed = |endpoint: &str, cause| {
        let failure = Failure { endpoint: endpoint.to_owned(), cause };
        RemoteError::new(format!("{} of {}", blob.digest, reference.familiar()), vec![failure])
    };
    let expected = blob.size;
    let mut bytes = BytesMut::new();
    loop {
        let chunk = body.chunk().await;
        match chunk.map_err(|cause| failed(body.server(), cause))? {
            Some(chunk) if (bytes.len() + chunk.len()) as u64 > expected => {
                let actual = (bytes.len() + chunk.len()) as u64;
                return Err(failed(body.server(), Cause::Size { expected, actual }));
            }
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    if (bytes.len() as u64) < expected {
        let cause = Cause::Broken(format!("{} of {expected} bytes came", bytes.len()));
        return Err(failed(body.server(), cause));
    }
    let actual = Digest::of(&bytes);
    if actual != blob.digest {
        return Err(failed(body.server(), Cause::Digest { expected: blob.digest, actual }));
    }
    Ok(bytes.freeze())
}

/// Small content of the cache, if it is there and right.
async fn read(job: &Arc<Job>, blob: &Descriptor) -> Result<Option<Bytes>, Reason> {
    let (job, blob) = (job.clone(), blob.clone());
    blocking(move || job.store.read(&blob).ok()).await.ok_or(Reason::Cancelled)
}

async fn read_manifest(job: &Arc<Job>, descriptor: &Descriptor) -> Result<Option<Manifest>, Reason> {
    let bytes = read(job, descriptor).await?;
    Ok(bytes.and_then(|bytes| Manifest::parse(bytes, Some(&descriptor.media_type)).ok()))
}

async fn keep(job: &Arc<Job>, descriptor: &Descriptor, bytes: &Bytes) -> Result<(), Reason> {
    let (job, descriptor, bytes) = (job.clone(), descriptor.clone(), bytes.clone());
    let kept = blocking(move || job.store.put(&job.lease, &descriptor, &bytes)).await;
    kept.unwrap_or(Ok(())).map_err(|error: StoreError| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_tags_come_first() {
        let tags = ["latest", "2", "2.6.2", "2.6.2-alpine", "2.7.0", "1.0", "3"].map(str::to_owned).to_vec();
        assert_eq!(similar(tags, "2.6.22"), ["2.6.2", "2.6.2-alpine", "2.7.0", "2", "latest"]);
        assert_eq!(similar(vec!["2".to_owned(), "3".to_owned()], "2"), Vec::<String>::new());
        assert_eq!(similar(Vec::new(), "2"), Vec::<String>::new());
    }
}
