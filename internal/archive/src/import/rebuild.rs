//! The manifest of an image whose own is lost.

use bytes::Bytes;
use palletjack_image::{Descriptor, Digest, LayerCompression, media_type};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    schema_version: u32,
    media_type: &'static str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

/// An OCI image manifest (OCI image specification, "Image Manifest"). The same parts give the same bytes.
pub(super) fn manifest(config: &Descriptor, layers: &[Descriptor]) -> (Descriptor, Bytes) {
    let wire = Wire { schema_version: 2, media_type: media_type::OCI_MANIFEST, config, layers };
    let bytes = serde_json::to_vec(&wire).expect("strings, numbers and lists always serialise into memory");
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    (descriptor, bytes.into())
}

/// A layer as such a manifest names it: of the OCI's types, whichever it had.
pub(super) fn layer(layer: &Descriptor) -> Descriptor {
    let media_type = match LayerCompression::of(&layer.media_type) {
        Some(LayerCompression::None) => media_type::OCI_LAYER,
        Some(LayerCompression::Gzip) => media_type::OCI_LAYER_GZIP,
        Some(LayerCompression::Zstd) => media_type::OCI_LAYER_ZSTD,
        None => &layer.media_type,
    };
    Descriptor::new(media_type, layer.digest, layer.size)
}
