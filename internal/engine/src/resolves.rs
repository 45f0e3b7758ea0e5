//! Asking for a reference of which the cache knows nothing.

use palletjack_image::Reference;

use crate::connect::Engine;
use crate::error::EngineError;

impl Engine {
    /// Whether the engine has an image under this reference exactly as it is written. What is behind a bare tag is not
    /// looked at.
    pub async fn resolves(&self, reference: &Reference) -> Result<bool, EngineError> {
        Ok(self.inspect(&reference.to_string()).await?.is_some())
    }
}
