//! The pull of one pin, and the look at what it did.

use std::time::{Duration, Instant};

use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use palletjack_registry::serve::{Mirror, Served};
use palletjack_store::Image;
use tokio::time::{sleep, timeout};

use super::RepinError;
use crate::answer::one_line;
use crate::connect::{Engine, innermost};
use crate::sighting::Sighting;

/// How long an engine may take for a pull that moves a kilobyte. It may be unpacking something else.
const PULL: Duration = Duration::from_mins(2);
/// The pause before a pull is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// The servers that the engine is led to, which may be several ports of one address, or another process's.
pub(super) struct Servers<'a>(pub(super) &'a [Mirror]);

impl Servers<'_> {
    pub(super) fn served(&self) -> Served {
        self.0.iter().map(Mirror::served).fold(Served::default(), |a, b| Served {
            requests: a.requests + b.requests,
            manifests: a.manifests + b.manifests,
            blobs: a.blobs + b.blobs,
            blob_bytes: a.blob_bytes + b.blob_bytes,
        })
    }
}

impl Engine {
    /// Pulls an image's pin. Where the engine went elsewhere it is tried again for `patience`: a daemon reads the
    /// hosts file only every few seconds.
    pub(super) async fn pull_pin(
        &self,
        image: &Image,
        servers: &Servers<'_>,
        patience: Duration,
    ) -> Result<Sighting, RepinError> {
        let name = || image.entry.reference.familiar();
        let unknown = |source| RepinError::Unknown { image: name(), source };
        let before = self.look(image).await.map_err(unknown)?;
        if before.exact {
            return self.keep(image, &before).await.map(|_| before);
        }
        if !image.entry.has_pin() {
            return Err(RepinError::Rebuilt { image: name() });
        }
        let asked_before = servers.served().requests;
        let start = Instant::now();
        let failure = loop {
            let failure = self.pull(image).await.err();
            let asked = servers.served().requests > asked_before || servers.0.is_empty();
            if failure.is_none() || asked || start.elapsed() >= patience {
                break failure.map(|message| (asked, message));
            }
            sleep(PAUSE).await;
        };
        let after = self.look(image).await.map_err(unknown)?;
        if before.tag == Some(true) && after.tag == Some(false) {
            return Err(RepinError::TagMoved { image: name() });
        }
        match failure {
            _ if after.exact => self.keep(image, &after).await.map(|_| after),
            Some((true, message)) => Err(RepinError::Pull { image: name(), message }),
            Some((false, message)) => Err(RepinError::NotAsked { image: name(), message }),
            None => Err(RepinError::Unresolved { image: name() }),
        }
    }

    /// `docker pull NAME@DIGEST`.
    async fn pull(&self, image: &Image) -> Result<(), String> {
        let entry = &image.entry;
        // An engine asks for its own platform unless told; older ones take the parameter for an experiment.
        let platform = if entry.platform == self.capabilities().platform {
            String::new()
        } else {
            entry.platform.to_string()
        };
        let options = CreateImageOptions {
            from_image: Some(entry.reference.familiar_name()),
            tag: Some(entry.target.digest.to_string()),
            platform,
            ..CreateImageOptions::default()
        };
        let pull = async {
            let mut lines = std::pin::pin!(self.docker.create_image(Some(options), None, None));
            let mut failure = None;
            while let Some(line) = lines.next().await {
                match line {
                    Ok(line) => {
                        if let Some(detail) = line.error_detail {
                            failure.get_or_insert(detail.message.unwrap_or_default());
                        }
                    }
                    Err(error) => {
                        failure.get_or_insert(innermost(&error));
                    }
                }
            }
            failure
        };
        match timeout(PULL, Box::pin(pull)).await {
            Ok(None) => Ok(()),
            Ok(Some(message)) => Err(one_line(&message)),
            Err(_) => Err(format!("no end within {} s", PULL.as_secs())),
        }
    }
}
