//! A registry in this process that serves what the image builder makes, and misbehaves on request.
//!
//! ```text
//!   Registry::start() ── publish(&image) ──► /v2/<name>/manifests/… and blobs/…
//!        │
//!        ├─ fault(When::blob(&digest).first(1), Fault::Cut { after: 1000 })   what goes wrong, and how often
//!        ├─ requests()                                                       what clients asked, in order
//!        └─ stop() or drop                                                   every connection closed at once
//! ```
//!
//! It follows the OCI distribution specification where clients look: content negotiation, `Docker-Content-Digest`,
//! ranges, errors as JSON, token challenges, monolithic and chunked uploads. The `?ns=` parameter that containerd
//! sends to mirrors is accepted and ignored, so one registry can be a mirror of several.

mod auth;
mod content;
mod fault;
mod gate;
mod plan;
mod record;
mod serve;
mod upload;
mod write;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use palletjack_image::Digest;

pub use auth::{Auth, Scheme};
pub use fault::{Fault, When};
pub use gate::Gate;
pub use plan::FaultHandle;
pub use record::Request;

use crate::http::Server;
use crate::image::{Blob, Image, ImageSet};

/// A registry on 127.0.0.1 and a port of its own. Stopped when dropped.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    address: SocketAddr,
    state: Arc<serve::State>,
}

impl Registry {
    /// Starts an empty registry that anybody may read and write.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None)
    }

    /// Starts an empty registry that asks for authentication.
    pub fn start_with_auth(auth: Auth) -> io::Result<Self> {
        Self::start_with(Some(auth))
    }

    fn start_with(auth: Option<Auth>) -> io::Result<Self> {
        let state = Arc::new(serve::State::new(auth));
        let server = Server::tcp(Arc::clone(&state) as _)?;
        let address =
            server.tcp_address().ok_or_else(|| io::Error::other("a TCP server without a TCP address"))?;
        Ok(Self { server, address, state })
    }

    /// `127.0.0.1:port`, as it stands in a reference.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes an image under its repository and tag. The host of its name does not matter: a mirror has none.
    pub fn publish(&self, image: &Image) {
        let mut content = self.state.content();
        for (digest, blob) in &image.blobs {
            content.add_blob(&image.name.repository, *digest, blob.clone());
        }
        for manifest in image.manifests() {
            content.add_manifest(&image.name.repository, manifest.media_type, manifest.bytes.clone());
        }
        let tag = image.name.tag.as_deref().unwrap_or("latest");
        content.set_tag(&image.name.repository, tag, image.top.digest);
    }

    /// Publishes every image of a set.
    pub fn publish_all(&self, set: &ImageSet) {
        for image in &set.images {
            self.publish(image);
        }
    }

    /// Stores a manifest as it is, be it sense or nonsense, and returns its digest.
    pub fn add_manifest(&self, repository: &str, media_type: &str, bytes: impl Into<Vec<u8>>) -> Digest {
        self.state.content().add_manifest(repository, media_type, bytes.into())
    }

    /// Stores a blob under a digest that need not be its own.
    pub fn add_blob(&self, repository: &str, digest: Digest, blob: impl Into<Blob>) {
        self.state.content().add_blob(repository, digest, blob.into());
    }

    /// Points a tag at a manifest, new or moved.
    pub fn set_tag(&self, repository: &str, tag: &str, digest: Digest) {
        self.state.content().set_tag(repository, tag, digest);
    }

    /// Forgets a blob in every repository.
    pub fn remove_blob(&self, digest: &Digest) {
        self.state.content().remove_blob(digest);
    }

    /// Forgets a manifest in every repository; tags that point at it stay, and then lead nowhere.
    pub fn remove_manifest(&self, digest: &Digest) {
        self.state.content().remove_manifest(digest);
    }

    /// Plans a fault. Of several that match a request, the one planned first happens; the others do not count it.
    pub fn fault(&self, when: When, fault: Fault) -> FaultHandle {
        self.state.plan.add(when, fault)
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.state.plan.clear();
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.state.log.all()
    }

    /// How many requests were answered or begun for a path that contains this text.
    pub fn count(&self, method: &str, path_contains: &str) -> usize {
        self.requests().iter().filter(|r| r.method == method && r.path.contains(path_contains)).count()
    }

    /// Forgets the requests so far and the highest number in flight.
    pub fn clear_requests(&self) {
        self.state.log.clear();
    }

    /// The highest number of requests that were being answered at one time.
    pub fn max_in_flight(&self) -> usize {
        self.state.log.max_in_flight()
    }

    /// Bytes of answer bodies sent so far, faults included.
    pub fn bytes_sent(&self) -> u64 {
        self.requests().iter().map(|r| r.bytes_sent).sum()
    }

    /// Makes every token that was handed out so far invalid, as if its time had passed.
    pub fn expire_tokens(&self) {
        self.state.tokens.expire();
    }

    /// How many tokens were handed out.
    pub fn tokens_issued(&self) -> usize {
        self.state.tokens.issued()
    }

    /// Stops now; the port is closed when this returns. The record of requests stays readable.
    pub fn stop(&mut self) {
        self.server.stop();
    }
}
