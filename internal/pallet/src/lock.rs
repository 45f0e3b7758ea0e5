//! Version locks: which version of a pallet or repository is required, as Forklift's version string.

use crate::semver::Version;
use crate::yaml::{self, Decoder, NodeId};

/// The file in `requirements/{pallets,repositories}/<path>/`.
pub(crate) const FILE: &str = "forklift-version-lock.yml";

/// What a `forklift-version-lock.yml`, or a `version-lock` in a bundle's manifest, says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionLock {
    /// `version` or `pseudoversion`.
    pub kind: String,
    /// A tag such as `v1.2.3`; empty if there is none.
    pub tag: String,
    /// Time of the commit in UTC, 14 digits.
    pub timestamp: String,
    /// Hash of the commit, in full.
    pub commit: String,
}

/// Why a lock gives no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The type is missing (as before Forklift v0.4.0) or unknown.
    #[error("lock has type {0:?}, but only `version` and `pseudoversion` are known")]
    UnknownKind(String),
    /// The tag is no strict semantic version with a `v`.
    #[error("lock has tag {0:?}, which is no version such as v1.2.3")]
    Tag(String),
    /// A pseudoversion without commit or timestamp.
    #[error("lock of type pseudoversion needs both `commit` and `timestamp`")]
    Incomplete,
    /// Fewer than the 12 characters of the commit which a pseudoversion shows. Forklift crashes on it.
    #[error("lock has commit {0:?}, of which a pseudoversion needs 12 characters")]
    ShortCommit(String),
}

impl VersionLock {
    pub(crate) fn decode(d: &Decoder<'_>, id: NodeId) -> Result<Self, yaml::Error> {
        let mut out = Self::default();
        d.fields(id, |key, value| {
            let slot = match key {
                "type" => &mut out.kind,
                "tag" => &mut out.tag,
                "timestamp" => &mut out.timestamp,
                "commit" => &mut out.commit,
                _ => return Ok(()),
            };
            *slot = d.string(value)?.unwrap_or_default();
            Ok(())
        })?;
        Ok(out)
    }

    /// The version string, which also names the directory in Forklift's caches: a tag as it is, or a
    /// pseudoversion like those of Go modules.
    pub fn version(&self) -> Result<String, Error> {
        let parsed = || Version::strict(&self.tag).ok_or_else(|| Error::Tag(self.tag.clone()));
        match &*self.kind {
            "version" => parsed().map(|_| self.tag.clone()),
            "pseudoversion" => {
                if self.commit.is_empty() || self.timestamp.is_empty() {
                    return Err(Error::Incomplete);
                }
                let short = self.commit.as_bytes().get(..12);
                let short = short.ok_or_else(|| Error::ShortCommit(self.commit.clone()))?;
                let suffix = format!("{}-{}", self.timestamp, String::from_utf8_lossy(short));
                if self.tag.is_empty() {
                    return Ok(format!("v0.0.0-{suffix}"));
                }
                let v = parsed()?;
                if v.prerelease.is_empty() {
                    let (major, minor, patch) = (v.major, v.minor, increment(v.patch));
                    return Ok(format!("v{major}.{minor}.{patch}-0.{suffix}"));
                }
                let (major, minor, patch, pre) = (v.major, v.minor, v.patch, v.prerelease);
                Ok(format!("v{major}.{minor}.{patch}-{pre}.0.{suffix}"))
            }
            other => Err(Error::UnknownKind(other.to_owned())),
        }
    }
}

/// One more than a decimal number of any length.
fn increment(digits: &str) -> String {
    let mut out: Vec<u8> = digits.bytes().collect();
    for digit in out.iter_mut().rev() {
        if *digit == b'9' {
            *digit = b'0';
        } else {
            *digit += 1;
            return out.into_iter().map(char::from).collect();
        }
    }
    format!("1{}", out.into_iter().map(char::from).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(kind: &str, tag: &str, timestamp: &str, commit: &str) -> VersionLock {
        VersionLock { kind: kind.into(), tag: tag.into(), timestamp: timestamp.into(), commit: commit.into() }
    }

    #[test]
    fn version_strings() {
        const T: &str = "20240429165952";
        const C: &str = "65bb42e2bed6aaaaaaaa";
        for (tag, want) in [
            ("", "v0.0.0-20240429165952-65bb42e2bed6"),
            ("v1.2.3", "v1.2.4-0.20240429165952-65bb42e2bed6"),
            ("v1.2.99", "v1.2.100-0.20240429165952-65bb42e2bed6"),
            ("v2024.0.0-alpha.1", "v2024.0.0-alpha.1.0.20240429165952-65bb42e2bed6"),
            ("v1.2.3-a+build", "v1.2.3-a.0.20240429165952-65bb42e2bed6"),
        ] {
            assert_eq!(lock("pseudoversion", tag, T, C).version().unwrap(), want);
        }
        assert_eq!(lock("version", "v1.0.0+b", "", "").version().unwrap(), "v1.0.0+b");
    }

    #[test]
    fn bad_locks() {
        for (lock, want) in [
            (lock("", "v1.0.0", "", ""), Error::UnknownKind(String::new())),
            (lock("version", "1.0.0", "", ""), Error::Tag("1.0.0".into())),
            (lock("pseudoversion", "", "", "abc"), Error::Incomplete),
            (lock("pseudoversion", "", "1", "abc"), Error::ShortCommit("abc".into())),
        ] {
            assert_eq!(lock.version().unwrap_err(), want);
        }
    }
}
