//! Which cells are run.

use std::collections::BTreeSet;
use std::env;

use crate::cell::{Cell, EngineKind, Form, Host, Layers, State};

/// `all`; `sample`, which is the default; or words of which a cell's name has each.
const VARIABLE: &str = "PALLETJACK_CELLS";

/// Engines of the sample: those that tests have everywhere.
const SAMPLED: [EngineKind; 3] = [EngineKind::Docker20, EngineKind::Docker28Containerd, EngineKind::Podman];

pub(crate) struct Selected {
    pub(crate) cells: Vec<Cell>,
    /// Of how many.
    pub(crate) of: usize,
    /// Which selection, for people.
    pub(crate) what: String,
    /// Whether it is the one that needs no variable.
    pub(crate) is_sample: bool,
}

pub(crate) fn of(engine: EngineKind) -> Selected {
    let all = Cell::all(engine);
    let (of, wanted) = (all.len(), env::var(VARIABLE).unwrap_or_default());
    let is_sample = matches!(wanted.as_str(), "" | "sample");
    let (cells, what) = match wanted.as_str() {
        "all" => (all, "all".to_owned()),
        _ if is_sample => {
            let cells = sample().into_iter().filter(|cell| cell.engine == engine).collect();
            (cells, format!("a pairwise sample; {VARIABLE}=all runs all"))
        }
        words => {
            let has_all = |cell: &Cell| words.split_whitespace().all(|word| cell.to_string().contains(word));
            (all.into_iter().filter(has_all).collect(), format!("those of {words:?}"))
        }
    };
    Selected { cells, of, what, is_sample }
}

/// Cells in which every two values that some cell has together are together once, and two pins on each engine.
fn sample() -> Vec<Cell> {
    let all: Vec<Cell> = SAMPLED.into_iter().flat_map(Cell::all).collect();
    let is_two_pins = |cell: &&Cell| {
        (cell.form, cell.state, cell.layers) == (Form::TagDigest, State::TwoPinsOldFirst, Layers::Gzip)
            && (cell.host == Host::Hub || !cell.engine.is_graph())
    };
    let mut sample: Vec<Cell> = all.iter().filter(is_two_pins).copied().collect();
    let mut open: BTreeSet<Pair> = all.iter().copied().flat_map(pairs).collect();
    open.retain(|pair| !sample.iter().any(|cell| pairs(*cell).contains(pair)));
    // The one that brings most, the first of several: the same sample in every run.
    while !open.is_empty() {
        let brings = |cell: &Cell| pairs(*cell).into_iter().filter(|pair| open.contains(pair)).count();
        let Some(best) = all.iter().rev().max_by_key(|cell| brings(cell)).copied() else { break };
        open.retain(|pair| !pairs(best).contains(pair));
        sample.push(best);
    }
    sample
}

/// Two dimensions and a value of each.
type Pair = [(usize, usize); 2];

fn pairs(cell: Cell) -> Vec<Pair> {
    let values = [
        cell.engine as usize,
        cell.form as usize,
        cell.state as usize,
        cell.layers as usize,
        cell.host as usize,
    ];
    let values: Vec<(usize, usize)> = values.into_iter().enumerate().collect();
    let with_later = |(at, first): (usize, &(usize, usize))| {
        let first = *first;
        values[at + 1..].iter().map(move |second| [first, *second]).collect::<Vec<Pair>>()
    };
    values.iter().enumerate().flat_map(with_later).collect()
}

#[test]
fn the_sample_is_small_and_has_every_pair() {
    let sample = sample();
    let of = |cells: &[Cell]| cells.iter().copied().flat_map(pairs).collect::<BTreeSet<Pair>>();
    let all: Vec<Cell> = SAMPLED.into_iter().flat_map(Cell::all).collect();
    assert_eq!(of(&sample), of(&all));
    assert!(sample.len() < all.len() / 5, "{} of {}", sample.len(), all.len());
    for engine in SAMPLED {
        let has_two_pins =
            |cell: &Cell| cell.engine == engine && cell.state.has_two_pins() && cell.form == Form::TagDigest;
        assert!(sample.iter().any(has_two_pins), "{engine:?}");
    }
}
