//! The images that are loaded, and what is in them.

use std::sync::OnceLock;

use palletjack_testkit::image::{Image, ImageSet, Shape};

use crate::device::Booted;
use crate::files;

/// A set of images, with their files by their layers.
pub(crate) struct Images {
    pub(crate) set: ImageSet,
    files: Vec<String>,
}

pub(crate) fn images() -> &'static Images {
    static IMAGES: OnceLock<Images> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let shape = Shape { base_bytes: 2_000_000, app_bytes: 1_000_000, zstd: false, ..Shape::small() };
        let names = ["one", "two", "three", "four", "five"].map(|name| format!("ghcr.io/acme/{name}:1"));
        let set = ImageSet::build(&names, &shape).unwrap();
        let files = set.images.iter().map(files::of_layers).collect();
        Images { set, files }
    })
}

impl Images {
    /// Bytes of the files that all images' layers have together.
    pub(crate) fn unpacked_bytes(&self) -> u64 {
        self.set.layers("linux/amd64").values().map(|layer| layer.unpacked_size).sum()
    }

    pub(crate) fn count(&self) -> usize {
        self.set.images.len()
    }

    /// As a pallet names them.
    pub(crate) fn pins(&self) -> Vec<String> {
        self.set.images.iter().map(Image::pinned).collect()
    }

    /// By its name, the files of each image in an engine are those of its layers.
    #[track_caller]
    pub(crate) fn assert_whole(&self, booted: &Booted) {
        for pin in self.pins() {
            self.assert_one_whole(booted, &pin);
        }
    }

    /// The same for the image of one pin.
    #[track_caller]
    pub(crate) fn assert_one_whole(&self, booted: &Booted, pin: &str) {
        let index = self.set.images.iter().position(|image| image.pinned() == pin).unwrap();
        let files = booted.files(&self.set.images[index].tagged());
        let files = files.unwrap_or_else(|error| panic!("{pin}: {error}"));
        let expected = &self.files[index];
        assert!(files == *expected, "{pin} is damaged:\n{}", files::difference(expected, &files));
    }

    /// Removes them from an engine, and nothing else.
    pub(crate) fn remove_from(&self, booted: &Booted) {
        for image in &self.set.images {
            // It may be there or not, after whatever happened.
            booted.client(&["rmi", "--force", &image.tagged()]);
        }
    }
}
