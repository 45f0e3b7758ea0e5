//! Asking an engine whether an image is there, and under which names.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::errors::Error as ClientError;
use bollard::models::ImageSummary;
use bollard::query_parameters::ListImagesOptions;
use palletjack_image::{Digest, Platform, Reference};
use palletjack_store::Image;
use tokio::time::timeout;

use crate::capabilities::EngineKind;
use crate::connect::{Engine, innermost};
use crate::error::EngineError;

/// How long an engine may take for one question. It takes milliseconds, unless it is unpacking something large.
const ASK: Duration = Duration::from_mins(2);

/// What an engine says about an image when it is asked by name and by digest.
///
/// The platform needs no question of its own: the ID is a digest of the chosen platform's config, and on a containerd
/// store, where it may be an index, `content` speaks of the chosen platform's manifest.
///
/// These are statements about the engine's metadata. Whether the files behind it are whole is another question,
/// which no engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// What the engine calls the image: the config's digest, or on a containerd store the digest of the index or
    /// manifest.
    pub id: Digest,
    /// Whether the engine has all of it, under whatever name.
    pub content: bool,
    /// Whether `name:tag` means this image; `None` where the reference has no tag.
    pub tag: Option<bool>,
    /// Whether the reference exactly as the pallet has it, digest included, means this image.
    pub exact: bool,
}

impl Sighting {
    /// Whether nothing needs to be sent for the image to be usable under its reference as far as a load can make it.
    /// `pins`: a load gives it its pin as a name. `wants_tag`: the bare tag is to be this image's.
    pub(crate) fn is_enough(&self, pins: bool, wants_tag: bool) -> bool {
        // Where the pin will not be a name, the tag or the ID has to do.
        let named = self.exact || !pins && (self.tag == Some(true) || self.tag.is_none() || !wants_tag);
        self.content && named
    }
}

/// A containerd store's images, listed once for many questions: each inspection costs it tens of milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    images: Vec<ImageSummary>,
}

impl Listing {
    /// Whether all content of this manifest is there, whatever it is called.
    pub(crate) fn has_manifest(&self, digest: &Digest) -> bool {
        let digest = digest.to_string();
        let manifests = self.images.iter().flat_map(|listed| listed.manifests.iter().flatten());
        manifests.into_iter().any(|manifest| manifest.id == digest && manifest.available)
    }

    /// The IDs of all images, some more than once.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|listed| listed.id.as_str())
    }

    /// For each image, the names and digests that it is listed with.
    pub(crate) fn names(&self) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.images
            .iter()
            .map(|listed| listed.repo_tags.iter().chain(&listed.repo_digests).map(String::as_str))
    }

    /// Whether the image is complete, as far as the listing says it: `None` where the engine is too old to list
    /// manifests (API before 1.47) and the layers have to be compared.
    fn is_complete(&self, image: &Image) -> Option<bool> {
        let target = image.entry.target.digest.to_string();
        let chosen = image.entry.manifest.digest.to_string();
        let mut complete = Some(false);
        for listed in self.images.iter().filter(|listed| listed.id == target) {
            match &listed.manifests {
                None => complete = None,
                Some(manifests) => {
                    if manifests.iter().any(|manifest| manifest.id == chosen && manifest.available) {
                        return Some(true);
                    }
                }
            }
        }
        complete
    }
}

impl Engine {
    /// Asks whether the engine has an image, by every name that its reference gives it.
    pub async fn look(&self, image: &Image) -> Result<Sighting, EngineError> {
        let listing = self.listing().await?;
        self.look_with(image, &listing).await
    }

    /// What [`Self::look_with`] needs for many images; empty for engines where asking for each is cheap.
    pub(crate) async fn listing(&self) -> Result<Listing, EngineError> {
        if self.capabilities().kind != EngineKind::DockerContainerd {
            return Ok(Listing::default());
        }
        self.list(true).await
    }

    /// All images that have a name or no children; `manifests` asks a containerd store for what is whole, and for
    /// intermediate images.
    pub(crate) async fn list(&self, manifests: bool) -> Result<Listing, EngineError> {
        let options = ListImagesOptions { all: manifests, manifests, ..Default::default() };
        let what = || "its images".to_owned();
        match timeout(ASK, Box::pin(self.docker.list_images(Some(options)))).await {
            Ok(Ok(images)) => Ok(Listing { images }),
            Ok(Err(error)) => Err(EngineError::Ask { what: what(), source: error.into() }),
            Err(elapsed) => Err(EngineError::Ask { what: what(), source: elapsed.into() }),
        }
    }

