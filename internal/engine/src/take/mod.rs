//! Images of an engine back into the cache.
//!
//! ```text
//!   reference ─► meant ─┬─ containerd store: the digest of the index or manifest ─► whole, byte for byte
//!                       └─ graph driver, Podman: the config's digest, the digests that it vouches for
//!                                │
//!                cache has a manifest of such a digest, and its layers? ─ yes ─► whole
//!                                └ no ─► rebuilt: the config, raw layers or blobs of the cache that unpack to them
//!
//!   all of it in the cache? ─ no ─► GET /images/ID/get ─► bounded channel ─► blocking thread: archive::Contents
//! ```
//!
//! An engine's word is taken for one thing: that a digest is of the image which it has under it. Everything else is
//! hashed on the way in.

mod error;
mod meant;
mod named;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use palletjack_archive::{Contents, Found, ImportError, KnownLayers, Parts, Shelf};
use palletjack_image::{Digest, Platform, Reference};
use palletjack_store::{Entry, Lease, NewEntry, Rebuilt, Snapshot, Store, StoreError};
use tokio::task::spawn_blocking;

pub use error::TakeError;

use crate::capabilities::EngineKind;
use crate::connect::Engine;
use meant::Meant;

/// An image that is to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeWish {
    /// Which image; with a tag, a digest or both.
    pub reference: Reference,
    /// The reference as it was written.
    pub requested: String,
}

/// How images are taken back.
#[derive(Debug, Clone)]
pub struct TakeOptions {
    /// What they are to run on.
    pub platform: Platform,
    /// Whether the engine is asked what a tag means that the cache has. Digests never are.
    pub refresh: bool,
    /// How long the engine may be silent. A quarter of an hour unless set: Docker's graph drivers write the whole archive to
    /// a directory of their own before the first byte comes.
    pub silence: Duration,
}

impl TakeOptions {
    /// The defaults for a platform.
    pub fn new(platform: Platform) -> Self {
        Self { platform, refresh: false, silence: Duration::from_mins(15) }
    }
}

/// An image that is in the cache now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its entry.
    pub entry: Entry,
    /// Whether the cache had it under this reference before.
    pub cached: bool,
    /// Bytes of the archive that the engine handed out; none where the cache had all of the content.
    pub read: u64,
    /// Bytes of it that were written to disk; the rest was in the cache.
    pub written: u64,
}

/// A step of one image; `image` is its index in the list that was given to [`Engine::take_back`].
#[derive(Debug)]
pub enum TakeEvent<'a> {
    /// The engine is asked for it.
    Asking {
        /// Which image.
        image: usize,
    },
    /// The engine hands it out. Comes with every piece.
    Reading {
        /// Which image.
        image: usize,
        /// Bytes so far.
        bytes: u64,
    },
    /// It is in the cache.
    Done {
        /// Which image.
        image: usize,
        /// What came of it.
        taken: &'a Taken,
    },
    /// It is not.
    Failed {
        /// Which image.
        image: usize,
        /// Why.
        error: &'a TakeError,
    },
}

/// What the work on one image needs to have of the cache.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) store: Store,
    lease: Lease,
    snapshot: Snapshot,
    wish: TakeWish,
    platform: Platform,
    /// What is said of where it came from.
    upstream: String,
}

