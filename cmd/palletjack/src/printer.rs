//! Results on standard output, everything else on standard error.

use std::io::{self, Write};

use indicatif::MultiProgress;
use serde::Serialize;

use crate::error::{CommandError, Exit, printable};
use crate::service::Service;

/// How much a line matters, by syslog's numbers.
#[derive(Debug, Clone, Copy)]
enum Importance {
    Error = 3,
    Warning = 4,
    Note = 6,
}

/// Speaks to the person or the script.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    quiet: bool,
    /// Whether lines on standard error begin with their importance, as the journal reads it (sd-daemon(3)).
    journal: bool,
    service: Service,
    /// Bars that lines on standard error must not run into.
    bars: MultiProgress,
}

impl Printer {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, journal: false, service: Service::default(), bars: MultiProgress::new() }
    }

    /// For a run that systemd started.
    pub(crate) fn of_service(self, journal: bool, service: Service) -> Self {
        Self { journal, service, ..self }
    }

    /// What the service manager is told, if there is one.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// A result.
    pub(crate) fn result(&self, text: &str) -> Result<(), CommandError> {
        let written = self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        match written {
            // The reader has seen enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| {
                CommandError::new(Exit::Failed, error).context("cannot write to standard output")
            }),
        }
    }

    /// A result for scripts: one JSON document.
    pub(crate) fn json(&self, document: &impl Serialize) -> Result<(), CommandError> {
        let mut text = serde_json::to_string_pretty(document)
            .map_err(|error| CommandError::new(Exit::Failed, error).context("cannot write JSON"))?;
        text.push('\n');
        self.result(&text)
    }

    /// What is going on; not in quiet mode.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.line(Importance::Note, text);
        }
    }

    /// Something that the person should know but that stops nothing.
    pub(crate) fn warning(&self, text: &str) {
        self.line(Importance::Warning, &format!("warning: {text}"));
    }

    /// A failure.
    pub(crate) fn error(&self, error: &CommandError) {
        self.line(Importance::Error, &error.report());
    }

    fn line(&self, importance: Importance, text: &str) {
        self.service.moved();
        let text = printable(text);
        let text = if self.journal { for_journal(importance, &text) } else { text };
        // Nobody can be told that nobody listens (a full log partition, a reader that went away): the work goes on.
        self.bars.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }
}

/// Each line is an entry of its own, with its importance.
fn for_journal(importance: Importance, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("<{}>{line}", importance as u8)).collect();
    lines.join("\n")
}

/// A reference for a line of progress: 12 digits of its digest are enough to tell two pins apart.
pub(crate) fn short_reference(reference: &str) -> &str {
    const DIGEST: &str = "@sha256:";
    let end = reference.find(DIGEST).map_or(reference.len(), |at| at + DIGEST.len() + 12);
    reference.get(..end).unwrap_or(reference)
}

/// A number with its noun: `1 image`, `2 images`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Any digest in a message, cut to 12 digits.
pub(crate) fn short_digests(text: &str) -> String {
    const DIGEST: &str = "sha256:";
    let mut parts = text.split(DIGEST);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(DIGEST);
        let hex = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(&part[..hex.min(12)]);
        out.push_str(&part[hex..]);
    }
    out
}

/// Bytes for people: three digits and a decimal unit, as registries and SD cards count them.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 9.995 {
        format!("{value:.2} {unit}")
    } else if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Lines up columns, two spaces between them; the columns in `right` are aligned to the right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            let (before, after) = if right.contains(&column) { (&*padding, "") } else { ("", &*padding) };
            line.push_str(before);
            line.push_str(&printable(cell));
            line.push_str(after);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_told_how_much_a_line_matters() {
        assert_eq!(for_journal(Importance::Error, "error: a\n  hint: b"), "<3>error: a\n<3>  hint: b");
    }

    #[test]
    fn bytes_have_three_digits() {
        for (bytes, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (1_057_200_000, "1.06 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(human_bytes(bytes), want);
        }
    }

    #[test]
    fn digests_are_cut() {
        assert_eq!(short_reference("caddy:2@sha256:0123456789abcdef0123"), "caddy:2@sha256:0123456789ab");
        assert_eq!(short_reference("caddy:2@sha256:0123"), "caddy:2@sha256:0123");
        assert_eq!(short_reference("caddy:2"), "caddy:2");
    }

    #[test]
    fn every_digest_in_a_message_is_cut() {
        let hex = "0123456789abcdef".repeat(4);
        let text = format!("a@sha256:{hex} from b: sha256:{hex}, sha256:x");
        assert_eq!(short_digests(&text), "a@sha256:0123456789ab from b: sha256:0123456789ab, sha256:x");
        assert_eq!(short_digests("none"), "none");
    }

    #[test]
    fn columns_line_up() {
        let rows =
            [vec!["a".into(), "1 B".into(), "x".into()], vec!["bcd".into(), "10 B".into(), String::new()]];
        assert_eq!(table(&rows, &[1]), "a     1 B  x\nbcd  10 B\n");
    }
}
