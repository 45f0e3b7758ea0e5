//! The parts of an image's name, split here by the testkit's own few lines: a test's expectation must not come from
//! the parser that it tests.

/// A reference taken apart: `ghcr.io/acme/tool:1.2@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `ghcr.io`; `docker.io` when the reference names no host.
    pub host: String,
    /// `acme/tool`; for Docker Hub's own images with their `library/`.
    pub repository: String,
    /// `1.2`, if there is one.
    pub tag: Option<String>,
    /// `sha256:…`, if there is one.
    pub digest: Option<String>,
}

impl Name {
    /// Takes a reference apart by Docker's rules. The text is a test's own and is trusted to be one.
    pub fn parse(reference: &str) -> Self {
        let (rest, digest) = match reference.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (reference, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => ("docker.io", rest),
        };
        let repository = if host == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Self { host: host.to_owned(), repository, tag, digest }
    }

    /// `host/repository`.
    pub fn full(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_docker_does() {
        for (text, host, repository, tag, digest) in [
            ("caddy", "docker.io", "library/caddy", None, None),
            ("nodered/node-red:4-minimal", "docker.io", "nodered/node-red", Some("4-minimal"), None),
            ("docker.io/library/caddy:2.6.2", "docker.io", "library/caddy", Some("2.6.2"), None),
            ("ghcr.io/a/b/c:1@sha256:00", "ghcr.io", "a/b/c", Some("1"), Some("sha256:00")),
            ("127.0.0.1:5000/x", "127.0.0.1:5000", "x", None, None),
            ("localhost/x:y", "localhost", "x", Some("y"), None),
        ] {
            let name = Name::parse(text);
            assert_eq!((name.host.as_str(), name.repository.as_str()), (host, repository), "{text}");
            assert_eq!((name.tag.as_deref(), name.digest.as_deref()), (tag, digest), "{text}");
        }
    }
}
