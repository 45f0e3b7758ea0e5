//! Blobs on their way out: hashed as they pass, the end held back until the digest is verified.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use palletjack_image::{Descriptor, Hasher};
use palletjack_store::Lease;
use tokio::sync::mpsc;

use super::Counters;

/// How much is read at once, in bytes. Four such pieces are in memory for a connection: being read, held, and two on
/// their way.
const PIECE: usize = 128 << 10;

/// What part of a blob a request wants (RFC 9110, section 14.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// No range, several, or one that cannot be read: a server may answer with the whole.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// A range that begins behind the end.
    Beyond,
}

impl Asked {
    pub(super) fn read(header: Option<&str>, size: u64) -> Self {
        let Some(range) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
            return Self::Whole;
        };
        let Some((first, last)) = range.trim().split_once('-') else { return Self::Whole };
        let number = |text: &str| {
            if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u64>().ok() } else { None }
        };
        let bytes = match (first.trim(), last.trim()) {
            ("", "") => return Self::Whole,
            ("", suffix) => match number(suffix) {
                Some(suffix) => size.saturating_sub(suffix)..size,
                None => return Self::Whole,
            },
            (first, "") => match number(first) {
                Some(first) => first..size,
                None => return Self::Whole,
            },
            (first, last) => match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
                _ => return Self::Whole,
            },
        };
        if bytes.start >= bytes.end { Self::Beyond } else { Self::Part(bytes) }
    }
}

/// A body with these bytes of a blob. All of the blob is read and hashed whatever part is wanted; where it is not
/// what its digest says the body breaks off before its last piece, and the connection with it.
pub(super) fn stream(
    file: File,
    descriptor: Descriptor,
    wanted: Range<u64>,
    lease: Lease,
    counters: Arc<Counters>,
) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(2);
    tokio::task::spawn_blocking(move || {
        let _lease = lease;
        let mut send = |piece: Bytes| {
            Counters::add(&counters.blob_bytes, piece.len() as u64);
            sender.blocking_send(Ok(piece)).is_ok()
        };
        if let Err(error) = copy(file, &descriptor, &wanted, &mut send) {
            tracing::warn!(digest = %descriptor.digest, %error, "a blob was broken off");
            // Where the client is gone too there is nobody to tell.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Body::from_stream(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    }))
}

/// Hands on the wanted bytes, the last piece of them when all of the file is verified. Ends quietly when `send` says
/// that nobody listens any more.
fn copy(
    mut from: impl Read,
    descriptor: &Descriptor,
    wanted: &Range<u64>,
    send: &mut dyn FnMut(Bytes) -> bool,
) -> io::Result<()> {
    let mut hasher = Hasher::new();
    let mut held: Option<Bytes> = None;
    loop {
        let start = hasher.length();
        let piece = read_piece(&mut from)?;
        if piece.is_empty() {
            break;
        }
        hasher.update(&piece);
        if hasher.length() > descriptor.size {
            return Err(corrupt(format!("longer than its {} bytes", descriptor.size)));
        }
        let Some(piece) = part(&piece, start, wanted) else { continue };
        if let Some(previous) = held.replace(piece)
            && !send(previous)
        {
            return Ok(());
        }
    }
    if hasher.length() != descriptor.size {
        return Err(corrupt(format!("{} of its {} bytes", hasher.length(), descriptor.size)));
    }
    let actual = hasher.finish();
    if actual != descriptor.digest {
        return Err(corrupt(format!("its content is {actual}")));
    }
    if let Some(last) = held {
        send(last);
    }
    Ok(())
}

fn corrupt(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What is wanted of a piece that lies at `start`.
fn part(piece: &Bytes, start: u64, wanted: &Range<u64>) -> Option<Bytes> {
    let within = |at: u64| {
        let offset = at.saturating_sub(start).min(piece.len() as u64);
        usize::try_from(offset).unwrap_or(piece.len())
    };
    let (from, to) = (within(wanted.start), within(wanted.end));
    (from < to).then(|| piece.slice(from..to))
}

fn read_piece(from: &mut impl Read) -> io::Result<Bytes> {
    let mut piece = BytesMut::zeroed(PIECE);
    let mut filled = 0;
    while filled < piece.len() {
        match from.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece.freeze())
}

#[cfg(test)]
mod tests {
    use palletjack_image::Digest;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (header, want) in [
            (None, Asked::Whole),
            (Some("bytes=0-9"), Asked::Part(0..10)),
            (Some("bytes=0-0"), Asked::Part(0..1)),
            (Some("bytes=10-"), Asked::Part(10..100)),
            (Some("bytes=-10"), Asked::Part(90..100)),
            (Some("bytes=-1000"), Asked::Part(0..100)),
            (Some("bytes=90-18446744073709551615"), Asked::Part(90..100)),
            (Some("bytes=100-"), Asked::Beyond),
            (Some("bytes=100-200"), Asked::Beyond),
            (Some("bytes=-0"), Asked::Beyond),
            (Some("bytes=9-0"), Asked::Whole),
            (Some("bytes=0-1,5-6"), Asked::Whole),
            (Some("bytes=-"), Asked::Whole),
            (Some("bytes=+1-2"), Asked::Whole),
            (Some("bytes=a-b"), Asked::Whole),
            (Some("bytes=99999999999999999999-"), Asked::Whole),
            (Some("lines=0-9"), Asked::Whole),
        ] {
            assert_eq!(Asked::read(header, 100), want, "{header:?}");
        }
        assert_eq!(Asked::read(Some("bytes=0-"), 0), Asked::Beyond);
    }

    fn sent(content: &[u8], descriptor: &Descriptor, wanted: Range<u64>) -> (Vec<u8>, io::Result<()>) {
        let mut all = Vec::new();
        let result = copy(content, descriptor, &wanted, &mut |piece| {
            all.extend_from_slice(&piece);
            true
        });
        (all, result)
    }

    #[test]
    fn every_range_gives_its_bytes_and_no_more() {
        let content: Vec<u8> = (0..PIECE * 2 + 77).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let size = content.len() as u64;
        let descriptor = Descriptor::new("x", Digest::of(&content), size);
        let piece = PIECE as u64;
        for range in [
            0..size,
            0..1,
            size - 1..size,
            piece - 1..piece + 1,
            piece..2 * piece,
            2 * piece..size,
            5..2 * piece + 5,
        ] {
            let (all, result) = sent(&content, &descriptor, range.clone());
            result.unwrap();
            let expected = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            assert!(all == content[expected], "{range:?}");
        }
    }

    #[test]
    fn corrupt_content_is_never_completed() {
        let content = vec![7; PIECE + 10];
        let good = Descriptor::new("x", Digest::of(&content), content.len() as u64);
        let mut flipped = content.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let longer = [&content[..], b"x"].concat();
        for bad in [&flipped[..], &content[1..], &longer[..]] {
            // Even of a range that lies in the part that is right.
            for range in [0..good.size, 0..5] {
                let (all, result) = sent(bad, &good, range.clone());
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
                assert!((all.len() as u64) < range.end, "{range:?}");
            }
        }
    }

    #[test]
    fn a_client_that_is_gone_ends_the_reading() {
        let content = vec![7; PIECE * 4];
        let descriptor = Descriptor::new("x", Digest::of(&content), content.len() as u64);
        let mut calls = 0;
        copy(&content[..], &descriptor, &(0..descriptor.size), &mut |_| {
            calls += 1;
            false
        })
        .unwrap();
        assert_eq!(calls, 1);
    }
}
