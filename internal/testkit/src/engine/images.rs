//! What the engine has, and how an archive adds to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use palletjack_image::{Digest, chain_ids};
use serde_json::{Value, json};

use super::files::LayerFile;
use super::profile::Profile;
use crate::image::Name;

/// The largest document of an archive that is parsed, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;

/// An image as the engine shows it.
#[derive(Debug, Clone, Default)]
pub struct EngineImage {
    /// `sha256:…`: the config's digest on a graph driver and in Podman, the index's on a containerd store.
    pub id: String,
    /// The digest of the platform's manifest, by which a containerd store lists what is whole; empty means `id`.
    pub manifest: String,
    /// `repository:tag`, full names.
    pub tags: Vec<String>,
    /// `repository@sha256:…`, full names.
    pub digests: Vec<String>,
    /// Diff IDs, lowest first.
    pub layers: Vec<String>,
    /// Architecture of the config.
    pub architecture: String,
    /// Listed, but nothing can be created from it: the content has a hole.
    pub broken: bool,
    /// Its layers are listed and are not there: an archive that leaves them out has a hole.
    pub hollow: bool,
}

impl EngineImage {
    /// Whether this name leads to the image, by Docker's rules: a digest in it beats the tag.
    fn answers_to(&self, reference: &str) -> bool {
        if self.id == reference || self.id.strip_prefix("sha256:") == Some(reference) {
            return true;
        }
        let name = Name::parse(reference);
        match &name.digest {
            Some(digest) => self.digests.contains(&format!("{}@{digest}", name.full())),
            None => {
                let tag = name.tag.as_deref().unwrap_or("latest");
                self.tags.contains(&format!("{}:{tag}", name.full()))
            }
        }
    }

    fn document(&self) -> Value {
        json!({
            "Id": self.id,
            "RepoTags": self.tags.iter().map(|t| familiar(t)).collect::<Vec<_>>(),
            "RepoDigests": self.digests.iter().map(|d| familiar(d)).collect::<Vec<_>>(),
            "Created": "2024-08-01T00:00:00Z",
            "Os": "linux",
            "Architecture": self.architecture,
            "Size": 1000,
            "RootFS": { "Type": "layers", "Layers": self.layers },
        })
    }

    fn list_entry(&self, with_manifests: bool) -> Value {
        let mut entry = json!({
            "Id": self.id,
            "ParentId": "",
            "RepoTags": self.tags.iter().map(|t| familiar(t)).collect::<Vec<_>>(),
            "RepoDigests": self.digests.iter().map(|d| familiar(d)).collect::<Vec<_>>(),
            "Created": 1_722_470_400,
            "Size": 1000,
            "SharedSize": -1,
            "Labels": {},
            "Containers": -1,
        });
        if with_manifests {
            let manifest = if self.manifest.is_empty() { &self.id } else { &self.manifest };
            entry["Manifests"] = json!([{
                "ID": manifest,
                "Descriptor": { "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": 1 },
                "Available": !self.broken,
                "Kind": "image",
                "Size": { "Content": 1, "Total": 1 },
                "ImageData": {
                    "Platform": { "os": "linux", "architecture": self.architecture },
                    "Containers": [],
                    "Size": { "Unpacked": 1 },
                },
            }]);
        }
        entry
    }
}

/// A name as Docker shows it: Hub names without host and `library/`.
fn familiar(name: &str) -> &str {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    short.strip_prefix("library/").unwrap_or(short)
}

/// All images, and the layers that came with them.
#[derive(Debug, Default)]
pub(super) struct Images {
    all: Vec<EngineImage>,
    /// Members that arrived once: what an archive for a containerd store may leave out.
    blobs: BTreeSet<String>,
    /// By diff ID, where a layer's files are.
    layer_files: BTreeMap<String, LayerFile>,
}

impl Images {
    pub(super) fn add(&mut self, image: EngineImage) {
        for old in &mut self.all {
            old.tags.retain(|tag| !image.tags.contains(tag));
        }
        self.all.retain(|old| old.id != image.id);
        self.all.push(image);
    }

    pub(super) fn remove(&mut self, reference: &str) {
        self.all.retain(|image| !image.answers_to(reference));
    }

    pub(super) fn all(&self) -> Vec<EngineImage> {
        self.all.clone()
    }

    pub(super) fn inspect(&self, reference: &str) -> Option<Value> {
        self.all.iter().find(|i| i.answers_to(reference)).map(EngineImage::document)
    }

