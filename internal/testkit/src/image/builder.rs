//! Images from layers: configs, manifests, indexes.

use std::collections::BTreeMap;
use std::io;

use palletjack_image::{Digest, media_type};
use serde_json::{Value, json};

use super::blob::Blob;
use super::layer::{Compression, Layer};
use super::name::Name;

/// Creation time of every image: a fixed one, because images are deterministic.
const CREATED: &str = "2024-08-01T00:00:00Z";

/// Whose media types an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Docker's image manifest version 2, schema 2, and manifest list.
    Docker,
    /// OCI image manifest and index.
    Oci,
}

/// A manifest or index: its exact bytes and what they are.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Media type, as a registry answers it in `Content-Type`.
    pub media_type: &'static str,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// The document, byte for byte.
    pub bytes: Vec<u8>,
}

/// One platform's image.
#[derive(Debug, Clone)]
pub struct PlatformImage {
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config, which is the image ID on an engine with a graph driver.
    pub config: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A built image with everything that a registry must hold for it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it was built under, taken apart.
    pub name: Name,
    /// What its tag points at: an index or a single manifest.
    pub top: Manifest,
    /// All other manifests: those of the platforms and the attestations, in the index's order.
    pub children: Vec<Manifest>,
    /// The runnable images, in the index's order.
    pub platforms: Vec<PlatformImage>,
    /// Configs, layers and attestation statements by digest.
    pub blobs: BTreeMap<Digest, Blob>,
}

impl Image {
    /// `host/repository:tag`.
    pub fn tagged(&self) -> String {
        let tag = self.name.tag.as_deref().unwrap_or("latest");
        format!("{}:{tag}", self.name.full())
    }

    /// `host/repository:tag@digest`, the form that pallets pin.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.tagged(), self.top.digest)
    }

    /// The image for `os/architecture[/variant]`, matched as text.
    pub fn platform(&self, platform: &str) -> Option<&PlatformImage> {
        self.platforms.iter().find(|p| p.platform == platform)
    }

    /// Bytes of all blobs and manifests, each once.
    pub fn size(&self) -> u64 {
        let manifests: usize = self.manifests().map(|m| m.bytes.len()).sum();
        self.blobs.values().map(Blob::size).sum::<u64>() + manifests as u64
    }

    /// The children, then the top: the order in which a registry takes them.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.children.iter().chain([&self.top])
    }
}

/// Describes an image.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    name: Name,
    kind: Kind,
    platforms: Vec<(String, Vec<Layer>)>,
    index: bool,
    attestations: bool,
    env: Vec<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl ImageBuilder {
    /// An OCI image of this name with no platforms yet.
    pub fn new(reference: &str) -> Self {
        Self {
            name: Name::parse(reference),
            kind: Kind::Oci,
            platforms: Vec::new(),
            index: false,
            attestations: false,
            env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()],
            entrypoint: Vec::new(),
            cmd: vec!["/bin/tool".to_owned()],
            labels: BTreeMap::new(),
        }
    }

    /// Uses these media types.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds the image for `os/architecture[/variant]`. A second platform makes an index of it.
    #[must_use]
    pub fn platform(mut self, platform: &str, layers: impl IntoIterator<Item = Layer>) -> Self {
        let layers = layers.into_iter().collect();
        self.platforms.push((platform.to_owned(), layers));
        self
    }

    /// Makes an index even of a single platform.
    #[must_use]
    pub fn index(mut self) -> Self {
        self.index = true;
        self
    }

    /// Adds an attestation manifest (`unknown/unknown`, as `BuildKit` writes it) per platform, and so an index.
    #[must_use]
    pub fn attestations(mut self) -> Self {
        self.attestations = true;
        self
    }

    /// Adds an environment variable, `NAME=value`, to the config.
    #[must_use]
    pub fn env(mut self, variable: &str) -> Self {
        self.env.push(variable.to_owned());
        self
    }

    /// What a container runs, whatever command it is given: that is its arguments then.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|&w| w.to_owned()).collect();
        self
    }

    /// What a container runs; every image has one or an entry point, because engines refuse to create containers without.
    #[must_use]
    pub fn cmd(mut self, words: &[&str]) -> Self {
        self.cmd = words.iter().map(|&w| w.to_owned()).collect();
        self
    }

    /// Adds a label to the config.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Builds it. Fails when there is no platform.
    pub fn build(&self) -> io::Result<Image> {
        let mut image = Parts::default();
        for (platform, layers) in &self.platforms {
            image.add_platform(self, platform, layers);
        }
        let single = self.platforms.len() == 1 && !self.index && !self.attestations;
        if image.platforms.is_empty() {
            return Err(io::Error::other("an image needs at least one platform"));
        }
        let top = if single {
            image.manifests.remove(0)
        } else {
            if self.attestations {
                image.add_attestations();
            }
            image.index(self.kind)
        };
        Ok(Image {
            name: self.name.clone(),
            top,
            children: image.manifests,
            platforms: image.platforms,
            blobs: image.blobs,
        })
    }

    fn config(&self, platform: &str, layers: &[Layer]) -> Value {
        let mut words = platform.split('/');
        let mut config = json!({
            "created": CREATED,
            "os": words.next(),
            "architecture": words.next(),
            "config": { "Env": self.env, "Labels": self.labels },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|l| l.diff_id.to_string()).collect::<Vec<_>>(),
            },
            "history": layers.iter().enumerate().flat_map(|(i, _)| [
                json!({ "created": CREATED, "created_by": format!("COPY layer {i}") }),
                json!({ "created": CREATED, "created_by": format!("ENV STEP={i}"), "empty_layer": true }),
            ]).collect::<Vec<_>>(),
        });
        for (key, words) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd)] {
            if !words.is_empty() {
                config["config"][key] = json!(words);
            }
        }
        if let Some(variant) = words.next() {
            config["variant"] = json!(variant);
        }
        config
    }
}

