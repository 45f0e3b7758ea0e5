//! Where the values of a file's mappings stand in its bytes, for those that replace one and keep the rest.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use granit_parser::{Event, Parser, ScalarStyle};

use super::parse::{decode, position};
use super::{Error, Position};

/// A value of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueSpan {
    /// A scalar on its own, quotes included, or an alias: these bytes can be replaced by another flow scalar.
    Inline(Range<usize>),
    /// A block scalar (`|`, `>`): its end is not where its text ends.
    Block,
    /// A list or a map.
    Collection,
}

/// What is open, and whether its next child is a key.
enum Open {
    Sequence,
    /// A key that was read and waits for its value.
    Mapping(Option<Position>),
}

/// The values of all mappings by the place of their keys.
///
/// # Errors
/// One about the text: it is not YAML, or not UTF-8, so that places of characters are none of bytes.
pub(crate) fn value_spans(bytes: &[u8], file: &Path) -> Result<HashMap<Position, ValueSpan>, Error> {
    let source = std::str::from_utf8(bytes)
        .map_err(|_| Error::new(file, None, "not written in UTF-8, so nothing in it can be replaced"))?;
    let text = decode(bytes).map_err(|(at, message)| Error::new(file, at, message))?;
    // The reader's text has the same characters but for a mark at the start; some of them have other lengths.
    let mark = source.chars().count() - text.chars().count();
    let offsets: Vec<usize> =
        source.char_indices().map(|(at, _)| at).skip(mark).chain([source.len()]).collect();
    let offset = |index: usize| offsets.get(index).copied().unwrap_or(source.len());

    let mut spans = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut options = granit_parser::options! { emit_unresolved_aliases: true };
    options.set_emit_comments(false);
    for event in Parser::new_from_str_with_options(&text, options) {
        let (event, span) = event.map_err(|e| {
            Error::new(file, Some(position(e.marker())), format!("not valid YAML: {}", e.info()))
        })?;
        let at = position(&span.start);
        let inline = || {
            let (start, end) = (offset(span.start.index()), offset(span.end.index()));
            let written = source.get(start..end).unwrap_or_default().trim_end();
            ValueSpan::Inline(start..start + written.len())
        };
        let value = match event {
            Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..) => ValueSpan::Block,
            Event::Scalar(..) | Event::Alias(_) | Event::UnresolvedAlias(_) => inline(),
            Event::SequenceStart(..) | Event::MappingStart(..) => ValueSpan::Collection,
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                continue;
            }
            _ => continue,
        };
        if let Some(Open::Mapping(key)) = open.last_mut() {
            match key.take() {
                None => *key = Some(at),
                Some(key) => {
                    spans.insert(key, value);
                }
            }
        }
        match event {
            Event::SequenceStart(..) => open.push(Open::Sequence),
            Event::MappingStart(..) => open.push(Open::Mapping(None)),
            _ => {}
        }
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written at the values of the keys that are called `k`.
    fn written(text: &str) -> Vec<String> {
        let spans = value_spans(text.as_bytes(), Path::new("f")).unwrap();
        let mut found: Vec<(Position, String)> = spans
            .into_iter()
            .map(|(at, span)| {
                let shown = match span {
                    ValueSpan::Inline(range) => text[range].to_owned(),
                    ValueSpan::Block => "<block>".to_owned(),
                    ValueSpan::Collection => "<collection>".to_owned(),
                };
                (at, shown)
            })
            .collect();
        found.sort_by_key(|(at, _)| (at.line, at.column));
        found.into_iter().map(|(_, shown)| shown).collect()
    }

    #[test]
    fn values_are_found_as_they_are_written() {
        for (text, values) in [
            ("a: b\nc: d e # f\n", &["b", "d e"][..]),
            ("a: 'b'\nc: \"d\\n\"  # x\n", &["'b'", "\"d\\n\""]),
            ("a: {b: c, d: e f , 'g': h}\n", &["<collection>", "c", "e f", "h"]),
            ("a: &x b\nc: *x\nd: !!str e\n", &["b", "*x", "e"]),
            ("a: &x !t b\r\nc: d\r\n", &["b", "d"]),
            ("\u{feff}a: é\u{85}b: ü c\n", &["é", "ü c"]),
            ("a: >-\n  text\nb: |\n  text\n# c\nd: e\n", &["<block>", "<block>", "e"]),
            ("a:\n  b\n  c\nd:\n- e: f\n  g: \n", &["b\n  c", "<collection>", "f", ""]),
            ("a: b\n---\nc: d\n...\n", &["b", "d"]),
            ("? a\n: b\n", &["b"]),
        ] {
            assert_eq!(written(text), values, "{text:?}");
        }
        assert!(value_spans(b"\xff\xfea\0:\0 \0b\0", Path::new("f")).is_err());
        assert!(value_spans(b"a: [", Path::new("f")).is_err());
    }
}
