//! A record that Docker makes of what a name meant before a load.

use bollard::query_parameters::RemoveImageOptions;
use palletjack_image::Digest;
use palletjack_store::Image;

use crate::capabilities::EngineKind;
use crate::connect::{Engine, innermost};
use crate::sighting::Sighting;

/// What such a record's name begins with.
const NAMELESS: &str = "moby-dangling@";

impl Engine {
    /// Docker's containerd store keeps `moby-dangling@<digest>` for what a name meant before a load, also where it
    /// meant the same (moby/moby#53561). No listing shows the record, and it holds the image's bytes when its names are
    /// removed. It goes where the image is known by a name that counts; taking it away then is an untagging.
    ///
    /// The load is done and proven: that this fails is nobody's trouble.
    pub(crate) async fn forget_nameless(&self, image: &Image, seen: &Sighting) {
        if self.capabilities().kind == EngineKind::DockerContainerd && seen.exact {
            self.remove_nameless(&image.entry.target.digest).await;
        }
    }

    /// The image from which a load takes the tag, of whose other names nothing is known yet.
    pub(crate) async fn tag_holder(&self, image: &Image) -> Option<Digest> {
        if self.capabilities().kind != EngineKind::DockerContainerd {
            return None;
        }
        let tagged = image.entry.reference.tagged()?;
        let holder: Digest = self.inspect(&tagged).await.ok()??.id.parse().ok()?;
        (holder != image.entry.target.digest).then_some(holder)
    }

    /// The same as [`Self::forget_nameless`] for an image that has lost its tag to another. Where that was its only
    /// name the record is what `docker images` shows as `<none>`, and stays.
    pub(crate) async fn forget_displaced(&self, id: &Digest) {
        if let Ok(Some(found)) = self.inspect(&id.to_string()).await
            && found.names.iter().any(|name| !name.starts_with(NAMELESS))
        {
            self.remove_nameless(id).await;
        }
    }

    async fn remove_nameless(&self, id: &Digest) {
        let name = format!("{NAMELESS}{id}");
        let options = RemoveImageOptions { noprune: true, ..Default::default() };
        if let Err(error) = self.docker.remove_image(&name, Some(options), None).await {
            tracing::debug!(name, error = innermost(&error), "not removed");
        }
    }
}
