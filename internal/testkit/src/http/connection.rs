//! One client's connection: bodies in, answers out, and the ways to end it.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::message::{Head, Reply, answer_head, bad, fields, line};

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may follow.
    KeepAlive,
    /// Closed in order: everything written arrives, then the end.
    Close,
    /// Reset: the client sees "connection reset by peer".
    Reset,
}

/// How a request's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// Not read to its end yet.
    Open,
    /// Its length was reached, or the last chunk came.
    Complete,
    /// The client went away, or sent broken chunks, before that.
    Truncated,
}

/// TCP or unix, by the same name.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(s) => Self::Tcp(s.try_clone()?),
            Self::Unix(s) => Self::Unix(s.try_clone()?),
        })
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        // A connection that the peer has closed already is as good as shut.
        let _ = match self {
            Self::Tcp(s) => s.shutdown(how),
            Self::Unix(s) => s.shutdown(how),
        };
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Unix(s) => s.as_fd(),
        }
    }

    /// Makes the coming close a reset instead of an orderly end (TCP; a unix socket knows only the latter).
    fn reset_on_close(&self) {
        if matches!(self, Self::Tcp(_)) {
            let _ = rustix::net::sockopt::set_socket_linger(self.fd(), Some(Duration::ZERO));
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(into),
            Self::Unix(s) => s.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.write(from),
            Self::Unix(s) => s.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    /// Bytes left of a body with a length.
    Length(u64),
    /// Bytes left of the current chunk; the size line of the next comes when there are none.
    Chunked { left: u64, begun: bool },
}

/// A connection in the middle of one request.
#[derive(Debug)]
pub(crate) struct Connection {
    input: BufReader<Socket>,
    output: Socket,
    framing: Framing,
    body_end: BodyEnd,
    expects_continue: bool,
    is_head_request: bool,
}

impl Connection {
    pub(super) fn new(socket: &Socket) -> io::Result<Self> {
        Ok(Self {
            input: BufReader::with_capacity(64 * 1024, socket.try_clone()?),
            output: socket.try_clone()?,
            framing: Framing::Length(0),
            body_end: BodyEnd::Complete,
            expects_continue: false,
            is_head_request: false,
        })
    }

    /// The next request's head, and the connection set up to read its body.
    pub(super) fn next_head(&mut self) -> io::Result<Option<Head>> {
        let Some(head) = Head::read(&mut self.input)? else {
            return Ok(None);
        };
        let chunked = head.values("transfer-encoding").any(|v| v.eq_ignore_ascii_case("chunked"));
        let length = match head.header("content-length") {
            Some(text) => text.parse().map_err(|_| bad("content-length"))?,
            None => 0,
        };
        self.framing =
            if chunked { Framing::Chunked { left: 0, begun: false } } else { Framing::Length(length) };
        self.body_end = if chunked || length > 0 { BodyEnd::Open } else { BodyEnd::Complete };
        self.expects_continue = head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        self.is_head_request = head.method == "HEAD";
        Ok(Some(head))
    }

    pub(crate) fn body_end(&self) -> BodyEnd {
        self.body_end
    }

    /// Reads some of the request's body; 0 at its end, be it complete or cut: see [`Connection::body_end`].
    pub(crate) fn read_body(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.body_end != BodyEnd::Open {
            return Ok(0);
        }
        if std::mem::take(&mut self.expects_continue) {
            self.output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match self.read_framed(into) {
            Ok(0) => {
                if self.body_end == BodyEnd::Open {
                    self.body_end = BodyEnd::Truncated;
                }
                Ok(0)
            }
            Ok(n) => Ok(n),
            Err(_) => {
                self.body_end = BodyEnd::Truncated;
                Ok(0)
            }
        }
    }

    fn read_framed(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = match &mut self.framing {
            Framing::Length(left) => left,
            Framing::Chunked { left, begun } => {
                if *left == 0 {
                    if std::mem::replace(begun, true) {
                        line(&mut self.input)?.ok_or_else(|| bad("end after a chunk"))?;
                    }
                    let size = line(&mut self.input)?.ok_or_else(|| bad("no chunk size"))?;
                    let size = size.split(';').next().unwrap_or_default();
                    *left = u64::from_str_radix(size.trim(), 16).map_err(|_| bad("chunk size"))?;
                    if *left == 0 {
                        fields(&mut self.input)?;
                        self.body_end = BodyEnd::Complete;
                        return Ok(0);
                    }
                }
                left
            }
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(into.len());
        let n = self.input.read(&mut into[..most])?;
        *left -= n as u64;
        if matches!(self.framing, Framing::Length(0)) {
            self.body_end = BodyEnd::Complete;
        }
        Ok(n)
    }

    /// The whole body, if it is at most `limit` bytes and complete.
    pub(crate) fn read_body_to_end(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = self.read_body(&mut buffer)?;
            if n == 0 {
                break;
            }
            if body.len() + n > limit {
                return Err(bad("request body too large"));
            }
            body.extend_from_slice(&buffer[..n]);
        }
        if self.body_end == BodyEnd::Truncated {
            return Err(bad("request body cut"));
        }
        Ok(body)
    }

    /// Writes a whole answer. The length is added; for HEAD the body is left out.
    pub(crate) fn reply(&mut self, reply: &Reply) -> io::Result<After> {
        let mut headers = reply.headers.clone();
        if reply.status != 204 && !headers.iter().any(|(n, _)| n == "content-length") {
            headers.push(("content-length".into(), reply.body.len().to_string()));
        }
        let mut message = answer_head(reply.status, &headers);
        if !self.is_head_request {
            message.extend_from_slice(&reply.body);
        }
        self.output.write_all(&message)?;
        Ok(After::KeepAlive)
    }

    /// Writes a head with exactly these fields; what follows is the caller's.
    pub(crate) fn write_head(&mut self, status: u16, headers: &[(String, String)]) -> io::Result<()> {
        self.output.write_all(&answer_head(status, headers))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    /// One chunk of a chunked answer, sent at once.
    pub(crate) fn write_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut message = format!("{:x}\r\n", bytes.len()).into_bytes();
        message.extend_from_slice(bytes);
        message.extend_from_slice(b"\r\n");
        self.output.write_all(&message)
    }

    pub(crate) fn is_head_request(&self) -> bool {
        self.is_head_request
    }

    /// Reads what is left of a small body, so that the next request can be found behind it.
    pub(super) fn skip_body(&mut self) -> bool {
        // A client that waits for permission to send will not send: the connection cannot go on.
        if self.body_end == BodyEnd::Open && self.expects_continue {
            return false;
        }
        let mut buffer = vec![0; 16 * 1024];
        for _ in 0..64 {
            if !matches!(self.read_body(&mut buffer), Ok(1..)) {
                break;
            }
        }
        self.body_end == BodyEnd::Complete
    }

    /// Ends the connection as told.
    pub(super) fn end(self, after: After) {
        if after == After::Reset {
            self.output.reset_on_close();
            return;
        }
        self.output.shutdown(Shutdown::Write);
    }
}
