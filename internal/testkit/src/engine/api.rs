//! Which request gets which answer.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::images::Images;
use super::load::Loads;
use super::profile::Profile;
use crate::http::{After, Connection, Handler, Head, Reply};

#[derive(Debug)]
pub(super) struct State {
    profile: Profile,
    directory: PathBuf,
    images: Mutex<Images>,
    pub(super) loads: Loads,
    requests: Mutex<Vec<(String, String)>>,
}

impl State {
    pub(super) fn new(profile: Profile, directory: PathBuf) -> Self {
        Self {
            profile,
            directory,
            images: Mutex::default(),
            loads: Loads::default(),
            requests: Mutex::default(),
        }
    }

    pub(super) fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, head: &Head, path: &str) -> Reply {
        let reading = matches!(head.method.as_str(), "GET" | "HEAD");
        let image = path.strip_prefix("/images/").and_then(|rest| rest.strip_suffix("/json"));
        match path {
            "/_ping" if reading => self.ping(),
            "/version" if reading => Reply::new(200).json(&self.profile.version_document()),
            "/info" if reading => {
                let root = self.directory.display().to_string();
                Reply::new(200).json(&self.profile.info_document(&root, self.images().all().len()))
            }
            "/images/json" if reading => {
                let with_manifests = self.profile.containerd_store
                    && matches!(head.parameter("manifests").as_deref(), Some("1" | "true"));
                Reply::new(200).json(&self.images().list(with_manifests))
            }
            // It runs nothing, so no image is in use.
            "/containers/json" if reading => Reply::new(200).json(&json!([])),
            _ if head.method == "DELETE" && path.starts_with("/images/") => {
                let name = &path["/images/".len()..];
                if self.images().inspect(name).is_none() {
                    return message(404, &format!("No such image: {name}"));
                }
                self.images().remove(name);
                Reply::new(200).json(&json!([{ "Untagged": name }]))
            }
            _ => match image {
                Some(name) if reading => match self.images().inspect(name) {
                    Some(document) => Reply::new(200).json(&document),
                    None => message(404, &format!("No such image: {name}")),
                },
                _ => message(404, "page not found"),
            },
        }
    }

    fn ping(&self) -> Reply {
        let reply = Reply::new(200)
            .body("text/plain; charset=utf-8", "OK")
            .with("api-version", &self.profile.api_version)
            .with("ostype", "linux");
        if self.profile.podman { reply.with("libpod-api-version", &self.profile.version) } else { reply }
    }
}

impl Handler for State {
    fn handle(&self, head: &Head, connection: &mut Connection) -> io::Result<After> {
        let request = (head.method.clone(), head.path.clone());
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let path = without_version(&head.path);
        if path == "/images/load" && head.method == "POST" {
            return self.loads.serve(&self.profile, &self.images, &self.directory, head, connection);
        }
        connection.reply(&self.answer(head, path).with("server", self.profile.server()))
    }

    fn release(&self) {
        self.loads.release();
    }
}

fn message(status: u16, text: &str) -> Reply {
    Reply::new(status).json(&json!({ "message": text }))
}

/// A path without its `/v1.41` in front.
fn without_version(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v") else {
        return path;
    };
    match rest.split_once('/') {
        Some((version, _)) if version.starts_with(|c: char| c.is_ascii_digit()) => &rest[version.len()..],
        _ => path,
    }
}
