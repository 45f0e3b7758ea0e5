//! Text to tree: decoding of the bytes, then the parser's events into the arena.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use granit_parser::{Event, Marker, Parser, ScalarStyle};

use super::tabs::Tabs;
use super::{Error, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, NodeId, NodeKind, Position, Stream, Tag};

/// How much of a file its reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Documents {
    /// The first document; what follows may be broken.
    First,
    /// All of them.
    All,
}

/// Reads a file's bytes. `file` is only for messages.
pub(crate) fn parse(bytes: &[u8], file: &Path, wanted: Documents) -> Result<Stream, Error> {
    let text = decode(bytes).map_err(|(at, message)| Error::new(file, at, message))?;
    let mut options = granit_parser::options! {
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        stream: Stream { file: file.to_owned(), nodes: Vec::new(), documents: Vec::new() },
        open: Vec::new(),
        by_name: HashMap::new(),
        by_id: HashMap::new(),
        last: None,
    };
    if let Some(at) = leading_end_marker(&text) {
        let message = "not valid YAML: a document can't begin with `...`";
        return Err(Error::new(file, Some(at), message));
    }
    let mut tabs = Tabs::watch(&text);
    let mut read = 0;
    for event in Parser::new_from_str_with_options(&text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            // The first document is complete; what is wrong comes after it.
            Err(_) if wanted == Documents::First && builder.is_complete() => break,
            Err(e) => {
                let at = position(e.marker());
                let message = format!("not valid YAML: {}", e.info());
                return Err(Error::new(file, Some(at), message));
            }
        };
        let end = matches!(event, Event::DocumentEnd);
        if let Some(tabs) = &mut tabs {
            tabs.event(&event, &span);
        }
        read = span.end.line();
        builder.event(event, position(&span.start))?;
        if end && wanted == Documents::First {
            break;
        }
    }
    let read = if wanted == Documents::All { usize::MAX } else { read };
    if let Some(at) = tabs.and_then(|tabs| tabs.fault(read)) {
        let message = "not valid YAML: a tab can't indent, not even an empty line";
        return Err(Error::new(file, Some(at), message));
    }
    Ok(builder.stream)
}

/// Where a stream begins with the end of a document, which YAML 1.1 doesn't allow.
fn leading_end_marker(text: &str) -> Option<Position> {
    let skipped = |line: &&str| {
        let line = line.trim_start_matches([' ', '\t']).trim_end();
        line.is_empty() || line.starts_with('#')
    };
    let before = text.lines().take_while(skipped).count();
    let line = text.lines().nth(before)?;
    let rest = line.strip_prefix("...")?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
        .then(|| Position { line: u32::try_from(before + 1).unwrap_or(u32::MAX), column: 1 })
}

pub(super) fn position(marker: &Marker) -> Position {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: number(marker.line()), column: number(marker.col().saturating_add(1)) }
}

/// Where YAML 1.1 ends lines, and the parser doesn't.
const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// A fault before there is a tree.
pub(super) type TextFault = (Option<Position>, String);

/// UTF-8, or UTF-16 by its byte order mark; only characters that YAML allows.
pub(super) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, TextFault> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err((None, format!("larger than {MAX_BYTES} bytes")));
    }
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)?),
        _ => Cow::Borrowed(std::str::from_utf8(bytes).map_err(|e| {
            let before = &bytes[..e.valid_up_to()];
            (Some(after(before)), "not valid UTF-8".to_owned())
        })?),
    };
    let forbidden = |c: char| {
        matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f' | '\u{80}'..='\u{84}'
            | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
    };
    if let Some(i) = text.find(forbidden) {
        let at = after(&text.as_bytes()[..i]);
        return Err((Some(at), "a control character, which YAML forbids".into()));
    }
    let text = if text.contains(BREAKS) { Cow::Owned(text.replace(BREAKS, "\n")) } else { text };
    Ok(match text {
        Cow::Borrowed(t) => Cow::Borrowed(t.strip_prefix('\u{feff}').unwrap_or(t)),
        Cow::Owned(t) => Cow::Owned(t.strip_prefix('\u{feff}').map_or_else(|| t.clone(), str::to_owned)),
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, TextFault> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text = char::decode_utf16(pairs.iter().map(|p| unit(*p))).collect::<Result<String, _>>();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err((None, "not valid UTF-16".into())),
    }
}

