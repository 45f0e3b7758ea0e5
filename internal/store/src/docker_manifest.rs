//! `manifest.json`: what `docker load` reads of the directory when it is handed over as a tar.

use std::collections::HashSet;

use palletjack_image::{ImageManifest, LayerCompression};
use serde::Serialize;

use crate::durable;
use crate::error::StoreError;
use crate::index::Entry;
use crate::layout::Store;

/// One image of a docker-archive (Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset
/// Format"). The members name the blobs of the OCI layout, which every engine accepts.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Writes `manifest.json` anew from the entries of `index.json`. The caller holds the index lock.
    pub(crate) fn write_docker_manifest(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let path = self.archives().join("manifest.json");
        let text = self.docker_manifest(entries)?;
        durable::replace(&path, &text, 0o644, self.inner.owner)
    }

    /// The content of `manifest.json`: a function of the entries alone.
    ///
    /// * Each tag once: its owner's. Images that own no tag (a second pin of a tag, a pin by digest alone) are listed
    ///   without one, so that their content is loaded as well.
    /// * Images for other platforms than the cache's main one are listed only where the tag has no image for that.
    /// * Images with layers that are not gzip come last: Docker before version 23 stops at the first of them.
    pub(crate) fn docker_manifest(&self, entries: &[Entry]) -> Result<Vec<u8>, StoreError> {
        let mut plain = Vec::new();
        let mut other = Vec::new();
        let mut listed = HashSet::new();
        for entry in entries {
            let tag = entry.reference.tagged().filter(|_| entry.owns_tag);
            if tag.is_none() && entry.platform != *self.main_platform() {
                continue;
            }
            let manifest = match self.manifest_of(&entry.manifest) {
                Ok(manifest) => manifest,
                Err(error) => {
                    tracing::warn!(%error, reference = %entry.reference, "left out of manifest.json");
                    continue;
                }
            };
            if tag.is_none() && !listed.insert(manifest.config.digest) {
                continue;
            }
            listed.insert(manifest.config.digest);
            let is_gzip = |media_type: &str| LayerCompression::of(media_type) == Some(LayerCompression::Gzip);
            let all_gzip = manifest.layers.iter().all(|layer| is_gzip(&layer.media_type));
            let list = if all_gzip { &mut plain } else { &mut other };
            list.push(item(&manifest, tag));
        }
        plain.append(&mut other);
        let path = self.archives().join("manifest.json");
        let mut text =
            serde_json::to_vec_pretty(&plain).map_err(|source| StoreError::Damaged { path, source })?;
        text.push(b'\n');
        Ok(text)
    }
}

fn item(manifest: &ImageManifest, tag: Option<String>) -> Item {
    let file = |digest: &palletjack_image::Digest| format!("blobs/sha256/{}", digest.hex());
    Item {
        config: file(&manifest.config.digest),
        repo_tags: tag.map(|tag| vec![tag]),
        layers: manifest.layers.iter().map(|layer| file(&layer.digest)).collect(),
    }
}
