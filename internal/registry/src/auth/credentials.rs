//! Credentials where Docker and Podman keep them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::helper;

/// The most bytes of a credentials file that are read.
const MAX_FILE: u64 = 1 << 20;

/// The key under which Docker keeps the credentials of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Where credentials are looked up. The program fills it from the environment.
#[derive(Debug, Clone)]
pub struct CredentialSources {
    /// Files in the form of Docker's `config.json` or Podman's `auth.json`, in the order in which they are asked.
    /// Usually `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`,
    /// `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`. Files that do not exist are passed over.
    pub files: Vec<PathBuf>,
    /// The directories in which the programs `docker-credential-<name>` are looked for: those of `PATH`.
    pub helper_directories: Vec<PathBuf>,
    /// How long such a program may take. It may ask its user for a password in a window that nobody sees.
    pub helper_timeout: Duration,
}

impl Default for CredentialSources {
    fn default() -> Self {
        Self { files: Vec::new(), helper_directories: Vec::new(), helper_timeout: Duration::from_secs(10) }
    }
}

/// A secret and how it is used. It has no `Display`, and its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User and password.
    Basic { user: String, password: String },
    /// What a token service exchanges for a token (OAuth 2 refresh token; Docker's `identitytoken`).
    Identity(String),
    /// A token that is sent as it is (Docker's `registrytoken`).
    Bearer(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Identity(_) => "Identity(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// Why a source of credentials could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file exists and cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is larger than any such file.
    #[error("{} is larger than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The file is not what Docker writes.
    #[error("{} is not a valid credentials file: {source}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What does not fit, with line and column.
        source: serde_json::Error,
    },
    /// An entry's `auth` is not base64 of `user:password`.
    #[error("{}: the `auth` of `{key}` is not base64 of user:password", .path.display())]
    Auth {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// The file names a helper by something that is no program's name.
    #[error("{}: `{helper}` is not the name of a credential helper", .path.display())]
    HelperName {
        /// The file.
        path: PathBuf,
        /// What stands there.
        helper: String,
    },
    /// The helper is not installed.
    #[error("credential helper docker-credential-{0} is not in PATH")]
    HelperMissing(String),
    /// The helper took too long.
    #[error("credential helper docker-credential-{helper} did not answer within {} s", .limit.as_secs_f32())]
    HelperTimeout {
        /// Its name.
        helper: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The helper failed.
    #[error("credential helper docker-credential-{helper} failed: {why}")]
    Helper {
        /// Its name.
        helper: String,
        /// What it said.
        why: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Option<Entry>>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// What a lookup found. A source that fails stops nothing: public images need no credentials.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) credential: Option<Credential>,
    pub(crate) problem: Option<Arc<CredentialError>>,
}

impl CredentialSources {
    /// The credentials for a repository of a host. The first file that has some wins.
    pub(crate) async fn find(&self, host: &str, repository: &str) -> Found {
        let mut problem = None;
        for path in &self.files {
            match self.find_in(path, host, repository).await {
                Ok(Some(credential)) => return Found { credential: Some(credential), problem: None },
                Ok(None) => {}
                Err(error) => problem = problem.or(Some(Arc::new(error))),
            }
        }
        Found { credential: None, problem }
    }

    /// In one file: the host's own helper, then a key below the host (Podman's per-namespace keys), then the helper
    /// for all hosts, then the host's key. Docker asks its helpers before it looks at what the file itself has.
    async fn find_in(
        &self,
        path: &Path,
        host: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(file) = read(path).await? else { return Ok(None) };
        let key = if is_hub(host) { HUB_KEY } else { host };
        for (of, helper) in &file.cred_helpers {
            if same_host(of, host) {
                return self.ask(path, helper, key).await;
            }
        }
        let best = best_entry(&file, host, repository);
        if let Some((key, entry)) = best.filter(|(key, _)| is_namespace(key)) {
            return entry.credential(path, key);
        }
        if !file.creds_store.is_empty()
            && let Some(credential) = self.ask(path, &file.creds_store, key).await?
        {
            return Ok(Some(credential));
        }
        match best {
            Some((key, entry)) => entry.credential(path, key),
            None => Ok(None),
        }
    }

    async fn ask(&self, path: &Path, helper: &str, key: &str) -> Result<Option<Credential>, CredentialError> {
        let valid = !helper.is_empty()
            && helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !valid {
            let helper = crate::quote::line(helper);
            return Err(CredentialError::HelperName { path: path.to_owned(), helper });
        }
        helper::get(helper, key, &self.helper_directories, self.helper_timeout).await
    }
}

async fn read(path: &Path) -> Result<Option<File>, CredentialError> {
    let failed = |source| CredentialError::Read { path: path.to_owned(), source };
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(owned)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE + 1), &mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    });
    let bytes = match read.await.map_err(|error| failed(std::io::Error::other(error)))? {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(CredentialError::TooLarge(path.to_owned()));
    }
    // Podman creates an empty file before its first login.
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let file = serde_json::from_slice(&bytes)
        .map_err(|source| CredentialError::Json { path: path.to_owned(), source })?;
    Ok(Some(file))
}

