//! Descriptors: media type, digest and size of some content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Platform};

/// Names content by its digest (OCI image specification, "OCI Content Descriptors").
///
/// It is also what the cache's `index.json` is made of, so it serialises with the specification's member names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is. Empty only where an old manifest leaves it out.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
    /// What an index's child runs on; absent elsewhere.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub platform: Option<Platform>,
    /// Where else the content may be had (foreign layers).
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "null_is_empty")]
    pub urls: Vec<String>,
    /// Free-form notes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Go writes an absent list or map as `null`, and registries hand on what Go programs wrote.
pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Descriptor {
    /// A descriptor of content without platform or notes.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}
