//! What the registry holds, per repository.

use std::collections::BTreeMap;

use palletjack_image::Digest;

use crate::image::Blob;

#[derive(Debug, Clone)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

#[derive(Debug, Default)]
struct Repository {
    blobs: BTreeMap<Digest, Blob>,
    manifests: BTreeMap<Digest, StoredManifest>,
    tags: BTreeMap<String, Digest>,
}

/// Repositories by name. A blob belongs to the repositories it was put into, as in a real registry.
#[derive(Debug, Default)]
pub(super) struct Content {
    repositories: BTreeMap<String, Repository>,
}

impl Content {
    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn add_blob(&mut self, repository: &str, digest: Digest, blob: Blob) {
        self.repository(repository).blobs.insert(digest, blob);
    }

    pub(super) fn add_manifest(&mut self, repository: &str, media_type: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        let manifest = StoredManifest { media_type: media_type.to_owned(), bytes, digest };
        self.repository(repository).manifests.insert(digest, manifest);
        digest
    }

    pub(super) fn set_tag(&mut self, repository: &str, tag: &str, digest: Digest) {
        self.repository(repository).tags.insert(tag.to_owned(), digest);
    }

    pub(super) fn remove_blob(&mut self, digest: &Digest) {
        for repository in self.repositories.values_mut() {
            repository.blobs.remove(digest);
        }
    }

    pub(super) fn remove_manifest(&mut self, digest: &Digest) {
        for repository in self.repositories.values_mut() {
            repository.manifests.remove(digest);
        }
    }

    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<Blob> {
        self.repositories.get(repository)?.blobs.get(digest).cloned()
    }

    /// A manifest by tag or digest.
    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<StoredManifest> {
        let repository = self.repositories.get(repository)?;
        let digest = match reference.parse() {
            Ok(digest) => digest,
            Err(_) => *repository.tags.get(reference)?,
        };
        repository.manifests.get(&digest).cloned()
    }

    pub(super) fn tags(&self, repository: &str) -> Option<Vec<String>> {
        Some(self.repositories.get(repository)?.tags.keys().cloned().collect())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.repositories.keys().cloned().collect()
    }
}
