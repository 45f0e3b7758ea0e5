//! A record that Docker makes of an image which is loaded again.

use bollard::query_parameters::RemoveImageOptions;
use palletjack_store::Image;

use crate::capabilities::EngineKind;
use crate::connect::{Engine, innermost};
use crate::sighting::Sighting;

impl Engine {
    /// Docker's containerd store keeps `moby-dangling@<digest>` for what a name meant before a load, also where it
    /// meant the same (moby/moby#53561). No listing shows the record, and it holds the image's bytes when its names are
    /// removed. It goes where the image is known by a name that counts; taking it away then is an untagging.
    ///
    /// The load is done and proven: that this fails is nobody's trouble.
    pub(crate) async fn forget_nameless(&self, image: &Image, seen: &Sighting) {
        if self.capabilities().kind != EngineKind::DockerContainerd || !seen.exact {
            return;
        }
        let name = format!("moby-dangling@{}", image.entry.target.digest);
        let options = RemoveImageOptions { noprune: true, ..Default::default() };
        if let Err(error) = self.docker.remove_image(&name, Some(options), None).await {
            tracing::debug!(name, error = innermost(&error), "not removed");
        }
    }
}
