//! Words for unit files, so that systemd reads what was meant (systemd.service(5), "Command lines"; systemd.syntax(7)).

/// What cannot be written into a unit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` cannot be written into a unit: it has {what}", .word.escape_debug())]
pub(crate) struct Unwritable {
    word: String,
    what: &'static str,
}

/// A word of a setting that is a list of words, such as `RequiresMountsFor=`.
pub(crate) fn word(text: &str) -> Result<String, Unwritable> {
    let refuse = |what| Err(Unwritable { word: text.to_owned(), what });
    if text.is_empty() {
        return refuse("no characters");
    }
    if text.chars().any(char::is_control) {
        return refuse("control characters");
    }
    // `%` begins a specifier, also between quotes.
    let text = text.replace('%', "%%");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@=,%$".contains(c);
    if text.chars().all(is_plain) {
        return Ok(text);
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A word of `ExecStart=` after the program, where `$` begins a variable as well.
pub(crate) fn argument(text: &str) -> Result<String, Unwritable> {
    word(&text.replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_read_otherwise_is_escaped() {
        for (text, want) in [
            ("/var/cache/palletjack", "/var/cache/palletjack"),
            ("caddy:2@sha256:ab", "caddy:2@sha256:ab"),
            ("100%", "100%%"),
            ("a b", "\"a b\""),
            ("it's", "\"it's\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("a;b", "\"a;b\""),
            ("$HOME", "$$HOME"),
            ("größe", "\"größe\""),
        ] {
            assert_eq!(argument(text).unwrap(), want);
        }
        assert_eq!(word("a$b").unwrap(), "a$b");
    }

    #[test]
    fn what_would_begin_another_line_is_refused() {
        for text in ["", "a\nExecStart=/bin/sh", "a\u{7}"] {
            assert!(word(text).is_err() && argument(text).is_err(), "{text:?}");
        }
        let error = word("a\nb").unwrap_err().to_string();
        assert_eq!(error, "`a\\nb` cannot be written into a unit: it has control characters");
    }
}
