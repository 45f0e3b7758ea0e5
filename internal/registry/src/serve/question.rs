//! What a request asks for: read from its path, its query, and the name that it calls the server by.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{ACCEPT, HOST, RANGE};
use axum::http::{HeaderMap, Method, Uri};
use palletjack_image::Digest;

use super::answer::Refusal;

/// The longest path that can name anything: a repository has at most 255 bytes, a tag 128.
const LONGEST_PATH: usize = 1024;

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The registry that the name belongs to, where the request says one; without `:80` and `:443`.
    pub(super) registry: Option<String>,
    pub(super) what: What,
    /// The media types of all `Accept` lines; empty where there are none.
    pub(super) accept: Vec<String>,
    /// The text of `Range`.
    pub(super) range: Option<String>,
    /// Whether only the head of the answer is wanted.
    pub(super) head: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// `/v2/`: is this a registry at all?
    Version,
    Manifest {
        repository: String,
        wanted: Wanted,
    },
    Blob {
        repository: String,
        digest: Digest,
    },
    Tags {
        repository: String,
        /// At most so many.
        limit: Option<usize>,
        /// Only those after this one.
        last: Option<String>,
    },
    /// Of whatever: none are kept.
    Referrers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Tag(String),
    Digest(Digest),
}

impl Question {
    pub(super) fn read(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        local: SocketAddr,
    ) -> Result<Self, Refusal> {
        let head = match *method {
            Method::GET => false,
            Method::HEAD => true,
            _ => return Err(Refusal::method(method)),
        };
        let path = uri.path();
        if path.len() > LONGEST_PATH {
            return Err(Refusal::no_such_path("the path is too long"));
        }
        let path = decoded(path).ok_or_else(|| Refusal::no_such_path("the path is not valid"))?;
        let query = Query::read(uri.query().unwrap_or_default());
        Ok(Self {
            registry: registry(query.ns.as_deref(), uri, headers, local),
            what: what(&path, query)?,
            accept: accepted(headers),
            range: headers.get(RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned),
            head,
        })
    }

    pub(super) fn is_about_a_blob(&self) -> bool {
        matches!(self.what, What::Blob { .. })
    }
}

/// Splits from the right, because a repository may have any number of slashes and the words of the API in it.
fn what(path: &str, query: Query) -> Result<What, Refusal> {
    let unknown = || Refusal::no_such_path("it is no path of the distribution API");
    let rest = match path {
        "/v2" | "/v2/" => return Ok(What::Version),
        path => path.strip_prefix("/v2/").ok_or_else(unknown)?,
    };
    let (rest, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
    let (repository, verb) = rest.rsplit_once('/').ok_or_else(unknown)?;
    if repository.is_empty() {
        return Err(unknown());
    }
    let repository = repository.to_owned();
    let digest = || last.parse::<Digest>().map_err(|error| Refusal::digest_invalid(error.to_string()));
    match (verb, last) {
        ("tags", "list") => Ok(What::Tags { repository, limit: query.n, last: query.last }),
        ("manifests", _) if last.contains(':') => {
            Ok(What::Manifest { repository, wanted: Wanted::Digest(digest()?) })
        }
        ("manifests", tag) if !tag.is_empty() => {
            Ok(What::Manifest { repository, wanted: Wanted::Tag(tag.to_owned()) })
        }
        ("blobs", _) => Ok(What::Blob { repository, digest: digest()? }),
        ("referrers", _) => digest().map(|_| What::Referrers),
        _ => Err(unknown()),
    }
}

#[derive(Debug, Default)]
struct Query {
    ns: Option<String>,
    n: Option<usize>,
    last: Option<String>,
}

impl Query {
    fn read(text: &str) -> Self {
        let mut query = Self::default();
        for pair in text.split('&') {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let Some(value) = decoded(value).filter(|value| !value.is_empty()) else { continue };
            match key {
                "ns" => query.ns = Some(value),
                "n" => query.n = value.parse().ok(),
                "last" => query.last = Some(value),
                _ => {}
            }
        }
        query
    }
}

/// Percent-decoding (RFC 3986, section 2.1); `None` where it is broken or gives no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (code, after) = rest.split_at_checked(2)?;
        let code = std::str::from_utf8(code).ok().filter(|code| !code.starts_with('+'))?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// The media types of every `Accept` line, without their parameters.
fn accepted(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|range| range.split(';').next())
        .map(|media_type| media_type.trim().to_ascii_lowercase())
        .filter(|media_type| !media_type.is_empty())
        .collect()
}

/// The registry that a name belongs to: what `?ns=` says (containerd), else the host of a request in absolute form
/// (which counts before `Host`: RFC 9112, section 3.2.2), else `Host`. A loopback host and our own address say nothing.
fn registry(ns: Option<&str>, uri: &Uri, headers: &HeaderMap, local: SocketAddr) -> Option<String> {
    if let Some(ns) = ns {
        return Some(canonical(ns));
    }
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST)?.to_str().ok()?,
    };
    let host = host.trim();
    if host.is_empty() || is_ourselves(host, local) { None } else { Some(canonical(host)) }
}

