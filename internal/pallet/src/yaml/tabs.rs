//! Lines with a tab in their indentation.
//!
//! YAML 1.1's reader refuses most of them; the parser, which is for YAML 1.2, takes those that are blank or
//! comments, and the first line. A tab is fine within quotes, block
//! scalars and flow collections, and after an unquoted scalar if it stands further right than the
//! collection that the scalar is in.

use granit_parser::{Event, ScalarStyle, Span, StructureStyle};

use super::Position;

/// Watches the events of a text which has such lines.
pub(super) struct Tabs<'a> {
    lines: Vec<&'a str>,
    /// Lines with a tab, and the tab's column; both count from 0.
    suspects: Vec<(usize, usize)>,
    /// First and last lines of what a tab may stand in.
    allowed: Vec<(usize, usize)>,
    /// Block scalars, which keep the blank lines after them.
    blocks: Vec<(usize, usize)>,
    plain: Vec<Plain>,
    /// Of each open collection: its column, none if it is a flow collection, and its first line.
    open: Vec<(Option<usize>, usize)>,
}

/// An unquoted scalar.
struct Plain {
    first: usize,
    last: usize,
    /// Column after its end.
    end: usize,
    /// Least column of a tab after it.
    column: usize,
}

impl<'a> Tabs<'a> {
    /// None if there is no such line, which is nearly always.
    pub(super) fn watch(text: &'a str) -> Option<Self> {
        if !text.contains('\t') {
            return None;
        }
        let lines: Vec<&str> = text.lines().collect();
        let suspect = |(number, line): (usize, &&str)| {
            let content = line.trim_start_matches([' ', '\t']);
            let tab = line[..line.len() - content.len()].find('\t')?;
            Some((number, tab))
        };
        let suspects: Vec<_> = lines.iter().enumerate().filter_map(suspect).collect();
        if suspects.is_empty() {
            return None;
        }
        Some(Self {
            lines,
            suspects,
            allowed: Vec::new(),
            blocks: Vec::new(),
            plain: Vec::new(),
            open: Vec::new(),
        })
    }

    pub(super) fn event(&mut self, event: &Event<'_>, span: &Span) {
        let (first, last) = (span.start.line().saturating_sub(1), span.end.line().saturating_sub(1));
        match event {
            Event::Scalar(_, style, ..) => match style {
                ScalarStyle::Plain => self.plain.push(Plain {
                    first,
                    last,
                    end: span.end.col(),
                    column: self.open.last().map_or(0, |(column, _)| column.map_or(0, |c| c + 1)),
                }),
                ScalarStyle::Literal | ScalarStyle::Folded => self.blocks.push((first, last)),
                _ => self.allowed.push((first, last)),
            },
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                let column = (*style == StructureStyle::Block).then(|| span.start.col());
                self.open.push((column, first));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((None, from)) = self.open.pop() {
                    self.allowed.push((from, last));
                }
            }
            _ => {}
        }
    }

    /// The first line that isn't allowed. `until` is the last line that was read, counted from 1.
    pub(super) fn fault(&self, until: usize) -> Option<Position> {
        let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        let suspects = self.suspects.iter().take_while(|(line, _)| *line < until);
        for (line, tab) in suspects {
            if !self.allows(*line, *tab) {
                return Some(Position { line: number(*line), column: number(*tab) });
            }
        }
        None
    }

    fn allows(&self, line: usize, tab: usize) -> bool {
        let within = |(first, last): &(usize, usize)| *first < line && line <= *last;
        if self.allowed.iter().any(within) {
            return true;
        }
        let before = (0..line).rev().find(|i| !self.lines[*i].trim().is_empty());
        let kept = |(first, last): &(usize, usize)| {
            before.is_some_and(|before| *first <= before && before <= (*last).max(*first))
        };
        if self.blocks.iter().any(|block| within(block) || kept(block)) {
            return true;
        }
        self.plain.iter().any(|scalar| {
            let inside = scalar.first < line && line <= scalar.last;
            let ends_before = before == Some(scalar.last)
                && self.lines[scalar.last].trim_end().chars().count() <= scalar.end;
            (inside || ends_before) && tab >= scalar.column
        })
    }
}
