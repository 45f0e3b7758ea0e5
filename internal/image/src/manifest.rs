//! Manifests: indexes and single images, with the bytes they came in.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::null_is_empty;
use crate::{Descriptor, Digest, Platform, media_type};

/// A manifest and the exact bytes it was parsed from.
#[derive(Debug, Clone)]
pub struct Manifest {
    bytes: Bytes,
    media_type: String,
    kind: ManifestKind,
}

/// What a manifest describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    /// Several platforms: an OCI image index or a Docker manifest list.
    Index(Index),
    /// One platform.
    Image(ImageManifest),
}

/// The children of an OCI image index or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The children in the order of the index.
    pub manifests: Vec<Descriptor>,
}

/// The config and layers of one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// Why bytes are not a manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than any manifest needs.
    #[error("the manifest is larger than {} bytes", Manifest::MAX_SIZE)]
    TooLarge,
    /// Not JSON, or JSON of another shape.
    #[error("the manifest is not valid JSON of a known shape")]
    Json(#[source] serde_json::Error),
    /// A web page where a manifest should be: a captive portal or a proxy answered.
    #[error(
        "the answer is a web page, not a manifest: a captive portal or a proxy answered in the registry's place"
    )]
    Html,
    /// The signed manifests of before 2017.
    #[error(
        "this is a schema 1 manifest, which registries gave up in 2017: push the image again with a current tool"
    )]
    Schema1,
    /// `schemaVersion` is neither 1 nor 2.
    #[error("manifest schema version {0} is not known")]
    SchemaVersion(u64),
    /// Neither `manifests` nor `config` and `layers`.
    #[error("the manifest has neither `manifests` nor `config` and `layers`")]
    Shape,
    /// The `mediaType` inside says another thing than the answer's header or the members do.
    #[error("the manifest is labelled {label} but its content is an {content}")]
    Label {
        /// The media type given.
        label: String,
        /// What its members make it.
        content: &'static str,
    },
    /// More children or layers than any engine takes.
    #[error("the manifest names {0} items, which is more than any engine takes")]
    TooMany(usize),
}

/// No child of an index runs on the platform that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no image for {wanted}; it exists for {}", list(.available))]
pub struct ChildError {
    /// The platform asked for.
    pub wanted: Platform,
    /// The platforms that exist, in the order of the index, attestations left out.
    pub available: Vec<Platform>,
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platform at all".to_owned();
    }
    let mut out = String::new();
    for platform in platforms {
        let separator = if out.is_empty() { "" } else { ", " };
        let _ = write!(out, "{separator}{platform}");
    }
    out
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_empty")]
    layers: Option<Vec<Descriptor>>,
}

impl Manifest {
    /// The largest manifest that is read, in bytes: what the OCI distribution specification ("Pushing Manifests")
    /// asks registries to take at least, and no real image comes near.
    pub const MAX_SIZE: usize = 4 << 20;

    /// The most children or layers of one manifest. Docker stops at 127 layers; indexes of real images have some
    /// thirty children.
    const MAX_ITEMS: usize = 4096;

    /// Reads a manifest. `content_type` is what the registry's header or the parent's descriptor says it is, if
    /// anything; its parameters (`; charset=…`) are ignored.
    ///
    /// Old OCI manifests carry no `mediaType`, some registries send a generic `Content-Type`: the type is then told
    /// from the members.
    pub fn parse(bytes: impl Into<Bytes>, content_type: Option<&str>) -> Result<Self, ManifestError> {
        let bytes = bytes.into();
        if bytes.len() > Self::MAX_SIZE {
            return Err(ManifestError::TooLarge);
        }
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| {
            if looks_like_html(&bytes) { ManifestError::Html } else { ManifestError::Json(error) }
        })?;
        match wire.schema_version {
            2 => {}
            1 => return Err(ManifestError::Schema1),
            other => return Err(ManifestError::SchemaVersion(other)),
        }
        let label = wire
            .media_type
            .filter(|label| !label.is_empty())
            .or_else(|| content_type.and_then(known_media_type).map(str::to_owned));
        let (kind, content, default) = match (wire.manifests, wire.config, wire.layers) {
            (Some(manifests), None, None) => {
                (ManifestKind::Index(Index { manifests }), "image index", media_type::OCI_INDEX)
            }
            (None, Some(config), layers) => {
                let layers = layers.unwrap_or_default();
                let default = if config.media_type == media_type::DOCKER_CONFIG {
                    media_type::DOCKER_MANIFEST
                } else {
                    media_type::OCI_MANIFEST
                };
                (ManifestKind::Image(ImageManifest { config, layers }), "image manifest", default)
            }
            _ => return Err(ManifestError::Shape),
        };
        let items = match &kind {
            ManifestKind::Index(index) => index.manifests.len(),
            ManifestKind::Image(image) => image.layers.len(),
        };
        if items > Self::MAX_ITEMS {
            return Err(ManifestError::TooMany(items));
        }
        let media_type = label.unwrap_or_else(|| default.to_owned());
        let labelled_index = matches!(&*media_type, media_type::OCI_INDEX | media_type::DOCKER_LIST);
        let labelled_image = matches!(&*media_type, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST);
        let is_index = matches!(kind, ManifestKind::Index(_));
        // One digest must not mean an index to one reader and an image to another (CVE-2021-41190).
        if (labelled_index && !is_index)
            || (labelled_image && is_index)
            || !(labelled_index || labelled_image)
        {
            return Err(ManifestError::Label { label: media_type, content });
        }
        Ok(Self { bytes, media_type, kind })
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// What it describes.
    pub fn kind(&self) -> &ManifestKind {
        &self.kind
    }

