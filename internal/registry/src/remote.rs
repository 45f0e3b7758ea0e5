//! The seam: everything that is asked of a registry goes through [`Remote`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use palletjack_image::{Descriptor, Digest, Manifest, ManifestError, Reference, media_type};
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};

use crate::auth::{Challenge, Pass, Tokens};
use crate::config::{Config, Endpoint};
use crate::error::{Cause, Failure, RemoteError};
use crate::event::{Event, Events};
use crate::http::{Answer, Http, Request};
use crate::quote;
use crate::retry::{Retry, Sleep};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The registries, as one client. Cheap to clone; clones share connections, tokens and counters.
///
/// Every question is asked of the reference's mirrors in their order, then of its registry, until one has the answer.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    tokens: Tokens,
    events: Events,
    sleep: Sleep,
    /// Mirrors that could not be reached in this run, and why: they are passed over in first attempts.
    unreachable: Mutex<HashMap<Endpoint, Cause>>,
}

/// A manifest and who handed it out.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The manifest, its bytes as they came.
    pub manifest: Manifest,
    /// The registry's name (`docker.io`), or the mirror's URL.
    pub upstream: String,
}

/// What was asked for so far, whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests sent, redirects and token requests included.
    pub requests: u64,
    /// Bytes of answers read, in bytes.
    pub bytes: u64,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("traffic", &self.traffic()).finish_non_exhaustive()
    }
}

impl Remote {
    /// A client. Nothing is opened or read until something is asked for.
    pub fn new(config: Config, events: Events) -> Self {
        Self::with_sleep(config, events, Sleep::default())
    }

    /// A client that waits in its own way between tries.
    pub fn with_sleep(config: Config, events: Events, sleep: Sleep) -> Self {
        let http = Http::new(config);
        let unreachable = Mutex::default();
        Self { inner: Arc::new(Inner { http, tokens: Tokens::default(), events, sleep, unreachable }) }
    }

    /// Requests and bytes so far.
    pub fn traffic(&self) -> Traffic {
        Traffic { requests: self.inner.http.requests(), bytes: self.inner.http.bytes() }
    }

