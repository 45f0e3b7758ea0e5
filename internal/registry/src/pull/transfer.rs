//! One layer on its way: socket, pieces, one thread that hashes and writes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use palletjack_image::Descriptor;
use palletjack_store::{CommitError, Ingest, IngestState, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::board::Due;
use super::outcome::Reason;
use super::{Job, MEMORY, blocking};
use crate::error::{Cause, Failure, RemoteError};
use crate::event::Event;
use crate::remote::BlobBody;
use crate::retry::Retry;

/// Pieces of at least this many bytes are handed on as they came.
const LARGE: usize = 128 << 10;
/// Smaller ones (TLS hands out 16 KiB at a time) are gathered up to this many bytes.
const GATHERED: usize = 256 << 10;
/// Pieces between the socket and the writing thread of one layer, each at most half a MiB or so.
const PIECES: usize = 8;
/// New bytes after which a failure counts as the first again.
const PROGRESS: u64 = 64 << 10;

/// How a transfer ended.
#[derive(Debug)]
pub(super) enum End {
    /// The layer is in the cache, and was before.
    Present,
    /// The layer is in the cache, after this many bytes came in.
    Fetched(u64),
    /// Somebody else is fetching it.
    Busy,
    /// It cannot be had.
    Failed(Reason),
}

/// How one attempt ended.
enum Attempt {
    Committed,
    /// The partial is kept for the next attempt.
    Failed(Box<Ingest>, RemoteError),
    Over(Reason),
}

/// What goes to the writing thread.
enum Piece {
    Bytes(Bytes, OwnedSemaphorePermit),
    /// All bytes have been sent.
    End,
}

/// What the writing thread leaves behind.
enum Written {
    Committed,
    Kept(Box<Ingest>),
    Wrong(Box<Ingest>, Cause),
    Failed(StoreError),
}

/// Fetches one layer into the cache, resuming as often as it must.
pub(super) async fn transfer(job: Arc<Job>, due: Due) -> End {
    let begun = {
        let (job, due) = (job.clone(), due.clone());
        blocking(move || job.store.ingest(&job.lease, &job.snapshot, due.digest, due.size)).await
    };
    let mut ingest = match begun {
        None => return End::Failed(Reason::Cancelled),
        Some(Err(error)) => return End::Failed(error.into()),
        Some(Ok(IngestState::Present)) => return End::Present,
        Some(Ok(IngestState::Busy)) => return End::Busy,
        Some(Ok(IngestState::Begin(ingest))) => ingest,
    };
    let mut retry = Retry::new(job.remote.http().config().retry);
    let mut received = 0;
    let mut farthest = ingest.offset();
    let mut avoid: Option<String> = None;
    let name = due.digest.to_string();
    loop {
        let error = match attempt(&job, &due, ingest, avoid.as_deref(), &mut received).await {
            Attempt::Committed => return End::Fetched(received),
            Attempt::Over(reason) => return End::Failed(reason),
            Attempt::Failed(kept, error) => {
                ingest = kept;
                error
            }
        };
        // Only bytes that were never reached before are progress, so that this ends even with a server that breaks
        // off and knows no ranges.
        if ingest.offset() >= farthest + PROGRESS {
            farthest = ingest.offset();
            retry.progressed();
        }
        let Some(pause) = retry.after(error.transience()) else { return End::Failed(error.into()) };
        let cause = error.failures.last().map(|failure| &failure.cause);
        if matches!(cause, Some(Cause::Digest { .. } | Cause::Size { .. })) {
            avoid = error.failures.last().map(|failure| failure.endpoint.clone());
        }
        if matches!(cause, Some(Cause::Digest { .. } | Cause::Size { .. } | Cause::Range(_))) {
            let restarted = blocking(move || ingest.restart().map(|()| ingest)).await;
            ingest = match restarted {
                None => return End::Failed(Reason::Cancelled),
                Some(Err(error)) => return End::Failed(error.into()),
                Some(Ok(ingest)) => ingest,
            };
        }
        tokio::select! {
            () = job.remote.pause(&name, pause, &error) => {}
            () = job.cancel.cancelled() => return End::Failed(Reason::Cancelled),
        }
    }
}

/// One request, and what comes of it.
async fn attempt(
    job: &Arc<Job>,
    due: &Due,
    ingest: Box<Ingest>,
    avoid: Option<&str>,
    received: &mut u64,
) -> Attempt {
    let Sent { writer, server, end } = match send(job, due, ingest, avoid, received).await {
        Ok(sent) => sent,
        Err(attempt) => return attempt,
    };
    // The socket is free for another layer while this one is made durable.
    let written = match writer.await {
        Ok(written) => written,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => return Attempt::Over(Reason::Cancelled),
        },
    };
    let failed = |ingest, cause| {
        let failure = Failure { endpoint: server, cause };
        Attempt::Failed(ingest, RemoteError::new(what(due), vec![failure]))
    };
    match (written, end) {
        (Written::Committed, _) => Attempt::Committed,
        (Written::Failed(error), _) => Attempt::Over(error.into()),
        (Written::Wrong(ingest, cause), _) | (Written::Kept(ingest), Stop::Failed(cause)) => {
            failed(ingest, cause)
        }
        (Written::Kept(_), Stop::Complete | Stop::Cancelled) => Attempt::Over(Reason::Cancelled),
    }
}

