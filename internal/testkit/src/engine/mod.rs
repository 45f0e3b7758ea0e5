//! A container engine's image API on a unix socket, with faults: what real engines do rarely and tests need often.
//!
//! ```text
//!   Engine::start(Profile::docker_20()) ──► /_ping /version /info /images/json /images/{name}/json /images/load
//!        │                                  /containers/create /containers/{id}/export
//!        │
//!        ├─ fault(LoadFault::HangupAfter { bytes })   the next load goes wrong in this way; queued, one per load
//!        ├─ wait_for_loads(n)                        what arrived: bytes, members, whether the body was complete
//!        └─ requests()                               every request by method and path
//! ```
//!
//! A load without a fault is taken seriously: the archive is read as the profile's engine reads it (`manifest.json`
//! by a graph driver, `index.json` by a containerd store), and what it names can be inspected afterwards. A body that
//! breaks off registers nothing. Containers of it can be created and show the files of its layers; nothing ever runs.

mod api;
mod files;
mod images;
mod load;
mod profile;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

pub use images::EngineImage;
pub use load::{Load, LoadFault};
pub use profile::Profile;

use crate::http::Server;

/// An engine of no substance. Stopped when dropped.
#[derive(Debug)]
pub struct Engine {
    server: Server,
    state: Arc<api::State>,
    directory: TempDir,
}

impl Engine {
    /// Starts an engine without images.
    pub fn start(profile: Profile) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("engine-").tempdir()?;
        let state = Arc::new(api::State::new(profile, directory.path().to_owned()));
        let server = Server::unix(&directory.path().join("engine.sock"), Arc::clone(&state) as _)?;
        Ok(Self { server, state, directory })
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// `unix://…`, as `DOCKER_HOST` wants it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Queues a fault: each load takes the first of the queue, and later loads are served rightly.
    pub fn fault(&self, fault: LoadFault) {
        self.state.loads.plan(fault);
    }

    /// Forgets the faults that no load has taken yet.
    pub fn clear_faults(&self) {
        self.state.loads.clear();
    }

    /// Makes an image known as if it had been loaded before.
    pub fn add_image(&self, image: EngineImage) {
        self.state.images().add(image);
    }

    /// Forgets the image that this name leads to.
    pub fn remove_image(&self, reference: &str) {
        self.state.images().remove(reference);
    }

    /// The images it has, in the order in which they came.
    pub fn images(&self) -> Vec<EngineImage> {
        self.state.images().all()
    }

    /// The loads that have ended so far, however they ended.
    pub fn loads(&self) -> Vec<Load> {
        self.state.loads.ended()
    }

    /// Blocks until this many loads have ended, and returns them.
    ///
    /// # Panics
    /// When they have not after a minute.
    #[track_caller]
    pub fn wait_for_loads(&self, count: usize) -> Vec<Load> {
        self.state.loads.wait_for(count)
    }

    /// Method and path of every request so far.
    pub fn requests(&self) -> Vec<(String, String)> {
        self.state.requests()
    }

    /// Closes the socket and every connection.
    pub fn stop(&mut self) {
        self.server.stop();
    }
}

#[cfg(test)]
mod tests;
