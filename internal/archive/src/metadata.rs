//! The three small files that make a tar of blobs an OCI image layout and a docker-archive.

use std::collections::BTreeMap;

use bytes::Bytes;
use palletjack_image::{Descriptor, Digest, media_type};
use palletjack_store::Image;
use serde::Serialize;

use crate::plan::{Item, Names};

/// OCI image-layout specification, "oci-layout file".
pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The key by which containerd and Podman name an image that they import.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI image specification, "Pre-Defined Annotation Keys": the name in a layout, which skopeo looks for.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Where a blob lies in the archive (OCI image-layout specification, "Blobs").
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Where a layer lies in the archive: one that is recoded must not carry the digest of what it was.
pub(crate) fn layer_name(item: &Item<'_>, layer: &Descriptor) -> String {
    if item.recodes(layer) {
        format!("recoded/{}.tar.gz", layer.digest.hex())
    } else {
        blob_name(&layer.digest)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// `index.json`: the descriptor that the reference was resolved to, once under each name it gets.
///
/// For a pinned image this is the descriptor of the pin itself, usually an index of several platforms of which the
/// archive holds one: a containerd store resolves `name@digest` only by the descriptor it was given, and the layout
/// specification allows the children to be absent. An image that was rebuilt from an engine never gets the name of its
/// pin, whose content it is not: it has its tag, or its own digest.
pub(crate) fn index_json(items: &[Item<'_>], names: Names) -> Bytes {
    let mut manifests = Vec::new();
    for item in items {
        let reference = &item.image.entry.reference;
        let tagged = reference.tagged().filter(|_| item.tag);
        let entry = &item.image.entry;
        let pinned = match (&entry.rebuilt, &tagged) {
            (None, _) => reference.pinned(),
            (Some(_), None) => reference.clone().with_digest(entry.target.digest).pinned(),
            (Some(_), Some(_)) => None,
        };
        let given: Vec<String> = match names {
            Names::One => tagged.or(pinned).into_iter().collect(),
            Names::EveryPin => tagged.into_iter().chain(pinned).collect(),
        };
        if given.is_empty() {
            // Its tag is another's here and it has no digest: its content travels without a name.
            manifests.push(descriptor(item.image, BTreeMap::new()));
        }
        for name in given {
            let is_reference = item.tag && entry.rebuilt.is_none();
            let ref_name = if is_reference { reference.to_string() } else { name.clone() };
            let annotations = [(IMAGE_NAME.to_owned(), name), (REF_NAME.to_owned(), ref_name)];
            manifests.push(descriptor(item.image, annotations.into()));
        }
    }
    to_json(&Index { schema_version: 2, media_type: media_type::OCI_INDEX, manifests })
}

fn descriptor(image: &Image, annotations: BTreeMap<String, String>) -> Descriptor {
    let top = image.index.as_ref().unwrap_or(&image.manifest);
    Descriptor { annotations, ..top.descriptor() }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Legacy {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// `manifest.json`, as `docker save` writes it. A layer that occurs twice is listed twice: Docker wants as many
/// layers here as the config has diff IDs.
pub(crate) fn manifest_json(items: &[Item<'_>]) -> Bytes {
    let legacy: Vec<Legacy> = items
        .iter()
        .map(|item| Legacy {
            config: blob_name(&item.image.config_descriptor.digest),
            repo_tags: item.image.entry.reference.tagged().filter(|_| item.tag).into_iter().collect(),
            layers: item.image.layers.iter().map(|layer| layer_name(item, layer)).collect(),
        })
        .collect();
    to_json(&legacy)
}

fn to_json(value: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value)
        .expect("strings, numbers and maps with string keys always serialise into memory");
    bytes.push(b'\n');
    bytes.into()
}
