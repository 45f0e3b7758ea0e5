//! Which image is sent next, and how many at once. Pure.

use std::collections::HashMap;

use palletjack_image::Digest;

use crate::capabilities::Capabilities;

/// An image that waits for its turn or is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// What the image is: two references of one image are never sent at once, the second mostly finds it there.
    pub(crate) image: Digest,
    /// What the engine lacks of it, by the engine's names, with the bytes of each.
    pub(crate) missing: Vec<(Digest, u64)>,
}

impl Candidate {
    fn bytes(&self) -> u64 {
        self.missing.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Whether sending both at once would send, and unpack, something twice.
    fn clashes(&self, other: &Self) -> bool {
        self.image == other.image
            || self.missing.iter().any(|(key, _)| other.missing.iter().any(|(theirs, _)| theirs == key))
    }
}

/// Which of those that wait is to be sent next to those in flight; `None` where all have to wait for these.
///
/// First what most of the others can build on. Among the images that bring the same base the smallest goes first,
/// because its siblings wait for it; among those that nobody waits for the largest, so that no large one is left alone
/// at the end.
pub(crate) fn next(waiting: &[Candidate], in_flight: &[Candidate]) -> Option<usize> {
    let mut wanted_by: HashMap<Digest, u64> = HashMap::new();
    for (key, _) in waiting.iter().flat_map(|candidate| &candidate.missing) {
        *wanted_by.entry(*key).or_default() += 1;
    }
    let shared = |candidate: &Candidate| {
        candidate.missing.iter().fold(0_u64, |sum, (key, bytes)| {
            let others = wanted_by.get(key).copied().unwrap_or(1).saturating_sub(1);
            sum.saturating_add(bytes.saturating_mul(others))
        })
    };
    let rank = |candidate: &Candidate| match (shared(candidate), candidate.bytes()) {
        (0, bytes) => (0, bytes),
        (shared, bytes) => (shared, u64::MAX - bytes),
    };
    waiting
        .iter()
        .enumerate()
        .filter(|(_, candidate)| !in_flight.iter().any(|other| other.clashes(candidate)))
        // Of equals the first of the list.
        .max_by_key(|(index, candidate)| (rank(candidate), std::cmp::Reverse(*index)))
        .map(|(index, _)| index)
}

/// How many requests an engine gains from at once: it unpacks the layers of one image one after the other, on one
/// core, and needs some tens of megabytes for each image.
pub(crate) fn default_parallel(capabilities: &Capabilities) -> usize {
    const GIB: u64 = 1 << 30;
    let by_memory = match capabilities.memory {
        // What is sold as 1 GB is less than a GiB to the system.
        Some(bytes) if bytes < GIB * 3 / 4 => 1,
        Some(bytes) if bytes < GIB * 3 => 2,
        Some(_) => 4,
        None => 2,
    };
    capabilities.cpus.clamp(1, by_memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `b30` is a layer `b` of 30 bytes.
    fn candidate(image: &str, layers: &[&str]) -> Candidate {
        let layer = |text: &&str| (Digest::of(&text.as_bytes()[..1]), text[1..].parse().unwrap());
        Candidate { image: Digest::of(image.as_bytes()), missing: layers.iter().map(layer).collect() }
    }

    /// The order in which all are sent when each is done before the next but `parallel - 1` begins.
    fn rounds(mut waiting: Vec<(&str, Candidate)>, parallel: usize) -> Vec<Vec<&str>> {
        let mut rounds = Vec::new();
        while !waiting.is_empty() {
            let (mut names, mut in_flight) = (Vec::new(), Vec::new());
            while in_flight.len() < parallel {
                let candidates: Vec<Candidate> = waiting.iter().map(|(_, c)| c.clone()).collect();
                let Some(index) = next(&candidates, &in_flight) else { break };
                let (name, candidate) = waiting.remove(index);
                names.push(name);
                in_flight.push(candidate);
            }
            assert!(!names.is_empty(), "nothing can be sent though nothing is in flight");
            for (_, candidate) in &mut waiting {
                candidate
                    .missing
                    .retain(|(key, _)| !in_flight.iter().any(|c| c.missing.iter().any(|(k, _)| k == key)));
            }
            rounds.push(names);
        }
        rounds
    }

    #[test]
    fn the_base_comes_first_and_its_siblings_follow_together() {
        let images = || {
            vec![
                ("large", candidate("large", &["b30", "x90"])),
                ("small", candidate("small", &["b30", "y1"])),
                ("middle", candidate("middle", &["b30", "z20"])),
                ("alone", candidate("alone", &["q50"])),
                ("tiny", candidate("tiny", &["t1"])),
            ]
        };
        assert_eq!(rounds(images(), 1), [["small"], ["large"], ["alone"], ["middle"], ["tiny"]]);
        assert_eq!(rounds(images(), 2), [vec!["small", "alone"], vec!["large", "middle"], vec!["tiny"]]);
        assert_eq!(rounds(images(), 4), [vec!["small", "alone", "tiny"], vec!["large", "middle"]]);
    }

    #[test]
    fn the_base_that_most_wait_for_comes_first() {
        let images = vec![
            ("one", candidate("one", &["a100"])),
            ("two", candidate("two", &["b10", "c1"])),
            ("three", candidate("three", &["b10", "d2"])),
            ("four", candidate("four", &["e20", "f1"])),
            ("five", candidate("five", &["e20", "g1"])),
        ];
        assert_eq!(rounds(images, 1), [["four"], ["two"], ["one"], ["three"], ["five"]]);
    }

    #[test]
    fn two_references_of_one_image_are_not_sent_at_once() {
        let images = vec![
            ("pinned", candidate("same", &[])),
            ("tagged", candidate("same", &[])),
            ("other", candidate("other", &[])),
        ];
        assert_eq!(rounds(images, 3), [vec!["pinned", "other"], vec!["tagged"]]);
        assert_eq!(next(&[], &[]), None);
    }

    #[test]
    fn cores_and_memory_say_how_many() {
        let mib = |mib: u64| Some(mib << 20);
        for (cpus, memory, want) in [
            (0, mib(900), 1),
            (1, mib(8000), 1),
            (4, mib(430), 1),
            (4, mib(900), 2),
            (4, mib(3800), 4),
            (16, mib(64_000), 4),
            (2, mib(64_000), 2),
            (4, None, 2),
        ] {
            let capabilities = Capabilities { cpus, memory, ..Capabilities::of_nothing() };
            assert_eq!(default_parallel(&capabilities), want, "{cpus} {memory:?}");
        }
    }
}
