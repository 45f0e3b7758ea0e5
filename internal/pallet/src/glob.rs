//! Glob patterns as Go's doublestar v4 matches them, which Forklift uses to find its files.
//!
//! `*` and `?` stay within a segment, `**` as a whole segment is any number of segments, `[a-z]`, `[!a]`,
//! `{a,b}` with alternatives that may contain `/`, and `\` escapes. Two things are odd and kept: a negated
//! class matches `/` too, and alternatives are written out in place, so that `*{*}` can become `**`.

use std::io;

use crate::path;
use crate::tree::{Kind, Tree};

/// Longest pattern that is evaluated, in characters.
const MAX_PATTERN: usize = 4096;
/// Most steps of one match, and most directory entries looked at by one search.
const MAX_STEPS: usize = 200_000;
/// Most braces in a pattern: each is a level of recursion.
const MAX_BRACES: usize = 64;

/// Why a pattern can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An open class or brace, or a `\` at the end.
    #[error("malformed pattern {0:?}")]
    Malformed(String),
    /// Matching it would take absurdly long.
    #[error("pattern {0:?} needs too many steps")]
    TooCostly(String),
    /// A directory that may not be read, or a link that leads out of the pallet.
    #[error("can't search {place}")]
    Search {
        /// Where the search stopped.
        place: String,
        /// Why.
        source: io::Error,
    },
}

/// What a search returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Find {
    /// Everything but directories.
    Files,
    /// Directories as well.
    Everything,
}

/// Whether a pattern matches a whole path.
pub(crate) fn matches(pattern: &str, name: &str) -> Result<bool, Error> {
    let pattern = compile(pattern)?;
    let name: Vec<char> = name.chars().collect();
    Matcher { name: &name, steps: MAX_STEPS }
        .run(&pattern, 0, 0, None, None)
        .ok_or_else(|| Error::TooCostly(pattern.iter().collect()))
}

/// The paths in a tree that a relative pattern matches, each once, in the order of the search.
pub(crate) fn search(tree: &Tree, pattern: &str, find: Find) -> Result<Vec<String>, Error> {
    let compiled = compile(pattern)?;
    let mut search = Search { tree, find, steps: MAX_STEPS, pattern };
    let mut found = search.go(&compiled, true)?;
    let mut seen = std::collections::HashSet::new();
    found.retain(|p| seen.insert(p.clone()));
    Ok(found)
}

fn compile(pattern: &str) -> Result<Vec<char>, Error> {
    let chars: Vec<char> = pattern.chars().collect();
    let braces = chars.iter().filter(|c| **c == '{').count();
    if chars.len() > MAX_PATTERN || braces > MAX_BRACES {
        return Err(Error::TooCostly(pattern.chars().take(40).collect()));
    }
    if !is_well_formed(&chars) {
        return Err(Error::Malformed(pattern.to_owned()));
    }
    Ok(chars)
}

fn is_well_formed(p: &[char]) -> bool {
    let (mut depth, mut i) = (0usize, 0);
    while i < p.len() {
        match p[i] {
            '\\' => {
                i += 1;
                if i >= p.len() {
                    return false;
                }
            }
            '[' => {
                i += 1;
                if matches!(p.get(i), Some('^' | '!')) {
                    i += 1;
                }
                if matches!(p.get(i), None | Some(']')) {
                    return false;
                }
                while i < p.len() && p[i] != ']' {
                    i += if p[i] == '\\' { 2 } else { 1 };
                }
                if i >= p.len() {
                    return false;
                }
            }
            '{' => depth += 1,
            '}' if depth == 0 => return false,
            '}' => depth -= 1,
            _ => {}
        }
        i += 1;
    }
    depth == 0
}

/// The alternatives of the brace that opens before `start`, and the index after its end.
fn alternatives(p: &[char], start: usize) -> (Vec<&[char]>, usize) {
    let (mut out, mut from, mut depth, mut i) = (Vec::new(), start, 1, start);
    while i < p.len() {
        match p[i] {
            '\\' => i += 1,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    out.push(&p[from..i]);
                    return (out, i + 1);
                }
            }
            ',' if depth == 1 => {
                out.push(&p[from..i]);
                from = i + 1;
            }
            _ => {}
        }
        i += 1;
    }
    // Patterns are checked before; a brace inside of a class is the one way to get here.
    out.push(&p[from.min(p.len())..]);
    (out, p.len())
}

