//! Asking for a reference of which the cache knows nothing.

use palletjack_image::{Digest, Platform, Reference};

use crate::connect::Engine;
use crate::error::EngineError;

/// What an engine has under a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// An image that runs on the platform.
    Here,
    /// An image for another platform, which an engine only warns of.
    For(Platform),
    /// Nothing.
    Absent,
}

impl Engine {
    /// What the engine has under this reference exactly as it is written. Which image is behind a bare tag is not
    /// looked at, only what it is for.
    pub async fn resolves(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Resolved, EngineError> {
        let Some(found) = self.inspect(&reference.to_string()).await? else { return Ok(Resolved::Absent) };
        // Where nothing is said of a part, nothing can be held against it.
        let suits = |offered: &Platform| offered.architecture.is_empty() || platform.rank(offered).is_some();
        Ok(match found.platform {
            Some(offered) if !suits(&offered) => Resolved::For(offered),
            _ => Resolved::Here,
        })
    }

    /// Whether the engine has an image of this ID.
    pub async fn has(&self, id: &Digest) -> Result<bool, EngineError> {
        Ok(self.inspect(&id.to_string()).await?.is_some())
    }
}