    /// The descriptor of the manifest itself: its digest is computed from the bytes.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), Digest::of(&self.bytes), self.bytes.len() as u64)
    }
}

fn known_media_type(content_type: &str) -> Option<&str> {
    let essence = content_type.split(';').next()?.trim();
    media_type::MANIFESTS.contains(&essence).then_some(essence)
}

fn looks_like_html(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    let start = &start[..start.len().min(64)];
    let start = start.to_ascii_lowercase();
    start.starts_with(b"<!doctype") || start.starts_with(b"<html") || start.starts_with(b"<head")
}

impl Index {
    /// The child that runs best on `platform`; of equals the first, as containerd and Docker choose.
    ///
    /// Attestation manifests (`unknown/unknown`) are never chosen. A child without any platform is taken only where
    /// it is the only one, since it cannot be told apart.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor, ChildError> {
        let best = self
            .manifests
            .iter()
            .filter_map(|child| Some((platform.rank(child.platform.as_ref()?)?, child)))
            .min_by_key(|(rank, _)| *rank);
        match (best, &self.manifests[..]) {
            (Some((_, child)), _) => Ok(child),
            (None, [only]) if only.platform.is_none() => Ok(only),
            _ => Err(ChildError {
                wanted: platform.clone(),
                available: self
                    .manifests
                    .iter()
                    .filter_map(|child| child.platform.clone())
                    .filter(|platform| !platform.is_unknown())
                    .collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(platform: &str, content: &str) -> String {
        let platform: Platform = platform.parse().unwrap();
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":7,"platform":{}}}"#,
            media_type::OCI_MANIFEST,
            Digest::of(content.as_bytes()),
            serde_json::to_string(&platform).unwrap()
        )
    }

    fn index(children: &[String]) -> Manifest {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::OCI_INDEX,
            children.join(",")
        );
        Manifest::parse(text.into_bytes(), None).unwrap()
    }

    fn choose(manifest: &Manifest, platform: &str) -> Result<Digest, ChildError> {
        let ManifestKind::Index(index) = manifest.kind() else { panic!("not an index") };
        index.choose(&platform.parse().unwrap()).map(|child| child.digest)
    }

    #[test]
    fn the_best_variant_is_chosen_and_what_exists_is_listed() {
        let manifest = index(&[
            child("unknown/unknown", "attestation"),
            child("linux/arm/v6", "v6"),
            child("linux/arm/v7", "v7"),
            child("linux/arm64/v8", "arm64"),
        ]);
        assert_eq!(choose(&manifest, "linux/arm64"), Ok(Digest::of(b"arm64")));
        assert_eq!(choose(&manifest, "linux/arm/v7"), Ok(Digest::of(b"v7")));
        assert_eq!(choose(&manifest, "linux/arm/v6"), Ok(Digest::of(b"v6")));
        assert_eq!(
            choose(&manifest, "linux/amd64").unwrap_err().to_string(),
            "there is no image for linux/amd64; it exists for linux/arm/v6, linux/arm/v7, linux/arm64"
        );
    }

    #[test]
    fn bytes_are_kept_as_they_came() {
        let text = format!(
            " {{\n\"schemaVersion\" : 2, \"extra\": 1.50, \"mediaType\":\"{}\", \"manifests\":[]}}\n",
            media_type::DOCKER_LIST
        );
        let manifest = Manifest::parse(text.clone().into_bytes(), None).unwrap();
        assert_eq!(manifest.bytes(), text.as_bytes());
        assert_eq!(manifest.descriptor().digest, Digest::of(text.as_bytes()));
    }

    #[test]
    fn types_are_told_from_members_where_nothing_says_them() {
        let digest = Digest::of(b"x");
        let oci = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{digest}","size":1}},"layers":null}}"#,
            media_type::OCI_CONFIG
        );
        assert_eq!(
            Manifest::parse(oci.into_bytes(), Some("application/json")).unwrap().media_type(),
            media_type::OCI_MANIFEST
        );
        let docker = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{digest}","size":1}},"layers":[]}}"#,
            media_type::DOCKER_CONFIG
        );
        assert_eq!(
            Manifest::parse(docker.into_bytes(), Some("text/plain; charset=utf-8")).unwrap().media_type(),
            media_type::DOCKER_MANIFEST
        );
    }

    #[test]
    fn bad_manifests_say_what_is_wrong() {
        let digest = Digest::of(b"x");
        let both = format!(
            r#"{{"schemaVersion":2,"manifests":[],"config":{{"digest":"{digest}","size":1}},"layers":[]}}"#
        );
        let mislabelled =
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_MANIFEST);
        for (text, want) in [
            ("<!DOCTYPE html><title>Hotel</title>", "captive portal"),
            ("{", "not valid JSON"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (r#"{"schemaVersion":3}"#, "version 3"),
            (r#"{"schemaVersion":2}"#, "neither"),
            (&both, "neither"),
            (&mislabelled, "labelled"),
            (r#"{"schemaVersion":2,"mediaType":"text/x","manifests":[]}"#, "labelled text/x"),
        ] {
            let error = Manifest::parse(text.as_bytes().to_vec(), None).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(matches!(
            Manifest::parse(vec![b' '; Manifest::MAX_SIZE + 1], None),
            Err(ManifestError::TooLarge)
        ));
    }
}
