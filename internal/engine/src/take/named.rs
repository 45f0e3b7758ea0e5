//! What an engine has a name for.

use std::collections::BTreeSet;

use palletjack_image::Reference;

use crate::connect::Engine;
use crate::error::EngineError;
use crate::repin::is_keeping_tag;

impl Engine {
    /// A reference for every image that has a name: each `name:tag`, and `name@digest` where that is all it has.
    pub async fn named(&self) -> Result<Vec<Reference>, EngineError> {
        let listing = self.list(false).await?;
        let names = listing.names().flat_map(|names| chosen(names.map(str::to_owned)));
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// Of one image's names, those that say most.
fn chosen(names: impl Iterator<Item = String>) -> Vec<Reference> {
    // What has no name is listed as `<none>`, which is no reference.
    let names: Vec<Reference> = names.filter_map(|name| name.parse().ok()).collect();
    let (mut tagged, digests): (Vec<Reference>, Vec<Reference>) =
        names.into_iter().partition(|reference| reference.tag().is_some());
    // Tags of ours only keep an image from being pruned.
    tagged.retain(|reference| !reference.tag().is_some_and(is_keeping_tag));
    let is_extra = |digest: &Reference| !tagged.iter().any(|tag| tag.name() == digest.name());
    let extra: Vec<Reference> =
        digests.into_iter().filter(|one| one.digest().is_some() && is_extra(one)).collect();
    tagged.extend(extra);
    tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_more_than_a_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = |name: &str| format!("{name}@sha256:{hex}");
        for (names, want) in [
            (vec!["caddy:2".to_owned(), digest("caddy")], vec!["caddy:2".to_owned()]),
            (
                vec!["caddy:2".to_owned(), digest("ghcr.io/acme/caddy")],
                vec!["caddy:2".to_owned(), digest("ghcr.io/acme/caddy")],
            ),
            (vec!["<none>:<none>".to_owned(), digest("caddy")], vec![digest("caddy")]),
            (vec!["caddy:palletjack-0123456789ab".to_owned(), digest("caddy")], vec![digest("caddy")]),
            (vec!["caddy:palletjack-test".to_owned()], vec!["caddy:palletjack-test".to_owned()]),
            (vec!["<none>:<none>".to_owned(), "<none>@<none>".to_owned()], vec![]),
        ] {
            let chosen: Vec<String> = chosen(names.into_iter()).iter().map(Reference::familiar).collect();
            assert_eq!(chosen, want);
        }
    }
}