/// The pieces of an image while it grows.
#[derive(Default)]
struct Parts {
    manifests: Vec<Manifest>,
    /// Index entries, one per manifest.
    entries: Vec<Value>,
    platforms: Vec<PlatformImage>,
    blobs: BTreeMap<Digest, Blob>,
}

impl Parts {
    fn add_blob(&mut self, bytes: Vec<u8>) -> (Digest, u64) {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest, bytes.into());
        (digest, size)
    }

    fn add_platform(&mut self, builder: &ImageBuilder, platform: &str, layers: &[Layer]) {
        let (config, config_size) = self.add_blob(pretty(&builder.config(platform, layers)));
        for layer in layers {
            self.blobs.insert(layer.digest, layer.blob.clone());
        }
        let (manifest_type, config_type) = match builder.kind {
            Kind::Docker => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
            Kind::Oci => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        };
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| {
                json!({
                    "mediaType": layer_type(builder.kind, layer.compression),
                    "size": layer.size,
                    "digest": layer.digest.to_string(),
                })
            })
            .collect();
        let manifest = finish(
            manifest_type,
            &json!({
                "schemaVersion": 2,
                "mediaType": manifest_type,
                "config": { "mediaType": config_type, "size": config_size, "digest": config.to_string() },
                "layers": descriptors,
            }),
        );
        let mut words = platform.split('/');
        let mut entry = json!({ "os": words.next(), "architecture": words.next() });
        if let Some(variant) = words.next() {
            entry["variant"] = json!(variant);
        }
        self.entries.push(descriptor(&manifest, &entry));
        self.platforms.push(PlatformImage {
            platform: platform.to_owned(),
            manifest: manifest.digest,
            config,
            layers: layers.to_vec(),
        });
        self.manifests.push(manifest);
    }

    fn add_attestations(&mut self) {
        const IN_TOTO: &str = "application/vnd.in-toto+json";
        let subjects: Vec<Digest> = self.platforms.iter().map(|p| p.manifest).collect();
        for subject in subjects {
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": "https://slsa.dev/provenance/v0.2",
                "subject": [{ "digest": { "sha256": subject.hex() } }],
            });
            let (statement, statement_size) = self.add_blob(pretty(&statement));
            let (config, config_size) = self.add_blob(pretty(&json!({
                "os": "unknown",
                "architecture": "unknown",
                "config": {},
                "rootfs": { "type": "layers", "diff_ids": [statement.to_string()] },
            })));
            let manifest = finish(
                media_type::OCI_MANIFEST,
                &json!({
                    "schemaVersion": 2,
                    "mediaType": media_type::OCI_MANIFEST,
                    "config": { "mediaType": media_type::OCI_CONFIG, "size": config_size, "digest": config.to_string() },
                    "layers": [{ "mediaType": IN_TOTO, "size": statement_size, "digest": statement.to_string() }],
                }),
            );
            let mut entry = descriptor(&manifest, &json!({ "os": "unknown", "architecture": "unknown" }));
            entry["annotations"] = json!({
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": subject.to_string(),
            });
            self.entries.push(entry);
            self.manifests.push(manifest);
        }
    }

    fn index(&self, kind: Kind) -> Manifest {
        let index_type = match kind {
            Kind::Docker => media_type::DOCKER_LIST,
            Kind::Oci => media_type::OCI_INDEX,
        };
        finish(index_type, &json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": self.entries }))
    }
}

