//! Searching a tree for what a pattern matches.

use std::io;

use super::{Error, Find, alternatives, has_meta, last_of, literal, matches, opening};
use crate::path;
use crate::tree::{Kind, Tree};

pub(super) struct Search<'a> {
    pub(super) tree: &'a Tree,
    pub(super) find: Find,
    /// Steps that may still be taken.
    pub(super) steps: usize,
    pub(super) pattern: &'a str,
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
    pub(super) fn go(&mut self, p: &[char], first: bool) -> Result<Vec<String>, Error> {
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
