//! Which request gets which answer.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::files::{self, Containers};
use super::images::Images;
use super::load::Loads;
use super::profile::Profile;
use crate::http::{After, Connection, Handler, Head, Reply};

/// The largest description of a container that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct State {
    profile: Profile,
    directory: PathBuf,
    images: Mutex<Images>,
    containers: Mutex<Containers>,
    pub(super) loads: Loads,
    requests: Mutex<Vec<(String, String)>>,
}

impl State {
    pub(super) fn new(profile: Profile, directory: PathBuf) -> Self {
        Self {
            profile,
            directory,
            images: Mutex::default(),
            containers: Mutex::default(),
            loads: Loads::default(),
            requests: Mutex::default(),
        }
    }

    pub(super) fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
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
            "/containers/json" if reading => {
                let containers = self.containers();
                let document = |(id, image): (&String, &String)| json!({ "Id": id, "Names": [format!("/{}", &id[..8])], "Image": image, "ImageID": image, "State": "created" });
                Reply::new(200).json(&containers.all().map(document).collect())
            }
            _ if path.starts_with("/containers/") => self.container(head, &path["/containers/".len()..]),
            _ if head.method == "DELETE" && path.starts_with("/images/") => {
                let name = &path["/images/".len()..];
                let Some(id) = self.images().id_of(name) else {
                    return message(404, &format!("No such image: {name}"));
                };
                if let Some(user) = self.containers().users_of(&id).first() {
                    return message(409, &format!("conflict: container {user} is using its image {id}"));
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

    fn create(&self, body: &[u8]) -> Reply {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = body["Image"].as_str().unwrap_or_default();
        let images = self.images();
        match (images.id_of(name), images.layers_of(name)) {
            (Some(id), Some(Ok(_))) => {
                let container = self.containers().create(&id);
                Reply::new(201).json(&json!({ "Id": container, "Warnings": [] }))
            }
            (_, Some(Err(error))) => message(500, &error),
            _ => message(404, &format!("No such image: {name}")),
        }
    }

    /// What is asked of a container: `ID/export`, or its end.
    fn container(&self, head: &Head, rest: &str) -> Reply {
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        let Some(image) = self.containers().image_of(id) else {
            return message(404, &format!("No such container: {id}"));
        };
        match (head.method.as_str(), what) {
            ("DELETE", "") => {
                self.containers().remove(id);
                Reply::new(204)
            }
            ("GET", "export") => {
                let layers = self.images().layers_of(&image);
                let exported = match layers {
                    Some(Ok(layers)) => files::export(&layers).map_err(|error| error.to_string()),
                    Some(Err(error)) => Err(error),
                    None => Err(format!("No such image: {image}")),
                };
                match exported {
                    Ok(tar) => Reply::new(200).body("application/x-tar", tar),
                    Err(error) => message(500, &error),
                }
            }
            _ => message(404, "page not found"),
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
        if path == "/containers/create" && head.method == "POST" {
            let body = connection.read_body_to_end(MAX_BODY)?;
            return connection.reply(&self.create(&body).with("server", self.profile.server()));
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