/// Whether the class that starts after `[` at `i` matches `c`, and the index after it.
fn class(p: &[char], mut i: usize, c: char) -> (bool, usize) {
    let negated = matches!(p.get(i), Some('!' | '^'));
    i += usize::from(negated);
    let (mut hit, mut last) = (false, None);
    while let Some(&here) = p.get(i).filter(|c| **c != ']') {
        i += 1;
        if let (Some(low), '-', Some(&high)) = (last, here, p.get(i).filter(|c| **c != ']')) {
            let high = if high == '\\' {
                i += 1;
                p.get(i).copied().unwrap_or(high)
            } else {
                high
            };
            hit |= low <= c && c <= high;
            last = None;
            i += 1;
            continue;
        }
        let literal = if here == '\\' {
            i += 1;
            p.get(i - 1).copied().unwrap_or(here)
        } else {
            here
        };
        hit |= literal == c;
        last = Some(literal);
    }
    (hit != negated, i + 1)
}

struct Matcher<'a> {
    name: &'a [char],
    steps: usize,
}

impl Matcher<'_> {
    /// Matches `p[i..]` against `name[j..]`. `star` and `globstar` are where to take up again after the last
    /// `*` and `**`: an index into the pattern and one into the name. None if it takes too long.
    fn run(
        &mut self,
        p: &[char],
        mut i: usize,
        mut j: usize,
        mut star: Option<(usize, usize)>,
        mut globstar: Option<(usize, usize)>,
    ) -> Option<bool> {
        let mut segment_start = true;
        while j < self.name.len() {
            self.steps = self.steps.checked_sub(1)?;
            let c = self.name[j];
            let mut advanced = false;
            match p.get(i) {
                None => {}
                Some('*') => {
                    i += 1;
                    if p.get(i) == Some(&'*') {
                        i += 1;
                        if segment_start {
                            match p.get(i) {
                                None => return Some(true),
                                Some('/') => {
                                    i += 1;
                                    globstar = Some((i, j));
                                    star = None;
                                    continue;
                                }
                                Some(_) => {}
                            }
                        }
                    }
                    segment_start = false;
                    star = Some((i, j));
                    advanced = true;
                }
                Some('?') => {
                    segment_start = false;
                    if c != '/' {
                        (i, j, advanced) = (i + 1, j + 1, true);
                    }
                }
                Some('[') => {
                    segment_start = false;
                    let (hit, end) = class(p, i + 1, c);
                    if hit {
                        (i, j, advanced) = (end, j + 1, true);
                    }
                }
                Some('{') => {
                    let (choices, end) = alternatives(p, i + 1);
                    for choice in choices {
                        let written: Vec<char> = [&p[..i], choice, &p[end..]].concat();
                        if self.run(&written, i, j, star, globstar)? {
                            return Some(true);
                        }
                    }
                    return Some(false);
                }
                Some(&here) => {
                    let at = if here == '\\' { i + 1 } else { i };
                    if p.get(at) == Some(&c) {
                        segment_start = c == '/';
                        (i, j, advanced) = (at + 1, j + 1, true);
                    }
                }
            }
            if advanced {
                continue;
            }
            if let Some((after, from)) = star.filter(|(_, from)| self.name[*from] != '/') {
                star = Some((after, from + 1));
                (i, j, segment_start) = (after, from + 1, false);
                continue;
            }
            let slash = globstar.and_then(|(after, from)| {
                let next = self.name[from..].iter().position(|c| *c == '/')?;
                Some((after, from + next + 1))
            });
            match slash {
                Some((after, from)) => {
                    globstar = slash;
                    star = None;
                    (i, j, segment_start) = (after, from, true);
                }
                None => return Some(false),
            }
        }
        self.matches_nothing(&p[i.min(p.len())..])
    }

    /// Whether the rest of a pattern matches an empty rest.
    fn matches_nothing(&mut self, p: &[char]) -> Option<bool> {
        self.steps = self.steps.checked_sub(1)?;
        match p {
            [] | ['*'] | ['*', '*'] | ['/', '*', '*'] | ['*', '*', '/'] | ['/', '*', '*', '/'] => Some(true),
            ['{', ..] => {
                let (choices, end) = alternatives(p, 1);
                for choice in choices {
                    if self.matches_nothing(&[choice, &p[end..]].concat())? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            _ => Some(false),
        }
    }
}

/// Whether a pattern has anything but literal text.
fn has_meta(p: &[char]) -> bool {
    let mut i = 0;
    while i < p.len() {
        match p[i] {
            '*' | '?' | '[' | '{' => return true,
            '\\' => i += 2,
            _ => i += 1,
        }
    }
    false
}

/// Text with the escapes of meta characters taken away.
fn literal(p: &[char]) -> String {
    let mut out = String::with_capacity(p.len());
    let mut i = 0;
    while i < p.len() {
        if p[i] == '\\' && matches!(p.get(i + 1), Some('*' | '?' | '[' | ']' | '{' | '}')) {
            i += 1;
        }
        out.push(p[i]);
        i += 1;
    }
    out
}

/// The last unescaped one of some characters.
fn last_of(p: &[char], wanted: &[char]) -> Option<usize> {
    (0..p.len()).rev().find(|&i| wanted.contains(&p[i]) && (i == 0 || p[i - 1] != '\\'))
}

struct Search<'a> {
    tree: &'a Tree,
    find: Find,
    steps: usize,
    pattern: &'a str,
}

