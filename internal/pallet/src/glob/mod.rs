//! Glob patterns as Go's doublestar v4 matches them, which Forklift uses to find its files.
//!
//! `*` and `?` stay within a segment, `**` as a whole segment is any number of segments, `[a-z]`, `[!a]`,
//! `{a,b}` with alternatives that may contain `/`, and `\` escapes. Two things are odd and kept: a negated
//! class matches `/` too, and alternatives are written out in place, so that `*{*}` can become `**`.

mod matcher;
mod search;

use std::io;

use crate::tree::Tree;
use matcher::Matcher;
use search::Search;

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