/// The entry with the longest key that is the repository or a part of its path from the host on.
fn best_entry<'a>(file: &'a File, host: &str, repository: &str) -> Option<(&'a str, &'a Entry)> {
    file.auths
        .iter()
        .filter_map(|(key, entry)| Some((&**key, entry.as_ref()?)))
        .filter(|(_, entry)| !entry.is_empty())
        .filter(|(key, _)| {
            let (of, namespace) = split_key(key);
            let below = repository.strip_prefix(namespace);
            same_host(of, host)
                && (namespace.is_empty() || below.is_some_and(|b| b.is_empty() || b.starts_with('/')))
        })
        .max_by_key(|(key, _)| split_key(key).1.len())
}

fn is_namespace(key: &str) -> bool {
    !split_key(key).1.is_empty()
}

/// Host and namespace of a key. Old keys are URLs with the registry's API version as their path.
fn split_key(key: &str) -> (&str, &str) {
    let (bare, is_url) = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => (rest, true),
        None => (key, false),
    };
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    if is_url || matches!(path, "v1" | "v2") { (host, "") } else { (host, path) }
}

fn is_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com")
}

fn same_host(key: &str, host: &str) -> bool {
    let key = split_key(key).0;
    key.eq_ignore_ascii_case(host) || (is_hub(key) && is_hub(host))
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.auth.is_empty()
            && self.username.is_empty()
            && self.identitytoken.is_empty()
            && self.registrytoken.is_empty()
    }

    fn credential(&self, path: &Path, key: &str) -> Result<Option<Credential>, CredentialError> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Bearer(self.registrytoken.clone())));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            return Ok(Some(Credential::Basic {
                user: self.username.clone(),
                password: self.password.clone(),
            }));
        }
        let malformed = || CredentialError::Auth { path: path.to_owned(), key: crate::quote::line(key) };
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded =
            GeneralPurpose::new(&STANDARD, config).decode(self.auth.trim()).map_err(|_| malformed())?;
        let text = String::from_utf8(decoded).map_err(|_| malformed())?;
        let (user, password) = text.split_once(':').ok_or_else(malformed)?;
        // Docker pads old passwords with NUL.
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Credential::Basic { user: user.to_owned(), password }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str) -> Credential {
        Credential::Basic { user: user.to_owned(), password: "pw".to_owned() }
    }

    fn auth(user: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, base64::engine::general_purpose::STANDARD.encode(format!("{user}:pw")))
    }

    async fn find(files: &[&str], host: &str, repository: &str) -> Found {
        let directory = tempfile::tempdir().unwrap();
        let mut sources = CredentialSources::default();
        for (i, text) in files.iter().enumerate() {
            let path = directory.path().join(format!("{i}.json"));
            std::fs::write(&path, text).unwrap();
            sources.files.push(path);
        }
        sources.files.push(directory.path().join("absent.json"));
        sources.find(host, repository).await
    }

    #[tokio::test]
    async fn docker_hub_is_found_under_each_of_its_names() {
        for key in
            ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "https://registry-1.docker.io"]
        {
            let file = format!(r#"{{"auths":{{"{key}":{},"ghcr.io":{}}}}}"#, auth("me"), auth("other"));
            assert_eq!(
                find(&[&file], "docker.io", "library/caddy").await.credential,
                Some(basic("me")),
                "{key}"
            );
        }
    }

    #[tokio::test]
    async fn the_longest_key_wins_and_keys_end_at_slashes() {
        let file = format!(
            r#"{{"auths":{{"quay.io":{},"quay.io/org":{},"quay.io/org/repo":{},"https://old.example/v2/":{}}}}}"#,
            auth("host"),
            auth("org"),
            auth("repo"),
            auth("old")
        );
        for (host, repository, want) in [
            ("quay.io", "org/repo", Some(basic("repo"))),
            ("quay.io", "org/repo/sub", Some(basic("repo"))),
            ("quay.io", "org/other", Some(basic("org"))),
            ("quay.io", "organisation/x", Some(basic("host"))),
            ("QUAY.IO", "x", Some(basic("host"))),
            ("old.example", "v2/x", Some(basic("old"))),
            ("quay.io.evil.example", "org/repo", None),
            ("io", "x", None),
        ] {
            assert_eq!(find(&[&file], host, repository).await.credential, want, "{host}/{repository}");
        }
    }

    #[tokio::test]
    async fn entries_in_every_form() {
        for (entry, want) in [
            (r#"{"username":"me","password":"pw"}"#, Some(basic("me"))),
            (r#"{"auth":"bWU6cHc"}"#, Some(basic("me"))),
            (r#"{"auth":"bWU6cHcAAA=="}"#, Some(basic("me"))),
            (r#"{"auth":"bWU6cHc=","identitytoken":"it"}"#, Some(Credential::Identity("it".to_owned()))),
            (r#"{"registrytoken":"rt"}"#, Some(Credential::Bearer("rt".to_owned()))),
            ("{}", None),
            ("null", None),
            (r#"{"email":"x@y"}"#, None),
        ] {
            let file = format!(r#"{{"auths":{{"h.example":{entry}}}}}"#);
            let found = find(&[&file], "h.example", "x").await;
            assert_eq!(found.credential, want, "{entry}");
            assert!(found.problem.is_none(), "{entry}");
        }
    }

    #[tokio::test]
    async fn a_broken_file_is_named_and_the_next_is_asked() {
        let good = format!(r#"{{"auths":{{"h.example":{}}}}}"#, auth("me"));
        assert_eq!(find(&["{", &good], "h.example", "x").await.credential, Some(basic("me")));
        let problem = find(&["{"], "h.example", "x").await.problem.unwrap().to_string();
        assert!(problem.contains("0.json") && problem.contains("line 1"), "{problem}");
        let file = r#"{"auths":{"h.example":{"auth":"%%%"}}}"#;
        let problem = find(&[file], "h.example", "x").await.problem.unwrap().to_string();
        assert!(problem.contains("0.json") && problem.contains("h.example"), "{problem}");
        assert!(find(&["", "  \n"], "h.example", "x").await.problem.is_none());
    }

    #[tokio::test]
    async fn a_helper_is_a_name_and_not_a_path() {
        for helper in ["../evil", "a/b", "a b", "-"] {
            let file = format!(r#"{{"credsStore":"{helper}"}}"#);
            let problem = find(&[&file], "h.example", "x").await.problem.unwrap().to_string();
            assert!(problem.contains("not the name") || problem.contains("not in PATH"), "{problem}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", basic("me"), Credential::Identity("secret".to_owned()));
        assert!(!shown.contains("pw") && !shown.contains("secret") && !shown.contains("me"), "{shown}");
    }
}
