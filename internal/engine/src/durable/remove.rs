//! Removing one image from an engine, by its names, without force: nothing of others goes with it.

use bollard::errors::Error as ClientError;
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions,
};
use palletjack_image::Digest;

use crate::answer::one_line;
use crate::connect::Engine;
use crate::error::EngineError;

use super::container::{self, LABEL};

/// What came of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Gone {
        /// All tags that it had, ours and others'.
        tags: Vec<String>,
    },
    /// It was not there.
    NotThere,
    /// Containers use it. Nothing was removed.
    InUse {
        /// Their names, or IDs where they have none.
        containers: Vec<String>,
    },
    /// The engine keeps it.
    Refused {
        /// What it said, on one line.
        message: String,
    },
}

/// An image as an engine lists it.
struct Listed {
    tags: Vec<String>,
    digests: Vec<String>,
}

impl Engine {
    /// Removes an image: each of its names, then the image itself. Containers that use it keep it. An image without a
    /// name that others are built upon is kept by the engine.
    pub async fn remove_image(&self, id: &Digest) -> Result<Removal, EngineError> {
        let Some(listed) = self.listed(id).await? else { return Ok(Removal::NotThere) };
        let containers = self.containers_of(id, &listed).await?;
        if !containers.is_empty() {
            return Ok(Removal::InUse { containers });
        }
        let mut refused = None;
        let id_text = id.to_string();
        for name in listed.tags.iter().chain(&listed.digests).chain([&id_text]) {
            if let Err(message) = self.remove_name(name).await? {
                tracing::debug!(name, message, "not removed");
                refused = Some(message);
            }
        }
        if self.listed(id).await?.is_none() {
            return Ok(Removal::Gone { tags: listed.tags });
        }
        Ok(Removal::Refused { message: refused.unwrap_or_else(|| "it is still listed".to_owned()) })
    }

    /// Gives an image a tag that it had before, unless somebody has given it to another meanwhile.
    pub(super) async fn tag_again(&self, id: &Digest, tag: &str) -> Result<(), EngineError> {
        if self.inspect(tag).await?.is_some() {
            return Ok(());
        }
        let Some((repository, version)) = tag.rsplit_once(':') else { return Ok(()) };
        let options = TagImageOptions { repo: Some(repository.to_owned()), tag: Some(version.to_owned()) };
        let tagged = self.docker.tag_image(&id.to_string(), Some(options)).await;
        tagged.map_err(|error| EngineError::Ask { what: format!("the tag {tag}"), source: error.into() })
    }

    /// Whether the engine lists an image, even one that it cannot describe any more.
    pub(super) async fn lists(&self, id: &Digest) -> Result<bool, EngineError> {
        Ok(self.listed(id).await?.is_some())
    }

    async fn listed(&self, id: &Digest) -> Result<Option<Listed>, EngineError> {
        let options = ListImagesOptions { all: true, ..Default::default() };
        let images = self.docker.list_images(Some(options)).await;
        let images = images
            .map_err(|error| EngineError::Ask { what: "its images".to_owned(), source: error.into() })?;
        let mut found: Option<Listed> = None;
        // A containerd store lists an image once per name on some versions.
        for image in images.into_iter().filter(|image| image.id == id.to_string() || image.id == id.hex()) {
            let listed = found.get_or_insert_with(|| Listed { tags: Vec::new(), digests: Vec::new() });
            let is_name = |name: &String| !name.contains("<none>");
            listed.tags.extend(image.repo_tags.into_iter().filter(is_name));
            listed.digests.extend(image.repo_digests.into_iter().filter(is_name));
        }
        Ok(found)
    }

    /// Who uses an image. Containers of an earlier check of ours that was cut off are removed instead.
    async fn containers_of(&self, id: &Digest, listed: &Listed) -> Result<Vec<String>, EngineError> {
        let options = ListContainersOptions { all: true, ..Default::default() };
        let containers = self.docker.list_containers(Some(options)).await;
        let containers = containers
            .map_err(|error| EngineError::Ask { what: "its containers".to_owned(), source: error.into() })?;
        let mut users = Vec::new();
        for container in containers {
            let by_id =
                container.image_id.as_ref().is_some_and(|of| *of == id.to_string() || *of == id.hex());
            let by_name = container
                .image
                .as_ref()
                .is_some_and(|of| listed.tags.contains(of) || listed.digests.contains(of));
            if !by_id && !by_name {
                continue;
            }
            let container_id = container.id.unwrap_or_default();
            if container.labels.is_some_and(|labels| labels.contains_key(LABEL)) {
                container::remove(&self.docker, &container_id).await?;
                continue;
            }
            let name = container.names.and_then(|names| names.into_iter().next());
            users.push(name.map_or(container_id, |name| name.trim_start_matches('/').to_owned()));
        }
        Ok(users)
    }

    /// The outer error is that the engine does not answer, the inner one its refusal.
    async fn remove_name(&self, name: &str) -> Result<Result<(), String>, EngineError> {
        // Parents without a name are others' business.
        let options = RemoveImageOptions { force: false, noprune: true, platforms: None };
        match self.docker.remove_image(name, Some(options), None).await {
            Ok(_) | Err(ClientError::DockerResponseServerError { status_code: 404, .. }) => Ok(Ok(())),
            Err(ClientError::DockerResponseServerError { message, .. }) => Ok(Err(one_line(&message))),
            Err(error) => Err(EngineError::Ask { what: format!("the end of {name}"), source: error.into() }),
        }
    }
}
