//! What is to be done for an image, from what the engine has. Pure: asking is elsewhere.

use std::collections::HashSet;

use palletjack_image::{Descriptor, Digest};

use crate::disk::Forecast;
use crate::error::LoadError;
use crate::known::Known;

/// How much of an image is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the engine has it, under its names.
    Nothing,
    /// Manifests, config and names: the engine has all layers.
    Metadata,
    /// The layers that the engine lacks, and the metadata.
    MissingLayers,
    /// All of it.
    Everything,
}

/// What a load would do with one image, provided that those before it in the order succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    /// How much is sent.
    pub step: Step,
    /// When its turn comes, counted from 0; `None` where nothing is sent.
    pub turn: Option<usize>,
    /// How many distinct layers are sent.
    pub layers: usize,
    /// Bytes of these layers, as they are in the cache.
    pub layer_bytes: u64,
    /// How many distinct layers are left out, because the engine has them or will have them by then.
    pub omitted: usize,
    /// Bytes of layers that are left out.
    pub omitted_bytes: u64,
    /// How many of the layers that are sent have to be packed anew, because the engine does not read Zstandard. Their
    /// length changes by that.
    pub recoded: usize,
    /// Bytes of the whole archive.
    pub archive_bytes: u64,
    /// Whether the engine resolves the reference already, exactly as it is written and as this image.
    pub resolves: bool,
}

/// What [`Engine::load_all`](crate::Engine::load_all) would do now.
#[derive(Debug)]
pub struct LoadPlan {
    /// For each image in the order of the list, or why it cannot be told.
    pub images: Vec<Result<ImagePlan, LoadError>>,
    /// How many requests would be in flight at once at most.
    pub parallel: usize,
    /// What the engine's disk would have to hold; `None` where nothing is sent, and where the engine's disk cannot be
    /// seen from here.
    pub disk: Option<Forecast>,
}

/// The layers of one image, divided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Delta {
    /// Blobs that the archive leaves out.
    pub(crate) omit: HashSet<Digest>,
    pub(crate) omitted_bytes: u64,
    /// What is left out, by the engine's names.
    pub(crate) omitted_keys: Vec<Digest>,
    /// Blobs that are sent.
    pub(crate) send: HashSet<Digest>,
    pub(crate) layer_bytes: u64,
    /// What is sent, by the engine's names, with the bytes of each.
    pub(crate) missing: Vec<(Digest, u64)>,
}

impl Delta {
    /// `keys` are the engine's names of `layers`. A blob that occurs more than once is left out only where the engine
    /// knows it in every place.
    pub(crate) fn of(known: &Known, layers: &[Descriptor], keys: &[Digest]) -> Self {
        let placed = || layers.iter().zip(keys);
        let send: HashSet<Digest> =
            placed().filter(|(_, key)| !known.has(key)).map(|(layer, _)| layer.digest).collect();
        let mut delta = Self { send, ..Self::default() };
        let mut counted = HashSet::new();
        for (layer, key) in placed() {
            let first = counted.insert(layer.digest);
            let bytes = if first { layer.size } else { 0 };
            if delta.send.contains(&layer.digest) {
                delta.layer_bytes = delta.layer_bytes.saturating_add(bytes);
                delta.missing.push((*key, bytes));
            } else {
                delta.omit.insert(layer.digest);
                delta.omitted_bytes = delta.omitted_bytes.saturating_add(bytes);
                delta.omitted_keys.push(*key);
            }
        }
        delta
    }

