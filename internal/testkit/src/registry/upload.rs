//! Pushes: upload sessions by POST, PATCH and PUT (OCI distribution specification, "Pushing blobs").

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use palletjack_image::Digest;

use super::auth::error;
use crate::http::{Connection, Head, Reply};
use crate::image::Blob;

/// The largest upload that is taken, in bytes: pushes are held in memory, tests push small images.
const LIMIT: usize = 256 << 20;

#[derive(Debug, Default)]
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Vec<u8>>>,
    next: AtomicU64,
}

impl Uploads {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request of an upload; `store` gets each finished blob.
    pub(super) fn handle(
        &self,
        head: &Head,
        name: &str,
        session: &str,
        connection: &mut Connection,
        store: &mut dyn FnMut(Digest, Blob),
    ) -> io::Result<Reply> {
        let body = connection.read_body_to_end(LIMIT)?;
        let digest = head.parameter("digest");
        if head.method == "POST" && session.is_empty() {
            return Ok(match digest {
                Some(digest) => finish(name, &digest, body, store),
                None => {
                    let session = self.next.fetch_add(1, Ordering::SeqCst).to_string();
                    self.sessions().insert(session.clone(), body);
                    accepted(name, &session, 0)
                }
            });
        }
        let Some(mut bytes) = self.sessions().remove(session) else {
            return Ok(error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload"));
        };
        bytes.extend_from_slice(&body);
        Ok(match (head.method.as_str(), digest) {
            ("PUT", Some(digest)) => finish(name, &digest, bytes, store),
            ("PATCH", _) => {
                let length = bytes.len();
                self.sessions().insert(session.to_owned(), bytes);
                accepted(name, session, length)
            }
            ("DELETE", _) => Reply::new(204),
            _ => error(405, "UNSUPPORTED", "not a step of an upload"),
        })
    }
}

fn accepted(name: &str, session: &str, length: usize) -> Reply {
    Reply::new(202)
        .with("location", format!("/v2/{name}/blobs/uploads/{session}"))
        .with("range", format!("0-{}", length.saturating_sub(1)))
        .with("docker-upload-uuid", session)
}

fn finish(name: &str, digest: &str, bytes: Vec<u8>, store: &mut dyn FnMut(Digest, Blob)) -> Reply {
    match digest.parse::<Digest>() {
        Ok(digest) if digest == Digest::of(&bytes) => {
            store(digest, Blob::from(bytes));
            Reply::new(201)
                .with("location", format!("/v2/{name}/blobs/{digest}"))
                .with("docker-content-digest", digest.to_string())
        }
        _ => error(400, "DIGEST_INVALID", "content does not have this digest"),
    }
}