/// Why no more pieces come.
enum Stop {
    Complete,
    Failed(Cause),
    Cancelled,
}

/// A body that has been handed to its writing thread.
struct Sent {
    writer: JoinHandle<Written>,
    server: String,
    end: Stop,
}

async fn send(
    job: &Arc<Job>,
    due: &Due,
    ingest: Box<Ingest>,
    avoid: Option<&str>,
    received: &mut u64,
) -> Result<Sent, Attempt> {
    let offset = ingest.offset();
    let started =
        |offset| (job.remote.events())(Event::BlobStarted { digest: due.digest, size: due.size, offset });
    let (pieces, inbox) = mpsc::channel(PIECES);
    if offset == due.size {
        // An earlier run had it all, or there is nothing to have.
        started(offset);
        let writer = tokio::task::spawn_blocking(move || write(ingest, inbox, false));
        let _ = pieces.send(Piece::End).await;
        return Ok(Sent { writer, server: String::new(), end: Stop::Complete });
    }
    let cancelled = || Attempt::Over(Reason::Cancelled);
    let _socket = tokio::select! {
        socket = job.sockets.acquire() => socket,
        () = job.cancel.cancelled() => return Err(cancelled()),
    };
    started(offset);
    let blob = Descriptor::new("", due.digest, due.size);
    let begun = tokio::select! {
        begun = job.remote.blob_from(&due.source, &blob, offset, avoid) => begun,
        () = job.cancel.cancelled() => return Err(cancelled()),
    };
    let mut body = match begun {
        Ok(body) => body,
        Err(error) => return Err(Attempt::Failed(ingest, error)),
    };
    let restart = body.start() != offset;
    if restart {
        started(0);
    }
    let writer = tokio::task::spawn_blocking(move || write(ingest, inbox, restart));
    let end = tokio::select! {
        end = feed(job, due, &mut body, &pieces, received) => end,
        () = job.cancel.cancelled() => Stop::Cancelled,
    };
    Ok(Sent { writer, server: body.server().to_owned(), end })
}