fn is_ourselves(host: &str, local: SocketAddr) -> bool {
    let address = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let is_local = |ip: IpAddr| ip.is_loopback() || ip == local.ip();
    if let Ok(socket) = host.parse::<SocketAddr>() {
        return is_local(socket.ip());
    }
    if let Some(ip) = address(host) {
        return is_local(ip);
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    name.eq_ignore_ascii_case("localhost") || address(name).is_some_and(is_local)
}

/// One spelling for each registry: Docker Hub answers to three names, and the ports of HTTP and HTTPS are none.
pub(super) fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(&host);
    match host {
        "registry-1.docker.io" | "index.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    fn ask(target: &str, headers: &[(&str, &str)]) -> Result<Question, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                name.parse::<axum::http::HeaderName>().unwrap(),
                axum::http::HeaderValue::from_str(value).unwrap(),
            );
        }
        Question::read(&Method::GET, &target.parse().unwrap(), &map, "10.0.0.2:80".parse().unwrap())
    }

    fn status(target: &str) -> u16 {
        ask(target, &[]).unwrap_err().response().status().as_u16()
    }

    #[test]
    fn paths_are_split_from_the_right() {
        let digest: Digest = D.parse().unwrap();
        let tag = |repository: &str, tag: &str| What::Manifest {
            repository: repository.to_owned(),
            wanted: Wanted::Tag(tag.to_owned()),
        };
        for (path, want) in [
            ("/v2".to_owned(), What::Version),
            ("/v2/".to_owned(), What::Version),
            ("/v2/a/manifests/1".to_owned(), tag("a", "1")),
            ("/v2/a/b/c/d/e/f/manifests/v1.2".to_owned(), tag("a/b/c/d/e/f", "v1.2")),
            ("/v2/a/manifests/blobs/manifests/tags".to_owned(), tag("a/manifests/blobs", "tags")),
            ("/v2/tags/list/manifests/list".to_owned(), tag("tags/list", "list")),
            (
                format!("/v2/a/b/manifests/{}", D.replace(':', "%3A")),
                What::Manifest { repository: "a/b".to_owned(), wanted: Wanted::Digest(digest) },
            ),
            (format!("/v2/a/b/blobs/{D}"), What::Blob { repository: "a/b".to_owned(), digest }),
            (format!("/v2/a/referrers/{D}?artifactType=x"), What::Referrers),
            (
                "/v2/a/tags/list?n=2&last=v1".to_owned(),
                What::Tags { repository: "a".to_owned(), limit: Some(2), last: Some("v1".to_owned()) },
            ),
        ] {
            assert_eq!(ask(&path, &[]).unwrap().what, want, "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for (path, want) in [
            ("/", 404),
            ("/v1/a/manifests/1", 404),
            ("/v2/manifests/1", 404),
            ("/v2//manifests/1", 404),
            ("/v2/_catalog", 404),
            ("/v2/a/manifests/", 404),
            ("/v2/a/tags/other", 404),
            ("/v2/a/manifests/%zz", 404),
            ("/v2/a/manifests/%+1", 404),
            ("/v2/a/manifests/%ff", 404),
            ("/v2/a/manifests/%4", 404),
            ("/v2/a/blobs/latest", 400),
            ("/v2/a/blobs/sha256:00", 400),
            ("/v2/a/manifests/sha512:00", 400),
            ("/v2/a/blobs/uploads/", 404),
        ] {
            assert_eq!(status(path), want, "{path}");
        }
        assert_eq!(status(&format!("/v2/{}/manifests/1", "a/".repeat(600))), 404);
        let post =
            Question::read(&Method::POST, &"/v2/".parse().unwrap(), &HeaderMap::new(), ([0; 4], 1).into());
        assert_eq!(post.unwrap_err().response().status().as_u16(), 405);
    }

    #[test]
    fn the_registry_is_named_by_ns_then_the_absolute_form_then_the_host() {
        let absolute = "http://ghcr.io/v2/a/manifests/1";
        let path = "/v2/a/manifests/1";
        let ns = "/v2/a/manifests/1?ns=docker.io";
        for (target, host, want) in [
            (path, Some("127.0.0.1:5000"), None),
            (path, Some("127.8.9.1"), None),
            (path, Some("localhost:80"), None),
            (path, Some("[::1]:5000"), None),
            (path, Some("[::1]"), None),
            // The address that it listens on.
            (path, Some("10.0.0.2:5000"), None),
            (path, Some("10.0.0.3:5000"), Some("10.0.0.3:5000")),
            (path, None, None),
            (path, Some("GHCR.io"), Some("ghcr.io")),
            (path, Some("quay.io:80"), Some("quay.io")),
            (path, Some("registry.local:5000"), Some("registry.local:5000")),
            (path, Some("registry-1.docker.io"), Some("docker.io")),
            (absolute, Some("127.0.0.1:80"), Some("ghcr.io")),
            (absolute, Some("quay.io"), Some("ghcr.io")),
            (ns, Some("127.0.0.1:80"), Some("docker.io")),
            (ns, Some("ghcr.io"), Some("docker.io")),
        ] {
            let headers: Vec<(&str, &str)> = host.map(|host| ("host", host)).into_iter().collect();
            let question = ask(target, &headers).unwrap();
            assert_eq!(question.registry.as_deref(), want, "{target} {host:?}");
        }
    }

    #[test]
    fn every_accept_line_counts() {
        let question =
            ask("/v2/a/manifests/1", &[("accept", "A/b;q=0.5, c/d"), ("accept", "e/f"), ("accept", " ")]);
        assert_eq!(question.unwrap().accept, ["a/b", "c/d", "e/f"]);
    }
}
