//! An archive on its way out of an engine.
//!
//! ```text
//!   GET /images/ID/get ──► channel (8 pieces) ──► blocking thread: Contents::read, Shelf, publish
//!        │ at its end      End ────────────────► end of the stream
//!        └ anything else: the channel closes ──► an error, and nothing is published
//! ```

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as ClientError;
use bytes::Bytes;
use futures_util::StreamExt;
use palletjack_archive::{Contents, ImportError, KnownLayers};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::meant::Meant;
use super::{TakeError, Taken, Work, blocking};
use crate::answer::one_line;
use crate::connect::Engine;

/// Pieces between the socket and the thread that hashes and writes; the client's are at most some 400 KiB.
const IN_FLIGHT: usize = 8;

enum Piece {
    Data(Bytes),
    End,
}

/// Why nothing more came.
enum Broken {
    Client(ClientError),
    Silent,
}

impl Engine {
    /// Has the engine hand out the image, and publishes it.
    pub(super) async fn hand_out(
        &self,
        work: Arc<Work>,
        meant: Meant,
        known: &mut KnownLayers,
        silence: Duration,
        reading: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Taken, TakeError> {
        let image = work.wish.reference.familiar();
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let is_target = matches!(meant, Meant::Target(_));
        let id = meant.id().to_string();
        let layers = std::mem::take(known);
        let import = blocking(move || {
            let imported =
                import(&work, &meant, Pieces { receiver, piece: Bytes::new(), ended: false }, &layers);
            (imported, layers)
        });
        let (broken, imported) = tokio::join!(self.send(&id, silence, sender, reading), import);
        let (imported, layers) = imported?;
        *known = layers;
        match (imported, broken) {
            (Ok(Ok(taken)), None) => Ok(taken),
            (Ok(Err(what)), None) if is_target => Err(TakeError::NotWhole { image, what }),
            (Ok(Err(what)), None) => Err(TakeError::import(&image, ImportError::Lacks(what))),
            (_, Some(Broken::Silent)) => Err(TakeError::Silent { image, after: silence }),
            (_, Some(Broken::Client(ClientError::DockerResponseServerError { message, .. }))) => {
                Err(TakeError::Refused { image, message: one_line(&message) })
            }
            (_, Some(Broken::Client(error))) => Err(TakeError::Lost { image, source: error.into() }),
            (Err(error), None) => Err(TakeError::import(&image, error)),
        }
    }

    /// Passes on what the engine sends. `None` where all of it came, or nobody wants more.
    async fn send(
        &self,
        id: &str,
        silence: Duration,
        sender: mpsc::Sender<Piece>,
        reading: &(dyn Fn(u64) + Send + Sync),
    ) -> Option<Broken> {
        let mut stream = std::pin::pin!(self.docker.export_image(id));
        let mut bytes = 0;
        loop {
            match timeout(silence, stream.next()).await {
                Err(_) => return Some(Broken::Silent),
                Ok(Some(Err(error))) => return Some(Broken::Client(error)),
                Ok(Some(Ok(piece))) => {
                    bytes += piece.len() as u64;
                    reading(bytes);
                    if sender.send(Piece::Data(piece)).await.is_err() {
                        return None;
                    }
                }
                Ok(None) => {
                    // That nobody is there to hear it is told by the other side.
                    let _ = sender.send(Piece::End).await;
                    return None;
                }
            }
        }
    }
}

fn import(
    work: &Work,
    meant: &Meant,
    pieces: Pieces,
    known: &KnownLayers,
) -> Result<Result<Taken, String>, ImportError> {
    let has = |digest: &palletjack_image::Digest| {
        known.get(digest).is_some() || (work.snapshot.names(digest) && work.store.blob(digest).is_some())
    };
    let contents = Contents::read(&work.store, &work.lease, pieces, &has, &mut |_| true)?;
    work.put_together(meant, Some(contents), known)
}

/// What came through the channel, as a stream.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Data(piece)) => self.piece = piece,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}
