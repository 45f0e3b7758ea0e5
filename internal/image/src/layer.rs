//! How a layer's tar is packed.

/// How a layer's tar is compressed, as its media type tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerCompression {
    /// A bare tar.
    None,
    /// gzip: every engine reads it.
    Gzip,
    /// Zstandard: Docker reads it from version 23 on.
    Zstd,
}

impl LayerCompression {
    /// Reads a layer's media type; `None` for what is not a filesystem layer (an attestation, a chart, …).
    ///
    /// Docker writes bare tars as `…rootfs.diff.tar`, and foreign layers carry `foreign` or `nondistributable`
    /// in the name; their compression is in the suffix like everyone's.
    pub fn of(media_type: &str) -> Option<Self> {
        let suffix = media_type
            .strip_prefix("application/vnd.docker.image.rootfs.diff.tar")
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff.tar"))
            .or_else(|| media_type.strip_prefix("application/vnd.oci.image.layer.v1.tar"))
            .or_else(|| media_type.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1.tar"))?;
        match suffix {
            "" => Some(Self::None),
            "+gzip" | ".gzip" => Some(Self::Gzip),
            "+zstd" | ".zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Whether the layer is one that its owner does not let registries hand on (Windows base layers).
    pub fn is_foreign(media_type: &str) -> bool {
        media_type.contains(".foreign.") || media_type.contains(".nondistributable.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_type;

    #[test]
    fn layers_of_both_families() {
        for (media_type, want) in [
            (media_type::DOCKER_LAYER, Some(LayerCompression::Gzip)),
            (media_type::OCI_LAYER, Some(LayerCompression::None)),
            (media_type::OCI_LAYER_GZIP, Some(LayerCompression::Gzip)),
            (media_type::OCI_LAYER_ZSTD, Some(LayerCompression::Zstd)),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(LayerCompression::None)),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Some(LayerCompression::Zstd)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(LayerCompression::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+lz4", None),
            ("application/vnd.in-toto+json", None),
        ] {
            assert_eq!(LayerCompression::of(media_type), want, "{media_type}");
        }
        assert!(LayerCompression::is_foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
        assert!(!LayerCompression::is_foreign(media_type::DOCKER_LAYER));
    }
}
