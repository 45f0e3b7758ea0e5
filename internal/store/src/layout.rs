//! Where things lie in the cache directory, and opening it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use palletjack_image::{Digest, ImageManifest, Platform};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Owner};
use crate::error::{StoreError, io_error};

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To fetch, publish, remove: the directory is created where it is missing.
    Write,
    /// To list, verify, load: nothing is created, and a read-only medium will do.
    Read,
}

/// A cache directory. Cheap to clone; may be shared between threads.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) access: Access,
    pub(crate) owner: Owner,
    pub(crate) main_platform: Platform,
    /// What manifests name. Content-addressed, so an entry never goes stale.
    pub(crate) manifests: Mutex<HashMap<Digest, Arc<ImageManifest>>>,
}

const FORMAT_VERSION: u32 = 1;
const OCI_LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
const EMPTY_INDEX: &[u8] =
    b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}\n";
/// The Cache Directory Tagging Specification: backup programs leave such a directory out.
const CACHEDIR_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
# This directory is palletjack's cache of container images.\n\
# For information about cache directory tags see https://bford.info/cachedir/\n";

/// `state/format.json`. The three lists work as ext4's feature sets do: a reader that does not know a feature may go
/// on (compatible), may read but not write (read-only compatible), or must stop (incompatible).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    version: u32,
    main_platform: Platform,
    #[serde(default)]
    compatible: Vec<String>,
    #[serde(default)]
    read_only_compatible: Vec<String>,
    #[serde(default)]
    incompatible: Vec<String>,
}

impl Store {
    /// Opens the cache at `root`. `main_platform` is the platform that bare tags belong to; it counts only when the
    /// cache is created, later the one written there does.
    ///
    /// # Errors
    /// [`StoreError::Absent`] for reading where there is none; [`StoreError::NewerFormat`]; and those of the file
    /// system.
    pub fn open(root: &Path, access: Access, main_platform: &Platform) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).map_err(io_error("find", root))?;
        if access == Access::Write {
            fs::create_dir_all(&root).map_err(io_error("create", &root))?;
        }
        refuse_links(&root)?;
        let format = read_format(&root)?;
        let main_platform = match &format {
            Some(format) => {
                check_format(&root, format, access)?;
                format.main_platform.clone()
            }
            None if access == Access::Read && !root.join("docker-archives/index.json").exists() => {
                return Err(StoreError::Absent(root));
            }
            None => main_platform.clone(),
        };
        let owner = Owner::of(&root)?;
        let store = Self::at(root, access, owner, main_platform);
        match access {
            Access::Write => store.create(),
            Access::Read => Ok(store),
        }
    }

    fn at(root: PathBuf, access: Access, owner: Owner, main_platform: Platform) -> Self {
        Self { inner: Arc::new(Inner { root, access, owner, main_platform, manifests: Mutex::default() }) }
    }

    /// Creates what is missing, and completes what a crash has left undone.
    fn create(self) -> Result<Self, StoreError> {
        let owner = self.inner.owner;
        owner.create_dir(&self.blobs())?;
        owner.create_dir(&self.ingest_dir())?;
        // Another process may be creating the same cache, or publishing its first image: the first one decides what
        // the main platform is, and nothing of its making is overwritten.
        let _lock = self.lock_index()?;
        let store = match read_format(self.root())? {
            Some(format) => {
                check_format(self.root(), &format, Access::Write)?;
                Self::at(self.root().to_owned(), Access::Write, owner, format.main_platform)
            }
            None => {
                self.write_format()?;
                self
            }
        };
        for (path, content) in [
            (store.root().join("CACHEDIR.TAG"), CACHEDIR_TAG),
            (store.archives().join("oci-layout"), OCI_LAYOUT),
            (store.index_json(), EMPTY_INDEX),
        ] {
            if !path.exists() {
                durable::replace(&path, content, 0o644, owner)?;
            }
        }
        // It is written after `index.json`, so a crash can leave an old one. A damaged index is for its readers to tell.
        if let Ok(entries) = store.read_index() {
            let path = store.archives().join("manifest.json");
            let text = store.docker_manifest(&entries)?;
            if durable::read_regular(&path, crate::index::MAX_INDEX).ok().as_deref() != Some(&*text) {
                durable::replace(&path, &text, 0o644, owner)?;
            }
        }
        Ok(store)
    }

    fn write_format(&self) -> Result<(), StoreError> {
        let format = Format {
            version: FORMAT_VERSION,
            main_platform: self.inner.main_platform.clone(),
            compatible: Vec::new(),
            read_only_compatible: Vec::new(),
            incompatible: Vec::new(),
        };
        let path = format_json(self.root());
        let text = serde_json::to_vec_pretty(&format)
            .map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        durable::replace(&path, &text, 0o644, self.inner.owner)
    }

    /// The cache directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The platform that bare tags and `manifest.json` belong to.
    pub fn main_platform(&self) -> &Platform {
        &self.inner.main_platform
    }

    /// The OCI image layout and unpacked docker-archive in it.
    pub fn archives(&self) -> PathBuf {
        self.root().join("docker-archives")
    }

    /// Where the blobs lie.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.archives().join("blobs/sha256")
    }

    /// The file of a blob, whether it exists or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn index_json(&self) -> PathBuf {
        self.archives().join("index.json")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    pub(crate) fn ingest_dir(&self) -> PathBuf {
        self.state().join("ingest")
    }

    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        match self.inner.access {
            Access::Write => Ok(()),
            Access::Read => Err(StoreError::ReadOnly(self.root().to_owned())),
        }
    }
}

/// The version decides before anything else is looked at: a later format may look different in every other member.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn format_json(root: &Path) -> PathBuf {
    root.join("state/format.json")
}

/// The directories of a cache are real ones. One that was replaced by a link would have files elsewhere written,
/// and swept.
fn refuse_links(root: &Path) -> Result<(), StoreError> {
    for name in [
        "docker-archives",
        "docker-archives/blobs",
        "docker-archives/blobs/sha256",
        "state",
        "state/ingest",
        "state/scratch",
        "state/unsettled",
    ] {
        let path = root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_dir() => return Err(StoreError::Strange { path }),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("look at", &path)(error)),
        }
    }
    Ok(())
}

/// More than any `format.json` needs, in bytes.
const MAX_FORMAT: u64 = 1 << 20;

fn read_format(root: &Path) -> Result<Option<Format>, StoreError> {
    let path = format_json(root);
    let text = match durable::read_regular(&path, MAX_FORMAT) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let damaged = |source| StoreError::Damaged { path: path.clone(), source };
    let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version > FORMAT_VERSION {
        return Err(StoreError::NewerFormat { path: root.to_owned(), what: format!("format {version}") });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

fn check_format(root: &Path, format: &Format, access: Access) -> Result<(), StoreError> {
    let blocking = match access {
        Access::Read => format.incompatible.first(),
        Access::Write => format.incompatible.first().or(format.read_only_compatible.first()),
    };
    match blocking {
        None => Ok(()),
        Some(feature) => {
            Err(StoreError::NewerFormat { path: root.to_owned(), what: format!("feature `{feature}`") })
        }
    }
}
