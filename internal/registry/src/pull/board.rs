//! Who needs which blob, and what comes next. No I/O: the rules of the queue in one place.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use palletjack_image::{Descriptor, Digest, Reference};

use super::Wanted;
use super::outcome::{Pulled, Reason};

/// What an image consists of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// What the reference means: an index or one image's manifest. In the store.
    pub(super) target: Descriptor,
    /// The manifest of the platform. In the store.
    pub(super) manifest: Descriptor,
    /// The layers; the config is in the store.
    pub(super) layers: Vec<Descriptor>,
    /// Who handed out the target.
    pub(super) upstream: String,
}

/// One transfer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// An image whose repository should have it.
    pub(super) source: Reference,
}

/// What one image waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is not known yet what it consists of.
    Resolving,
    /// For this many layers.
    Fetching(usize),
    /// For its turn to be published.
    Ready,
    /// For its name.
    Publishing,
    /// For nothing any more.
    Settled(Result<Box<Pulled>, Reason>),
}

#[derive(Debug)]
pub(super) struct ImageState {
    pub(super) wanted: Wanted,
    pub(super) stage: Stage,
    pub(super) plan: Option<Plan>,
    /// Bytes fetched for it.
    pub(super) fetched: u64,
}

#[derive(Debug)]
enum BlobStage {
    /// In the queue, in flight or parked.
    Open,
    Done,
    Failed(Reason),
}

#[derive(Debug)]
struct BlobState {
    size: u64,
    stage: BlobStage,
    /// The images that wait for it, the first to ask first.
    images: Vec<usize>,
    /// Repositories that should have it, and how many of them have been tried.
    sources: Vec<Reference>,
    tried: usize,
}

/// Order of the queue: what was put back comes last; of the rest the largest first; of equals the first to come.
type Place = (Reverse<bool>, u64, Reverse<usize>);

/// The state of one pull.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) images: Vec<ImageState>,
    blobs: HashMap<Digest, BlobState>,
    queue: BinaryHeap<(Place, Digest)>,
    parked: Vec<Digest>,
    count: usize,
}

impl Board {
    /// A board of these images, each reference once: whoever asks for it again is noted beside the first.
    pub(super) fn new(wanted: Vec<Wanted>) -> Self {
        let mut board = Self::default();
        let mut places: HashMap<Reference, usize> = HashMap::new();
        for wanted in wanted {
            if let Some(place) = places.get(&wanted.reference) {
                let first = &mut board.images[*place].wanted;
                for name in wanted.wanted_by {
                    if !first.wanted_by.contains(&name) {
                        first.wanted_by.push(name);
                    }
                }
                continue;
            }
            places.insert(wanted.reference.clone(), board.images.len());
            board.images.push(ImageState { wanted, stage: Stage::Resolving, plan: None, fetched: 0 });
        }
        board
    }

    /// Notes what an image consists of and queues what nobody asked for before. An error is the image's.
    pub(super) fn plan(&mut self, image: usize, plan: Plan) -> Result<(), Reason> {
        let mut seen = HashSet::new();
        let mut waiting = 0;
        for layer in &plan.layers {
            if let Some(blob) = self.blobs.get(&layer.digest) {
                if blob.size != layer.size {
                    let (digest, size, other) = (layer.digest, layer.size, blob.size);
                    return Err(Reason::SizeConflict { digest, size, other });
                }
                if let BlobStage::Failed(reason) = &blob.stage {
                    return Err(reason.clone());
                }
            }
        }
        let source = &self.images[image].wanted.reference;
        for layer in plan.layers.iter().filter(|layer| seen.insert(layer.digest)) {
            let blob = self.blobs.entry(layer.digest).or_insert_with(|| {
                self.count += 1;
                self.queue.push(((Reverse(false), layer.size, Reverse(self.count)), layer.digest));
                BlobState {
                    size: layer.size,
                    stage: BlobStage::Open,
                    images: Vec::new(),
                    sources: Vec::new(),
                    tried: 0,
                }
            });
            if !blob.sources.iter().any(|known| known.name() == source.name()) {
                blob.sources.push(source.clone());
            }
            if matches!(blob.stage, BlobStage::Open) {
                blob.images.push(image);
                waiting += 1;
            }
        }
        let state = &mut self.images[image];
        state.plan = Some(plan);
        state.stage = if waiting == 0 { Stage::Ready } else { Stage::Fetching(waiting) };
        Ok(())
    }

