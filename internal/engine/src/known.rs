//! Which layers an engine has, by the names that its kind gives them.
//!
//! ```text
//!   Docker, graph driver       chain IDs        a layer with all that is below it
//!   Docker, containerd store   blob digests     a layer as the registry packed it
//!   Podman                     diff IDs         a layer's content, wherever it lies
//! ```

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use palletjack_image::{Descriptor, Digest, chain_ids};
use palletjack_store::{Image, Store};

use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::error::EngineError;
use crate::sighting::Listing;

/// How many images are inspected at once. Each takes an engine 1 to 4 ms.
const INSPECTIONS: usize = 4;

/// What a load to this engine may leave out.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    kind: EngineKind,
    keys: HashSet<Digest>,
}

impl Known {
    pub(crate) fn nothing(kind: EngineKind) -> Self {
        Self { kind, keys: HashSet::new() }
    }

    /// What the engine calls each layer of an image, lowest first.
    pub(crate) fn keys(kind: EngineKind, layers: &[Descriptor], diff_ids: &[Digest]) -> Vec<Digest> {
        let blobs = || layers.iter().map(|layer| layer.digest).collect();
        match kind {
            EngineKind::DockerContainerd => blobs(),
            // An image that says two things about how many layers it has is sent as it is.
            _ if diff_ids.len() != layers.len() => blobs(),
            EngineKind::DockerGraph => chain_ids(diff_ids),
            EngineKind::Podman => diff_ids.to_vec(),
        }
    }

    pub(crate) fn keys_of(&self, image: &Image) -> Vec<Digest> {
        Self::keys(self.kind, &image.layers, &image.config.diff_ids)
    }

    pub(crate) fn has(&self, key: &Digest) -> bool {
        self.keys.contains(key)
    }

    /// The engine has these layers.
    pub(crate) fn add(&mut self, keys: impl IntoIterator<Item = Digest>) {
        self.keys.extend(keys);
    }

    /// The engine did not do with these layers what it should with layers that it has.
    pub(crate) fn distrust(&mut self, keys: &[Digest]) {
        for key in keys {
            self.keys.remove(key);
        }
    }

    fn add_inspected(&mut self, diff_ids: &[String]) {
        let diff_ids: Result<Vec<Digest>, _> = diff_ids.iter().map(|id| id.parse()).collect();
        let Ok(diff_ids) = diff_ids else { return };
        match self.kind {
            EngineKind::DockerGraph => self.add(chain_ids(&diff_ids)),
            EngineKind::DockerContainerd | EngineKind::Podman => self.add(diff_ids),
        }
    }
}

impl Engine {
    /// Asks for all layers that the engine has.
    ///
    /// A containerd store says only which manifests are whole. Which blobs these are, the manifests of the cache say:
    /// what the cache does not know is sent, though the engine may have it.
    pub(crate) async fn known(&self, store: &Store) -> Result<Known, EngineError> {
        let mut known = Known::nothing(self.capabilities().kind);
        let listing = self.list(self.capabilities().kind == EngineKind::DockerContainerd).await?;
        if self.capabilities().kind == EngineKind::DockerContainerd {
            let store = store.clone();
            let blobs = tokio::task::spawn_blocking(move || blobs_of_whole_images(&store, &listing)).await;
            known.add(blobs.unwrap_or_default());
            return Ok(known);
        }
        let ids: HashSet<String> = listing.ids().map(str::to_owned).collect();
        let inspections = stream::iter(ids).map(|id| async move { self.inspect(&id).await });
        let mut inspections = std::pin::pin!(inspections.buffer_unordered(INSPECTIONS));
        while let Some(found) = inspections.next().await {
            // An image that the engine cannot describe, or that is gone by now, counts for nothing.
            if let Ok(Some(found)) = found {
                known.add_inspected(&found.layers);
            }
        }
        Ok(known)
    }

    /// Not to know what an engine has costs bytes and nothing else.
    pub(crate) async fn known_or_nothing(&self, store: &Store) -> Known {
        self.known(store).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "images are sent whole, because the engine does not say what it has");
            Known::nothing(self.capabilities().kind)
        })
    }
}

fn blobs_of_whole_images(store: &Store, listing: &Listing) -> Vec<Digest> {
    let Ok(snapshot) = store.snapshot() else { return Vec::new() };
    let whole = snapshot.entries().iter().filter(|entry| listing.has_manifest(&entry.manifest.digest));
    whole
        .filter_map(|entry| store.image(entry).ok())
        .flat_map(|image| image.layers.into_iter().map(|layer| layer.digest))
        .collect()
}