impl Engine {
    /// Has these images in the cache, from what the engine has of them, one after the other. One failure does not stop the
    /// others. What came of each, in the order of the list.
    ///
    /// From a containerd store they come exactly as the registry handed them out. Other engines have lost its manifest and
    /// compressed layers: there an image is exact where the cache has these, and else [`Rebuilt`].
    pub async fn take_back(
        &self,
        store: &Store,
        wishes: &[TakeWish],
        options: &TakeOptions,
        events: &(dyn Fn(TakeEvent<'_>) + Send + Sync),
    ) -> Vec<Result<Taken, TakeError>> {
        let mut known = KnownLayers::default();
        let mut results = Vec::with_capacity(wishes.len());
        for (image, wish) in wishes.iter().enumerate() {
            let reading = |bytes| events(TakeEvent::Reading { image, bytes });
            events(TakeEvent::Asking { image });
            let result = self.take_one(store, wish, options, &mut known, &reading).await;
            events(match &result {
                Ok(taken) => TakeEvent::Done { image, taken },
                Err(error) => TakeEvent::Failed { image, error },
            });
            results.push(result);
        }
        results
    }

    async fn take_one(
        &self,
        store: &Store,
        wish: &TakeWish,
        options: &TakeOptions,
        known: &mut KnownLayers,
        reading: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Taken, TakeError> {
        let (store, wish) = (store.clone(), wish.clone());
        let name = wish.reference.familiar();
        let (platform, upstream) = (options.platform.clone(), self.endpoint().to_string());
        let kind = self.capabilities().kind;
        let opened = blocking(move || {
            let (lease, snapshot) = (store.lease()?, store.snapshot()?);
            let work = Work { store, lease, snapshot, wish, platform, upstream };
            let present = work.present();
            Ok::<_, StoreError>((work, present))
        });
        let (work, present) = opened.await?.map_err(|source| TakeError::store(&name, source))?;
        if let Some(present) = &present
            && !(options.refresh && work.wish.reference.digest().is_none())
            && present.may_stay(kind)
        {
            return Ok(Taken::present(present));
        }
        let work = Arc::new(work);
        let meant = self.meant(&work).await?;
        if let Some(present) = present
            && present.is(&meant)
        {
            return Ok(Taken::present(&present));
        }

        let (asked, wanted) = (Arc::clone(&work), meant.clone());
        let mut layers = std::mem::take(known);
        let without = blocking(move || {
            let mut taken = asked.put_together(&wanted, None, &layers)?;
            // Unpacking blobs takes its time, and what has its own manifest needs none of it.
            if let (Err(_), Meant::Config { diff_ids, .. }) = (&taken, &wanted) {
                layers.learn(&asked.store, &asked.snapshot, diff_ids)?;
                taken = asked.put_together(&wanted, None, &layers)?;
            }
            Ok::<_, ImportError>((taken, layers))
        });
        let (taken, layers) = without.await?.map_err(|source| TakeError::import(&name, source))?;
        *known = layers;
        match taken {
            Ok(taken) => Ok(taken),
            // Whatever the cache lacks, the engine may have.
            Err(_) => self.hand_out(work, meant, known, options.silence, reading).await,
        }
    }
}

/// An entry of the cache that has all of its blobs.
#[derive(Debug)]
struct Present {
    entry: Entry,
    config: Digest,
}

impl Present {
    /// A containerd store has the original of what was rebuilt.
    fn may_stay(&self, kind: EngineKind) -> bool {
        self.entry.rebuilt.is_none() || kind != EngineKind::DockerContainerd
    }

    fn is(&self, meant: &Meant) -> bool {
        match meant {
            Meant::Target(digest) => self.entry.target.digest == *digest,
            Meant::Config { id, .. } => self.config == *id,
        }
    }
}

impl Taken {
    fn present(present: &Present) -> Self {
        Self { entry: present.entry.clone(), cached: true, read: 0, written: 0 }
    }
}

impl Work {
    /// What the cache has under the reference, if it is whole.
    fn present(&self) -> Option<Present> {
        let entry = self.snapshot.find(&self.wish.reference, &self.platform)?;
        if entry.rebuilt.is_none()
            && self.wish.reference.digest().is_some_and(|digest| digest != entry.target.digest)
        {
            return None;
        }
        let image = self.store.image(entry).ok()?;
        image
            .layers
            .iter()
            .all(|layer| self.store.has_blob(layer))
            .then(|| Present { entry: entry.clone(), config: image.config_descriptor.digest })
    }

    fn shelf(&self, contents: Option<Contents>) -> Shelf<'_> {
        Shelf { store: &self.store, snapshot: &self.snapshot, contents }
    }

    /// The image from what the cache and an archive have, published. The inner error is what is missing.
    fn put_together(
        &self,
        meant: &Meant,
        contents: Option<Contents>,
        known: &KnownLayers,
    ) -> Result<Result<Taken, String>, ImportError> {
        let (read, written) =
            contents.as_ref().map_or((0, 0), |contents| (contents.bytes_read(), contents.bytes_written()));
        let mut shelf = self.shelf(contents);
        let (parts, rebuilt) = match self.find(&shelf, meant, known)? {
            Ok(found) => found,
            Err(lacks) => return Ok(Err(lacks)),
        };
        shelf.keep(&self.lease, &parts)?;
        let new = NewEntry {
            reference: self.wish.reference.clone(),
            requested: self.wish.requested.clone(),
            platform: self.platform.clone(),
            target: parts.target,
            manifest: parts.manifest,
            upstream: self.upstream.clone(),
            pinned: false,
        };
        let entry = match rebuilt {
            None => self.store.publish(&self.lease, new)?,
            Some(rebuilt) => self.store.publish_rebuilt(&self.lease, new, rebuilt)?,
        };
        Ok(Ok(Taken { entry, cached: false, read, written }))
    }

    fn find(
        &self,
        shelf: &Shelf<'_>,
        meant: &Meant,
        known: &KnownLayers,
    ) -> Result<Result<(Parts, Option<Rebuilt>), String>, ImportError> {
        let (id, vouched) = match meant {
            Meant::Target(target) => {
                return Ok(match shelf.whole(target, &self.platform)? {
                    Found::All(parts) => Ok((*parts, None)),
                    Found::Lacks(what) => Err(what),
                });
            }
            Meant::Config { id, vouched, .. } => (id, vouched),
        };
        for pin in vouched {
            match shelf.whole(pin, &self.platform) {
                Ok(Found::All(parts)) if parts.config.digest == *id => return Ok(Ok((*parts, None))),
                // What lies in the cache under that digest is no help; the engine's image is another matter.
                Ok(_) => {}
                Err(error) => tracing::debug!(%pin, %error, "not the image as its registry has it"),
            }
        }
        Ok(match shelf.rebuilt(id, &self.platform, known)? {
            Found::All(parts) => Ok((*parts, Some(Rebuilt { vouched: vouched.clone() }))),
            Found::Lacks(what) => Err(what),
        })
    }
}

/// Runs file work on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TakeError> {
    match spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(TakeError::Cancelled),
        },
    }
}
