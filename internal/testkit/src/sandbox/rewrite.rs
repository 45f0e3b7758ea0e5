//! Other digests in a real pallet's Compose files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Replaces image strings in every YAML file below a directory, and returns how many were replaced.
///
/// Text is replaced as text, so that comments, quotes and all else stay as the pallet's authors wrote them. The strings are
/// longest first, because one may be the beginning of another; a string that is followed by more of a reference
/// (as `caddy:2` is in `caddy:2.6`) is left alone. An error when one of them occurs nowhere.
pub fn rewrite_images(directory: &Path, replacements: &BTreeMap<String, String>) -> io::Result<usize> {
    let mut ordered: Vec<(&str, &str, usize)> =
        replacements.iter().map(|(from, to)| (from.as_str(), to.as_str(), 0)).collect();
    ordered.sort_by_key(|(from, ..)| std::cmp::Reverse(from.len()));
    rewrite_tree(directory, &mut ordered)?;
    if let Some((from, ..)) = ordered.iter().find(|(_, _, count)| *count == 0) {
        return Err(io::Error::other(format!("{from} is in no Compose file below {}", directory.display())));
    }
    Ok(ordered.iter().map(|(_, _, count)| count).sum())
}

fn rewrite_tree(directory: &Path, replacements: &mut [(&str, &str, usize)]) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            rewrite_tree(&path, replacements)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let changed = rewrite_text(&text, replacements);
            if changed != text {
                fs::write(&path, changed)?;
            }
        }
    }
    Ok(())
}

fn rewrite_text(text: &str, replacements: &mut [(&str, &str, usize)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let ends_before = |after: &str| !after.starts_with(is_part);
        let starts_here = !out.ends_with(is_part);
        let found = replacements
            .iter_mut()
            .find(|(from, ..)| starts_here && rest.strip_prefix(*from).is_some_and(ends_before));
        if let Some((from, to, count)) = found {
            *count += 1;
            out.push_str(to);
            rest = &rest[from.len()..];
        } else {
            let next = rest.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
        }
    }
    out
}

/// Whether a character can be inside a reference.
fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-/:@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_references_are_replaced_and_nothing_else() {
        let mut map = [("x/caddy:2@sha256:aa", "x/caddy:2@sha256:bb", 0), ("caddy:2", "caddy:3", 0)];
        let text = "image: x/caddy:2@sha256:aa # caddy:2.6, caddy:2\nother: 'caddy:2'\nlast: mycaddy:2";
        assert_eq!(
            rewrite_text(text, &mut map),
            "image: x/caddy:2@sha256:bb # caddy:2.6, caddy:3\nother: 'caddy:3'\nlast: mycaddy:2"
        );
        assert_eq!((map[0].2, map[1].2), (1, 2));
    }

    #[test]
    fn a_string_that_is_nowhere_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let map = BTreeMap::from([("a:1".to_owned(), "b:1".to_owned())]);
        let error = rewrite_images(directory.path(), &map).unwrap_err();
        assert!(error.to_string().contains("a:1 is in no Compose file"), "{error}");
    }
}