    /// Where the layers of an image are, the lowest first; an error as an engine gives it when it cannot find them.
    pub(super) fn layers_of(&self, id: &str) -> Option<Result<Vec<LayerFile>, String>> {
        let image = self.all.iter().find(|image| image.answers_to(id))?;
        let unusable = || "readlink /var/lib/docker/overlay2/l: invalid argument".to_owned();
        if image.broken || image.hollow {
            return Some(Err(unusable()));
        }
        let layers = image.layers.iter().map(|diff_id| self.layer_files.get(diff_id).cloned());
        Some(layers.collect::<Option<_>>().ok_or_else(unusable))
    }

    /// The ID of the image that this name leads to.
    pub(super) fn id_of(&self, reference: &str) -> Option<String> {
        self.all.iter().find(|image| image.answers_to(reference)).map(|image| image.id.clone())
    }

    pub(super) fn list(&self, with_manifests: bool) -> Value {
        self.all.iter().map(|i| i.list_entry(with_manifests)).collect()
    }

    /// Takes an archive in as the engine of this profile does. Returns the lines of its answer.
    pub(super) fn load(&mut self, profile: &Profile, archive: &Path) -> io::Result<Vec<Value>> {
        let path = archive;
        let archive = Archive::read(path)?;
        let found = match (profile.containerd_store, profile.podman) {
            (true, _) => archive.by_index(false)?,
            // Podman tries an OCI layout first, and takes it only with one image in it.
            (false, true) => match archive.by_index(true) {
                Ok(found) if found.len() == 1 => found,
                _ => archive.by_manifest()?,
            },
            (false, false) => archive.by_manifest()?,
        };
        if found.is_empty() {
            return Ok(vec![failure("invalid archive: no image in it")]);
        }
        let mut lines = Vec::new();
        for (image, layers) in found {
            let has = self.has_layers_of(profile, &image, &layers);
            let absent =
                layers.iter().zip(has).find(|(layer, has)| !archive.members.contains(*layer) && !has);
            let mut image = image;
            if let Some((layer, _)) = absent {
                let layer = layer.trim_start_matches("blobs/sha256/");
                if !profile.containerd_store {
                    let path = format!("open /var/lib/docker/tmp/docker-import-1/blobs/sha256/{layer}");
                    lines.push(failure(&format!("{path}: no such file or directory")));
                    return Ok(lines);
                }
                // A containerd store registers the name all the same.
                let name = image.tags.first().cloned().unwrap_or_default();
                lines.push(json!({ "stream": format!(
                    "Error unpacking image {name}: content digest sha256:{layer}: not found\n"
                ) }));
                image.broken = true;
                image.layers.clear();
            }
            for (diff_id, member) in image.layers.iter().zip(layers) {
                if archive.members.contains(&member) {
                    self.layer_files.insert(diff_id.clone(), LayerFile { archive: path.to_owned(), member });
                }
            }
            let name = image.tags.first().or(image.digests.first()).cloned().unwrap_or_default();
            lines.push(json!({ "stream": format!("Loaded image: {}\n", familiar(&name)) }));
            self.add(image);
        }
        self.blobs.extend(archive.members);
        Ok(lines)
    }

    /// For each layer of an image, whether the engine would do without its file: by chain ID, by blob, by diff ID.
    fn has_layers_of(&self, profile: &Profile, image: &EngineImage, members: &[String]) -> Vec<bool> {
        if profile.containerd_store {
            return members.iter().map(|member| self.blobs.contains(member)).collect();
        }
        let keys = |image: &EngineImage| -> Vec<Digest> {
            let diff_ids: Vec<Digest> = image.layers.iter().filter_map(|id| id.parse().ok()).collect();
            if profile.podman { diff_ids } else { chain_ids(&diff_ids) }
        };
        let known: BTreeSet<String> =
            self.all.iter().filter(|i| !i.hollow).flat_map(keys).map(|key| key.to_string()).collect();
        keys(image).iter().map(|key| known.contains(&key.to_string())).collect()
    }
}

