//! Images for a list of names, mixed and shared as a real pallet's are.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use palletjack_image::Digest;

use super::blob::Blob;
use super::builder::{Image, ImageBuilder, Kind};
use super::filler::seed;
use super::layer::{Compression, Layer, LayerBuilder};
use super::name::Name;
use super::program;

/// How large a set's layers are and where they are kept.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Unpacked bytes of each of the two base layers that images share.
    pub base_bytes: u64,
    /// Unpacked bytes of an image's own layer; every third image has twice as much.
    pub app_bytes: u64,
    /// Keep layers as files here instead of in memory.
    pub directory: Option<PathBuf>,
    /// Whether one image of the set has zstd layers (when there are at least four).
    pub zstd: bool,
    /// Whether a container runs until it is killed, as a service does, or says `it runs` and ends.
    pub stays: bool,
}

impl Shape {
    /// Some hundred kilobytes per image, in memory.
    pub fn small() -> Self {
        Self { base_bytes: 300_000, app_bytes: 120_000, directory: None, zstd: true, stays: false }
    }

    /// Layers of this many bytes as files of `directory`, for measurements.
    pub fn large(app_bytes: u64, directory: impl Into<PathBuf>) -> Self {
        Self { base_bytes: app_bytes, app_bytes, directory: Some(directory.into()), zstd: true, stays: false }
    }

    fn layer(&self, builder: &LayerBuilder) -> io::Result<Layer> {
        match &self.directory {
            Some(directory) => builder.build_in(directory),
            None => builder.build(),
        }
    }
}

/// Images that belong together.
#[derive(Debug, Clone, Default)]
pub struct ImageSet {
    /// In the order of the names they were made for.
    pub images: Vec<Image>,
}

impl ImageSet {
    /// Small images for these references; see [`ImageSet::build`].
    pub fn small(references: &[impl AsRef<str>]) -> io::Result<Self> {
        Self::build(references, &Shape::small())
    }

    /// Makes an image for each reference (a digest in it is dropped; a missing tag means `latest`).
    ///
    /// The mix is that of a real pallet: most are multi-platform (amd64, arm64/v8, arm/v7), with Docker or OCI types
    /// in turn, OCI ones with attestations; every fourth is a single manifest; one has zstd layers; all share a base
    /// with others, and tags of one repository share a layer more; whiteouts remove files of the base. On linux/amd64 they
    /// can be run: `it runs` is what they print, with any arguments.
    pub fn build(references: &[impl AsRef<str>], shape: &Shape) -> io::Result<Self> {
        let bases = Bases::build(shape)?;
        let images = references
            .iter()
            .enumerate()
            .map(|(i, reference)| build_one(i, reference.as_ref(), shape, &bases))
            .collect::<io::Result<_>>()?;
        Ok(Self { images })
    }

    /// The image made for this reference, compared by host, repository and tag.
    pub fn find(&self, reference: &str) -> Option<&Image> {
        let name = Name::parse(reference);
        let tag = name.tag.as_deref().unwrap_or("latest");
        self.images.iter().find(|i| i.name.full() == name.full() && i.name.tag.as_deref() == Some(tag))
    }

    /// All blobs of the set, each once.
    pub fn blobs(&self) -> BTreeMap<Digest, Blob> {
        self.images.iter().flat_map(|i| i.blobs.clone()).collect()
    }

    /// The layers that this platform needs, each once.
    pub fn layers(&self, platform: &str) -> BTreeMap<Digest, Layer> {
        self.images
            .iter()
            .filter_map(|i| i.platform(platform))
            .flat_map(|p| p.layers.iter().map(|l| (l.digest, l.clone())))
            .collect()
    }

    /// For replacing digests in Compose files: each reference as written, and the same with the digest of the image
    /// that was made for it. Names and tags stay as written; a reference without digest stays as it is.
    pub fn replacements(&self, references: &[impl AsRef<str>]) -> BTreeMap<String, String> {
        references
            .iter()
            .filter_map(|reference| {
                let reference = reference.as_ref();
                let (name, _) = reference.split_once('@')?;
                let image = self.find(reference)?;
                Some((reference.to_owned(), format!("{name}@{}", image.top.digest)))
            })
            .collect()
    }
}

/// The layers that several images stand on.
struct Bases {
    /// Per platform: the lower base, and the upper one that half of the images add.
    layers: BTreeMap<&'static str, [Layer; 2]>,
}

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"];

impl Bases {
    fn build(shape: &Shape) -> io::Result<Self> {
        let mut layers = BTreeMap::new();
        for platform in PLATFORMS {
            // What nobody downloads in a test need not be large.
            let bytes =
                if platform == PLATFORMS[0] { shape.base_bytes } else { shape.base_bytes.min(60_000) };
            let lower = LayerBuilder::new()
                .directory("bin")
                .program(program::PATH, program::executable(platform))
                .directory("etc")
                .file("etc/os-release", "ID=testkit\n")
                .directory("usr")
                .directory("usr/share")
                .directory("usr/share/doc")
                .file("usr/share/doc/base.txt", "documentation of the base\n")
                .directory("usr/lib")
                .filler("usr/lib/base.bin", seed(platform), bytes)
                .symlink("usr/lib/base.so", "base.bin");
            let upper = LayerBuilder::new()
                .directory("usr/runtime")
                .filler("usr/runtime/runtime.bin", seed(platform) ^ 1, bytes)
                .hardlink("usr/runtime/same.bin", "usr/runtime/runtime.bin");
            layers.insert(platform, [shape.layer(&lower)?, shape.layer(&upper)?]);
        }
        Ok(Self { layers })
    }
}

