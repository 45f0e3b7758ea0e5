//! One archive on its way into an engine.
//!
//! ```text
//!   blocking thread            channel (4 pieces)         the client's connection
//!   Export::write ──► Piece::Data ─────────────► body ──► POST /images/load
//!        │ whole         Piece::End ──────────► proper end of the body
//!        └ anything else: the channel closes ─► the body fails, the connection breaks
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ClientError;
use bollard::query_parameters::ImportImageOptions;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use palletjack_archive::{Export, ExportError, SinkClosed, Written};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::answer::Answer;
use crate::error::Phase;
use crate::load::LoadOptions;

/// Pieces between the thread that reads and the socket: 2 MiB, enough to keep both busy.
const IN_FLIGHT: usize = 4;
/// How often progress is told and the watch looks.
const TICK: Duration = Duration::from_millis(100);

/// How a load request ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The engine read all of it and ended its answer.
    Answered(Answer),
    /// The archive could not be made.
    Export(ExportError),
    /// Nothing moved for too long.
    Stalled { phase: Phase, after: Duration, sent: u64 },
    /// The connection broke, or what came was no answer.
    Lost(ClientError),
}

enum Piece {
    Data(Bytes),
    End,
}

/// What the body tells the watch.
#[derive(Default)]
struct Meter {
    /// Bytes that the connection took.
    taken: AtomicU64,
    /// How often the thread that reads said that it is at work though no bytes come: it recodes a layer.
    working: AtomicU64,
    /// Whether it took the end as well.
    ended: AtomicBool,
}

/// Sends one archive and reads the whole answer: how it ended, and how many bytes the engine took, of which those of
/// layers are known when it took all. Dropping the future breaks the request off.
pub(crate) async fn upload(
    docker: &Docker,
    export: Export,
    options: &LoadOptions,
    progress: &(dyn Fn(Phase, u64) + Send + Sync),
) -> (Ended, u64, u64) {
    // However this function is left, the reading thread and the body must not go on.
    let cancelled = CancellationToken::new();
    let _cancel = cancelled.clone().drop_guard();
    let meter = Arc::new(Meter::default());
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let producer = {
        let (runtime, cancelled, meter) = (Handle::current(), cancelled.clone(), Arc::clone(&meter));
        tokio::task::spawn_blocking(move || produce(&export, &runtime, &sender, &cancelled, &meter))
    };
    let body = body(receiver, Arc::clone(&meter), cancelled.clone());
    let answer = docker.import_image(ImportImageOptions::default(), bollard::body_try_stream(body), None);
    let ended = watch(answer, &meter, options, progress).await;
    cancelled.cancel();
    let taken = meter.taken.load(Ordering::Relaxed);
    match producer.await {
        // The engine sees a broken body in each of these cases, and what it then says is not the reason.
        Ok(Err(error)) if !matches!(error, ExportError::Closed(_)) => (Ended::Export(error), taken, 0),
        Err(panic) => (Ended::Export(ExportError::Write(io::Error::other(panic))), taken, 0),
        Ok(Ok(written)) => (ended, taken, written.layer_bytes),
        Ok(Err(_)) => (ended, taken, 0),
    }
}

fn produce(
    export: &Export,
    runtime: &Handle,
    sender: &mpsc::Sender<Piece>,
    cancelled: &CancellationToken,
    meter: &Meter,
) -> Result<Written, ExportError> {
    // An engine that reads no more leaves the channel full for ever, so waiting must end with the load.
    let send = |piece| {
        runtime.block_on(async {
            tokio::select! {
                sent = sender.send(piece) => sent.map_err(|_| SinkClosed),
                () = cancelled.cancelled() => Err(SinkClosed),
            }
        })
    };
    let written = export.write(&mut |bytes| {
        // A chunk without content would end the body.
        if !bytes.is_empty() {
            return send(Piece::Data(bytes));
        }
        meter.working.fetch_add(1, Ordering::Relaxed);
        if cancelled.is_cancelled() { Err(SinkClosed) } else { Ok(()) }
    })?;
    send(Piece::End)?;
    Ok(written)
}

/// The request's body. It ends properly only after [`Piece::End`]; a closed channel is a failure, which makes the
/// client close the connection instead of finishing the request.
fn body(
    receiver: mpsc::Receiver<Piece>,
    meter: Arc<Meter>,
    cancelled: CancellationToken,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some((receiver, meter, cancelled)), |state| async move {
        let (mut receiver, meter, cancelled) = state?;
        let piece = tokio::select! {
            biased;
            () = cancelled.cancelled() => None,
            piece = receiver.recv() => piece,
        };
        match piece {
            Some(Piece::Data(bytes)) => {
                meter.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Some((Ok(bytes), Some((receiver, meter, cancelled))))
            }
            Some(Piece::End) => {
                meter.ended.store(true, Ordering::Release);
                None
            }
            None => Some((Err(io::Error::other("the archive was broken off")), None)),
        }
    })
}

/// Reads the answer while looking that bytes move.
async fn watch(
    answer: impl Stream<Item = Result<bollard::models::BuildInfo, ClientError>>,
    meter: &Meter,
    options: &LoadOptions,
    progress: &(dyn Fn(Phase, u64) + Send + Sync),
) -> Ended {
    let mut lines = std::pin::pin!(answer);
    let mut collected = Answer::default();
    let mut tick = interval(TICK);
    let mut moved = Instant::now();
    let (mut seen, mut worked, mut phase) = (0, 0, Phase::Sending);
    progress(phase, 0);
    loop {
        tokio::select! {
            line = lines.next() => {
                moved = Instant::now();
                match line {
                    None => return Ended::Answered(collected),
                    Some(Ok(line)) => collected.line(&line),
                    Some(Err(error)) => return end_of(error, collected),
                }
            }
            _ = tick.tick() => {
                let taken = meter.taken.load(Ordering::Relaxed);
                let working = meter.working.load(Ordering::Relaxed);
                if working != worked {
                    (worked, moved) = (working, Instant::now());
                }
                if phase == Phase::Sending && taken != seen {
                    (seen, moved) = (taken, Instant::now());
                    progress(phase, taken);
                }
                if phase == Phase::Sending && meter.ended.load(Ordering::Acquire) {
                    (phase, moved) = (Phase::Waiting, Instant::now());
                    progress(phase, taken);
                }
                let limit = match phase {
                    Phase::Sending => options.stall,
                    Phase::Waiting => options.answer,
                };
                if moved.elapsed() >= limit {
                    return Ended::Stalled { phase, after: limit, sent: taken };
                }
            }
        }
    }
}

/// Tells the engine's own refusal from a broken connection.
fn end_of(error: ClientError, mut answer: Answer) -> Ended {
    match error {
        ClientError::DockerStreamError { error } => answer.fail(&error),
        ClientError::DockerResponseServerError { status_code, message } => {
            answer.fail(&format!("HTTP {status_code}: {message}"));
        }
        // The client's line reader says so where the answer's last line ends with CRLF, as moby's do (bollard#560).
        ClientError::IOError { err } if err.to_string().contains("bytes remaining on stream") => {}
        other if answer.failure.is_none() => return Ended::Lost(other),
        _ => {}
    }
    Ended::Answered(answer)
}