/// The line with which engines report a failure in an answer of status 200.
pub(super) fn failure(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

/// An archive's documents and the names of its members.
struct Archive {
    members: BTreeSet<String>,
    documents: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    fn read(path: &Path) -> io::Result<Self> {
        let mut archive = Self { members: BTreeSet::new(), documents: BTreeMap::new() };
        for entry in tar::Archive::new(File::open(path)?).entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            let mut first = [0];
            // Documents are told from layers by their first byte.
            if entry.size() <= MAX_DOCUMENT && entry.read(&mut first)? == 1 && matches!(first[0], b'{' | b'[')
            {
                let mut bytes = first.to_vec();
                entry.read_to_end(&mut bytes)?;
                archive.documents.insert(name.clone(), bytes);
            }
            archive.members.insert(name);
        }
        Ok(archive)
    }

    fn document(&self, name: &str) -> io::Result<Value> {
        let bytes = self
            .documents
            .get(name)
            .ok_or_else(|| io::Error::other(format!("open {name}: no such file or directory")))?;
        Ok(serde_json::from_slice(bytes)?)
    }

    fn blob_document(&self, digest: &Value) -> io::Result<Value> {
        let hex = text(digest).trim_start_matches("sha256:").to_owned();
        self.document(&format!("blobs/sha256/{hex}"))
    }

    /// Images as a graph driver finds them: `manifest.json` with configs, tags and layer files. The second of each pair
    /// is the members that are its layers.
    fn by_manifest(&self) -> io::Result<Vec<(EngineImage, Vec<String>)>> {
        let manifest = self.document("manifest.json")?;
        let mut found = Vec::new();
        for entry in manifest.as_array().into_iter().flatten() {
            let path = text(&entry["Config"]);
            let config = self.document(path)?;
            let bytes = self.documents.get(path).map(Vec::as_slice).unwrap_or_default();
            let layers = texts(&entry["Layers"]);
            let tags = texts(&entry["RepoTags"]).iter().map(|t| full(t)).collect();
            let image = EngineImage {
                id: Digest::of(bytes).to_string(),
                tags,
                layers: texts(&config["rootfs"]["diff_ids"]),
                architecture: text(&config["architecture"]).to_owned(),
                ..EngineImage::default()
            };
            found.push((image, layers));
        }
        Ok(found)
    }

    /// Images as containerd finds them: `index.json` with a name per descriptor; of an index, the children that are here.
    /// Podman calls an image by its config, and keeps the digests of the manifest as well.
    fn by_index(&self, podman: bool) -> io::Result<Vec<(EngineImage, Vec<String>)>> {
        let index = self.document("index.json")?;
        let mut found: Vec<(EngineImage, Vec<String>)> = Vec::new();
        for descriptor in index["manifests"].as_array().into_iter().flatten() {
            let id = text(&descriptor["digest"]);
            let name = text(&descriptor["annotations"]["io.containerd.image.name"]);
            if let Some((image, _)) = found.iter_mut().find(|(image, _)| image.id == id) {
                image.name(name, id);
                continue;
            }
            let top = self.blob_document(&descriptor["digest"])?;
            let (digest, manifest) = match top["manifests"].as_array() {
                None => (id.to_owned(), top),
                Some(children) => children
                    .iter()
                    .filter(|c| c["platform"]["os"] != "unknown")
                    .find_map(|c| {
                        Some((text(&c["digest"]).to_owned(), self.blob_document(&c["digest"]).ok()?))
                    })
                    .ok_or_else(|| io::Error::other("no child of the index is here"))?,
            };
            let config = self.blob_document(&manifest["config"]["digest"])?;
            let mut image = EngineImage {
                id: if podman { text(&manifest["config"]["digest"]).to_owned() } else { id.to_owned() },
                manifest: digest.clone(),
                layers: texts(&config["rootfs"]["diff_ids"]),
                architecture: text(&config["architecture"]).to_owned(),
                ..EngineImage::default()
            };
            image.name(name, id);
            if podman {
                image.name(&format!("{}@{digest}", Name::parse(name).full()), &digest);
            }
            let layers = manifest["layers"].as_array().into_iter().flatten();
            let member =
                |l: &Value| format!("blobs/sha256/{}", text(&l["digest"]).trim_start_matches("sha256:"));
            let layers = layers.map(member).collect();
            found.push((image, layers));
        }
        Ok(found)
    }
}

impl EngineImage {
    /// Adds a name of a containerd store; each tag also makes `repository@digest` resolve.
    fn name(&mut self, name: &str, digest: &str) {
        let parsed = Name::parse(name);
        if parsed.digest.is_none() {
            self.tags.push(full(name));
        }
        let pinned = format!("{}@{digest}", parsed.full());
        if !self.digests.contains(&pinned) {
            self.digests.push(pinned);
        }
    }
}

fn full(tagged: &str) -> String {
    let name = Name::parse(tagged);
    format!("{}:{}", name.full(), name.tag.as_deref().unwrap_or("latest"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|v| text(v).to_owned()).collect()
}
