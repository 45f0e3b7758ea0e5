//! `cache ls-img`: what is in the cache.

use std::collections::BTreeMap;
use std::time::SystemTime;

use palletjack_image::{Descriptor, Digest};
use palletjack_store::{Entry, Snapshot, Store};
use serde::Serialize;

use crate::cli::Output;
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::{human_bytes, table};

/// The document of `cache ls-img --output json`. Sizes are bytes.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    cache: String,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    reference: String,
    requested: String,
    platform: String,
    digest: Digest,
    manifest: Digest,
    /// All blobs of the image.
    size: u64,
    /// Those of them that other images in the cache have as well.
    shared_size: u64,
    fetched: String,
    upstream: String,
    pinned: bool,
    /// Whether it was rebuilt from an engine, and is not what its reference pins.
    rebuilt: bool,
    /// The digests that the engine had it under; absent where it was not rebuilt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vouched: Vec<Digest>,
    /// Whether the bare name:tag means this image.
    owns_tag: bool,
    /// Why the image cannot be used; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

pub(crate) fn ls_img(context: &Context, no_trunc: bool) -> Result<(), CommandError> {
    let store = match context.filled_store() {
        Ok(store) => store,
        // An empty list is an answer, and the hint where another cache is still helps.
        Err(error) if error.exit == crate::error::Exit::Missing => {
            context.printer.note(&error.report().replacen("error: ", "", 1));
            return match context.globals.output {
                Output::Text => Ok(()),
                Output::Json => context.printer.json(&document(String::new(), Vec::new())),
            };
        }
        Err(error) => return Err(error),
    };
    let _lease = store.lease()?;
    let images = images(&store, &store.snapshot()?);
    match context.globals.output {
        Output::Json => context.printer.json(&document(store.root().display().to_string(), images)),
        Output::Text => {
            let mut rows = vec![
                ["REFERENCE", "PLATFORM", "DIGEST", "SIZE", "SHARED", "FETCHED"].map(str::to_owned).to_vec(),
            ];
            rows.extend(images.iter().map(|image| row(image, no_trunc)));
            for image in &images {
                if let Some(damage) = &image.damage {
                    context.printer.warning(&format!("{} ({}): {damage}", image.reference, image.platform));
                }
            }
            context.printer.result(&table(&rows, &[3, 4]))
        }
    }
}

fn document(cache: String, images: Vec<Image>) -> Document {
    Document { schema: "palletjack.cached-images/1", cache, images }
}

fn row(image: &Image, no_trunc: bool) -> Vec<String> {
    let (reference, digest) = if no_trunc {
        (image.reference.clone(), image.digest.to_string())
    } else {
        let reference = image.reference.split('@').next().unwrap_or_default().to_owned();
        (reference, image.digest.short())
    };
    vec![
        reference,
        image.platform.clone(),
        digest,
        human_bytes(image.size),
        human_bytes(image.shared_size),
        format!("{}{}", image.fetched, if image.rebuilt { "  rebuilt" } else { "" }),
    ]
}

fn images(store: &Store, snapshot: &Snapshot) -> Vec<Image> {
    let blobs: Vec<(BTreeMap<Digest, u64>, Option<String>)> =
        snapshot.entries().iter().map(|entry| blobs_of(store, entry)).collect();
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for digest in blobs.iter().flat_map(|(blobs, _)| blobs.keys()) {
        *users.entry(*digest).or_default() += 1;
    }
    let image = |(entry, (blobs, damage)): (&Entry, &(BTreeMap<Digest, u64>, Option<String>))| Image {
        reference: entry.reference.familiar(),
        requested: entry.requested.clone(),
        platform: entry.platform.to_string(),
        digest: entry.target.digest,
        manifest: entry.manifest.digest,
        size: blobs.values().sum(),
        shared_size: blobs.iter().filter(|(digest, _)| users[*digest] > 1).map(|(_, size)| size).sum(),
        fetched: rfc3339(entry.fetched),
        upstream: entry.upstream.clone(),
        pinned: entry.pinned,
        rebuilt: entry.rebuilt.is_some(),
        vouched: entry.rebuilt.clone().unwrap_or_default().vouched,
        owns_tag: entry.owns_tag,
        damage: damage.clone(),
    };
    snapshot.entries().iter().zip(&blobs).map(image).collect()
}

/// All blobs of an image with their sizes, and why it cannot be used.
fn blobs_of(store: &Store, entry: &Entry) -> (BTreeMap<Digest, u64>, Option<String>) {
    let mut blobs = BTreeMap::new();
    let mut note = |descriptor: &Descriptor| blobs.insert(descriptor.digest, descriptor.size);
    note(&entry.target);
    note(&entry.manifest);
    let damage = match store.image(entry) {
        Ok(image) => {
            note(&image.config_descriptor);
            image.layers.iter().for_each(|layer| {
                note(layer);
            });
            image
                .layers
                .iter()
                .find(|layer| !store.has_blob(layer))
                .map(|layer| format!("blob {} is missing or cut", layer.digest))
        }
        Err(error) => Some(error.to_string()),
    };
    (blobs, damage)
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
