//! What can go wrong, and for which requests.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use palletjack_image::Digest;

use super::gate::Gate;
use crate::http::Head;

/// One way in which an answer is wrong. Offsets and lengths are bytes.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The right head, then this many bytes of the body, then the connection closes.
    Cut {
        /// Body bytes that still arrive.
        after: u64,
    },
    /// The right head, then this many bytes of the body, then the connection is reset.
    ResetAfter {
        /// Body bytes that are sent; the reset may destroy the last of them on the way.
        after: u64,
    },
    /// The connection is reset before any answer.
    Reset,
    /// The connection closes before any answer.
    Hangup,
    /// One byte of the blob or manifest is another, wherever a range puts it.
    Flip {
        /// Offset in the whole content.
        at: u64,
    },
    /// The content ends early, and the answer's length agrees: only the digest tells.
    Short {
        /// Bytes of the whole content that remain.
        length: u64,
    },
    /// Bytes after the content, and the answer's length agrees.
    Long {
        /// How many zeros follow.
        extra: u64,
    },
    /// The length announces more than is sent; then the connection closes.
    LyingLength {
        /// How much more.
        extra: u64,
    },
    /// This status with a JSON error instead of the answer.
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    TooManyRequests {
        /// Value of the field, in seconds.
        retry_after: u64,
    },
    /// 503 with `Retry-After` in seconds.
    Unavailable {
        /// Value of the field, in seconds.
        retry_after: u64,
    },
    /// 401 with a challenge for the registry's own token service, whatever the request carried.
    Unauthorized,
    /// Nothing is answered until the gate opens; then the answer is right.
    Stall(Gate),
    /// The right head and this many bytes, then nothing until the gate opens; then the rest.
    StallAfter {
        /// Body bytes that come before the pause.
        after: u64,
        /// What ends the pause.
        gate: Gate,
    },
    /// 200 and the whole content though a range was asked for.
    IgnoreRange,
    /// 206 whose `Content-Range` and content are shifted by this much from what was asked.
    WrongRange {
        /// How many bytes further the answer starts.
        shift: u64,
    },
    /// 416 though the range is fine.
    RangeNotSatisfiable,
    /// 307 to the same path on another server, given as `http://host:port`.
    Redirect {
        /// Scheme, host and port.
        to: String,
    },
    /// 200 with an HTML page: a captive portal.
    Html,
    /// The right content under this content type.
    ContentType(String),
    /// The right content under this `Docker-Content-Digest`.
    DigestHeader(String),
    /// The right content without `Docker-Content-Digest`.
    NoDigestHeader,
    /// The right content in chunks, without a length.
    Chunked,
}

type Condition = Arc<dyn Fn(&Head) -> bool + Send + Sync>;

/// Which requests a fault is for. Every condition given must hold.
#[derive(Clone)]
pub struct When {
    what: String,
    matches: Vec<Condition>,
    nth: Range<u64>,
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.what, self.nth)
    }
}

impl When {
    /// Every request.
    pub fn any() -> Self {
        Self { what: "any".to_owned(), matches: Vec::new(), nth: 0..u64::MAX }
    }

    fn and(mut self, what: &str, condition: impl Fn(&Head) -> bool + Send + Sync + 'static) -> Self {
        self.what = format!("{}, {what}", self.what);
        self.matches.push(Arc::new(condition));
        self
    }

    /// Requests whose path contains this.
    pub fn path(contains: &str) -> Self {
        let text = contains.to_owned();
        Self::any().and(contains, move |head| head.path.contains(&text))
    }

    /// GET of any blob.
    pub fn blobs() -> Self {
        Self::path("/blobs/").method("GET")
    }

    /// GET of this blob.
    pub fn blob(digest: &Digest) -> Self {
        Self::path(&format!("/blobs/{digest}")).method("GET")
    }

    /// GET or HEAD of any manifest.
    pub fn manifests() -> Self {
        Self::path("/manifests/")
    }

    /// GET or HEAD of the manifest with this tag or digest.
    pub fn manifest(reference: impl fmt::Display) -> Self {
        let end = format!("/manifests/{reference}");
        Self::any().and(&end.clone(), move |head| head.path.ends_with(&end))
    }

    /// Requests to the token service.
    pub fn tokens() -> Self {
        Self::path("/token")
    }

    /// Only requests of this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        let wanted = method.to_owned();
        self.and(method, move |head| head.method == wanted)
    }

    /// Only requests that ask for a range.
    #[must_use]
    pub fn ranged(self) -> Self {
        self.and("ranged", |head| head.header("range").is_some())
    }

    /// Only requests for which this holds, given method, path and fields.
    #[must_use]
    pub fn matching(
        self,
        condition: impl Fn(&str, &str, &[(String, String)]) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.and("matching", move |head| condition(&head.method, &head.path, &head.headers))
    }

    /// Only the first `count` of the matching requests.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.nth = 0..count;
        self
    }

    /// Only the n-th of the matching requests; the first is 1.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.nth = n.saturating_sub(1)..n;
        self
    }

    /// The n-th of the matching requests and all later ones; the first is 1.
    #[must_use]
    pub fn from(mut self, n: u64) -> Self {
        self.nth = n.saturating_sub(1)..u64::MAX;
        self
    }

    pub(super) fn matches(&self, head: &Head) -> bool {
        self.matches.iter().all(|condition| condition(head))
    }

    pub(super) fn includes(&self, count: u64) -> bool {
        self.nth.contains(&count)
    }
}
