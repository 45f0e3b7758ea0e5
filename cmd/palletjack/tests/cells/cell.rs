//! What varies between loads.

use std::fmt;

use palletjack_testkit::image::Compression;
use palletjack_testkit::real::Part;

/// An engine with one image store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EngineKind {
    Docker20,
    Docker28Containerd,
    Docker28Graph,
    Docker29Containerd,
    Docker29Graph,
    Podman,
}

impl EngineKind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Docker20,
        Self::Docker28Containerd,
        Self::Docker28Graph,
        Self::Docker29Containerd,
        Self::Docker29Graph,
        Self::Podman,
    ];

    pub(crate) fn part(self) -> Part {
        match self {
            Self::Docker20 => Part::Docker20,
            Self::Docker28Containerd | Self::Docker28Graph => Part::Docker28,
            Self::Docker29Containerd | Self::Docker29Graph => Part::Docker29,
            Self::Podman => Part::Podman,
        }
    }

    /// Whether it keeps no digests of what it loads.
    pub(crate) fn is_graph(self) -> bool {
        matches!(self, Self::Docker20 | Self::Docker28Graph | Self::Docker29Graph)
    }

    /// Whether it reads layers that are compressed with Zstandard.
    pub(crate) fn reads_zstd(self) -> bool {
        self != Self::Docker20
    }
}

/// How a pallet names the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Tag,
    TagDigest,
    Digest,
}

/// What the engine has before the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Absent,
    Present,
    /// Another image has brought the lower layer.
    PartlyPresent,
    /// The tag means another image.
    StaleTag,
    /// Two images that were published under one tag, the older one loaded first; then a prune.
    TwoPinsOldFirst,
    /// The same in the other order.
    TwoPinsNewFirst,
}

impl State {
    pub(crate) fn has_two_pins(self) -> bool {
        matches!(self, Self::TwoPinsOldFirst | Self::TwoPinsNewFirst)
    }
}

/// How its layers are packed in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layers {
    Gzip,
    Zstd,
    Plain,
}

impl Layers {
    pub(crate) fn compression(self) -> Compression {
        match self {
            Self::Gzip => Compression::Gzip,
            Self::Zstd => Compression::Zstd,
            Self::Plain => Compression::None,
        }
    }
}

/// Whose name it has. An engine that keeps no digests has a mirror for Docker Hub's names alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Hub,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) engine: EngineKind,
    pub(crate) form: Form,
    pub(crate) state: State,
    pub(crate) layers: Layers,
    pub(crate) host: Host,
}

pub(crate) const FORMS: [Form; 3] = [Form::Tag, Form::TagDigest, Form::Digest];
pub(crate) const STATES: [State; 6] = [
    State::Absent,
    State::Present,
    State::PartlyPresent,
    State::StaleTag,
    State::TwoPinsOldFirst,
    State::TwoPinsNewFirst,
];
pub(crate) const LAYERS: [Layers; 3] = [Layers::Gzip, Layers::Zstd, Layers::Plain];
pub(crate) const HOSTS: [Host; 2] = [Host::Hub, Host::Other];

/// Why a combination is none of the matrix.
pub(crate) const RULES: [&str; 2] = [
    "a reference without a tag has none that could be stale",
    "the host decides only whether a graph driver's pin has a way to resolve: elsewhere the two hosts take turns",
];

impl Cell {
    /// All cells of an engine, in a fixed order.
    pub(crate) fn all(engine: EngineKind) -> Vec<Self> {
        let mut cells = Vec::new();
        for form in FORMS {
            for (s, state) in STATES.into_iter().enumerate() {
                for (l, layers) in LAYERS.into_iter().enumerate() {
                    for (h, host) in HOSTS.into_iter().enumerate() {
                        let host_matters = engine.is_graph() && form != Form::Tag;
                        let has_turn = (s + l + h).is_multiple_of(2);
                        let is_possible = (form, state) != (Form::Digest, State::StaleTag);
                        if is_possible && (host_matters || has_turn) {
                            cells.push(Self { engine, form, state, layers, host });
                        }
                    }
                }
            }
        }
        cells
    }

    /// Whether the reference runs as it is written, after a load by `load-img` without flags.
    pub(crate) fn resolves(self) -> bool {
        !self.engine.is_graph() || self.form == Form::Tag || self.host == Host::Hub
    }

    /// Whether the daemon has to pull from us for that.
    pub(crate) fn is_repinned(self) -> bool {
        self.engine.is_graph() && self.form != Form::Tag && self.host == Host::Hub
    }

    /// Whether layers are packed anew on the way.
    pub(crate) fn is_recoded(self) -> bool {
        self.layers == Layers::Zstd && !self.engine.reads_zstd()
    }

    /// A word that no other cell of this engine has, fit for a repository's name.
    pub(crate) fn slug(self) -> String {
        format!("{:?}-{:?}-{:?}-{:?}", self.form, self.state, self.layers, self.host).to_lowercase()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:?} {:?} {:?}", self.engine, self.form, self.state, self.layers, self.host)
    }
}

#[test]
fn an_engine_has_every_possible_combination() {
    for engine in EngineKind::ALL {
        let cells = Cell::all(engine);
        // 18 by tag, 18 by tag and digest, 15 by digest; on a graph driver each pinned one with both hosts.
        assert_eq!(cells.len(), if engine.is_graph() { 18 + 2 * (18 + 15) } else { 18 + 18 + 15 });
        for host in HOSTS {
            assert!(cells.iter().filter(|cell| cell.host == host).count() > 20);
        }
    }
}
