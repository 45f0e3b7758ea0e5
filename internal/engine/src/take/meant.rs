//! Which image an engine means by a reference, and what it vouches for.

use std::sync::Arc;

use palletjack_image::{Digest, Reference};

use super::{TakeError, Work, blocking};
use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::error::EngineError;
use crate::sighting::Found;

/// What the engine has under a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meant {
    /// A containerd store: the index or manifest.
    Target(Digest),
    /// Other engines.
    Config {
        /// The config's digest.
        id: Digest,
        /// The digests of manifests or indexes that are this image's: the one which is pinned, else those which the engine
        /// had from the registry.
        vouched: Vec<Digest>,
        /// What its layers unpack to, as the engine says it.
        diff_ids: Vec<Digest>,
    },
}

impl Meant {
    /// What the engine calls the image.
    pub(super) fn id(&self) -> &Digest {
        match self {
            Self::Target(id) | Self::Config { id, .. } => id,
        }
    }
}

impl Engine {
    pub(super) async fn meant(&self, work: &Arc<Work>) -> Result<Meant, TakeError> {
        let reference = &work.wish.reference;
        let image = reference.familiar();
        let unknown = |source| TakeError::Unknown { image: image.clone(), source };
        let ask = |name: String| async move { self.inspect(&name).await };
        let found = ask(reference.to_string()).await.map_err(unknown)?;
        let Some(pin) = reference.digest() else {
            let found = found.ok_or_else(|| TakeError::NotThere { image: image.clone() })?;
            let vouched = found.digests_of(reference);
            return self.read(&image, &found, vouched);
        };
        if self.capabilities().kind == EngineKind::DockerContainerd {
            let found = match found {
                Some(found) if found.is(&pin) => Some(found),
                // Under another name it is the same content.
                _ => ask(pin.to_string()).await.map_err(unknown)?.filter(|found| found.is(&pin)),
            };
            return match found {
                Some(_) => Ok(Meant::Target(pin)),
                None => Err(self.other(reference, ask(tagged(reference)).await.map_err(unknown)?.as_ref())),
            };
        }
        if let Some(found) = found {
            return self.read(&image, &found, vec![pin]);
        }
        // The cache may have the manifest all the same, and that says which config is meant.
        let asked = Arc::clone(work);
        let config = blocking(move || asked.shelf(None).config_of(&pin, &asked.platform)).await?;
        if let Ok(Some(config)) = config
            && let Some(found) =
                ask(config.to_string()).await.map_err(unknown)?.filter(|found| found.is(&config))
        {
            return self.read(&image, &found, vec![pin]);
        }
        Err(self.other(reference, ask(tagged(reference)).await.map_err(unknown)?.as_ref()))
    }

    /// What is said where a pin is not there: there may be an image of its tag.
    fn other(&self, reference: &Reference, by_tag: Option<&Found>) -> TakeError {
        let image = reference.familiar();
        match by_tag.and_then(Found::digest) {
            Some(id) if reference.tag().is_some() && !self.capabilities().resolves_pins() => {
                TakeError::NotVouched { image, tagged: reference.clone().without_digest().familiar(), id }
            }
            _ => TakeError::NotThere { image },
        }
    }

    fn read(&self, image: &str, found: &Found, vouched: Vec<Digest>) -> Result<Meant, TakeError> {
        let odd = |what: &str| TakeError::Unknown {
            image: image.to_owned(),
            source: EngineError::Ask { what: format!("image {image}"), source: what.to_owned().into() },
        };
        let id = found.digest().ok_or_else(|| odd("its ID is no digest"))?;
        if self.capabilities().kind == EngineKind::DockerContainerd {
            return Ok(Meant::Target(id));
        }
        let diff_ids: Result<Vec<Digest>, _> = found.layers.iter().map(|layer| layer.parse()).collect();
        let diff_ids = diff_ids.map_err(|_| odd("it names a layer by something that is no digest"))?;
        Ok(Meant::Config { id, vouched, diff_ids })
    }
}

/// The reference without its digest; what no engine has, where that leaves nothing.
fn tagged(reference: &Reference) -> String {
    reference.tagged().unwrap_or_else(|| reference.to_string())
}
