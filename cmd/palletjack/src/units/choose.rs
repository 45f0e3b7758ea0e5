//! Which units a system needs.

use super::Kind;

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// The engine is Docker with a graph driver, which keeps no digests of what it loads.
    pub(crate) graph_driver: bool,
    /// Some image is referred to by its digest.
    pub(crate) pinned: bool,
}

/// The units for it, in the order of a boot. *fill* is for cards that ship without a cache, which only their maker knows.
pub(crate) fn choose(need: Need) -> Vec<Kind> {
    if need.graph_driver && need.pinned { vec![Kind::Pins, Kind::Load] } else { vec![Kind::Load] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_for_engines_that_do_not_keep_them() {
        let load = [Kind::Load];
        assert_eq!(choose(Need { graph_driver: true, pinned: true }), [Kind::Pins, Kind::Load]);
        assert_eq!(choose(Need { graph_driver: true, pinned: false }), load);
        assert_eq!(choose(Need { graph_driver: false, pinned: true }), load);
    }
}
