//! Which request gets which answer.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use palletjack_image::{Digest, media_type};
use serde_json::json;

use super::auth::{Auth, Tokens, challenge, error};
use super::content::Content;
use super::fault::Fault;
use super::plan::Plan;
use super::record::{Entry, Log};
use super::upload::Uploads;
use super::write::{Answer, write};
use crate::http::{After, Connection, Handler, Head, Reply};
use crate::image::Blob;

/// Everything behind the port.
#[derive(Debug)]
pub(super) struct State {
    content: Mutex<Content>,
    pub(super) plan: Plan,
    pub(super) log: Log,
    pub(super) tokens: Tokens,
    auth: Option<Auth>,
    uploads: Uploads,
}

impl State {
    pub(super) fn new(auth: Option<Auth>) -> Self {
        Self {
            content: Mutex::default(),
            plan: Plan::default(),
            log: Log::default(),
            tokens: Tokens::default(),
            auth,
            uploads: Uploads::default(),
        }
    }

    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a path below `/v2/` names.
enum Resource<'a> {
    Root,
    Catalog,
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Uploads(&'a str, &'a str),
    Tags(&'a str),
    Referrers,
    Unknown,
}

impl<'a> Resource<'a> {
    fn parse(path: &'a str) -> Self {
        let Some(rest) = path.strip_prefix("/v2") else {
            return Self::Unknown;
        };
        let rest = rest.trim_start_matches('/');
        if rest.is_empty() {
            return Self::Root;
        }
        if rest == "_catalog" {
            return Self::Catalog;
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Self::Tags(name);
        }
        if let Some((name, session)) = rest.split_once("/blobs/uploads") {
            return Self::Uploads(name, session.trim_matches('/'));
        }
        if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
            return Self::Manifest(name, reference);
        }
        if let Some((name, digest)) = rest.rsplit_once("/blobs/") {
            return Self::Blob(name, digest);
        }
        if rest.contains("/referrers/") {
            return Self::Referrers;
        }
        Self::Unknown
    }

    fn repository(&self) -> Option<&'a str> {
        match self {
            Self::Manifest(name, _) | Self::Blob(name, _) | Self::Uploads(name, _) | Self::Tags(name) => {
                Some(name)
            }
            _ => None,
        }
    }
}

impl Handler for State {
    fn handle(&self, head: &Head, connection: &mut Connection) -> io::Result<After> {
        let entry = self.log.begin(head);
        let fault = self.plan.decide(head);
        let resource = Resource::parse(&head.path);
        match &fault {
            Some(Fault::Reset) => return Ok(After::Reset),
            Some(Fault::Hangup) => return Ok(After::Close),
            Some(Fault::Stall(gate)) => gate.pass(),
            _ => {}
        }
        if let Some(reply) = fault.as_ref().and_then(|f| instead(f, head, resource.repository())) {
            return finish(connection, &entry, &reply);
        }
        if head.path == "/token"
            && let Some(auth) = &self.auth
        {
            let body = connection.read_body_to_end(64 * 1024)?;
            let reply = self.tokens.answer(auth, head, &String::from_utf8_lossy(&body));
            return finish(connection, &entry, &reply);
        }
        if let Some(auth) = &self.auth
            && let Err(reply) = self.tokens.check(auth, head, resource.repository())
        {
            return finish(connection, &entry, &reply);
        }
        match self.answer(head, &resource, connection)? {
            Ok(answer) => write(connection, &entry, head, &answer, fault.as_ref()),
            Err(reply) => finish(connection, &entry, &reply),
        }
    }

    fn release(&self) {
        for gate in self.plan.gates() {
            gate.open();
        }
    }
}

fn finish(connection: &mut Connection, entry: &Entry<'_>, reply: &Reply) -> io::Result<After> {
    entry.status(reply.status);
    if !connection.is_head_request() {
        entry.sent(reply.body.len() as u64);
    }
    connection.reply(reply)
}

