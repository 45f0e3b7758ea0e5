//! What came of the cells, as text that a test's harness does not swallow.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use crate::cell::{Cell, EngineKind, FORMS, HOSTS, LAYERS, RULES, STATES};
use crate::play::{Played, Results};
use crate::select::Selected;

/// What lines begin with that a summary of many tests repeats.
const MARK: &str = "== ";

/// To standard error itself: the print macros are captured while a test passes.
fn say(text: &str) {
    let marked: Vec<String> = text.lines().map(|line| format!("{MARK}{line}\n")).collect();
    let _ = io::stderr().write_all(marked.concat().as_bytes());
}

pub(crate) fn announce(kind: EngineKind, selected: &Selected) {
    let (cells, of) = (selected.cells.len(), selected.of);
    say(&format!("cells of {kind:?}: {cells} of {of} ({})", selected.what));
}

/// The table. Fails when a cell did.
pub(crate) fn show(kind: EngineKind, results: &Results) {
    let Results { cells, version } = results;
    let took: Duration = cells.iter().map(|played| played.took).sum();
    let wrong: Vec<&Played> = cells.iter().filter(|played| played.result.is_err()).collect();
    let mut text = format!(
        "{kind:?} ({version}): {} cells, {} failed, {:.0} s\n",
        cells.len(),
        wrong.len(),
        took.as_secs_f32()
    );
    if cells.len() == Cell::all(kind).len() {
        text.push_str(&table(cells));
    }
    say(&text);
    let told = |played: &&Played| match &played.result {
        Err(why) => format!("{}: {why}", played.cell),
        Ok(()) => String::new(),
    };
    assert!(wrong.is_empty(), "{}", wrong.iter().map(told).collect::<Vec<_>>().join("\n\n"));
}

/// A row for each form, state and host, a column for each packing. Seconds, or what is not there.
fn table(cells: &[Played]) -> String {
    let mut text = format!("{:<10} {:<16} {:<6}", "form", "engine has", "host");
    for layers in LAYERS {
        let _ = write!(text, "{:>12}", format!("{layers:?}"));
    }
    text.push('\n');
    for form in FORMS {
        for state in STATES {
            for host in HOSTS {
                let of = |played: &&Played| {
                    (played.cell.form, played.cell.state, played.cell.host) == (form, state, host)
                };
                let row: Vec<&Played> = cells.iter().filter(of).collect();
                if row.is_empty() {
                    continue;
                }
                let words = [format!("{form:?}"), format!("{state:?}"), format!("{host:?}")];
                let _ = write!(text, "{:<10} {:<16} {:<6}", words[0], words[1], words[2]);
                for layers in LAYERS {
                    let cell = row.iter().find(|played| played.cell.layers == layers);
                    let word = match cell {
                        None => "-".to_owned(),
                        Some(Played { result: Err(_), .. }) => "FAILED".to_owned(),
                        Some(played) => format!("{:.1} s", played.took.as_secs_f32()),
                    };
                    let _ = write!(text, "{word:>12}");
                }
                text.push('\n');
            }
        }
    }
    for rule in RULES {
        let _ = writeln!(text, "no cell: {rule}");
    }
    text
}