    /// The manifest that a reference means now: that of its digest, else that of its tag.
    pub async fn resolve(&self, reference: &Reference) -> Result<Fetched, RemoteError> {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.manifest(reference, digest).await,
            (None, Some(tag)) => self.fetch_manifest(reference, tag, None).await,
            (None, None) => Err(misconfigured(reference, "it has neither a tag nor a digest")),
        }
    }

    /// The manifest with this digest in the reference's repository, verified. An answer of more than
    /// [`Manifest::MAX_SIZE`] bytes is not read to its end.
    pub async fn manifest(&self, reference: &Reference, digest: Digest) -> Result<Fetched, RemoteError> {
        self.fetch_manifest(reference, &digest.to_string(), Some(digest)).await
    }

    /// The content of a blob from `offset` bytes on. One attempt with every server: whoever reads the body knows best
    /// from where to go on. The server called `avoid` ([`BlobBody::server`]) is passed over
    /// where there is another.
    ///
    /// The body may begin at 0 instead ([`BlobBody::start`]). Its bytes are *not* verified.
    pub async fn blob_from(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        offset: u64,
        avoid: Option<&str>,
    ) -> Result<BlobBody<'_>, RemoteError> {
        let what = format!("{} of {}", blob.digest, reference.familiar());
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            headers.insert(RANGE, range.map_err(|_| misconfigured(reference, "range"))?);
        }
        let mut endpoints = self.endpoints(reference)?;
        if endpoints.len() > 1 {
            endpoints.retain(|endpoint| Some(&*endpoint.to_string()) != avoid);
        }
        let mut failures = Vec::new();
        for endpoint in endpoints {
            if self.is_passed_over(&endpoint, offset > 0, &mut failures) {
                continue;
            }
            let rest = format!("blobs/{}", blob.digest);
            let begun = async {
                let answer = self.exchange(&endpoint, reference, &rest, &headers).await?;
                let start = start_of(&answer, offset, blob.size)?;
                Ok((answer, start))
            };
            match begun.await {
                Ok((answer, start)) => return Ok(BlobBody { answer, start, server: endpoint.to_string() }),
                Err(cause) => self.note(&endpoint, cause, &mut failures),
            }
        }
        Err(RemoteError::new(what, failures))
    }

    async fn fetch_manifest(
        &self,
        reference: &Reference,
        by: &str,
        digest: Option<Digest>,
    ) -> Result<Fetched, RemoteError> {
        let mut retry = Retry::new(self.inner.http.config().retry);
        let mut again = false;
        loop {
            match self.manifest_round(reference, by, digest, again).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => {
                    let Some(pause) = retry.after(error.transience()) else { return Err(error) };
                    self.pause(&reference.familiar(), pause, &error).await;
                    again = true;
                }
            }
        }
    }

    /// Asks every server once.
    async fn manifest_round(
        &self,
        reference: &Reference,
        by: &str,
        digest: Option<Digest>,
        again: bool,
    ) -> Result<Fetched, RemoteError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept());
        let mut failures = Vec::new();
        for endpoint in self.endpoints(reference)? {
            if self.is_passed_over(&endpoint, again, &mut failures) {
                continue;
            }
            let fetched = async {
                let answer =
                    self.exchange(&endpoint, reference, &format!("manifests/{by}"), &headers).await?;
                read_manifest(answer, digest).await
            };
            match fetched.await {
                Ok(manifest) => return Ok(Fetched { manifest, upstream: endpoint.upstream() }),
                Err(cause) => self.note(&endpoint, cause, &mut failures),
            }
        }
        Err(RemoteError::new(reference.familiar(), failures))
    }

    /// Sends one question to one server, with what authorizes us there. A 401 has a new token made, once. Only a
    /// success is returned as an answer.
    pub(crate) async fn exchange(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        rest: &str,
        headers: &HeaderMap,
    ) -> Result<Answer<'_>, Cause> {
        let Inner { http, tokens, events, .. } = &*self.inner;
        let mut pass = tokens.pass(http, events, endpoint, reference).await?;
        let mut request = Request::get(endpoint.url(reference.path(), rest));
        request.headers.clone_from(headers);
        let mut renewed = false;
        loop {
            request.authorization.clone_from(&pass.header);
            let answer = http.send(&request, events).await?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            if answer.status().as_u16() != 401 || !answer.is_from_origin() {
                if answer.status().as_u16() == 416 {
                    return Err(Cause::Range("it cannot serve the range (416)".to_owned()));
                }
                return Err(answer.error().await);
            }
            let challenge = Challenge::of(answer.headers());
            let message = answer.message().await;
            let Some(challenge) = challenge else { return Err(Cause::Challenge(message)) };
            if renewed {
                return Err(tokens.refused(endpoint, reference, &pass, message).await);
            }
            pass = tokens.renew(http, events, endpoint, reference, challenge, &pass).await?;
            if pass.header.is_none() {
                return Err(tokens.refused(endpoint, reference, &pass, message).await);
            }
            renewed = true;
        }
    }

    /// What is sent to a server for a repository, after asking the server whether it wants any such thing.
    pub(crate) async fn pass(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Pass, Cause> {
        let Inner { http, tokens, events, .. } = &*self.inner;
        let pass = tokens.pass(http, events, endpoint, reference).await?;
        if pass.header.is_some() {
            return Ok(pass);
        }
        let mut url = endpoint.base.clone();
        url.set_path(&format!("{}v2/", endpoint.base.path()));
        let answer = http.send(&Request::get(url), events).await?;
        let challenge = Challenge::of(answer.headers()).filter(|_| answer.status().as_u16() == 401);
        let _ = answer.message().await;
        match challenge {
            Some(challenge) => tokens.renew(http, events, endpoint, reference, challenge, &pass).await,
            None => Ok(pass),
        }
    }

    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, RemoteError> {
        self.inner.http.config().endpoints(reference).map_err(|error| misconfigured(reference, &error))
    }

    pub(crate) fn http(&self) -> &Http {
        &self.inner.http
    }

    pub(crate) fn events(&self) -> &Events {
        &self.inner.events
    }

    /// Tells that something is tried again, and waits until then.
    pub(crate) async fn pause(&self, what: &str, after: std::time::Duration, why: &RemoteError) {
        (self.inner.events)(Event::Retrying { what: what.to_owned(), after, why: why.to_string() });
        self.inner.sleep.pause(after).await;
    }

    /// Whether a mirror is left out because it could not be reached before. The reason is noted, for the case that
    /// nobody else answers.
    fn is_passed_over(&self, endpoint: &Endpoint, again: bool, failures: &mut Vec<Failure>) -> bool {
        if again {
            return false;
        }
        let unreachable = self.inner.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cause) = unreachable.get(endpoint) else { return false };
        failures.push(Failure { endpoint: endpoint.to_string(), cause: cause.clone() });
        true
    }

    fn note(&self, endpoint: &Endpoint, cause: Cause, failures: &mut Vec<Failure>) {
        let unreachable =
            matches!(cause, Cause::Dns(_) | Cause::ConnectionRefused | Cause::Connect(_) | Cause::Tls(_));
        if unreachable && endpoint.domain.is_none() {
            let mut all = self.inner.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(endpoint.clone(), cause.clone());
        }
        failures.push(Failure { endpoint: endpoint.to_string(), cause });
    }
}