/// The position just after some text.
fn after(before: &[u8]) -> Position {
    let lines = before.split(|b| *b == b'\n').count() - 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count();
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    Position { line: number(lines), column: number(column) }
}

/// A collection whose end has not come yet.
struct Open {
    id: NodeId,
    /// The key that waits for its value, in a mapping.
    key: Option<NodeId>,
}

struct Builder {
    stream: Stream,
    open: Vec<Open>,
    /// Anchors live as long as the stream, so that a later document may use them.
    by_name: HashMap<String, NodeId>,
    by_id: HashMap<usize, NodeId>,
    last: Option<NodeId>,
}

impl Builder {
    /// Whether a document has all its nodes.
    fn is_complete(&self) -> bool {
        self.open.is_empty() && !self.stream.documents.is_empty()
    }

    fn event(&mut self, event: Event<'_>, at: Position) -> Result<(), Error> {
        match event {
            Event::DocumentStart(_, Some(version)) if (version.major, version.minor) != (1, 1) => {
                return Err(self.stream.error(at, "only %YAML 1.1 is understood; leave the directive out"));
            }
            Event::Anchor(id, name) => {
                if let Some(node) = self.last {
                    self.by_id.insert(id, node);
                    self.by_name.insert(name.into_owned(), node);
                }
            }
            Event::Alias(id) => {
                let target = self.by_id.get(&id).copied();
                self.alias(target, at)?;
            }
            Event::UnresolvedAlias(name) => {
                let target = self.by_name.get(&*name).copied();
                self.alias(target, at)?;
            }
            Event::Scalar(text, style, _, tag) => {
                let kind = NodeKind::Scalar { text: text.into(), plain: style == ScalarStyle::Plain };
                self.add(kind, tag_of(tag.as_deref()), at)?;
            }
            Event::SequenceStart(_, _, tag) => {
                self.start(NodeKind::Sequence(Vec::new()), tag_of(tag.as_deref()), at)?;
            }
            Event::MappingStart(_, _, tag) => {
                self.start(NodeKind::Mapping(Vec::new()), tag_of(tag.as_deref()), at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, target: Option<NodeId>, at: Position) -> Result<(), Error> {
        let target =
            target.ok_or_else(|| self.stream.error(at, "alias of an anchor that isn't defined before"))?;
        if self.open.iter().any(|o| o.id == target) {
            return Err(self.stream.error(at, "an anchor contains itself"));
        }
        self.add(NodeKind::Alias(target), Tag::None, at)?;
        Ok(())
    }

    fn start(&mut self, kind: NodeKind, tag: Tag, at: Position) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.stream.error(at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let id = self.add(kind, tag, at)?;
        self.open.push(Open { id, key: None });
        Ok(())
    }

    fn add(&mut self, kind: NodeKind, tag: Tag, at: Position) -> Result<NodeId, Error> {
        if self.stream.nodes.len() >= MAX_NODES {
            return Err(self.stream.error(at, format!("more than {MAX_NODES} values in one file")));
        }
        // MAX_NODES is far below u32::MAX.
        let id = NodeId(u32::try_from(self.stream.nodes.len()).unwrap_or(u32::MAX));
        self.stream.nodes.push(Node { kind, tag, at });
        self.last = Some(id);
        match self.open.last_mut() {
            None => self.stream.documents.push(id),
            Some(open) => match &mut self.stream.nodes[open.id.0 as usize].kind {
                NodeKind::Sequence(items) => items.push(id),
                NodeKind::Mapping(pairs) => match open.key.take() {
                    None => open.key = Some(id),
                    Some(key) => pairs.push((key, id)),
                },
                NodeKind::Scalar { .. } | NodeKind::Alias(_) => {}
            },
        }
        Ok(id)
    }
}

fn tag_of(tag: Option<&granit_parser::Tag>) -> Tag {
    const CORE: &str = "tag:yaml.org,2002:";
    let Some(tag) = tag else {
        return Tag::None;
    };
    let full = format!("{}{}", tag.handle(), tag.suffix());
    match full.strip_prefix(CORE).or_else(|| full.strip_prefix("!!")) {
        Some(name) => Tag::Core(name.into()),
        None if full == "!" || full.is_empty() => Tag::None,
        None => Tag::Local(full.into()),
    }
}