fn build_one(i: usize, reference: &str, shape: &Shape, bases: &Bases) -> io::Result<Image> {
    let name = Name::parse(reference);
    let repository = name.full();
    let tag = name.tag.as_deref().unwrap_or("latest");
    let tagged = format!("{repository}:{tag}");
    // The fourth image of a set is the zstd one: sets too small to be a pallet stay readable for every engine.
    let compression = if shape.zstd && i == 3 { Compression::Zstd } else { Compression::Gzip };
    let single = i % 4 == 2;
    let kind =
        if compression == Compression::Gzip && i % 4 < 3 && i % 5 != 1 { Kind::Docker } else { Kind::Oci };
    let platforms = if single { &PLATFORMS[..1] } else { &PLATFORMS };
    let mut builder = ImageBuilder::new(&tagged)
        .kind(kind)
        .entrypoint(&[&format!("/{}", program::PATH)])
        .cmd(if shape.stays { &[program::STAY] } else { &[] })
        .label("org.opencontainers.image.title", &repository)
        .label("org.opencontainers.image.version", tag);
    for &platform in platforms {
        let [lower, upper] = &bases.layers[platform];
        let mut layers = vec![lower.clone()];
        if i.is_multiple_of(2) {
            layers.push(upper.clone());
        }
        let app = if i.is_multiple_of(3) { shape.app_bytes * 2 } else { shape.app_bytes };
        let bytes = if platform == PLATFORMS[0] { app } else { app.min(20_000) };
        let common = LayerBuilder::new()
            .directory("opt")
            .file("opt/repository", repository.clone())
            .filler("opt/common.bin", seed(&format!("{repository} {platform}")), shape.app_bytes.min(20_000))
            .compression(compression);
        let own = LayerBuilder::new()
            .file("opt/tag", tagged.clone())
            .filler("opt/own.bin", seed(&format!("{tagged} {platform}")), bytes)
            .whiteout("usr/share/doc/base.txt")
            .opaque("usr/share/doc")
            .compression(compression);
        layers.push(shape.layer(&common)?);
        layers.push(shape.layer(&own)?);
        builder = builder.platform(platform, layers);
    }
    if kind == Kind::Oci && !single {
        builder = builder.attestations();
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use palletjack_image::media_type;

    const NAMES: [&str; 8] = [
        "docker.io/library/caddy:2.6.2@sha256:00",
        "ghcr.io/planktoscope/device-portal:0.2.3",
        "docker.io/library/eclipse-mosquitto:2.0.20",
        "docker.io/amir20/dozzle:v8.6.2",
        "docker.io/filebrowser/filebrowser:v2.30.0",
        "docker.io/filebrowser/filebrowser:v2.31.2",
        "nginxdemos/hello:0.4",
        "quay.io/acme/tool:1",
    ];

    #[test]
    fn a_set_is_deterministic_and_mixed_as_a_pallet_is() {
        let set = ImageSet::small(&NAMES).unwrap();
        let again = ImageSet::small(&NAMES).unwrap();
        let tops = |s: &ImageSet| s.images.iter().map(|i| i.top.digest.to_string()).collect::<Vec<_>>();
        assert_eq!(tops(&set), tops(&again));

        let types: Vec<&str> = set.images.iter().map(|i| i.top.media_type).collect();
        for expected in [media_type::DOCKER_LIST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST] {
            assert!(types.contains(&expected), "{expected} in {types:?}");
        }
        let zstd = set
            .images
            .iter()
            .filter(|i| i.platforms[0].layers.iter().any(|l| l.compression == Compression::Zstd))
            .count();
        assert_eq!(zstd, 1);
    }

    #[test]
    fn bases_are_shared_and_tags_of_one_repository_share_more() {
        let set = ImageSet::small(&NAMES).unwrap();
        let base = |name: &str| set.find(name).unwrap().platforms[0].layers[0].digest;
        assert_eq!(base(NAMES[0]), base(NAMES[7]));
        let layers = |name: &str| {
            set.find(name).unwrap().platforms[0]
                .layers
                .iter()
                .map(|l| l.digest.to_string())
                .collect::<Vec<_>>()
        };
        let (old, new) = (layers(NAMES[4]), layers(NAMES[5]));
        assert_eq!(old.iter().filter(|l| new.contains(l)).count(), 2);
        let distinct: u64 = set.layers("linux/amd64").values().map(|l| l.size).sum();
        assert!(distinct < 2_500_000, "{distinct} bytes");
    }

    #[test]
    fn replacements_keep_names_and_tags() {
        let set = ImageSet::small(&NAMES).unwrap();
        let map = set.replacements(&NAMES);
        assert_eq!(map.len(), 1);
        let new = &map[NAMES[0]];
        assert_eq!(*new, format!("docker.io/library/caddy:2.6.2@{}", set.images[0].top.digest));
    }

    #[test]
    fn a_set_in_files_is_the_same_set() {
        let directory = tempfile::tempdir().unwrap();
        let shape = Shape { directory: Some(directory.path().to_owned()), ..Shape::small() };
        let files = ImageSet::build(&NAMES[..2], &shape).unwrap();
        let memory = ImageSet::small(&NAMES[..2]).unwrap();
        assert_eq!(files.images[1].top.digest, memory.images[1].top.digest);
        assert!(directory.path().read_dir().unwrap().count() > 4);
    }
}