    /// Takes the next blob off the queue. One that only failed images need is not fetched.
    pub(super) fn next(&mut self) -> Option<Due> {
        while let Some((_, digest)) = self.queue.pop() {
            let blob = self.blobs.get(&digest)?;
            let needed =
                blob.images.iter().any(|image| matches!(self.images[*image].stage, Stage::Fetching(_)));
            match blob.sources.get(blob.tried) {
                Some(source) if needed => {
                    return Some(Due { digest, size: blob.size, source: source.clone() });
                }
                // Should another image ask for it later, it is queued as if for the first time.
                _ => {
                    self.blobs.remove(&digest);
                }
            }
        }
        None
    }

    /// A blob is in the cache.
    pub(super) fn blob_done(&mut self, digest: &Digest, fetched: u64) {
        let Some(blob) = self.blobs.get_mut(digest) else { return };
        blob.stage = BlobStage::Done;
        let images = std::mem::take(&mut blob.images);
        if let Some(first) = images.first() {
            self.images[*first].fetched += fetched;
        }
        for image in images {
            let stage = &mut self.images[image].stage;
            if let Stage::Fetching(waiting) = stage {
                *waiting -= 1;
                if *waiting == 0 {
                    *stage = Stage::Ready;
                }
            }
        }
    }

    /// A blob could not be had from one repository. Where another should have it, it is queued again; else the images
    /// that need it are returned: they fail with it.
    pub(super) fn blob_failed(&mut self, digest: &Digest, reason: &Reason) -> Vec<usize> {
        let Some(blob) = self.blobs.get_mut(digest) else { return Vec::new() };
        blob.tried += 1;
        if matches!(reason, Reason::Remote(_)) && blob.tried < blob.sources.len() {
            self.count += 1;
            self.queue.push(((Reverse(true), blob.size, Reverse(self.count)), *digest));
            return Vec::new();
        }
        blob.stage = BlobStage::Failed(reason.clone());
        let images = std::mem::take(&mut blob.images);
        images.into_iter().filter(|image| matches!(self.images[*image].stage, Stage::Fetching(_))).collect()
    }

    /// Somebody else is fetching a blob: it is put aside.
    pub(super) fn park(&mut self, digest: Digest) {
        self.parked.push(digest);
    }

    /// Puts everything that was put aside at the end of the queue.
    pub(super) fn unpark(&mut self) {
        for digest in std::mem::take(&mut self.parked) {
            if let Some(blob) = self.blobs.get(&digest) {
                self.count += 1;
                self.queue.push(((Reverse(true), blob.size, Reverse(self.count)), digest));
            }
        }
    }

