//! Reading what an engine says while it loads.

use bollard::models::BuildInfo;

/// What matters of the lines that came.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The first line that speaks of a failure.
    pub(crate) failure: Option<String>,
}

/// A containerd store says this in an ordinary line, with success as HTTP status and "Loaded image" behind it.
const UNPACKING_FAILED: &str = "Error unpacking image";
/// An engine's text is shown up to this many characters.
const SHOWN: usize = 400;

impl Answer {
    pub(crate) fn line(&mut self, line: &BuildInfo) {
        let detail = line.error_detail.as_ref().map(|detail| detail.message.clone().unwrap_or_default());
        let unpacking = line.stream.as_ref().filter(|text| text.contains(UNPACKING_FAILED)).cloned();
        if let Some(failure) = detail.or(unpacking) {
            self.fail(&failure);
        }
    }

    pub(crate) fn fail(&mut self, message: &str) {
        self.failure.get_or_insert_with(|| one_line(message));
    }
}

/// Whether a message means that the engine's file system is full (`ENOSPC`, `EDQUOT`).
pub(crate) fn is_no_space(message: &str) -> bool {
    message.contains("no space left on device") || message.contains("disk quota exceeded")
}

/// An engine's text on one line, without control characters, at a length that a person reads.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > SHOWN {
        line = line.chars().take(SHOWN).chain(['…']).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    use bollard::models::ErrorDetail;

    use super::*;

    fn stream(text: &str) -> BuildInfo {
        BuildInfo { stream: Some(text.to_owned()), ..Default::default() }
    }

    #[test]
    fn failures_are_found_among_ordinary_lines() {
        let mut answer = Answer::default();
        answer.line(&stream("Loaded image: caddy:2\n"));
        assert_eq!(answer.failure, None);
        answer.line(&stream("Error unpacking image docker.io/library/caddy:2: content digest: not found\n"));
        answer.line(&stream("Loaded image: caddy:2\n"));
        assert_eq!(
            answer.failure.as_deref(),
            Some("Error unpacking image docker.io/library/caddy:2: content digest: not found")
        );

        let mut answer = Answer::default();
        let message = Some("open \u{1b}[31m/var:\n  no such file".to_owned());
        answer.line(&BuildInfo {
            error_detail: Some(ErrorDetail { code: None, message }),
            ..Default::default()
        });
        assert_eq!(answer.failure.as_deref(), Some("open [31m/var: no such file"));

        let mut answer = Answer::default();
        answer.line(&BuildInfo { error_detail: Some(ErrorDetail::default()), ..Default::default() });
        assert_eq!(answer.failure.as_deref(), Some(""), "a failure without a text is one");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(one_line(&"ä".repeat(5000)).chars().count(), SHOWN + 1);
    }
}
