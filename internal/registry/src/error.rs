//! Why a registry did not hand out what was asked for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use palletjack_image::{Digest, ManifestError};

use crate::auth::CredentialError;

/// What a failure is, for whoever must choose an exit code or a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Content is not what its digest says, twice.
    Corrupt,
    /// The file system is full.
    NoSpace,
    /// The registry answered that there is no such thing.
    NotFound,
    /// The registry answered and refused: credentials, rights, rate limit.
    Refused,
    /// No registry could be talked to.
    Network,
    /// The image exists, but not for the platform that was asked for.
    Platform,
    /// What the registry has is nothing that an engine could run from here.
    Unsupported,
    /// The configuration or the reference does not say where to ask.
    Config,
    /// The cache directory failed.
    Store,
    /// The work was cancelled.
    Cancelled,
}

/// No server handed out what was asked for: one line for each server that was asked.
#[derive(Debug, Clone)]
pub struct RemoteError {
    /// What was asked for: a reference, or a blob of one.
    pub what: String,
    /// In the order in which they were asked, mirrors first. Never empty.
    pub failures: Vec<Failure>,
}

/// What one server did.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The server, as `https://host[:port][/path]`.
    pub endpoint: String,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong with one server.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The host's name is not known.
    #[error("the host name cannot be looked up ({0}): is this machine online, and is the name right?")]
    Dns(String),
    /// Nobody listens there.
    #[error("connection refused: nothing listens there")]
    ConnectionRefused,
    /// The connection could not be made for another reason.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// Nothing came for too long.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connection ended too early.
    #[error("the connection broke off ({0})")]
    Broken(String),
    /// 401, and there were no credentials to offer.
    #[error("no credentials for {host}: there is no such public image, or it needs `docker login {host}`{}{}", hint(.reason.as_ref()), said(.message))]
    NoCredentials {
        /// Under which name they were looked up.
        host: String,
        /// Why a source of credentials could not be used.
        reason: Option<Arc<CredentialError>>,
        /// What the server said, quoted.
        message: String,
    },
    /// 401 in spite of the credentials that were found.
    #[error("the credentials for {host} were refused: log in again with `docker login {host}`{}", said(.message))]
    CredentialsRefused {
        /// Under which name they were found.
        host: String,
        /// What the server said, quoted.
        message: String,
    },
    /// Credentials exist, but the connection could be read by others.
    #[error(
        "it asks for credentials over plain HTTP, where they are not sent: use https, or allow it in the configuration"
    )]
    Unencrypted,
    /// 401 with a challenge that nobody understands.
    #[error("it asks for credentials in an unknown way: {0}")]
    Challenge(String),
    /// 403.
    #[error("access denied (403){}", said(.0))]
    Forbidden(String),
    /// 404, or a 401 by which Docker Hub means the same.
    #[error("not found (404){}", said(.0))]
    NotFound(String),
    /// 429.
    #[error("too many requests (429){}{}", lifts(*.after), said(.message))]
    RateLimited {
        /// How long the server asks to wait.
        after: Option<Duration>,
        /// What it said, quoted.
        message: String,
    },
    /// 408 or 5xx: the server's own trouble.
    #[error("the server is in trouble ({status}){}", said(.message))]
    Unavailable {
        /// The status code.
        status: u16,
        /// How long the server asks to wait.
        after: Option<Duration>,
        /// What it said, quoted.
        message: String,
    },
    /// Any other status.
    #[error("unexpected answer ({status}){}", said(.message))]
    Status {
        /// The status code.
        status: u16,
        /// What it said, quoted.
        message: String,
    },
    /// A redirect that is not followed.
    #[error("redirect not followed: {0}")]
    Redirect(String),
    /// The token service answered with something else than a token.
    #[error("the token service {realm} failed: {cause}")]
    Token {
        /// The token service.
        realm: String,
        /// What it did.
        #[source]
        cause: Box<Cause>,
    },
    /// What came is no manifest.
    #[error("{0}")]
    Manifest(#[source] Arc<ManifestError>),
    /// Other content than the digest names.
    #[error("wrong content: the digest is {actual} instead of {expected}")]
    Digest {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// Content of another length than its descriptor says.
    #[error("wrong content: {actual} bytes instead of {expected}")]
    Size {
        /// The size of the descriptor in bytes.
        expected: u64,
        /// The size that was announced or came, in bytes.
        actual: u64,
    },
    /// Another part of the content than was asked for. The next attempt asks for all of it.
    #[error("another range than asked for: {0}")]
    Range(String),
    /// The body is longer than anything of its kind.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The configuration does not say where to ask.
    #[error("{0}")]
    Config(String),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(", saying: {message}") }
}

fn hint(reason: Option<&Arc<CredentialError>>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}

fn lifts(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!(", to be tried again in {} s", after.as_secs()))
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transience {
    /// The answer would be the same.
    Permanent,
    /// It may be over soon; the server may have said when.
    Transient(Option<Duration>),
    /// The content was wrong: one clean attempt from the start.
    Content,
}

