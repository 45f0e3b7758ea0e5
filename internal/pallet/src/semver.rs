//! Version numbers: strict ones for tags of locks, and the order of Go's `golang.org/x/mod/semver`.

use std::cmp::Ordering;

/// `v1.2.3-pre+build`, in its parts; all of them borrowed from the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub(crate) major: &'a str,
    pub(crate) minor: &'a str,
    pub(crate) patch: &'a str,
    /// Without the `-`; empty if there is none.
    pub(crate) prerelease: &'a str,
}

impl<'a> Version<'a> {
    /// A `v` with semantic version 2.0.0, all three numbers given, no leading zeros.
    pub(crate) fn strict(text: &'a str) -> Option<Self> {
        let (rest, build) = match text.strip_prefix('v')?.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (text.strip_prefix('v')?, None),
        };
        if !build.is_none_or(|b| b.split('.').all(is_identifier)) {
            return None;
        }
        let (core, prerelease) = match rest.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (rest, None),
        };
        if !prerelease.is_none_or(|p| p.split('.').all(is_prerelease_part)) {
            return None;
        }
        let mut numbers = core.split('.');
        let (major, minor, patch) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let all = [major, minor, patch];
        if numbers.next().is_some() || !all.into_iter().all(is_number) {
            return None;
        }
        Some(Self { major, minor, patch, prerelease: prerelease.unwrap_or_default() })
    }

    /// What Go takes for a version: as [`Self::strict`], and the short forms `v1` and `v1.2`.
    fn loose(text: &'a str) -> Option<Self> {
        if let Some(version) = Self::strict(text) {
            return Some(version);
        }
        let mut numbers = text.strip_prefix('v')?.split('.');
        let (major, minor) = (numbers.next()?, numbers.next().unwrap_or("0"));
        if numbers.next().is_some() || !is_number(major) || !is_number(minor) {
            return None;
        }
        Some(Self { major, minor, patch: "0", prerelease: "" })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

fn is_prerelease_part(text: &str) -> bool {
    is_identifier(text) && (!text.bytes().all(|c| c.is_ascii_digit()) || is_number(text))
}

/// Orders two versions. An invalid one is lower than every valid one; build metadata doesn't count.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    match (Version::loose(a), Version::loose(b)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => numbers(a.major, b.major)
            .then_with(|| numbers(a.minor, b.minor))
            .then_with(|| numbers(a.patch, b.patch))
            .then_with(|| prereleases(a.prerelease, b.prerelease)),
    }
}

/// Numbers of any length without leading zeros.
fn numbers(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn prereleases(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                (true, true) => numbers(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_versions() {
        for good in ["v0.0.0", "v1.2.3-alpha.1", "v1.2.3-0a.x-y+b.01", "v10.20.30+x"] {
            assert!(Version::strict(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "v",
            "1.2.3",
            "v1.2",
            "v01.2.3",
            "v1.2.3-",
            "v1.2.3-01",
            "v1.2.3+",
            "v1.2.3-a..b",
            "v1.2.3.4",
            "v1.2.3 ",
            "v-1.2.3",
        ] {
            assert!(Version::strict(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn order() {
        let ascending = [
            "broken",
            "v0.4.0-alpha.1",
            "v0.4.0-alpha.2",
            "v0.4.0-alpha.10",
            "v0.4.0-beta",
            "v0.4",
            "v0.7.0",
            "v0.8.0-alpha.6",
            "v0.8.0-alpha.6.x",
            "v0.8.0",
            "v0.10.0",
            "v1",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("v1.0.0+a", "v1.0.0"), Ordering::Equal);
        assert_eq!(compare("", "x"), Ordering::Equal);
    }
}
