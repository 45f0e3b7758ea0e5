//! Image references, by Docker's rules.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// A normalised image reference: registry, repository, and a tag, a digest or both.
///
/// The grammar and the normalisation are those of Docker's `distribution/reference` (`ParseNormalizedNamed`), because
/// an engine is asked for exactly these strings: `caddy` is `docker.io/library/caddy`, `index.docker.io` is
/// `docker.io`, and a first component is a registry only if it has a `.`, a `:` or an upper-case letter, or is
/// `localhost`. No tag is ever added: see [`Reference::or_latest`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing, or nothing but a tag or digest.
    #[error("the image reference is empty")]
    Empty,
    /// 64 hexadecimal digits alone are an image ID to Docker.
    #[error("`{0}` is an image ID, not a reference: name the repository that has it")]
    ImageId(String),
    /// Docker's repositories are lower-case.
    #[error("`{0}`: the repository name must be lower-case")]
    UpperCase(String),
    /// The repository is longer than 255 bytes.
    #[error("`{0}`: the repository name is longer than 255 bytes")]
    TooLong(String),
    /// Something else is not as the grammar has it.
    #[error("`{text}`: {part} is not valid")]
    Grammar {
        /// What was written, shortened.
        text: String,
        /// Which part is wrong.
        part: &'static str,
    },
    /// The digest is malformed or of another algorithm.
    #[error("`{text}` has a digest that cannot be used")]
    Digest {
        /// What was written, shortened.
        text: String,
        /// What is wrong with it.
        #[source]
        source: crate::DigestError,
    },
    /// Neither a tag nor a digest where one is needed. Forklift and Docker's pull API refuse it as well.
    #[error("`{0}` has neither a tag nor a digest: write {0}:TAG")]
    Unspecific(String),
}

const DOCKER_IO: &str = "docker.io";

impl Reference {
    /// The registry's host and port as written, `docker.io` where none was.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in its registry, `library/` included where Docker adds it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository: `docker.io/library/caddy`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Registry and repository as Docker shows them and stores them in `repositories.json`: `caddy`,
    /// `acme/five`, `ghcr.io/acme/two`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DOCKER_IO {
            return self.name();
        }
        match self.path.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as Docker shows it.
    pub fn familiar(&self) -> String {
        self.with_suffixes(self.familiar_name())
    }

    /// The name with the tag alone: `docker.io/library/caddy:2.6.2`. `None` without a tag.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// The name with the digest alone: `docker.io/library/caddy@sha256:…`. `None` without a digest.
    pub fn pinned(&self) -> Option<String> {
        self.digest.map(|digest| format!("{}@{digest}", self.name()))
    }

    /// This reference without its digest.
    #[must_use]
    pub fn without_digest(mut self) -> Self {
        self.digest = None;
        self
    }

    /// This reference with another digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// An error where neither a tag nor a digest says which image is meant.
    pub fn specific(self) -> Result<Self, ReferenceError> {
        if self.tag.is_none() && self.digest.is_none() {
            return Err(ReferenceError::Unspecific(self.familiar()));
        }
        Ok(self)
    }

    /// Docker's default: the tag `latest` where there is neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    fn with_suffixes(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffixes(self.name()))
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let grammar = |part| ReferenceError::Grammar { text: shorten(text), part };
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::ImageId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|source| ReferenceError::Digest { text: shorten(text), source })?;
                (rest, Some(digest))
            }
        };
        let (domain, remainder) = split_domain(rest);
        let (path, tag) = match remainder.split_once(':') {
            None => (remainder, None),
            Some((path, tag)) => (path, Some(tag)),
        };
        if path.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase(shorten(text)));
        }
        if !path.split('/').all(is_path_component) {
            return Err(grammar("the repository name"));
        }
        if !is_domain(domain) {
            return Err(grammar("the registry's host name"));
        }
        if !tag.is_none_or(is_tag) {
            return Err(grammar("the tag"));
        }
        let path = if domain == DOCKER_IO && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if path.len() > 255 {
            return Err(ReferenceError::TooLong(shorten(text)));
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

/// Separates the registry from the repository, as Docker does.
fn split_domain(name: &str) -> (&str, &str) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DOCKER_IO, name);
    };
    if first == "index.docker.io" {
        return (DOCKER_IO, rest);
    }
    let is_domain =
        first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase());
    if is_domain { (first, rest) } else { (DOCKER_IO, name) }
}

/// `[a-z0-9]+` parts joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes
        .split(|b| is_word(*b))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            let is_address =
                !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return is_address && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_and_shortened_as_docker_does() {
        for (text, full, familiar) in [
            ("caddy", "docker.io/library/caddy", "caddy"),
            ("caddy:2.6.2", "docker.io/library/caddy:2.6.2", "caddy:2.6.2"),
            ("docker.io/caddy:2", "docker.io/library/caddy:2", "caddy:2"),
            ("index.docker.io/library/caddy:2", "docker.io/library/caddy:2", "caddy:2"),
            ("acme/five:1", "docker.io/acme/five:1", "acme/five:1"),
            ("ghcr.io/acme/two:1", "ghcr.io/acme/two:1", "ghcr.io/acme/two:1"),
            ("localhost/a:1", "localhost/a:1", "localhost/a:1"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("[::1]:5000/a:1", "[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("Foo/bar:1", "Foo/bar:1", "Foo/bar:1"),
            ("docker.io/library/a/b:1", "docker.io/library/a/b:1", "library/a/b:1"),
            ("a__b/c---d/e.f_g:T.x-_", "docker.io/a__b/c---d/e.f_g:T.x-_", "a__b/c---d/e.f_g:T.x-_"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
        }
        let pinned: Reference = format!("caddy:2@sha256:{HEX}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/caddy:2@sha256:{HEX}"));
        assert_eq!(pinned.tagged().unwrap(), "docker.io/library/caddy:2");
        assert_eq!(pinned.pinned().unwrap(), format!("docker.io/library/caddy@sha256:{HEX}"));
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (text, want) in [
            ("", "empty"),
            (":tag", "empty"),
            ("ghcr.io/", "empty"),
            (HEX, "image ID"),
            ("Caddy", "lower-case"),
            ("ghcr.io/Acme/two", "lower-case"),
            ("a/Foo:1", "lower-case"),
            ("-a", "repository name is not"),
            ("a..b", "repository name is not"),
            ("a___b", "repository name is not"),
            ("a//b", "repository name is not"),
            (" caddy", "repository name is not"),
            ("caddy:", "tag is not"),
            ("caddy:-x", "tag is not"),
            ("caddy:a:b", "tag is not"),
            ("-x.io/a", "host name is not"),
            ("x.io:/a", "host name is not"),
            ("caddy@sha256:abc", "digest that cannot be used"),
            ("caddy@md5:abc", "digest that cannot be used"),
            ("caddy@", "digest that cannot be used"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        let long = "a".repeat(256);
        assert!(matches!(long.parse::<Reference>(), Err(ReferenceError::TooLong(_))));
    }

    #[test]
    fn unspecific_references_are_refused_or_completed() {
        let bare: Reference = "nginxdemos/hello".parse().unwrap();
        assert!(bare.clone().specific().unwrap_err().to_string().contains("neither a tag nor a digest"));
        assert_eq!(bare.or_latest().familiar(), "nginxdemos/hello:latest");
    }

    proptest! {
        #[test]
        fn what_is_shown_means_the_same(
            text in "([a-z0-9.]{1,8}(:[0-9]{1,4})?/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9_.-]{1,10})?"
        ) {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<Reference>();
            let _ = text.parse::<crate::Platform>();
            let _ = text.parse::<Digest>();
        }
    }
}