    pub(crate) async fn look_with(&self, image: &Image, listing: &Listing) -> Result<Sighting, EngineError> {
        let reference = &image.entry.reference;
        let id = match self.capabilities().kind {
            EngineKind::DockerContainerd => image.entry.target.digest,
            EngineKind::DockerGraph | EngineKind::Podman => image.config_descriptor.digest,
        };
        // A containerd store may have the very image that this one was rebuilt from, under its real digest.
        let original = match (self.capabilities().kind, &image.entry.rebuilt) {
            (EngineKind::DockerContainerd, Some(_)) => reference.digest(),
            _ => None,
        };
        let is_meant = |found: &Found| found.is(&id) || original.is_some_and(|original| found.is(&original));
        let by_tag = match reference.tagged() {
            None => None,
            Some(tagged) => Some(self.inspect(&tagged).await?.filter(is_meant)),
        };
        let by_pin = match reference.digest() {
            None => by_tag.clone().flatten(),
            Some(_) => self.inspect(&reference.to_string()).await?.filter(is_meant),
        };
        let tag = by_tag.as_ref().map(Option::is_some);
        let exact = by_pin.is_some();
        let found = match by_pin.or(by_tag.flatten()) {
            None => self.inspect(&id.to_string()).await?.filter(|found| found.is(&id)),
            found => found,
        };
        let content = match (found, self.capabilities().kind) {
            (None, _) => false,
            (Some(_), EngineKind::DockerGraph | EngineKind::Podman) => true,
            (Some(found), EngineKind::DockerContainerd) if !found.is(&id) => found.has_layers_of(image),
            (Some(found), EngineKind::DockerContainerd) => {
                listing.is_complete(image).unwrap_or_else(|| found.has_layers_of(image))
            }
        };
        Ok(Sighting { id, content, tag, exact: exact && content })
    }

    /// An image by name or ID; `None` where the engine has none, or one so damaged that it cannot describe it.
    pub(crate) async fn inspect(&self, name: &str) -> Result<Option<Found>, EngineError> {
        let what = || format!("image {name}");
        match timeout(ASK, Box::pin(self.docker.inspect_image(name))).await {
            Ok(Ok(found)) => Ok(Some(Found {
                id: found.id.unwrap_or_default(),
                layers: found.root_fs.and_then(|root| root.layers).unwrap_or_default(),
                names: [found.repo_tags, found.repo_digests].into_iter().flatten().flatten().collect(),
                platform: found
                    .os
                    .zip(found.architecture)
                    .map(|(os, architecture)| Platform::new(&os, &architecture, found.variant.as_deref())),
            })),
            Ok(Err(ClientError::DockerResponseServerError { status_code, message })) => {
                if status_code != 404 {
                    tracing::warn!(name, status_code, message, "the engine cannot describe an image");
                }
                Ok(None)
            }
            Ok(Err(error)) => {
                tracing::debug!(name, error = innermost(&error), "inspection failed");
                Err(EngineError::Ask { what: what(), source: error.into() })
            }
            Err(elapsed) => Err(EngineError::Ask { what: what(), source: elapsed.into() }),
        }
    }
}

/// What counts of an engine's description of an image.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) id: String,
    /// Diff IDs, lowest first.
    pub(crate) layers: Vec<String>,
    /// Every `name:tag` and `name@digest` of it.
    pub(crate) names: Vec<String>,
    /// What it is for. A containerd store that has it for several says the one of its own machine.
    pub(crate) platform: Option<Platform>,
}

impl Found {
    /// Whether it is the image of this ID. Podman has said IDs with and without the algorithm.
    pub(crate) fn is(&self, id: &Digest) -> bool {
        self.digest().as_ref() == Some(id)
    }

    /// Its ID.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.id.parse().or_else(|_| Digest::from_hex(&self.id)).ok()
    }

    /// The digests that the engine knows it by in the repository of a reference.
    pub(crate) fn digests_of(&self, reference: &Reference) -> Vec<Digest> {
        let names = self.names.iter().filter_map(|name| name.parse::<Reference>().ok());
        let names = names.filter(|name| name.name() == reference.name());
        names.filter_map(|name| name.digest()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether the engine knows all layers of the image: it says none, or fewer, where content is missing.
    fn has_layers_of(&self, image: &Image) -> bool {
        let expected: Vec<String> = image.config.diff_ids.iter().map(Digest::to_string).collect();
        self.layers == expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_enough_depends_on_the_engine() {
        let id = Digest::of(b"image");
        let seen = |content, tag, exact| Sighting { id, content, tag, exact };
        for (sighting, wants_tag, graph, other) in [
            (seen(false, Some(false), false), true, false, false),
            (seen(true, Some(true), true), true, true, true),
            // Loaded before, under a pinned reference: the pin has a name only where digests are kept.
            (seen(true, Some(true), false), true, true, false),
            // The tag has gone to another image.
            (seen(true, Some(false), false), true, false, false),
            (seen(true, Some(false), false), false, true, false),
            (seen(true, Some(false), true), true, true, true),
            // No tag to have.
            (seen(true, None, false), true, true, false),
            // A containerd store lists images that it cannot run.
            (seen(false, Some(true), false), true, false, false),
        ] {
            assert_eq!(sighting.is_enough(false, wants_tag), graph, "{sighting:?}");
            assert_eq!(sighting.is_enough(true, wants_tag), other, "{sighting:?}");
        }
    }
}