fn misconfigured(reference: &Reference, why: &str) -> RemoteError {
    let failure = Failure { endpoint: reference.domain().to_owned(), cause: Cause::Config(why.to_owned()) };
    RemoteError::new(reference.familiar(), vec![failure])
}

fn accept() -> HeaderValue {
    HeaderValue::try_from(media_type::MANIFESTS.join(", ")).unwrap_or(HeaderValue::from_static("*/*"))
}

async fn read_manifest(answer: Answer<'_>, digest: Option<Digest>) -> Result<Manifest, Cause> {
    let content_type = answer.header(CONTENT_TYPE.as_str()).map(str::to_owned);
    // A tag's content has no other witness than what the registry says about it.
    let said = answer.header(DOCKER_CONTENT_DIGEST.as_str()).and_then(|said| said.parse().ok());
    let bytes = answer.read(Manifest::MAX_SIZE).await?;
    let actual = Digest::of(&bytes);
    let parsed = Manifest::parse(bytes, content_type.as_deref());
    if let Some(expected) = digest.or(said).filter(|expected| *expected != actual) {
        // A portal's page has the wrong digest too, but that is not what is wrong with it.
        return Err(match parsed {
            Err(error @ ManifestError::Html) => Cause::Manifest(Arc::new(error)),
            _ => Cause::Digest { expected, actual },
        });
    }
    parsed.map_err(|error| Cause::Manifest(Arc::new(error)))
}

/// Where the body of a blob's answer begins: at the offset that was asked for, or at 0.
fn start_of(answer: &Answer<'_>, offset: u64, size: u64) -> Result<u64, Cause> {
    let partial = answer.status().as_u16() == 206;
    let start = if partial {
        let range = answer.header(CONTENT_RANGE.as_str()).unwrap_or_default();
        let refuse = || Cause::Range(format!("`{}` for bytes from {offset} of {size}", quote::line(range)));
        let (start, total) = content_range(range).ok_or_else(refuse)?;
        if start != offset || total.is_some_and(|total| total != size) {
            return Err(refuse());
        }
        start
    } else {
        0
    };
    match answer.content_length() {
        Some(length) if length > size - start || (!partial && length < size) => {
            Err(Cause::Size { expected: size, actual: start + length })
        }
        _ => Ok(start),
    }
}

/// First byte and, where it is told, whole length of `bytes 4-9/10` (RFC 9110, 14.4).
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// The content of a blob on its way. Not verified.
#[derive(Debug)]
pub struct BlobBody<'a> {
    answer: Answer<'a>,
    start: u64,
    server: String,
}

impl BlobBody<'_> {
    /// Where in the blob the body begins: where it was asked to, or at 0 with a server that knows no ranges.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Who sends it, as [`Failure::endpoint`] names servers.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The next bytes, as large as they come from the socket; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Cause> {
        self.answer.chunk().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        for (value, want) in [
            ("bytes 4-9/10", Some((4, Some(10)))),
            ("bytes 4-9/*", Some((4, None))),
            ("bytes 0-0/1", Some((0, Some(1)))),
            ("bytes 4-10/10", None),
            ("bytes 9-4/10", None),
            ("bytes */10", None),
            ("items 4-9/10", None),
            ("bytes 4-9", None),
            ("", None),
        ] {
            assert_eq!(content_range(value), want, "{value}");
        }
    }
}
