//! Writing content, whole or by range, right or with a fault.

use std::io::{self, Read};
use std::ops::Range;

use palletjack_image::Digest;

use super::fault::Fault;
use super::record::Entry;
use crate::http::{After, Connection, Head};
use crate::image::Blob;

/// Content to be served.
pub(super) struct Answer {
    pub(super) content: Blob,
    pub(super) content_type: String,
    pub(super) digest: Digest,
    /// Whether `Range` is honoured.
    pub(super) ranges: bool,
}

/// Writes an answer as the fault wants it.
pub(super) fn write(
    connection: &mut Connection,
    entry: &Entry<'_>,
    head: &Head,
    answer: &Answer,
    fault: Option<&Fault>,
) -> io::Result<After> {
    let length = match fault {
        Some(Fault::Short { length }) => answer.content.size().min(*length),
        Some(Fault::Long { extra }) => answer.content.size() + extra,
        _ => answer.content.size(),
    };
    let asked = head.header("range").filter(|_| answer.ranges && !matches!(fault, Some(Fault::IgnoreRange)));
    let range = match asked.map(|text| parse_range(text, length)) {
        None => None,
        Some(Some(range)) => Some(range),
        Some(None) => {
            entry.status(416);
            connection.write_head(
                416,
                &[
                    ("content-range".into(), format!("bytes */{length}")),
                    ("content-length".into(), "0".into()),
                ],
            )?;
            return Ok(After::KeepAlive);
        }
    };
    let shift = match fault {
        Some(Fault::WrongRange { shift }) if range.is_some() => *shift,
        _ => 0,
    };
    let status = if range.is_some() { 206 } else { 200 };
    let mut span = range.clone().unwrap_or(0..length);
    span.start = (span.start + shift).min(span.end);

    let mut headers = headers(answer, fault);
    if range.is_some() {
        headers.push((
            "content-range".into(),
            format!("bytes {}-{}/{length}", span.start, span.end.saturating_sub(1)),
        ));
    }
    let chunked = matches!(fault, Some(Fault::Chunked)) && !connection.is_head_request();
    if chunked {
        headers.push(("transfer-encoding".into(), "chunked".into()));
    } else {
        let lie = match fault {
            Some(Fault::LyingLength { extra }) => *extra,
            _ => 0,
        };
        let announced = span.end - span.start + lie;
        headers.push(("content-length".into(), announced.to_string()));
    }
    entry.status(status);
    connection.write_head(status, &headers)?;
    if connection.is_head_request() {
        return Ok(After::KeepAlive);
    }
    let body = Body {
        reader: answer.content.reader(span.start)?.chain(io::repeat(0)).take(span.end - span.start),
        at: span,
        chunked,
    };
    body.write(connection, entry, fault)
}

fn headers(answer: &Answer, fault: Option<&Fault>) -> Vec<(String, String)> {
    let content_type = match fault {
        Some(Fault::ContentType(other)) => other.clone(),
        _ => answer.content_type.clone(),
    };
    let digest = match fault {
        Some(Fault::DigestHeader(other)) => Some(other.clone()),
        Some(Fault::NoDigestHeader) => None,
        _ => Some(answer.digest.to_string()),
    };
    let mut headers = vec![
        ("content-type".to_owned(), content_type),
        ("etag".to_owned(), format!("\"{}\"", answer.digest)),
    ];
    headers.extend(digest.map(|d| ("docker-content-digest".to_owned(), d)));
    if answer.ranges {
        headers.push(("accept-ranges".to_owned(), "bytes".to_owned()));
    }
    headers
}

struct Body<R> {
    reader: R,
    /// Where in the whole content this body lies.
    at: Range<u64>,
    chunked: bool,
}

impl<R: Read> Body<R> {
    fn write(
        mut self,
        connection: &mut Connection,
        entry: &Entry<'_>,
        fault: Option<&Fault>,
    ) -> io::Result<After> {
        let pause = match fault {
            Some(Fault::Cut { after } | Fault::ResetAfter { after } | Fault::StallAfter { after, .. }) => {
                Some(*after)
            }
            _ => None,
        };
        if let Some(after) = pause {
            self.send(connection, entry, fault, after)?;
            match fault {
                Some(Fault::StallAfter { gate, .. }) => gate.pass(),
                Some(Fault::ResetAfter { .. }) => return Ok(After::Reset),
                _ => return Ok(After::Close),
            }
        }
        self.send(connection, entry, fault, u64::MAX)?;
        if self.chunked {
            connection.write(b"0\r\n\r\n")?;
        }
        Ok(if matches!(fault, Some(Fault::LyingLength { .. })) { After::Close } else { After::KeepAlive })
    }

    /// Sends at most `most` more bytes.
    fn send(
        &mut self,
        connection: &mut Connection,
        entry: &Entry<'_>,
        fault: Option<&Fault>,
        mut most: u64,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while most > 0 {
            let room = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
            let n = self.reader.read(&mut buffer[..room])?;
            if n == 0 {
                break;
            }
            let piece = self.at.start..self.at.start + n as u64;
            if let Some(Fault::Flip { at }) = fault
                && piece.contains(at)
                // The offset is inside the buffer, so it fits.
                && let Ok(index) = usize::try_from(at - piece.start)
            {
                buffer[index] ^= 0x01;
            }
            if self.chunked {
                connection.write_chunk(&buffer[..n])?;
            } else {
                connection.write(&buffer[..n])?;
            }
            entry.sent(n as u64);
            self.at.start = piece.end;
            most -= n as u64;
        }
        Ok(())
    }
}

/// A single range of RFC 9110, section 14: `bytes=a-b`, `bytes=a-`, `bytes=-n`. `None` when it cannot be satisfied.
fn parse_range(text: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let count: u64 = last.parse().ok()?;
        return (count > 0 && length > 0).then(|| length.saturating_sub(count)..length);
    }
    let start: u64 = first.parse().ok()?;
    let end = if last.is_empty() { length } else { last.parse::<u64>().ok()?.saturating_add(1).min(length) };
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes=0-", Some(0..10)),
            ("bytes=3-5", Some(3..6)),
            ("bytes=3-99", Some(3..10)),
            ("bytes=-4", Some(6..10)),
            ("bytes=-40", Some(0..10)),
            ("bytes=10-", None),
            ("bytes=5-3", None),
            ("items=0-1", None),
        ] {
            assert_eq!(parse_range(text, 10), expected, "{text}");
        }
    }
}
