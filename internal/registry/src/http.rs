//! One pool of connections, and requests whose failures have names.

use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, NoProxy, Proxy, Response, StatusCode, Url, redirect};
use tokio::sync::OnceCell;

use crate::config::{Config, Timeouts, authority};
use crate::error::Cause;
use crate::event::Events;
use crate::{quote, retry, tls};

/// How many redirects are followed for one request. Registries need one, to their storage.
const MAX_REDIRECTS: usize = 5;

/// The most bytes that are read of an answer that only explains an error.
const MAX_ERROR_BODY: usize = 8 << 10;

/// A pool of HTTP/1.1 connections that are kept alive. HTTP/2 would put all blobs of a host on one connection and so
/// under one congestion window.
#[derive(Debug)]
pub(crate) struct Http {
    config: Config,
    plain: OnceCell<Client>,
    secure: OnceCell<Client>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// One request. The credentials stand apart, because they go to one origin only.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) body: Option<Bytes>,
}

impl Request {
    pub(crate) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), authorization: None, body: None }
    }
}

impl Http {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            plain: OnceCell::new(),
            secure: OnceCell::new(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Requests so far, redirects and token requests included.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn count_requests(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }

    /// The pool for a server. Its own certificates and client identities will choose among more than two.
    async fn pool(&self, url: &Url, events: &Events) -> Result<&Client, Cause> {
        if url.scheme() == "https" {
            let build = || async {
                let events = events.clone();
                // Reads files.
                let tls = tokio::task::spawn_blocking(move || tls::with_system_roots(&events)).await;
                let tls = tls.map_err(|error| Cause::Tls(error.to_string()))?;
                self.build(tls.map_err(|error| Cause::Tls(error.to_string()))?)
            };
            self.secure.get_or_try_init(build).await
        } else {
            let build =
                || async { self.build(tls::without_roots().map_err(|error| Cause::Tls(error.to_string()))?) };
            self.plain.get_or_try_init(build).await
        }
    }

    fn build(&self, tls: rustls::ClientConfig) -> Result<Client, Cause> {
        let failed =
            |error: reqwest::Error| Cause::Config(format!("the HTTP client cannot be built: {error}"));
        let user_agent = match &*self.config.user_agent {
            "" => concat!("palletjack/", env!("CARGO_PKG_VERSION")),
            given => given,
        };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.config.timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true)
            .user_agent(user_agent)
            // Proxies are given, never taken from the environment.
            .no_proxy();
        let proxy = &self.config.proxy;
        let except = || NoProxy::from_string(&proxy.except);
        if let Some(url) = &proxy.http {
            builder = builder.proxy(Proxy::http(url.clone()).map_err(failed)?.no_proxy(except()));
        }
        if let Some(url) = &proxy.https {
            builder = builder.proxy(Proxy::https(url.clone()).map_err(failed)?.no_proxy(except()));
        }
        builder.build().map_err(failed)
    }

    /// Sends a request and follows redirects. Credentials are sent to the origin (scheme, host and port) of the
    /// request's own URL and nowhere else; nothing is followed from HTTPS to plain HTTP.
    ///
    /// Any status is an answer; see [`Answer::error`].
    pub(crate) async fn send(&self, request: &Request, events: &Events) -> Result<Answer<'_>, Cause> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = self.pool(&url, events).await?;
            let same_origin = url.origin() == request.url.origin();
            let mut builder =
                client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
            if let (Some(authorization), true) = (&request.authorization, same_origin) {
                builder = builder.header(AUTHORIZATION, authorization.clone());
            }
            if let (Some(body), true) = (&request.body, same_origin) {
                builder = builder.body(body.clone());
            }
            self.count_requests(1);
            let limit = self.config.timeouts.response;
            let response = match tokio::time::timeout(limit, builder.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(cause(&error, &self.config.timeouts)),
                Err(_) => return Err(Cause::Timeout(limit)),
            };
            let follow = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let location = response.headers().get(LOCATION);
            let (true, Some(location)) = (follow, location) else {
                return Ok(Answer { response, http: self, at_origin: same_origin });
            };
            let next = next_hop(&url, location)?;
            // An empty body is read to its end, so that the connection can serve again.
            let answer = Answer { response, http: self, at_origin: same_origin };
            let _ = answer.read(MAX_ERROR_BODY).await;
            url = next;
        }
        Err(Cause::Redirect(format!("more than {MAX_REDIRECTS} in a row")))
    }
}

/// Where a redirect leads, if it may be followed.
fn next_hop(from: &Url, location: &HeaderValue) -> Result<Url, Cause> {
    let next = location
        .to_str()
        .ok()
        .and_then(|text| from.join(text).ok())
        .filter(|next| matches!(next.scheme(), "http" | "https") && next.host_str().is_some())
        .ok_or_else(|| Cause::Redirect("its target is not a URL".to_owned()))?;
    if from.scheme() == "https" && next.scheme() == "http" {
        let host = quote::line(&authority(&next));
        return Err(Cause::Redirect(format!("from https to plain http at {host}")));
    }
    Ok(next)
}

