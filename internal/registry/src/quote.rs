//! Quoting what a server said: hostile text until proven otherwise.

use serde::Deserialize;

/// The most characters of a server's text that are shown.
const MAX_CHARS: usize = 200;

/// One line without control characters, at most 200 characters.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_control() || c.is_whitespace() || is_invisible(c)) {
        if word.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count == MAX_CHARS {
                out.push('…');
                return out;
            }
            out.push(c);
            count += 1;
        }
    }
    out
}

/// Marks that reorder or hide what is printed around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Details {
    details: String,
}

/// What the body of an error answer says, for people (OCI distribution specification, "Error Codes"). Empty where it
/// says nothing that a person could use.
pub(crate) fn error_body(body: &[u8]) -> String {
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(body) {
        let first = envelope.errors.first();
        return first.map_or_else(String::new, |entry| match (&*entry.code, &*entry.message) {
            (code, "") => line(code),
            ("", message) => line(message),
            (code, message) => line(&format!("{message} ({code})")),
        });
    }
    // Token services answer `{"details": …}`.
    if let Ok(details) = serde_json::from_slice::<Details>(body) {
        return line(&details.details);
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { "a web page".to_owned() } else { line(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_one_short_line() {
        assert_eq!(line("a\u{1b}[31mb\r\n\tc \u{202e}d\0"), "a [31mb c d");
        assert_eq!(line("  "), "");
        let long = line(&"ä".repeat(1000));
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with('…'));
        assert_eq!(line(&"x".repeat(200)), "x".repeat(200));
    }

    #[test]
    fn bodies_are_read_in_the_forms_that_registries_use() {
        for (body, want) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no\u001b access","detail":{"x":1}}]}"#,
                "no access (DENIED)",
            ),
            (r#"{"errors":[{"code":"UNKNOWN"}]}"#, "UNKNOWN"),
            (r#"{"errors":[]}"#, ""),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("<html>hello</html>", "a web page"),
            ("upstream connect error\n", "upstream connect error"),
            ("", ""),
        ] {
            assert_eq!(error_body(body.as_bytes()), want);
        }
    }
}
