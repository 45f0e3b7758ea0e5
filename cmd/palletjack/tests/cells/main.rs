//! The matrix of loads: engines, forms of a reference, what the engine has already, how layers are packed.
//!
//! ```text
//!   cell      what varies, and what cannot be
//!   select    all of them, a pairwise sample, or those of a name       PALLETJACK_CELLS
//!   images    what is in a cell's registry
//!   engine    real engines behind one face
//!   play      a cell: prepare, load by the program, use the reference for real
//!   table     what came of them
//! ```
//!
//! One engine serves all of its cells: each has names and layers of its own, so it finds the engine as if it were new.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(dead_code, reason = "the machine is made for other tests as well")]

mod cell;
mod engine;
mod images;
#[path = "../it/machine.rs"]
mod machine;
mod play;
mod select;
mod table;

use cell::EngineKind;
use palletjack_testkit::require_real;

fn cells_of(kind: EngineKind) {
    let selected = select::of(kind);
    table::announce(kind, &selected);
    if selected.cells.is_empty() {
        return;
    }
    require_real!(kind.part());
    let results = play::all(kind, &selected.cells);
    table::show(kind, &results);
}

#[test]
fn docker_20_with_the_graph_driver() {
    cells_of(EngineKind::Docker20);
}

#[test]
fn docker_28_with_the_containerd_store() {
    cells_of(EngineKind::Docker28Containerd);
}

#[test]
fn docker_28_with_the_graph_driver() {
    cells_of(EngineKind::Docker28Graph);
}

#[test]
fn docker_29_with_the_containerd_store() {
    cells_of(EngineKind::Docker29Containerd);
}

#[test]
fn docker_29_with_the_graph_driver() {
    cells_of(EngineKind::Docker29Graph);
}

#[test]
fn podman_4() {
    cells_of(EngineKind::Podman);
}
