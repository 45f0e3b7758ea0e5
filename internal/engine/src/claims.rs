//! Who of several images gets a tag that all of them want.

use std::collections::HashMap;

use palletjack_image::Digest;
use palletjack_store::Image;

/// For each image of a list, whether it gets its bare `name:tag`.
pub(crate) fn tag_holders(images: &[Image]) -> Vec<bool> {
    let claims: Vec<Claim> = images.iter().map(Claim::of).collect();
    holders(&claims)
}

/// What decides who gets a tag that several images want.
#[derive(Debug, Clone)]
struct Claim {
    tag: Option<String>,
    target: Digest,
    /// Without a digest in its reference it can be found by the tag alone.
    only_tag: bool,
    owns_tag: bool,
}

impl Claim {
    fn of(image: &Image) -> Self {
        let reference = &image.entry.reference;
        Self {
            tag: reference.tagged(),
            target: image.entry.target.digest,
            only_tag: reference.digest().is_none(),
            owns_tag: image.entry.owns_tag,
        }
    }
}

/// Who gets its tag. Of several images under one tag that is the first that has no other name, else the first that
/// owns it in the cache, else the last; and whoever means the same content.
fn holders(claims: &[Claim]) -> Vec<bool> {
    let mut holders: HashMap<&str, &Claim> = HashMap::new();
    let rank = |claim: &Claim| (claim.only_tag, claim.owns_tag);
    for claim in claims {
        let Some(tag) = claim.tag.as_deref() else { continue };
        let holder = holders.entry(tag).or_insert(claim);
        if rank(claim) > rank(holder) || rank(claim) == (false, false) && rank(holder) == (false, false) {
            *holder = claim;
        }
    }
    let holds = |claim: &Claim| {
        claim
            .tag
            .as_deref()
            .and_then(|tag| holders.get(tag))
            .is_some_and(|holder| holder.target == claim.target)
    };
    claims.iter().map(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_to_one_content() {
        let claim = |tag: &str, target: &str, only_tag, owns_tag| Claim {
            tag: (!tag.is_empty()).then(|| tag.to_owned()),
            target: Digest::of(target.as_bytes()),
            only_tag,
            owns_tag,
        };
        let pinned = |tag: &str, target: &str, owns| claim(tag, target, false, owns);
        let bare = |tag: &str, target: &str| claim(tag, target, true, true);
        for (claims, want) in [
            (vec![pinned("a:1", "x", true), pinned("b:1", "y", false)], vec![true, true]),
            (vec![pinned("a:1", "x", true), pinned("a:1", "y", false)], vec![true, false]),
            (
                vec![pinned("a:1", "x", false), pinned("a:1", "y", true), pinned("a:1", "z", false)],
                vec![false, true, false],
            ),
            (vec![pinned("a:1", "x", false), pinned("a:1", "y", false)], vec![false, true]),
            // Two platforms of one tag, each its platform's owner.
            (vec![bare("a:1", "x"), bare("a:1", "y")], vec![true, false]),
            // One deployment pins it and another does not: only the pin has a second name to be found by.
            (vec![pinned("a:1", "x", true), bare("a:1", "y")], vec![false, true]),
            (vec![bare("a:1", "y"), pinned("a:1", "x", true)], vec![true, false]),
            // They mean the same.
            (vec![pinned("a:1", "x", true), bare("a:1", "x")], vec![true, true]),
            (vec![pinned("", "x", false), pinned("", "y", true)], vec![false, false]),
        ] {
            assert_eq!(holders(&claims), want, "{claims:?}");
        }
    }
}
