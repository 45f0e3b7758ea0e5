//! A container that is made and removed and never started.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error as ClientError;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use palletjack_store::Image;
use tokio::runtime::Handle;

use crate::answer::one_line;
use crate::capabilities::EngineKind;
use crate::connect::{Engine, innermost};
use crate::error::EngineError;

/// By this label our own containers are known, should one be left behind by a crash.
pub(super) const LABEL: &str = "io.palletjack.check";

/// Why no container could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    /// The engine has no such image.
    #[error("the engine has no such image")]
    NotThere,
    /// The engine has it and cannot make a container of it.
    #[error("the engine cannot make a container of it: {0}")]
    Refused(String),
    /// The engine did not answer.
    #[error("the engine did not answer: {0}")]
    Lost(String),
}

/// A container that exists, removed again however its user ends.
#[derive(Debug)]
pub(super) struct Unstarted {
    docker: Docker,
    id: Option<String>,
}

impl Unstarted {
    /// Makes a container of an image by its ID.
    pub(super) async fn create(engine: &Engine, image: &Image) -> Result<Self, CreateError> {
        let body = ContainerCreateBody {
            image: Some(engine.id_of(image).to_string()),
            // Whatever it says, it never runs; images without a command are refused else.
            cmd: Some(vec!["/never-started".to_owned()]),
            labels: Some(HashMap::from([(LABEL.to_owned(), "true".to_owned())])),
            host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..Default::default() }),
            ..Default::default()
        };
        // A containerd store looks for this machine's platform in the index unless it is told.
        let platform = match engine.capabilities().kind {
            EngineKind::DockerContainerd => image.config.platform.to_string(),
            EngineKind::DockerGraph | EngineKind::Podman => String::new(),
        };
        let options = CreateContainerOptions { name: None, platform };
        match Box::pin(engine.docker.create_container(Some(options), body)).await {
            Ok(created) => Ok(Self { docker: engine.docker.clone(), id: Some(created.id) }),
            Err(ClientError::DockerResponseServerError { status_code: 404, .. }) => {
                Err(CreateError::NotThere)
            }
            Err(ClientError::DockerResponseServerError { message, .. }) => {
                Err(CreateError::Refused(one_line(&message)))
            }
            Err(error) => Err(CreateError::Lost(innermost(&error))),
        }
    }

    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Removes it, with the volumes that it got.
    pub(super) async fn remove(mut self) -> Result<(), EngineError> {
        let Some(id) = self.id.take() else { return Ok(()) };
        remove(&self.docker, &id).await
    }
}

/// Removes a container that never ran.
pub(super) async fn remove(docker: &Docker, id: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptions { v: true, force: true, link: false };
    match docker.remove_container(id, Some(options)).await {
        Ok(()) | Err(ClientError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(error) => {
            Err(EngineError::Ask { what: format!("the end of container {id}"), source: error.into() })
        }
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let (Some(id), Ok(runtime)) = (self.id.take(), Handle::try_current()) {
            let docker = self.docker.clone();
            runtime.spawn(async move {
                if let Err(error) = remove(&docker, &id).await {
                    tracing::warn!(id, error = innermost(&error), "a container for a check stays behind");
                }
            });
        }
    }
}