impl Search<'_> {
    fn step(&mut self) -> Result<(), Error> {
        match self.steps.checked_sub(1) {
            Some(left) => self.steps = left,
            None => return Err(Error::TooCostly(self.pattern.to_owned())),
        }
        Ok(())
    }

    /// `first` is the search for the result; the others look for directories to go on in.
    fn go(&mut self, p: &[char], first: bool) -> Result<Vec<String>, Error> {
        self.step()?;
        if !has_meta(p) {
            return self.look_up(p, first);
        }
        let (dir, rest) = match last_of(p, &['/', '}']) {
            None => (&p[..0], p),
            Some(cut) if p[cut] == '/' => (&p[..cut], &p[cut + 1..]),
            Some(cut) => {
                if let Some(open) = opening(p, cut) {
                    return self.by_alternative(p, open, cut, first);
                }
                match last_of(&p[..cut], &['/']) {
                    Some(cut) => (&p[..cut], &p[cut + 1..]),
                    None => (&p[..0], p),
                }
            }
        };
        if !has_meta(dir) {
            let dir = match literal(dir) {
                empty if empty.is_empty() => ".".to_owned(),
                dir => dir,
            };
            return self.in_dir(&dir, rest, first);
        }
        let mut out = Vec::new();
        for dir in self.go(dir, false)? {
            out.extend(self.in_dir(&dir, rest, first)?);
        }
        Ok(out)
    }

    /// A pattern without meta characters: the file must be there, so a dangling link isn't found.
    fn look_up(&self, p: &[char], first: bool) -> Result<Vec<String>, Error> {
        let name = literal(p);
        let asked = match name.strip_suffix('/') {
            Some(short) if !short.is_empty() => short,
            _ => &name,
        };
        let asked = if asked.is_empty() { "." } else { asked };
        match self.tree.status(asked) {
            Ok(status) if first && self.find == Find::Files && status.is_dir => Ok(Vec::new()),
            Ok(_) => Ok(vec![name]),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::Search { place: self.tree.location(asked).display().to_string(), source })
            }
            Err(_) => Ok(Vec::new()),
        }
    }

    fn in_dir(&mut self, dir: &str, rest: &[char], first: bool) -> Result<Vec<String>, Error> {
        let everything = self.find == Find::Everything;
        if rest.is_empty() {
            let wanted = (everything || !first) && self.is_dir(dir)?;
            return Ok(if wanted { vec![dir.to_owned()] } else { Vec::new() });
        }
        let mut out = Vec::new();
        if rest == ['*', '*'] {
            self.below(dir, first, &mut out)?;
            return Ok(out);
        }
        let rest: String = rest.iter().collect();
        for (name, kind) in self.entries(dir)? {
            if !matches(&rest, &name)? {
                continue;
            }
            let full = path::join([dir, &name]);
            if (first && everything) || self.leads_to_dir(&full, kind)? != first {
                out.push(full);
            }
        }
        Ok(out)
    }

    /// Everything below a directory, links to directories followed.
    fn below(&mut self, dir: &str, first: bool, out: &mut Vec<String>) -> Result<(), Error> {
        if self.find == Find::Everything || !first {
            out.push(dir.to_owned());
        }
        for (name, kind) in self.entries(dir)? {
            let full = path::join([dir, &name]);
            if self.leads_to_dir(&full, kind)? {
                self.below(&full, first, out)?;
            } else if first {
                out.push(full);
            }
        }
        Ok(())
    }

    fn entries(&mut self, dir: &str) -> Result<Vec<(String, Kind)>, Error> {
        let entries = self.tree.entries(dir).map_err(|e| self.failed(dir, e))?;
        // Long paths are slow to follow, and a sign of links that lead back.
        for _ in 0..entries.len() * (1 + dir.len() / 32) {
            self.step()?;
        }
        Ok(entries)
    }

    fn leads_to_dir(&self, name: &str, kind: Kind) -> Result<bool, Error> {
        match kind {
            Kind::Directory => Ok(true),
            Kind::File => Ok(false),
            Kind::Link => self.is_dir(name),
        }
    }

    fn is_dir(&self, name: &str) -> Result<bool, Error> {
        self.tree.is_dir(name).map_err(|e| self.failed(name, e))
    }

    fn failed(&self, name: &str, source: io::Error) -> Error {
        Error::Search { place: self.tree.location(name).display().to_string(), source }
    }

    fn by_alternative(
        &mut self,
        p: &[char],
        open: usize,
        close: usize,
        first: bool,
    ) -> Result<Vec<String>, Error> {
        let (bases, start) = match last_of(&p[..open], &['/', '}']) {
            Some(cut) if p[cut] == '/' => (self.go(&p[..cut], false)?, cut + 1),
            _ => (vec![String::new()], 0),
        };
        let (mut choices, _) = alternatives(p, open + 1);
        // An empty alternative at the end is never tried.
        if choices.last().is_some_and(|c| c.is_empty()) {
            choices.pop();
        }
        let mut out = Vec::new();
        for base in bases {
            let mut prefix: Vec<char> = base.chars().collect();
            if base == "." {
                prefix.clear();
            }
            if !prefix.is_empty() {
                prefix.push('/');
            }
            for choice in &choices {
                let written = [&prefix[..], &p[start..open], choice, &p[close + 1..]].concat();
                out.extend(self.go(&written, first)?);
            }
        }
        Ok(out)
    }
}