impl Cause {
    pub(crate) fn transience(&self) -> Transience {
        match self {
            Self::Dns(_)
            | Self::ConnectionRefused
            | Self::Connect(_)
            | Self::Timeout(_)
            | Self::Broken(_)
            | Self::Range(_) => Transience::Transient(None),
            Self::RateLimited { after, .. } | Self::Unavailable { after, .. } => {
                Transience::Transient(*after)
            }
            Self::Digest { .. } | Self::Size { .. } => Transience::Content,
            Self::Token { cause, .. } => cause.transience(),
            _ => Transience::Permanent,
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Digest { .. } | Self::Size { .. } => ErrorKind::Corrupt,
            Self::NoCredentials { .. }
            | Self::CredentialsRefused { .. }
            | Self::Unencrypted
            | Self::Challenge(_)
            | Self::Forbidden(_)
            | Self::RateLimited { .. }
            | Self::Status { .. }
            | Self::Redirect(_)
            | Self::TooLarge(_) => ErrorKind::Refused,
            Self::Token { cause, .. } => match cause.kind() {
                ErrorKind::NotFound => ErrorKind::Refused,
                kind => kind,
            },
            // A web page in the registry's place is a captive portal: the network's doing.
            Self::Manifest(error) if matches!(**error, ManifestError::Html) => ErrorKind::Network,
            Self::Manifest(_) => ErrorKind::Unsupported,
            Self::Config(_) => ErrorKind::Config,
            _ => ErrorKind::Network,
        }
    }
}

impl RemoteError {
    pub(crate) fn new(what: impl Into<String>, failures: Vec<Failure>) -> Self {
        Self { what: what.into(), failures }
    }

    /// The kind of the answer that says most: the registry itself is asked last, but where it could not be reached,
    /// what a mirror said counts.
    pub fn kind(&self) -> ErrorKind {
        let mut kinds = self.failures.iter().rev().map(|failure| failure.cause.kind());
        let last = kinds.next().unwrap_or(ErrorKind::Network);
        if last != ErrorKind::Network {
            return last;
        }
        kinds.find(|kind| !matches!(kind, ErrorKind::Network | ErrorKind::NotFound)).unwrap_or(last)
    }

    /// Whether a later attempt can help: where any of the servers is only in passing trouble.
    pub(crate) fn transience(&self) -> Transience {
        let mut verdict = Transience::Permanent;
        for failure in &self.failures {
            verdict = match (verdict, failure.cause.transience()) {
                (Transience::Transient(a), Transience::Transient(b)) => Transience::Transient(shorter(a, b)),
                (Transience::Transient(a), _) => Transience::Transient(a),
                (_, Transience::Transient(b)) => Transience::Transient(b),
                (Transience::Content, _) | (_, Transience::Content) => Transience::Content,
                _ => Transience::Permanent,
            };
        }
        verdict
    }
}

/// The earliest time at which one of several servers may answer; one that names none may do so at once.
fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    Some(a?.min(b?))
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failures[..] {
            [only] => write!(f, "cannot get {} from {}: {}", self.what, only.endpoint, only.cause),
            several => {
                write!(f, "cannot get {} from any of {} servers:", self.what, several.len())?;
                for failure in several {
                    write!(f, "\n  {}: {}", failure.endpoint, failure.cause)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for RemoteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // A single server's cause is in the message already; what lies below it is not.
        match &self.failures[..] {
            [only] => std::error::Error::source(&only.cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(causes: &[Cause]) -> RemoteError {
        let failures = causes
            .iter()
            .enumerate()
            .map(|(i, cause)| Failure { endpoint: format!("http://server{i}"), cause: cause.clone() })
            .collect();
        RemoteError::new("caddy:2", failures)
    }

    #[test]
    fn each_server_has_its_line() {
        let one = error(&[Cause::ConnectionRefused]).to_string();
        assert_eq!(one, "cannot get caddy:2 from http://server0: connection refused: nothing listens there");
        let two = error(&[Cause::ConnectionRefused, Cause::NotFound("no such tag".into())]).to_string();
        let lines: Vec<&str> = two.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2], "  http://server1: not found (404), saying: no such tag");
    }

    #[test]
    fn the_registry_itself_decides_the_kind_if_it_could_be_reached() {
        let missing = Cause::NotFound(String::new());
        let limited = Cause::RateLimited { after: None, message: String::new() };
        for (causes, want) in [
            (vec![missing.clone()], ErrorKind::NotFound),
            (vec![Cause::ConnectionRefused, missing.clone()], ErrorKind::NotFound),
            (vec![missing.clone(), Cause::ConnectionRefused], ErrorKind::Network),
            (vec![limited.clone(), Cause::ConnectionRefused], ErrorKind::Refused),
            (vec![missing, limited], ErrorKind::Refused),
        ] {
            assert_eq!(error(&causes).kind(), want, "{causes:?}");
        }
    }

    #[test]
    fn one_server_in_passing_trouble_makes_another_round_worth_while() {
        let wait = |seconds| Cause::Unavailable {
            status: 503,
            after: Some(Duration::from_secs(seconds)),
            message: String::new(),
        };
        let missing = Cause::NotFound(String::new());
        let at = |seconds| Transience::Transient(Some(Duration::from_secs(seconds)));
        for (causes, want) in [
            (vec![missing.clone()], Transience::Permanent),
            (vec![missing.clone(), Cause::ConnectionRefused], Transience::Transient(None)),
            (vec![missing, wait(5)], at(5)),
            (vec![wait(7), wait(5)], at(5)),
            (vec![wait(7), Cause::ConnectionRefused], Transience::Transient(None)),
            (vec![Cause::Size { expected: 1, actual: 2 }], Transience::Content),
        ] {
            assert_eq!(error(&causes).transience(), want, "{causes:?}");
        }
    }
}
