//! Slash-separated paths as Go's `path` and `io/fs` packages treat them, on which Forklift's rules stand.

/// The shortest equal path: no empty, `.` or (but at the front of a relative path) `..` parts; `.` if nothing is left.
pub(crate) fn clean(path: &str) -> String {
    if path.is_empty() {
        return ".".into();
    }
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// The non-empty parts with slashes between them, cleaned; empty if there are none.
pub(crate) fn join<const N: usize>(parts: [&str; N]) -> String {
    let joined: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    if joined.is_empty() {
        return String::new();
    }
    clean(&joined.join("/"))
}

/// Everything before the last part, cleaned; `.` if there is only one.
pub(crate) fn parent(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |i| i + 1)])
}

/// The last part; `.` of an empty path, `/` of a root.
pub(crate) fn last(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/') {
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

/// A clean relative path without `..`: what Go's file systems take for a name.
pub(crate) fn is_valid(name: &str) -> bool {
    name == "." || name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// `path` without a leading `prefix`, or as it is.
pub(crate) fn trim_prefix<'a>(path: &'a str, prefix: &str) -> &'a str {
    path.strip_prefix(prefix).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (given, want) in [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/..", "a/b"),
            ("/../a", "/a"),
            ("../../a", "../../a"),
            ("a/../..", ".."),
            ("//packages/./a/", "/packages/a"),
            ("/packages/x/../a", "/packages/a"),
        ] {
            assert_eq!(clean(given), want, "{given}");
        }
    }

    #[test]
    fn parts_of_paths() {
        assert_eq!(join(["", "a", "", "../b"]), "b");
        assert_eq!(join(["", ""]), "");
        assert_eq!(parent("github.com/a/b"), "github.com/a");
        assert_eq!(parent("a"), ".");
        assert_eq!(parent("/a"), "/");
        assert_eq!(last("a/b/"), "b");
        assert_eq!(last(""), ".");
        assert_eq!(last("//"), "/");
        for (name, valid) in [
            ("a/b", true),
            (".", true),
            ("./a", false),
            ("a//b", false),
            ("../a", false),
            ("", false),
            ("/a", false),
        ] {
            assert_eq!(is_valid(name), valid, "{name}");
        }
    }
}
