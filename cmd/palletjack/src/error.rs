//! Failures of commands: an exit code, one line, its causes, and what to do.

use std::fmt;
use std::fmt::Write as _;

/// The exit codes, which scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Anything that has no code of its own.
    Failed = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// Something required is at none of the permitted sources.
    Missing = 3,
    /// A registry answered and refused, or the network failed.
    Network = 4,
    /// Docker or Podman is not there, or failed.
    Engine = 5,
    /// Content is not what its digest says.
    Corrupt = 6,
    /// The file system is full.
    NoSpace = 7,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// When several failures happen, the one that the exit code tells.
    fn rank(self) -> u8 {
        match self {
            Self::Interrupted | Self::Terminated => 0,
            Self::Corrupt => 1,
            Self::NoSpace => 2,
            Self::Engine => 3,
            Self::Network => 4,
            Self::Missing => 5,
            Self::Failed => 6,
            Self::Usage => 7,
        }
    }

    /// The code that both failures together give.
    pub(crate) fn and(self, other: Self) -> Self {
        if other.rank() < self.rank() { other } else { self }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) exit: Exit,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl CommandError {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hints: Vec::new() }
    }

    /// Adds what the person can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Whether a file or directory of the cache may not be written or read.
    pub(crate) fn is_permission(&self) -> bool {
        self.error
            .downcast_ref::<palletjack_store::StoreError>()
            .is_some_and(palletjack_store::StoreError::is_permission)
    }

    /// Puts a line above: what was being done.
    pub(crate) fn context(mut self, line: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(line);
        self
    }

    /// The lines for standard error: the failure, its causes indented below, then what to do.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {}", printable(&self.error.to_string()));
        let mut above = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some errors quote their cause already.
            if !above.contains(&cause) {
                let _ = write!(text, "\n  caused by: {}", printable(&cause));
            }
            above = cause;
        }
        for hint in &self.hints {
            let _ = write!(text, "\n  hint: {hint}");
        }
        text
    }
}

/// Messages quote registries, archives and YAML: nothing of that may steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl From<palletjack_store::StoreError> for CommandError {
    fn from(error: palletjack_store::StoreError) -> Self {
        let (exit, hint) = if error.is_no_space() {
            (Exit::NoSpace, None)
        } else if let palletjack_store::StoreError::Damaged { .. } = error {
            (
                Exit::Corrupt,
                Some(
                    "delete that file: what is fetched again then is adopted from the blobs, not downloaded",
                ),
            )
        } else if let palletjack_store::StoreError::Strangers { .. } = error {
            (
                Exit::Corrupt,
                Some(
                    "mend or delete index.json: what is fetched again then is adopted from the blobs, not downloaded",
                ),
            )
        } else if error.is_corrupt() {
            (Exit::Corrupt, Some("`palletjack cache verify` says which images this hurts"))
        } else if error.is_permission() {
            (Exit::Failed, Some("use a cache that you may write, with --cache-dir or PALLETJACK_CACHE_DIR"))
        } else if matches!(error, palletjack_store::StoreError::Absent(_)) {
            (Exit::Missing, None)
        } else {
            (Exit::Failed, None)
        };
        let error = Self::new(exit, error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_telling_code_wins() {
        assert_eq!(Exit::Failed.and(Exit::Missing), Exit::Missing);
        assert_eq!(Exit::Network.and(Exit::Missing), Exit::Network);
        assert_eq!(Exit::Network.and(Exit::Engine), Exit::Engine);
        assert_eq!(Exit::NoSpace.and(Exit::Engine), Exit::NoSpace);
        assert_eq!(Exit::NoSpace.and(Exit::Corrupt), Exit::Corrupt);
        assert_eq!(Exit::Corrupt.and(Exit::Interrupted), Exit::Interrupted);
    }

    #[test]
    fn hostile_text_does_not_steer_the_terminal() {
        let error = CommandError::new(Exit::Failed, anyhow::anyhow!("bad \u{1b}[2Jbody")).hint("try again");
        assert_eq!(error.report(), "error: bad \u{fffd}[2Jbody\n  hint: try again");
    }
}
