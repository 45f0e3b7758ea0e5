//! Answers and refusals as HTTP.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LINK, PROXY_AUTHENTICATE,
    SERVER,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use palletjack_image::media_type;

use super::blob::{self, Asked};
use super::catalog::Found;
use super::{Counters, SERVER as SERVER_NAME};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Docker's clients before version 19 take a registry without it for one of version 1.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const NO_REFERRERS: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const JSON: &str = "application/json";

/// Why there is no answer: status, code and message of the distribution specification ("Error Codes").
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn name_unknown(repository: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("{repository} is not in the cache"))
    }

    pub(super) fn manifest_unknown(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            format!("{what} is not in the cache, or not whole"),
        )
    }

    pub(super) fn blob_unknown(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", what)
    }

    pub(super) fn digest_invalid(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", why)
    }

    pub(super) fn no_such_path(why: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", why)
    }

    pub(super) fn method(method: &Method) -> Self {
        let message = format!("{method} is not possible: this registry is read-only");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    /// Who asks has not given the password.
    pub(super) fn not_for_everybody() -> Self {
        let message = "this server is for one client, and that has a password";
        Self::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "UNAUTHORIZED", message)
    }

    /// The cache cannot be read. The specification has no code for a server's own trouble; Docker's registry says
    /// `UNKNOWN`.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
    }

    pub(super) fn response(&self) -> Response {
        let error = serde_json::json!({ "code": self.code, "message": self.message, "detail": null });
        let body = serde_json::json!({ "errors": [error] }).to_string();
        let mut response = plain(self.status, JSON, body.into(), false);
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            response
                .headers_mut()
                .insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"palletjack\""));
        }
        response
    }
}

/// An answer whose content is at hand.
fn plain(status: StatusCode, media_type: &str, content: bytes::Bytes, head: bool) -> Response {
    let length = content.len() as u64;
    let body = if head { Body::empty() } else { Body::from(content) };
    with_head(status, media_type, length, body)
}

fn with_head(status: StatusCode, media_type: &str, length: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_str(media_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

fn note(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The answer to a question.
pub(super) fn response(
    found: Found,
    head: bool,
    range: Option<&str>,
    counters: &Arc<Counters>,
) -> Result<Response, Refusal> {
    Ok(match found {
        Found::Version => plain(StatusCode::OK, JSON, "{}".into(), head),
        Found::Referrers => plain(StatusCode::OK, media_type::OCI_INDEX, NO_REFERRERS.into(), head),
        Found::Manifest { media_type, digest, bytes } => {
            Counters::add(&counters.manifests, 1);
            let mut response = plain(StatusCode::OK, &media_type, bytes, head);
            note(&mut response, CONTENT_DIGEST, &digest.to_string());
            response
        }
        Found::Tags { repository, tags, more } => {
            let body = serde_json::json!({ "name": repository, "tags": tags }).to_string();
            let mut response = plain(StatusCode::OK, JSON, body.into(), head);
            if let (true, Some(last)) = (more, tags.last()) {
                let next = format!("</v2/{repository}/tags/list?last={last}&n={}>; rel=\"next\"", tags.len());
                note(&mut response, LINK, &next);
            }
            response
        }
        Found::Blob { descriptor, file, lease } => {
            let size = descriptor.size;
            let digest = descriptor.digest.to_string();
            let asked = if head { Asked::Whole } else { Asked::read(range, size) };
            let (status, bytes) = match &asked {
                Asked::Whole => (StatusCode::OK, 0..size),
                Asked::Part(bytes) => (StatusCode::PARTIAL_CONTENT, bytes.clone()),
                Asked::Beyond => {
                    let mut response = plain(
                        StatusCode::RANGE_NOT_SATISFIABLE,
                        JSON,
                        format!(r#"{{"errors":[{{"code":"SIZE_INVALID","message":"the blob has {size} bytes","detail":null}}]}}"#)
                            .into(),
                        head,
                    );
                    note(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
                    return Ok(response);
                }
            };
            let length = bytes.end - bytes.start;
            let content_range = format!("bytes {}-{}/{size}", bytes.start, bytes.end.saturating_sub(1));
            let body = if head {
                Body::empty()
            } else {
                blob::stream(file, descriptor, bytes, lease, counters.clone())
            };
            let mut response = with_head(status, "application/octet-stream", length, body);
            response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            note(&mut response, CONTENT_DIGEST, &digest);
            if status == StatusCode::PARTIAL_CONTENT {
                note(&mut response, CONTENT_RANGE, &content_range);
            }
            response
        }
    })
}
