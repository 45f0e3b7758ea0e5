//! The smallest client that can fill a registry and ask a server something: one request, one connection.

use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use super::connection::Socket;
use super::message::{bad, fields, find, line};

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came as long as announced.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// Sends one request to `host:port`. The body's length is announced, its bytes are streamed.
pub(crate) fn request(
    host: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<(u64, &mut dyn Read)>,
) -> io::Result<Answer> {
    exchange(Socket::Tcp(TcpStream::connect(host)?), host, method, target, headers, body)
}

/// The same over a unix socket.
#[cfg(test)]
pub(crate) fn request_unix(
    socket: &std::path::Path,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<(u64, &mut dyn Read)>,
) -> io::Result<Answer> {
    exchange(
        Socket::Unix(std::os::unix::net::UnixStream::connect(socket)?),
        "localhost",
        method,
        target,
        headers,
        body,
    )
}

fn exchange(
    mut socket: Socket,
    host: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<(u64, &mut dyn Read)>,
) -> io::Result<Answer> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        // Writing to a String cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if let Some((length, _)) = &body {
        let _ = write!(head, "content-length: {length}\r\n");
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes())?;
    if let Some((length, from)) = body {
        io::copy(&mut from.take(length), &mut socket)?;
    }
    let mut input = BufReader::new(socket);
    let first = line(&mut input)?.ok_or_else(|| bad("closed without an answer"))?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| bad(&format!("no status line: {first:?}")))?;
    let headers = fields(&mut input)?;
    let mut answer = Answer { status, headers, body: Vec::new(), complete: true };
    if method != "HEAD" {
        read_body(&mut input, &mut answer)?;
    }
    Ok(answer)
}

fn read_body(input: &mut BufReader<Socket>, answer: &mut Answer) -> io::Result<()> {
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.complete = false;
        while let Some(size) = line(input)? {
            let size = u64::from_str_radix(&size, 16).map_err(|_| bad("chunk size"))?;
            if size == 0 {
                answer.complete = true;
                break;
            }
            let n = input.take(size).read_to_end(&mut answer.body)?;
            if (n as u64) < size || line(input)?.is_none() {
                break;
            }
        }
        return Ok(());
    }
    let length: Option<u64> = match answer.header("content-length") {
        Some(text) => Some(text.parse().map_err(|_| bad("content-length"))?),
        None => None,
    };
    let read = input.take(length.unwrap_or(u64::MAX)).read_to_end(&mut answer.body);
    answer.complete = match read {
        Ok(n) => length.is_none_or(|length| n as u64 == length),
        Err(_) => false,
    };
    Ok(())
}
