//! Detail for `-v`: log lines on standard error, kept apart from the bars.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

use crate::printer::Printer;

/// Starts logging: warnings by default, information with `-v`, everything of ours with `-vv`.
pub(crate) fn start(verbose: u8, printer: &Printer) {
    let level = match verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::new(format!(
        "error,palletjack={level},palletjack_image={level},palletjack_pallet={level},palletjack_store={level},\
         palletjack_registry={level},palletjack_archive={level},palletjack_engine={level}"
    ));
    let writer = Beside { bars: printer.bars().clone() };
    // A second call can only come from a test in the same process; the first one's logging serves both.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .without_time()
        .with_target(verbose > 1)
        .try_init();
}

/// Writes a whole line while the bars stand aside.
struct Beside {
    bars: MultiProgress,
}

struct Line {
    bars: MultiProgress,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Beside {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bars: self.bars.clone(), text: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        self.bars.suspend(|| io::stderr().lock().write_all(&text))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