/// The brace that the one at `close` closes.
fn opening(p: &[char], close: usize) -> Option<usize> {
    let mut depth = 1;
    (0..close).rev().find(|&i| {
        if i > 0 && p[i - 1] == '\\' {
            return false;
        }
        match p[i] {
            '}' => depth += 1,
            '{' => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, name, want) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a/b.yml", false),
            ("**/*.yml", "a.yml", true),
            ("**/*.yml", "a/b/c.yml", true),
            ("a/**", "a", true),
            ("a/**", "a/b/c", true),
            ("a/**", "ab", false),
            ("/x/**/z", "/x/z", true),
            ("/x/**/z", "/x/y/y/z", true),
            ("a**b", "a/b", false),
            ("a**b", "axxb", true),
            ("?", "/", false),
            ("[a-c]x", "bx", true),
            ("[!a]x", "bx", true),
            ("[!a]x", "/x", true),
            ("[^a]x", "ax", false),
            ("{a,b/c}/d", "b/c/d", true),
            ("{a,b/c}/d", "c/d", false),
            ("a{,b}", "a", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name).unwrap(), want, "{pattern} on {name}");
        }
    }

    #[test]
    fn malformed_patterns_are_errors_even_without_a_candidate() {
        for pattern in ["[", "[]a]", "[a", "{a", "a}", "a\\", "x[!]"] {
            assert!(matches!(matches(pattern, "y"), Err(Error::Malformed(_))), "{pattern}");
        }
    }

    #[test]
    fn costly_patterns_stop() {
        let name = "a".repeat(30) + "b";
        for pattern in ["{a,a}".repeat(30), "{,}".repeat(30) + "a", "{a,b}".repeat(200)] {
            let result = matches(&pattern, &name);
            assert!(matches!(result, Err(Error::TooCostly(_))), "{pattern}");
        }
    }
}