    /// The next image that may be published. Images that share a tag are published in the order in which they were
    /// asked for, because the bare tag belongs to the one published last.
    pub(super) fn publishable(&self) -> Option<usize> {
        let is_settled = |image: &ImageState| matches!(image.stage, Stage::Settled(_));
        self.images.iter().enumerate().position(|(at, image)| {
            let tag = image.wanted.reference.tagged();
            matches!(image.stage, Stage::Ready)
                && self.images[..at]
                    .iter()
                    .filter(|earlier| tag.is_some() && earlier.wanted.reference.tagged() == tag)
                    .all(is_settled)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(reference: &str) -> Wanted {
        Wanted {
            reference: reference.parse().unwrap(),
            requested: reference.to_owned(),
            wanted_by: vec![format!("deployment of {reference}")],
        }
    }

    fn layer(name: &str, size: u64) -> Descriptor {
        Descriptor::new("layer", Digest::of(name.as_bytes()), size)
    }

    fn plan(layers: &[Descriptor]) -> Plan {
        let manifest = layer("manifest", 1);
        Plan { target: manifest.clone(), manifest, layers: layers.to_vec(), upstream: String::new() }
    }

    fn order(board: &mut Board) -> Vec<u64> {
        std::iter::from_fn(|| board.next()).map(|due| due.size).collect()
    }

    #[test]
    fn each_digest_is_fetched_once_and_the_largest_first() {
        let mut board = Board::new(vec![wanted("a:1"), wanted("b:1")]);
        board.plan(0, plan(&[layer("x", 5), layer("shared", 7), layer("shared", 7)])).unwrap();
        board.plan(1, plan(&[layer("shared", 7), layer("y", 9)])).unwrap();
        assert_eq!(order(&mut board), [9, 7, 5]);
        board.blob_done(&Digest::of(b"shared"), 7);
        board.blob_done(&Digest::of(b"x"), 5);
        assert_eq!(board.publishable(), Some(0));
        assert_eq!((board.images[0].fetched, board.images[1].fetched), (12, 0));
        board.blob_done(&Digest::of(b"y"), 9);
        assert!(matches!(board.images[1].stage, Stage::Ready));
    }

    #[test]
    fn a_reference_given_twice_is_one_image_with_both_who_want_it() {
        let mut second = wanted("docker.io/library/a:1");
        second.wanted_by = vec!["other".to_owned(), "deployment of a:1".to_owned()];
        let board = Board::new(vec![wanted("a:1"), second]);
        assert_eq!(board.images.len(), 1);
        assert_eq!(board.images[0].wanted.wanted_by, ["deployment of a:1", "other"]);
    }

    #[test]
    fn a_blob_that_fails_is_sought_in_every_repository_that_names_it() {
        let mut board = Board::new(vec![wanted("a:1"), wanted("a:2"), wanted("b:1")]);
        for image in 0..3 {
            board.plan(image, plan(&[layer("shared", 7)])).unwrap();
        }
        let digest = Digest::of(b"shared");
        let failure = Reason::Remote(crate::RemoteError::new("x", Vec::new()));
        assert_eq!(board.next().unwrap().source.path(), "library/a");
        assert!(board.blob_failed(&digest, &failure).is_empty());
        assert_eq!(board.next().unwrap().source.path(), "library/b");
        assert_eq!(board.blob_failed(&digest, &failure), [0, 1, 2]);
        assert_eq!(board.next(), None);
    }

    #[test]
    fn whoever_asks_for_a_failed_blob_later_fails_too() {
        let mut board = Board::new(vec![wanted("a:1"), wanted("b:1")]);
        board.plan(0, plan(&[layer("x", 7)])).unwrap();
        board.next().unwrap();
        board.blob_failed(&Digest::of(b"x"), &Reason::Cancelled);
        assert!(matches!(board.plan(1, plan(&[layer("x", 7)])), Err(Reason::Cancelled)));
    }

    #[test]
    fn what_only_failed_images_need_is_not_fetched_until_somebody_else_asks() {
        let mut board = Board::new(vec![wanted("a:1"), wanted("b:1")]);
        board.plan(0, plan(&[layer("x", 7), layer("y", 5)])).unwrap();
        assert_eq!(board.next().unwrap().size, 7);
        board.blob_failed(&Digest::of(b"x"), &Reason::Cancelled);
        board.images[0].stage = Stage::Settled(Err(Reason::Cancelled));
        assert_eq!(board.next(), None);
        board.plan(1, plan(&[layer("y", 5)])).unwrap();
        assert_eq!(order(&mut board), [5]);
    }

    #[test]
    fn a_busy_blob_goes_to_the_end() {
        let mut board = Board::new(vec![wanted("a:1")]);
        board.plan(0, plan(&[layer("x", 9), layer("y", 5), layer("z", 3)])).unwrap();
        let due = board.next().unwrap();
        board.park(due.digest);
        board.unpark();
        assert_eq!(order(&mut board), [5, 3, 9]);
    }

    #[test]
    fn two_sizes_of_one_digest_are_an_error_of_the_second() {
        let mut board = Board::new(vec![wanted("a:1"), wanted("b:1")]);
        board.plan(0, plan(&[layer("x", 9)])).unwrap();
        assert!(matches!(
            board.plan(1, plan(&[layer("x", 8)])),
            Err(Reason::SizeConflict { size: 8, other: 9, .. })
        ));
    }

    #[test]
    fn two_pins_of_a_tag_are_published_in_the_order_given() {
        let pin = |content: &str| format!("a:1@{}", Digest::of(content.as_bytes()));
        let mut board = Board::new(vec![wanted(&pin("old")), wanted(&pin("new")), wanted("b:1")]);
        board.plan(0, plan(&[layer("x", 9)])).unwrap();
        board.plan(1, plan(&[])).unwrap();
        assert_eq!(board.publishable(), None);
        board.plan(2, plan(&[])).unwrap();
        assert_eq!(board.publishable(), Some(2));
        board.images[2].stage = Stage::Publishing;
        board.images[0].stage = Stage::Settled(Err(Reason::Cancelled));
        assert_eq!(board.publishable(), Some(1));
    }
}