    /// What it comes to for an image that is not there under all its names.
    pub(crate) fn step(&self) -> Step {
        match (self.send.is_empty(), self.omit.is_empty()) {
            (true, _) => Step::Metadata,
            (false, false) => Step::MissingLayers,
            (false, true) => Step::Everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use palletjack_image::{chain_ids, media_type};

    use super::*;
    use crate::capabilities::EngineKind;

    fn id(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// Each letter is a layer of as many bytes as its place in the alphabet.
    fn layers(letters: &str) -> (Vec<Descriptor>, Vec<Digest>) {
        let blob = |letter: char| {
            let size = u64::from(letter) - u64::from('a') + 1;
            Descriptor::new(media_type::OCI_LAYER_GZIP, id(&format!("packed {letter}")), size)
        };
        (letters.chars().map(blob).collect(), letters.chars().map(|letter| id(&letter.to_string())).collect())
    }

    /// What an engine knows that has these images.
    fn known(kind: EngineKind, images: &[&str]) -> Known {
        let mut known = Known::nothing(kind);
        for image in images {
            let (layers, diff_ids) = layers(image);
            known.add(Known::keys(kind, &layers, &diff_ids));
        }
        known
    }

    #[test]
    fn each_kind_of_engine_knows_layers_in_its_own_way() {
        use Step::{Everything, Metadata, MissingLayers};
        let all = [EngineKind::DockerGraph, EngineKind::DockerContainerd, EngineKind::Podman];
        let (graph, others) = (&all[..1], &all[1..]);
        // Engines, their images, the image, step, bytes sent, bytes left out.
        for (kinds, images, image, step, sent, omitted) in [
            (&all[..], &[][..], "abc", Everything, 6, 0),
            (&all, &["abc"], "abc", Metadata, 0, 6),
            (&all, &["abcd"], "abc", Metadata, 0, 6),
            (&all, &["ab"], "abc", MissingLayers, 3, 3),
            (&all, &["abd"], "abc", MissingLayers, 3, 3),
            (&all, &["xy", "z"], "abc", Everything, 6, 0),
            // The same layer on another base is another layer to a graph driver.
            (graph, &["bc"], "abc", Everything, 6, 0),
            (others, &["bc"], "abc", MissingLayers, 1, 5),
            (graph, &["ab", "xc"], "abc", MissingLayers, 3, 3),
            (others, &["ab", "xc"], "abc", Metadata, 0, 6),
            // A layer that occurs twice, of which one place is known: it is sent, once.
            (graph, &["a"], "aba", Everything, 3, 0),
            (others, &["a"], "aba", MissingLayers, 2, 1),
            (&all, &["aba"], "aba", Metadata, 0, 3),
            (&all, &[], "", Metadata, 0, 0),
        ] {
            for kind in kinds {
                let known = known(*kind, images);
                let (layers, diff_ids) = layers(image);
                let keys = Known::keys(*kind, &layers, &diff_ids);
                let delta = Delta::of(&known, &layers, &keys);
                let seen = (delta.step(), delta.layer_bytes, delta.omitted_bytes);
                assert_eq!(seen, (step, sent, omitted), "{kind:?} with {images:?} gets {image}");
                assert!(delta.omit.is_disjoint(&delta.send));
                let bytes: u64 = delta.missing.iter().map(|(_, bytes)| bytes).sum();
                assert_eq!(bytes, sent, "{kind:?} {image}");

                let whole = Delta::of(&Known::nothing(*kind), &layers, &keys);
                assert_eq!((whole.omit.len(), whole.layer_bytes), (0, sent + omitted));
            }
        }
    }

    #[test]
    fn a_config_that_disagrees_with_its_manifest_has_nothing_left_out() {
        let (layers, mut diff_ids) = layers("abc");
        diff_ids.pop();
        for kind in [EngineKind::DockerGraph, EngineKind::Podman] {
            let mut known = Known::nothing(kind);
            known.add(chain_ids(&diff_ids));
            known.add(diff_ids.clone());
            let delta = Delta::of(&known, &layers, &Known::keys(kind, &layers, &diff_ids));
            assert_eq!(delta.step(), Step::Everything);
        }
    }

    #[test]
    fn a_refused_delta_is_not_tried_with_the_next_image() {
        let mut known = known(EngineKind::Podman, &["ab"]);
        let (layers, diff_ids) = layers("abc");
        let delta = Delta::of(&known, &layers, &diff_ids);
        known.distrust(&delta.omitted_keys);
        assert_eq!(Delta::of(&known, &layers, &diff_ids).step(), Step::Everything);
    }
}
