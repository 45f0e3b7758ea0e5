//! Heads of requests and answers.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read};

/// The longest head that is read, in bytes. Clients under test send far less; more is a defect worth failing on.
const MAX_HEAD: u64 = 64 * 1024;

/// A request's first line and header fields.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Decoded path, without the query.
    pub(crate) path: String,
    /// The query as sent, without the `?`.
    pub(crate) query: String,
    /// Fields in the order sent, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one head; `None` when the client closed the connection between requests.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut from = from.take(MAX_HEAD);
        let Some(first) = line(&mut from)? else {
            return Ok(None);
        };
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(bad(&format!("no request line: {first:?}")));
        };
        // A proxy's absolute form is served like the plain one: `GET http://host/v2/` asks for `/v2/`.
        let target = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Some(Self {
            method: method.to_owned(),
            path: percent_decode(path),
            query: query.to_owned(),
            headers: fields(&mut from)?,
        }))
    }

    /// The first field of this name (given in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// All values of a field, several lines and comma lists alike.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n == name).flat_map(|(_, v)| v.split(',')).map(str::trim)
    }

    /// The decoded value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).next()
    }

    /// All decoded values of a query parameter.
    pub(crate) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        form(&self.query).filter(move |(n, _)| n == name).map(|(_, v)| v)
    }
}

/// Pairs of an `a=b&c=d` string, decoded.
pub(crate) fn form(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(name), decode_form(value))
    })
}

fn decode_form(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

/// An answer's status, fields and (short) body, as a handler composes it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.with("content-type", content_type)
    }

    pub(crate) fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", value.to_string())
    }
}

/// The head of an answer as bytes, with the fields given and nothing added.
pub(crate) fn answer_head(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        // Writing to a String cannot fail.
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Reads `name: value` lines up to the empty one. Names come out in lower case.
pub(crate) fn fields(from: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    while let Some(text) = line(from)?.filter(|l| !l.is_empty()) {
        let (name, value) = text.split_once(':').ok_or_else(|| bad(&format!("no header field: {text:?}")))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(headers)
}

pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// One line without its end; `None` at the end of the stream.
pub(crate) fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    if from.read_line(&mut text)? == 0 {
        return Ok(None);
    }
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

pub(crate) fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_decoded() {
        let text = b"GET /images/ghcr.io%2Facme%2Fa:1/json?names=x%40y&b= HTTP/1.1\r\nHost: h\r\nAccept: a/b, c/d\r\nACCEPT: e/f\r\n\r\nrest";
        let mut from = &text[..];
        let head = Head::read(&mut from).unwrap().unwrap();
        assert_eq!(head.path, "/images/ghcr.io/acme/a:1/json");
        assert_eq!(head.parameter("names").as_deref(), Some("x@y"));
        assert_eq!(head.parameter("b").as_deref(), Some(""));
        assert_eq!(head.values("accept").collect::<Vec<_>>(), ["a/b", "c/d", "e/f"]);
        assert_eq!(from, b"rest");
    }

    #[test]
    fn the_absolute_form_of_a_proxy_request_is_understood() {
        let mut from = &b"GET http://ghcr.io/v2/?a=b HTTP/1.1\r\n\r\n"[..];
        let head = Head::read(&mut from).unwrap().unwrap();
        assert_eq!((head.path.as_str(), head.query.as_str()), ("/v2/", "a=b"));
    }

    #[test]
    fn the_end_of_the_stream_is_no_error() {
        assert!(Head::read(&mut &b""[..]).unwrap().is_none());
        assert!(Head::read(&mut &b"nonsense\r\n\r\n"[..]).is_err());
    }
}
