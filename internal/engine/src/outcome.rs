//! What came of an image.

use std::fmt;

use palletjack_image::{Digest, Reference};

use crate::sighting::Sighting;

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image, as the pallet means it.
    pub reference: Reference,
    /// Whether it had to be sent.
    pub was: Was,
    /// What the engine said when it was asked afterwards.
    pub resolves: Sighting,
    /// How a container of it can be started without a network.
    pub runs_as: RunsAs,
    /// Whether the cache has it as it was rebuilt from an engine, so that no load gives it its pin.
    pub rebuilt: bool,
}

/// Whether an image had to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Was {
    /// The engine had it: nothing was sent.
    Present,
    /// It was sent.
    Sent {
        /// Bytes of the archive, of both archives where it was sent again.
        bytes: u64,
        /// Bytes of layers among them, as they were sent.
        layer_bytes: u64,
        /// Whether the engine lacked a layer that it seemed to have, so that all of the image was sent after all.
        whole_again: bool,
    },
}

/// The best name that an engine resolves without a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunsAs {
    /// The reference exactly as the pallet has it.
    Reference,
    /// Its tag, without the digest. The engine keeps no digests of loaded images.
    Tag(String),
    /// Only the image ID as this engine has it: the tag belongs to another image, or there is none.
    Id(Digest),
}

impl RunsAs {
    pub(crate) fn of(reference: &Reference, seen: &Sighting) -> Self {
        if seen.exact {
            return Self::Reference;
        }
        match reference.clone().without_digest() {
            tagged if seen.tag == Some(true) => Self::Tag(tagged.familiar()),
            _ => Self::Id(seen.id),
        }
    }
}

impl Loaded {
    /// Why the reference does not resolve as the pallet has it, and what does; `None` where it resolves.
    pub fn note(&self) -> Option<String> {
        let reference = self.reference.familiar();
        match &self.runs_as {
            RunsAs::Reference => None,
            _ if self.rebuilt => Some(format!(
                "{reference} does not resolve offline: the cache has it as it was rebuilt from an engine, which is not what its \
                 digest pins; it runs as {}; `cache-img` where there is a network brings what the pin means",
                self.runs_as
            )),
            RunsAs::Tag(_) => Some(format!(
                "{reference} does not resolve offline: this engine keeps no digests of loaded images; it runs as {}",
                self.runs_as
            )),
            RunsAs::Id(_) => Some(format!(
                "{reference} does not resolve offline: the engine has it without a name of its own; it runs as {}",
                self.runs_as
            )),
        }
    }
}

impl fmt::Display for RunsAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference => f.write_str("itself"),
            Self::Tag(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}
