//! Reading an image's small parts back, verified.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use palletjack_image::{Config, Descriptor, Digest, ImageManifest, Manifest, ManifestKind};

use crate::durable;
use crate::error::{StoreError, io_error};
use crate::index::Entry;
use crate::layout::Store;

/// Everything about an image but the content of its layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its line in `index.json`.
    pub entry: Entry,
    /// The multi-platform index, where the reference means one.
    pub index: Option<Manifest>,
    /// The chosen platform's manifest.
    pub manifest: Manifest,
    /// The image config, read.
    pub config: Config,
    /// The image config's descriptor; its digest is what graph-driver engines call the image ID.
    pub config_descriptor: Descriptor,
    /// The image config's bytes.
    pub config_bytes: Bytes,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl Store {
    /// Reads an image's index, manifest and config, each checked against its digest.
    pub fn image(&self, entry: &Entry) -> Result<Image, StoreError> {
        let index = if entry.target.digest == entry.manifest.digest {
            None
        } else {
            Some(self.parse_manifest(&entry.target)?)
        };
        let manifest = self.parse_manifest(&entry.manifest)?;
        let ManifestKind::Image(image) = manifest.kind() else {
            return Err(StoreError::NotAnImage { digest: entry.manifest.digest });
        };
        let config_bytes = self.read(&image.config)?;
        let config = Config::parse(&config_bytes)
            .map_err(|source| StoreError::Config { digest: image.config.digest, source })?;
        Ok(Image {
            entry: entry.clone(),
            index,
            config_descriptor: image.config.clone(),
            layers: image.layers.clone(),
            config,
            config_bytes,
            manifest,
        })
    }

    /// Reads small content whole (a manifest, a config), its length and digest checked.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Bytes, StoreError> {
        let path = self.blob_path(&descriptor.digest);
        let corrupt =
            |what: String| StoreError::Corrupt { digest: descriptor.digest, path: path.clone(), what };
        if descriptor.size > Manifest::MAX_SIZE as u64 {
            return Err(corrupt(format!(
                "{} bytes are too many for a manifest or a config",
                descriptor.size
            )));
        }
        let file = self.open_blob(descriptor)?;
        let mut bytes = Vec::new();
        file.take(descriptor.size + 1).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(corrupt(format!("its content has the digest {actual}")));
        }
        Ok(bytes.into())
    }

    /// Opens a blob's file after a look at its size. The content is not hashed: whoever reads it does that in passing.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<File, StoreError> {
        let path = self.blob_path(&descriptor.digest);
        let file = match durable::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: descriptor.digest });
            }
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let size = file.metadata().map_err(io_error("look at", &path))?.len();
        if size != descriptor.size {
            return Err(StoreError::Corrupt {
                digest: descriptor.digest,
                path,
                what: format!("it has {size} bytes instead of {}", descriptor.size),
            });
        }
        Ok(file)
    }

    /// A blob whose size is not known: what its file has. `None` where there is none. Nothing says that it is right.
    pub fn blob(&self, digest: &Digest) -> Option<Descriptor> {
        let metadata = std::fs::symlink_metadata(self.blob_path(digest)).ok()?;
        metadata.is_file().then(|| Descriptor::new("", *digest, metadata.len()))
    }

    /// Whether a blob's file is there with the right size. A link to one is none: it is never read.
    pub fn has_blob(&self, descriptor: &Descriptor) -> bool {
        std::fs::symlink_metadata(self.blob_path(&descriptor.digest))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size)
    }

    /// Config and layers of one image's manifest; remembered, because every publication asks for all of them.
    pub(crate) fn manifest_of(&self, descriptor: &Descriptor) -> Result<Arc<ImageManifest>, StoreError> {
        let mut known = self.inner.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manifest) = known.get(&descriptor.digest) {
            return Ok(manifest.clone());
        }
        let manifest = self.parse_manifest(descriptor)?;
        let ManifestKind::Image(image) = manifest.kind() else {
            return Err(StoreError::NotAnImage { digest: descriptor.digest });
        };
        let image = Arc::new(image.clone());
        known.insert(descriptor.digest, image.clone());
        Ok(image)
    }

    fn parse_manifest(&self, descriptor: &Descriptor) -> Result<Manifest, StoreError> {
        let bytes = self.read(descriptor)?;
        Manifest::parse(bytes, Some(&descriptor.media_type))
            .map_err(|source| StoreError::Manifest { digest: descriptor.digest, source })
    }
}
