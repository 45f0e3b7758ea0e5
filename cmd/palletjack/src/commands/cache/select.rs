//! Finding images of the cache by what a person writes.

use palletjack_image::{Platform, Reference};
use palletjack_store::{Entry, Snapshot};

use crate::error::{CommandError, Exit};

/// The images that `references` mean: each exactly, and a `name:tag` without digest every pin of it as well.
///
/// # Errors
/// A text that is no reference, or one that means no image: exit code 3, all such texts in one message.
pub(crate) fn select(
    snapshot: &Snapshot,
    references: &[String],
    platform: Option<&Platform>,
) -> Result<Vec<Entry>, CommandError> {
    let mut found: Vec<Entry> = Vec::new();
    let mut missing = Vec::new();
    for text in references {
        let reference: Reference = text
            .parse()
            .and_then(Reference::specific)
            .map_err(|error| CommandError::new(Exit::Usage, error))?;
        let of_platform = |entry: &&Entry| platform.is_none_or(|platform| entry.platform == *platform);
        let before = found.len();
        for entry in snapshot.entries().iter().filter(of_platform).filter(|entry| means(&reference, entry)) {
            if !found.contains(entry) {
                found.push(entry.clone());
            }
        }
        let known = found[..before].iter().any(|entry| means(&reference, entry));
        if found.len() == before && !known {
            missing.push(text.as_str());
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let platform = platform.map_or_else(String::new, |platform| format!(" for {platform}"));
    let error = anyhow::anyhow!("not in the cache{platform}: {}", missing.join(", "));
    Err(CommandError::new(Exit::Missing, error).hint("`palletjack cache ls-img` lists what is there"))
}

fn means(reference: &Reference, entry: &Entry) -> bool {
    entry.reference == *reference
        || (reference.digest().is_none() && entry.reference.clone().without_digest() == *reference)
}
