//! Asking for a reference of which the cache knows nothing.

use palletjack_image::{Digest, Reference};

use crate::connect::Engine;
use crate::error::EngineError;

impl Engine {
    /// Whether the engine has an image under this reference exactly as it is written. What is behind a bare tag is not
    /// looked at.
    pub async fn resolves(&self, reference: &Reference) -> Result<bool, EngineError> {
        Ok(self.inspect(&reference.to_string()).await?.is_some())
    }

    /// Whether the engine has an image of this ID.
    pub async fn has(&self, id: &Digest) -> Result<bool, EngineError> {
        Ok(self.inspect(&id.to_string()).await?.is_some())
    }
}
