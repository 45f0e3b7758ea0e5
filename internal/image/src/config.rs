//! Image configs: what an image runs on and what its layers are, unpacked.

use serde::Deserialize;

use crate::{Digest, Platform};

/// The parts of an image config that decide how it is loaded (OCI image specification, "OCI Image Configuration").
///
/// Everything else in a config (environment, command, history) is the engine's affair and is handed on as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the image runs on.
    pub platform: Platform,
    /// The digest of each uncompressed layer, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Why bytes are not an image config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or JSON of another shape.
    #[error("the image config is not valid")]
    Json(#[source] serde_json::Error),
    /// No operating system or architecture: an artifact, not an image.
    #[error("the image config names no platform: this is an artifact, not a container image")]
    NoPlatform,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default, deserialize_with = "crate::descriptor::null_is_empty")]
    diff_ids: Vec<Digest>,
}

impl Config {
    /// Reads a config blob.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        if wire.os.is_empty() || wire.architecture.is_empty() {
            return Err(ConfigError::NoPlatform);
        }
        Ok(Self {
            platform: Platform::new(&wire.os, &wire.architecture, wire.variant.as_deref()),
            diff_ids: wire.rootfs.diff_ids,
        })
    }
}

/// The chain ID of every layer, lowest first: what a graph driver knows a layer *with all below it* by
/// (OCI image specification, "Layer `ChainID`").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_config_with_nulls_is_read() {
        let diff_id = Digest::of(b"layer");
        let text = format!(
            r#"{{"architecture":"arm","variant":"v6","os":"linux","created":null,"config":{{"Volumes":null}},
            "history":null,"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm/v6");
        assert_eq!(config.diff_ids, [diff_id]);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(matches!(Config::parse(b"{}"), Err(ConfigError::Json(_))));
        assert!(matches!(Config::parse(br#"{"rootfs":{}}"#), Err(ConfigError::NoPlatform)));
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain, [a, Digest::of(format!("{a} {b}").as_bytes())]);
        assert_eq!(chain_ids(&[]), []);
    }
}
