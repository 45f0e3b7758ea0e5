//! Keeping an image whose tag has gone to another.
//!
//! `docker image prune` and `podman image prune` take every image that has no tag, whatever digests it is known by. Two
//! pins of one tag, as in a current and a next bundle, leave one of them without: it gets a tag of ours, in its own
//! repository, because Docker forgets a repository's digests with its last tag.

use bollard::query_parameters::TagImageOptions;
use palletjack_store::Image;

use super::RepinError;
use crate::capabilities::EngineKind;
use crate::connect::Engine;
use crate::error::EngineError;
use crate::sighting::Sighting;

/// What tags of ours begin with; the beginning of the pinned digest follows.
const PREFIX: &str = "palletjack-";

/// The tag that keeps an image.
fn keeping_tag(image: &Image) -> String {
    let hex = image.entry.target.digest.hex();
    format!("{PREFIX}{}", &hex[..12])
}

/// Whether a tag is one of ours that only keeps an image.
pub(crate) fn is_keeping_tag(tag: &str) -> bool {
    let digits = tag.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == 12 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Engine {
    /// Gives every pinned image of the list that the engine has, and whose tag means another image, a tag of ours, so
    /// that no prune takes it. In the order of the list: the tag that it got, or nothing where it needs none.
    ///
    /// Whether it resolves by its pin does not matter: what a graph driver knows by its ID alone is what Compose files
    /// can be made to name. A containerd store needs none of this: there every pin is a name that a prune respects.
    pub async fn keep_pins(&self, images: &[&Image]) -> Vec<Result<Option<String>, RepinError>> {
        if self.capabilities().kind == EngineKind::DockerContainerd {
            return images.iter().map(|_| Ok(None)).collect();
        }
        let mut results = Vec::with_capacity(images.len());
        for image in images {
            let result = match self.look(image).await {
                Ok(seen) => self.keep(image, &seen).await,
                Err(source) => Err(RepinError::Unknown { image: image.entry.reference.familiar(), source }),
            };
            results.push(result);
        }
        results
    }

    pub(super) async fn keep(&self, image: &Image, seen: &Sighting) -> Result<Option<String>, RepinError> {
        let reference = &image.entry.reference;
        let needless = reference.digest().is_none() || !seen.content || seen.tag == Some(true);
        if needless || self.capabilities().kind == EngineKind::DockerContainerd {
            return Ok(None);
        }
        let tag = keeping_tag(image);
        let options = TagImageOptions { repo: Some(reference.name()), tag: Some(tag.clone()) };
        match self.docker.tag_image(&seen.id.to_string(), Some(options)).await {
            Ok(()) => Ok(Some(format!("{}:{tag}", reference.familiar_name()))),
            Err(source) => {
                let source = EngineError::Ask { what: format!("the tag {tag}"), source: source.into() };
                Err(RepinError::Kept { image: reference.familiar(), source })
            }
        }
    }
}