fn layer_type(kind: Kind, compression: Compression) -> &'static str {
    match (kind, compression) {
        // Docker's own types know neither zstd nor a plain tar in a registry.
        (Kind::Docker, Compression::Gzip) => media_type::DOCKER_LAYER,
        (Kind::Oci, Compression::Gzip) => media_type::OCI_LAYER_GZIP,
        (_, Compression::Zstd) => media_type::OCI_LAYER_ZSTD,
        (_, Compression::None) => media_type::OCI_LAYER,
    }
}

fn finish(media_type: &'static str, document: &Value) -> Manifest {
    let bytes = pretty(document);
    Manifest { media_type, digest: Digest::of(&bytes), bytes }
}

fn descriptor(manifest: &Manifest, platform: &Value) -> Value {
    json!({
        "mediaType": manifest.media_type,
        "size": manifest.bytes.len(),
        "digest": manifest.digest.to_string(),
        "platform": platform,
    })
}

/// Indented, as registries' documents are: a client that re-serialises one gets another digest.
fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::LayerBuilder;
    use super::*;

    fn layer(text: &str) -> Layer {
        LayerBuilder::new().file("a", text).build().unwrap()
    }

    fn parse(manifest: &Manifest) -> Value {
        serde_json::from_slice(&manifest.bytes).unwrap()
    }

    #[test]
    fn a_single_docker_manifest_has_no_index() {
        let image = ImageBuilder::new("eclipse-mosquitto:2")
            .kind(Kind::Docker)
            .platform("linux/amd64", [layer("1"), layer("2")])
            .build()
            .unwrap();
        assert_eq!(image.top.media_type, media_type::DOCKER_MANIFEST);
        assert!(image.children.is_empty());
        assert_eq!(image.platforms[0].manifest, image.top.digest);
        assert_eq!(image.tagged(), "docker.io/library/eclipse-mosquitto:2");
        let manifest = parse(&image.top);
        assert_eq!(manifest["layers"][0]["mediaType"], media_type::DOCKER_LAYER);
        for (digest, blob) in &image.blobs {
            assert_eq!(Digest::of(&blob.read().unwrap()), *digest);
        }
        assert_eq!(image.blobs.len(), 3);
    }

    #[test]
    fn an_index_names_platforms_variants_and_attestations() {
        let build = || {
            ImageBuilder::new("ghcr.io/acme/x:1")
                .platform("linux/amd64", [layer("1")])
                .platform("linux/arm64/v8", [layer("2")])
                .platform("linux/arm/v7", [layer("3")])
                .attestations()
                .env("A=b")
                .build()
                .unwrap()
        };
        let image = build();
        assert_eq!(image.top.bytes, build().top.bytes);
        let index = parse(&image.top);
        let entries = index["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), 6);
        assert_eq!(entries[1]["platform"]["variant"], "v8");
        assert_eq!(entries[3]["platform"]["os"], "unknown");
        assert_eq!(entries[3]["annotations"]["vnd.docker.reference.digest"], entries[0]["digest"]);
        let arm = image.platform("linux/arm/v7").unwrap();
        let config: Value = serde_json::from_slice(&image.blobs[&arm.config].read().unwrap()).unwrap();
        assert_eq!(config["variant"], "v7");
        assert_eq!(config["rootfs"]["diff_ids"][0], arm.layers[0].diff_id.to_string());
    }

    #[test]
    fn no_platform_is_an_error() {
        assert!(ImageBuilder::new("x:1").build().is_err());
    }
}
