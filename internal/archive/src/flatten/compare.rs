//! A tree against what an engine shows of it.

use std::fmt;
use std::io::Read;

use super::tarball::{Member, MemberKind, TarError, Tarball};
use super::tree::{Kind, Node, Seen, Tree};

/// Differences that are told by name; the others are counted.
const TOLD: usize = 5;

/// What came of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Files, directories and links that are as they should be.
    pub alike: u64,
    /// How many are not.
    pub different: u64,
    /// The first of those.
    pub first: Vec<Difference>,
}

/// A path at which the engine shows something else than the layers have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path, with a leading slash; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// In what way.
    pub what: What,
}

/// How a path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is not there.
    Missing,
    /// It is there and should not be: what hides it is lost.
    Unexpected,
    /// It has another length in bytes: 0 is what a power cut leaves.
    Length {
        /// As the engine shows it.
        is: u64,
        /// As the layers have it.
        should_be: u64,
    },
    /// The same length, other bytes.
    Content,
    /// A file where a directory should be, another link target, and the like.
    Kind,
    /// Other permission bits.
    Mode {
        /// As the engine shows them.
        is: u32,
        /// As the layers have them.
        should_be: u32,
    },
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_whole(&self) -> bool {
        self.different == 0
    }

    fn differs(&mut self, path: &[u8], what: What) {
        self.different += 1;
        if self.first.len() < TOLD {
            self.first.push(Difference { path: format!("/{}", String::from_utf8_lossy(path)), what });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            What::Missing => write!(f, "{path} is missing"),
            What::Unexpected => write!(f, "{path} should not be there"),
            What::Length { is, should_be } => write!(f, "{path} has {is} bytes instead of {should_be}"),
            What::Content => write!(f, "{path} has other content"),
            What::Kind => write!(f, "{path} is another kind of file"),
            What::Mode { is, should_be } => write!(f, "{path} has the mode {is:o} instead of {should_be:o}"),
        }
    }
}

impl Tree {
    /// Compares a tar of a whole root, as an engine exports it, with this tree. Contents are hashed as they pass.
    ///
    /// Not compared: what `ignore` says; owners and times, which engines map; directories that only the engine has,
    /// which are its mount points. Where engines differ ([`Tree::ambiguous`]) nothing is said.
    pub fn compare<R: Read>(
        mut self,
        tarball: &mut Tarball<R>,
        ignore: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Comparison, TarError> {
        let mut comparison = Comparison::default();
        while let Some(member) = tarball.next()? {
            if member.path.is_empty() || ignore(&member.path) || self.is_ambiguous(&member.path) {
                continue;
            }
            let verdict = self.judge(tarball, &member)?;
            // Where a link is followed by one engine and not by another, files land in either place.
            let may_be_extra = member.kind == MemberKind::Directory || !self.ambiguous().is_empty();
            match self.node_mut(&member.path) {
                Some(node) => node.seen = if verdict.is_none() { Seen::Alike } else { Seen::Different },
                None if may_be_extra => continue,
                None => {}
            }
            match verdict {
                None => comparison.alike += 1,
                Some(what) => comparison.differs(&member.path, what),
            }
        }
        for (path, node) in self.iter() {
            if node.seen == Seen::No && !ignore(path) && !self.is_ambiguous(path) {
                comparison.differs(path, What::Missing);
            }
        }
        Ok(comparison)
    }

    fn judge<R: Read>(&self, tarball: &mut Tarball<R>, member: &Member) -> Result<Option<What>, TarError> {
        let Some(node) = self.get(&member.path) else { return Ok(Some(What::Unexpected)) };
        let is_alike = match (&node.kind, &member.kind) {
            (Kind::File { size, digest }, MemberKind::File(length)) => {
                if length != size {
                    return Ok(Some(What::Length { is: *length, should_be: *size }));
                }
                if tarball.digest()? != *digest {
                    return Ok(Some(What::Content));
                }
                true
            }
            (Kind::File { .. }, MemberKind::Hardlink(target)) => match self.get(target) {
                Some(Node { kind, seen: Seen::Alike, .. }) if *kind == node.kind => true,
                _ => return Ok(Some(What::Content)),
            },
            (Kind::File { .. } | Kind::Unknown, MemberKind::Sparse)
            | (Kind::Unknown, MemberKind::File(_) | MemberKind::Hardlink(_))
            | (Kind::Directory, MemberKind::Directory)
            | (Kind::Special, MemberKind::Special) => true,
            (Kind::Symlink(target), MemberKind::Symlink(other)) => **target == **other,
            (Kind::Symlink(_) | Kind::Special, MemberKind::Hardlink(target)) => {
                self.get(target).is_some_and(|other| other.kind == node.kind)
            }
            _ => false,
        };
        if !is_alike {
            return Ok(Some(What::Kind));
        }
        let is_link = matches!(member.kind, MemberKind::Symlink(_) | MemberKind::Hardlink(_));
        Ok(match node.mode {
            Some(mode) if !is_link && mode != member.mode => {
                Some(What::Mode { is: member.mode, should_be: mode })
            }
            _ => None,
        })
    }

    fn is_ambiguous(&self, path: &[u8]) -> bool {
        self.ambiguous()
            .iter()
            .any(|link| path.strip_prefix(&**link).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
    }
}
