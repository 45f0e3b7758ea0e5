//! Where others take part in a run of loads: what makes it durable, what gives pins their names.
//!
//! ```text
//!   at_start ─► look at every image ─► plan ─► before_first_send ─► ┌ send ─► look ─► after_seen ┐ ─► at_end
//!                    └ present ─► after_seen                        └ … several at once …        ┘
//! ```

use std::fmt;

use futures_util::future::BoxFuture;
use palletjack_store::Image;

use crate::connect::Engine;
use crate::error::{LoadError, RunError};
use crate::outcome::Loaded;

/// Takes part in a run. All of it is optional; several take part one after the other, in the order in which they
/// stand in [`LoadOptions::around`](crate::LoadOptions::around).
pub trait Around: fmt::Debug + Send + Sync {
    /// Before the engine is asked for any of `images`. A failure ends the run: nothing was sent.
    fn at_start<'a>(
        &'a self,
        _engine: &'a Engine,
        _images: &'a [Image],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async { Ok(()) })
    }

    /// Before the first request that changes the engine, with the images that are going to be sent. Not called where
    /// nothing is. A failure ends the run.
    fn before_first_send<'a>(
        &'a self,
        _engine: &'a Engine,
        _images: &'a [&'a Image],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async { Ok(()) })
    }

    /// When an image was seen in the engine, sent by this run or there before ([`Loaded::was`]). May change what is
    /// reported of it. Several images may be here at once. A failure is the image's.
    fn after_seen<'a>(
        &'a self,
        _engine: &'a Engine,
        _image: &'a Image,
        _loaded: &'a mut Loaded,
    ) -> BoxFuture<'a, Result<(), LoadError>> {
        Box::pin(async { Ok(()) })
    }

    /// When nothing is in flight any more, with what came of each image. A failure takes the run's results away.
    fn at_end<'a>(
        &'a self,
        _engine: &'a Engine,
        _images: &'a [Image],
        _results: &'a mut [Result<Loaded, LoadError>],
    ) -> BoxFuture<'a, Result<(), RunError>> {
        Box::pin(async { Ok(()) })
    }
}
