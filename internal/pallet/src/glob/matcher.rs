//! Matching of a pattern with a path.

use super::{alternatives, class};

pub(super) struct Matcher<'a> {
    pub(super) name: &'a [char],
    /// Steps that may still be taken.
    pub(super) steps: usize,
}

impl Matcher<'_> {
    /// Matches `p[i..]` against `name[j..]`. `star` and `globstar` are where to take up again after the last
    /// `*` and `**`: an index into the pattern and one into the name. None if it takes too long.
    pub(super) fn run(
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