/// Hands the body on piece by piece. What arrived before a failure is handed on too.
async fn feed(
    job: &Job,
    due: &Due,
    body: &mut BlobBody<'_>,
    pieces: &mpsc::Sender<Piece>,
    received: &mut u64,
) -> Stop {
    let mut room = due.size - body.start();
    let mut gathered = BytesMut::new();
    loop {
        let (end, ready) = match body.chunk().await {
            Ok(Some(chunk)) => {
                let length = chunk.len() as u64;
                *received += length;
                if length > room {
                    let actual = due.size.saturating_add(length - room);
                    return Stop::Failed(Cause::Size { expected: due.size, actual });
                }
                room -= length;
                (job.remote.events())(Event::BlobProgress { digest: due.digest, bytes: length });
                if gathered.is_empty() && chunk.len() >= LARGE {
                    (None, chunk)
                } else {
                    if gathered.is_empty() {
                        gathered.reserve(GATHERED + LARGE);
                    }
                    gathered.extend_from_slice(&chunk);
                    if gathered.len() < GATHERED {
                        continue;
                    }
                    (None, gathered.split().freeze())
                }
            }
            Ok(None) if room == 0 => (Some(Stop::Complete), gathered.split().freeze()),
            Ok(None) => {
                let why = format!("{} of {} bytes came", due.size - room, due.size);
                (Some(Stop::Failed(Cause::Broken(why))), gathered.split().freeze())
            }
            Err(cause) => (Some(Stop::Failed(cause)), gathered.split().freeze()),
        };
        // A thread that is gone says itself why.
        if hand_on(&job.memory, pieces, ready).await.is_none() {
            return end.unwrap_or(Stop::Complete);
        }
        match end {
            None => {}
            Some(Stop::Complete) => {
                let _ = pieces.send(Piece::End).await;
                return Stop::Complete;
            }
            Some(end) => return end,
        }
    }
}

/// Waits until there is room in memory for the bytes, then passes them on.
async fn hand_on(memory: &Arc<Semaphore>, pieces: &mpsc::Sender<Piece>, bytes: Bytes) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let length = u32::try_from(bytes.len().min(MEMORY)).ok()?;
    let room = memory.clone().acquire_many_owned(length).await.ok()?;
    pieces.send(Piece::Bytes(bytes, room)).await.ok()
}

/// The writing thread of one layer: every byte is hashed and written once, where it is.
fn write(mut ingest: Box<Ingest>, mut inbox: mpsc::Receiver<Piece>, restart: bool) -> Written {
    if restart && let Err(error) = ingest.restart() {
        return Written::Failed(error);
    }
    while let Some(piece) = inbox.blocking_recv() {
        match piece {
            Piece::Bytes(bytes, _room) => {
                if let Err(error) = ingest.write(&bytes) {
                    return Written::Failed(error);
                }
            }
            Piece::End => {
                return match ingest.commit() {
                    Ok(_) => Written::Committed,
                    Err(CommitError::Digest { ingest, expected, actual }) => {
                        Written::Wrong(ingest, Cause::Digest { expected, actual })
                    }
                    Err(CommitError::Short { ingest, have, size }) => {
                        Written::Wrong(ingest, Cause::Size { expected: size, actual: have })
                    }
                    Err(CommitError::Store(error)) => Written::Failed(error),
                };
            }
        }
    }
    Written::Kept(ingest)
}

fn what(due: &Due) -> String {
    format!("{} of {}", due.digest, due.source.familiar())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_not_yet_written_is_bounded_over_all_transfers() {
        let memory = Arc::new(Semaphore::new(MEMORY));
        let piece = || Bytes::from(vec![0; 512 << 10]);
        let (one, mut read) = mpsc::channel(PIECES);
        let (two, _unread) = mpsc::channel(PIECES);
        let (three, _idle) = mpsc::channel(PIECES);
        for pieces in [&one, &two] {
            for _ in 0..PIECES {
                assert!(hand_on(&memory, pieces, piece()).now_or_never().is_some());
            }
        }
        assert_eq!(memory.available_permits(), 0);
        assert!(hand_on(&memory, &three, piece()).now_or_never().is_none(), "a third transfer must wait");
        drop(read.try_recv().unwrap());
        assert!(hand_on(&memory, &three, piece()).now_or_never().is_some());
    }

    #[test]
    fn a_piece_of_any_size_finds_room() {
        let memory = Arc::new(Semaphore::new(MEMORY));
        let (pieces, _inbox) = mpsc::channel(PIECES);
        assert!(hand_on(&memory, &pieces, Bytes::from(vec![0; 2 * MEMORY])).now_or_never().is_some());
    }
}