/// The answer that a fault gives in place of the right one, if it is of that kind.
fn instead(fault: &Fault, head: &Head, repository: Option<&str>) -> Option<Reply> {
    const PORTAL: &str = "<!DOCTYPE html><html><head><title>Welcome</title></head>\
        <body>Please accept the terms of use to go online.</body></html>";
    Some(match fault {
        Fault::Status(status) => error(*status, "UNKNOWN", "planned fault"),
        Fault::TooManyRequests { retry_after } => {
            error(429, "TOOMANYREQUESTS", "slow down").with("retry-after", retry_after.to_string())
        }
        Fault::Unavailable { retry_after } => {
            error(503, "UNAVAILABLE", "try again").with("retry-after", retry_after.to_string())
        }
        Fault::Unauthorized => challenge(head, repository),
        Fault::RangeNotSatisfiable => Reply::new(416).with("content-range", "bytes */0"),
        Fault::Redirect { to } => {
            // The signature stands for those in the query of real redirects to object stores.
            Reply::new(307).with("location", format!("{to}{}?signature=testkit", head.path))
        }
        Fault::Html => Reply::new(200).body("text/html; charset=utf-8", PORTAL),
        _ => return None,
    })
}

impl State {
    /// The right answer: content to be written, or a finished reply.
    fn answer(
        &self,
        head: &Head,
        resource: &Resource<'_>,
        connection: &mut Connection,
    ) -> io::Result<Result<Answer, Reply>> {
        let reading = matches!(head.method.as_str(), "GET" | "HEAD");
        Ok(match resource {
            Resource::Root => {
                Err(Reply::new(200).with("docker-distribution-api-version", "registry/2.0").json(&json!({})))
            }
            Resource::Catalog => {
                Err(Reply::new(200).json(&json!({ "repositories": self.content().names() })))
            }
            Resource::Tags(name) => Err(match self.content().tags(name) {
                Some(tags) => Reply::new(200).json(&json!({ "name": name, "tags": tags })),
                None => error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            }),
            Resource::Referrers => Err(Reply::new(200).body(
                media_type::OCI_INDEX,
                json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] })
                    .to_string(),
            )),
            Resource::Manifest(name, reference) if reading => self.manifest(head, name, reference),
            Resource::Manifest(name, reference) if head.method == "PUT" => {
                let bytes = connection.read_body_to_end(8 << 20)?;
                Err(self.put_manifest(head, name, reference, bytes))
            }
            Resource::Blob(name, digest) if reading => self.blob(name, digest),
            Resource::Uploads(name, session) => {
                Err(self.uploads.handle(head, name, session, connection, &mut |digest, blob| {
                    self.content().add_blob(name, digest, blob);
                })?)
            }
            _ => Err(error(404, "UNSUPPORTED", "not served here")),
        })
    }

    fn manifest(&self, head: &Head, name: &str, reference: &str) -> Result<Answer, Reply> {
        let Some(manifest) = self.content().manifest(name, reference) else {
            return Err(error(404, "MANIFEST_UNKNOWN", "manifest unknown"));
        };
        let mut accepted = head.values("accept").map(media_range).peekable();
        let negotiated =
            accepted.peek().is_none() || accepted.any(|range| range == "*/*" || range == manifest.media_type);
        if !negotiated {
            // The distribution registry's own words for a client that asks for too little.
            let message = format!("{} found, but accept header does not support it", manifest.media_type);
            return Err(error(404, "MANIFEST_UNKNOWN", &message));
        }
        Ok(Answer {
            content: Blob::from(manifest.bytes),
            content_type: manifest.media_type,
            digest: manifest.digest,
            ranges: false,
        })
    }

    fn put_manifest(&self, head: &Head, name: &str, reference: &str, bytes: Vec<u8>) -> Reply {
        let media_type = head.header("content-type").unwrap_or(media_type::OCI_MANIFEST);
        let mut content = self.content();
        let named: Option<Digest> = reference.parse().ok();
        if named.is_some_and(|named| named != Digest::of(&bytes)) {
            return error(400, "DIGEST_INVALID", "manifest does not have this digest");
        }
        let digest = content.add_manifest(name, media_type, bytes);
        if named.is_none() {
            content.set_tag(name, reference, digest);
        }
        Reply::new(201)
            .with("location", format!("/v2/{name}/manifests/{digest}"))
            .with("docker-content-digest", digest.to_string())
    }

    fn blob(&self, name: &str, digest: &str) -> Result<Answer, Reply> {
        let unknown = || error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        let digest: Digest = digest.parse().map_err(|_| unknown())?;
        let content = self.content().blob(name, &digest).ok_or_else(unknown)?;
        Ok(Answer { content, content_type: "application/octet-stream".to_owned(), digest, ranges: true })
    }
}

/// A media range without its parameters.
fn media_range(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}
