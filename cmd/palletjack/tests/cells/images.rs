//! What a cell's registry has.

use palletjack_image::{Digest, Platform};
use palletjack_testkit::image::{Image, ImageBuilder, Kind, Layer, LayerBuilder, PlatformImage, printer};

use crate::cell::{Cell, Form, Host, Layers};

/// The images of one cell. All stand on one layer, which no other cell has.
pub(crate) struct Images {
    /// Brings the lower layer into the engine under another name.
    pub(crate) bringer: Image,
    /// What the reference names, and with two pins the older of two.
    pub(crate) first: Image,
    /// The one that was published later under the same tag.
    pub(crate) second: Image,
}

impl Images {
    pub(crate) fn of(cell: Cell) -> Self {
        let host = match cell.host {
            Host::Hub => "",
            Host::Other => "ghcr.io/",
        };
        let name = format!("{host}cells/{}", cell.slug());
        let base = base(cell);
        Self {
            bringer: build(cell, &format!("{name}-bringer:1"), &base, "bringer"),
            first: build(cell, &format!("{name}:1"), &base, "first"),
            second: build(cell, &format!("{name}:1"), &base, "second"),
        }
    }
}

/// The platform of all images: containers of them run here.
pub(crate) fn platform() -> String {
    Platform::host().to_string()
}

fn base(cell: Cell) -> Layer {
    let show = printer(&Platform::host().architecture, "/message")
        .expect("the tests' program has been written for this architecture");
    let builder = LayerBuilder::new().directory("bin").program("bin/show", show);
    builder
        .filler("base", seed(&cell.to_string()), 60_000)
        .compression(cell.layers.compression())
        .build()
        .unwrap()
}

fn build(cell: Cell, name: &str, base: &Layer, version: &str) -> Image {
    let message = message(cell, version);
    let own = LayerBuilder::new().file("message", message.clone()).filler("own", seed(&message), 20_000);
    let own = own.compression(cell.layers.compression()).build().unwrap();
    let elsewhere = LayerBuilder::new().file("message", "for another machine\n").build().unwrap();
    // What registries have: Docker's types with gzip, OCI's with the rest, and other platforms' images that nobody wants.
    let kind = if cell.layers == Layers::Gzip { Kind::Docker } else { Kind::Oci };
    let builder = ImageBuilder::new(name)
        .kind(kind)
        .platform(&platform(), [base.clone(), own])
        .platform("linux/s390x", [elsewhere])
        .cmd(&["/bin/show"]);
    let builder = if kind == Kind::Oci { builder.attestations() } else { builder };
    builder.build().unwrap()
}

/// What a container of the image prints.
pub(crate) fn message(cell: Cell, version: &str) -> String {
    format!("{version} of {cell}\n")
}

fn seed(text: &str) -> u64 {
    u64::from_str_radix(&Digest::of(text.as_bytes()).hex()[..16], 16).unwrap()
}

/// The image as a pallet names it.
pub(crate) fn reference(image: &Image, form: Form) -> String {
    let short = |full: String| full.strip_prefix("docker.io/").map_or(full.clone(), str::to_owned);
    match form {
        Form::Tag => short(image.tagged()),
        Form::TagDigest => short(image.pinned()),
        Form::Digest => short(format!("{}@{}", image.name.full(), image.top.digest)),
    }
}

/// This machine's part of an image: its two layers, the shared one first.
pub(crate) fn here(image: &Image) -> &PlatformImage {
    image.platform(&platform()).unwrap()
}