/// The head of an answer, and its body as it comes.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    response: Response,
    http: &'a Http,
    at_origin: bool,
}

impl Answer<'_> {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header, where it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Whether the server that was asked answered, not one that it sent us on to.
    pub(crate) fn is_from_origin(&self) -> bool {
        self.at_origin
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes of the body, as large as they come from the socket; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Cause> {
        let timeouts = &self.http.config.timeouts;
        match tokio::time::timeout(timeouts.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => {
                let length = chunk.as_ref().map_or(0, Bytes::len);
                self.http.bytes.fetch_add(length as u64, Ordering::Relaxed);
                Ok(chunk)
            }
            Ok(Err(error)) => Err(cause(&error, timeouts)),
            Err(_) => Err(Cause::Timeout(timeouts.idle)),
        }
    }

    /// The whole body, if it is no longer than `limit` bytes.
    pub(crate) async fn read(mut self, limit: usize) -> Result<Bytes, Cause> {
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Cause::TooLarge(limit));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > limit {
                return Err(Cause::TooLarge(limit));
            }
            if body.is_empty() && self.content_length() == Some(chunk.len() as u64) {
                return Ok(chunk);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// What a status other than success means. 401 is the caller's affair.
    pub(crate) async fn error(self) -> Cause {
        let status = self.status().as_u16();
        let after = self
            .header(RETRY_AFTER.as_str())
            .and_then(|value| retry::retry_after(value, self.header(DATE.as_str())));
        let message = self.message().await;
        match status {
            403 => Cause::Forbidden(message),
            404 => Cause::NotFound(message),
            429 => Cause::RateLimited { after, message },
            408 | 500..=599 => Cause::Unavailable { status, after, message },
            _ => Cause::Status { status, message },
        }
    }

    /// What the body of an error says, for people.
    pub(crate) async fn message(mut self) -> String {
        let mut body = BytesMut::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            let room = MAX_ERROR_BODY - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == MAX_ERROR_BODY {
                break;
            }
        }
        quote::error_body(&body)
    }
}

/// Gives a failure of the HTTP client a name. The system's answer lies several layers deep.
fn cause(error: &reqwest::Error, timeouts: &Timeouts) -> Cause {
    let mut deepest = error.to_string();
    let mut system = None;
    let mut next = error.source();
    while let Some(inner) = next {
        deepest = inner.to_string();
        if deepest == "dns error" {
            let why = inner.source().map_or_else(String::new, ToString::to_string);
            return Cause::Dns(quote::line(&why));
        }
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Cause::Tls(explain(tls));
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return Cause::Tls(explain(tls));
            }
            system = Some(io.kind());
        }
        next = inner.source();
    }
    if error.is_timeout() {
        return Cause::Timeout(if error.is_connect() { timeouts.connect } else { timeouts.idle });
    }
    match system {
        Some(io::ErrorKind::ConnectionRefused) => Cause::ConnectionRefused,
        Some(io::ErrorKind::TimedOut) => Cause::Timeout(timeouts.connect),
        // May be a server under load as well: not a reason to give up at once.
        _ if deepest == "tls handshake eof" => {
            Cause::Connect("the server broke off the TLS handshake; is it a plain HTTP registry?".to_owned())
        }
        _ if error.is_connect() => Cause::Connect(quote::line(&deepest)),
        _ if error.is_builder() => Cause::Config(quote::line(&deepest)),
        _ => Cause::Broken(quote::line(&deepest)),
    }
}

fn explain(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    let advice = match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            ": its certificate is signed by nobody whom this machine trusts"
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            ": its certificate is not valid yet; is this machine's clock right?"
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            ": its certificate is no longer valid; is this machine's clock right?"
        }
        rustls::Error::InvalidMessage(_) => ": it does not speak TLS; is it a plain HTTP registry?",
        _ => "",
    };
    format!("{}{advice}", quote::line(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_servers_and_never_out_of_tls() {
        let hop = |from: &str, location: &str| {
            let next = next_hop(&from.parse().unwrap(), &HeaderValue::from_str(location).unwrap());
            next.map(|url| url.to_string()).map_err(|cause| cause.to_string())
        };
        assert_eq!(hop("https://a/v2/x", "/y?z=1"), Ok("https://a/y?z=1".to_owned()));
        assert_eq!(hop("http://a/v2/x", "https://b/y"), Ok("https://b/y".to_owned()));
        assert_eq!(hop("http://a/v2/x", "//b/y"), Ok("http://b/y".to_owned()));
        for (from, location, want) in [
            ("https://a/", "http://b/y", "plain http at b"),
            ("https://a/", "HTTP://a/", "plain http at a"),
            ("http://a/", "file:///etc/passwd", "not a URL"),
            ("http://a/", "http://[", "not a URL"),
        ] {
            let error = hop(from, location).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
