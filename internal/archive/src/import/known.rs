//! Layers of the cache by what they unpack to.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use palletjack_image::{Descriptor, Digest, Hasher, LayerCompression};
use palletjack_store::{Snapshot, Store};

use super::error::ImportError;
use crate::hashed::Hashed;

const PIECE: usize = 256 << 10;

/// Which blobs of the cache unpack to a layer's content. Grows with what it is asked for.
#[derive(Debug, Default)]
pub struct KnownLayers {
    by_diff_id: HashMap<Digest, Descriptor>,
}

impl KnownLayers {
    /// Looks for blobs that unpack to these diff IDs. Blocks for as long as unpacking them takes.
    ///
    /// That a blob does is said by the config of an image that has both. A config says what whoever wrote it wanted, so
    /// each blob is unpacked and hashed before it is taken for another image.
    pub fn learn(
        &mut self,
        store: &Store,
        snapshot: &Snapshot,
        diff_ids: &[Digest],
    ) -> Result<(), ImportError> {
        self.by_diff_id.retain(|_, blob| store.has_blob(blob));
        for entry in snapshot.entries() {
            // What is wrong with an image of the cache is found elsewhere.
            let Ok(image) = store.image(entry) else { continue };
            if image.layers.len() != image.config.diff_ids.len() {
                continue;
            }
            for (layer, diff_id) in image.layers.iter().zip(&image.config.diff_ids) {
                let is_compressed = layer.digest != *diff_id;
                let known = self.by_diff_id.get(diff_id);
                let is_better = known.is_none_or(|known| known.digest == *diff_id && is_compressed);
                if diff_ids.contains(diff_id)
                    && is_better
                    && store.has_blob(layer)
                    && unpacks_to(store, layer, diff_id)?
                {
                    self.by_diff_id.insert(*diff_id, layer.clone());
                }
            }
        }
        Ok(())
    }

    /// The blob that unpacks to this.
    pub fn get(&self, diff_id: &Digest) -> Option<&Descriptor> {
        self.by_diff_id.get(diff_id)
    }
}

/// Whether a blob is what its name says and unpacks to content of this digest.
fn unpacks_to(store: &Store, layer: &Descriptor, diff_id: &Digest) -> Result<bool, ImportError> {
    let Some(compression) = LayerCompression::of(&layer.media_type) else { return Ok(false) };
    let file = store.open_blob(layer)?;
    let mut blob = BufReader::with_capacity(PIECE, Hashed::new(file));
    let unpacked = match compression {
        LayerCompression::None => digest(&mut blob),
        LayerCompression::Gzip => digest(&mut MultiGzDecoder::new(&mut blob)),
        LayerCompression::Zstd => zstd::Decoder::with_buffer(&mut blob).and_then(|mut one| digest(&mut one)),
    };
    let Ok(unpacked) = unpacked else { return Ok(false) };
    Ok(unpacked == *diff_id && digest(&mut blob).is_ok() && blob.into_inner().finish() == layer.digest)
}

fn digest(content: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
