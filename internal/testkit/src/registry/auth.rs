//! Who may read: Basic, or tokens from a service of the registry's own (the distribution project's token
//! authentication specification, which every public registry follows).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::http::{Head, Reply, form};

/// How the registry asks for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `WWW-Authenticate: Basic`.
    Basic,
    /// `WWW-Authenticate: Bearer`, with a token endpoint on the same port.
    Bearer,
}

/// What a registry with authentication asks for.
#[derive(Debug, Clone)]
pub struct Auth {
    pub(super) scheme: Scheme,
    pub(super) credentials: Option<(String, String)>,
    pub(super) uses: Option<u32>,
    pub(super) lifetime: u64,
}

impl Auth {
    /// Tokens for anybody, without credentials, as Docker Hub gives them for public images.
    pub fn anonymous_tokens() -> Self {
        Self { scheme: Scheme::Bearer, credentials: None, uses: None, lifetime: 300 }
    }

    /// Tokens for this user only.
    pub fn tokens(user: &str, password: &str) -> Self {
        Self { credentials: Some((user.to_owned(), password.to_owned())), ..Self::anonymous_tokens() }
    }

    /// This user's name and password with each request.
    pub fn basic(user: &str, password: &str) -> Self {
        Self { scheme: Scheme::Basic, ..Self::tokens(user, password) }
    }

    /// Each token is good for this many requests, so that it expires mid-run without anybody waiting for a clock.
    #[must_use]
    pub fn uses_per_token(mut self, uses: u32) -> Self {
        self.uses = Some(uses);
        self
    }

    /// The `expires_in` that is announced, in seconds.
    #[must_use]
    pub fn announced_lifetime(mut self, seconds: u64) -> Self {
        self.lifetime = seconds;
        self
    }

    fn accepts(&self, user: &str, password: &str) -> bool {
        self.credentials.as_ref().is_none_or(|(u, p)| u == user && p == password)
    }

    /// Whether an `Authorization: Basic …` field carries the right name and password.
    fn accepts_basic(&self, field: Option<&str>) -> bool {
        let Some(field) = field else {
            return self.credentials.is_none();
        };
        let decoded = field
            .strip_prefix("Basic ")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .is_some_and(|(user, password)| self.accepts(user, password))
    }
}

#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    uses_left: Option<u32>,
}

/// Tokens handed out.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    valid: Mutex<HashMap<String, Token>>,
    issued: AtomicUsize,
}

impl Tokens {
    fn valid(&self) -> MutexGuard<'_, HashMap<String, Token>> {
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn expire(&self) {
        self.valid().clear();
    }

    pub(super) fn issued(&self) -> usize {
        self.issued.load(Ordering::SeqCst)
    }

    /// Answers the token endpoint: GET with Basic credentials, or an OAuth2 form by POST.
    pub(super) fn answer(&self, auth: &Auth, head: &Head, body: &str) -> Reply {
        let posted: HashMap<String, String> = form(body).collect();
        let granted = match posted.get("grant_type").map(String::as_str) {
            Some("password") => {
                let field = |name: &str| posted.get(name).map_or("", String::as_str);
                auth.accepts(field("username"), field("password"))
            }
            // An identity token stands for the password of the user it was made for.
            Some("refresh_token") => auth
                .credentials
                .as_ref()
                .is_none_or(|(_, password)| posted.get("refresh_token") == Some(password)),
            _ => auth.accepts_basic(head.header("authorization")),
        };
        if !granted {
            return error(401, "UNAUTHORIZED", "incorrect username or password");
        }
        let mut scopes: Vec<String> = head.parameters("scope").collect();
        scopes.extend(posted.get("scope").cloned());
        let token = format!("token-{}", self.issued.fetch_add(1, Ordering::SeqCst) + 1);
        self.valid().insert(token.clone(), Token { scopes, uses_left: auth.uses });
        Reply::new(200).json(&json!({ "token": token, "access_token": token, "expires_in": auth.lifetime }))
    }

    /// Whether this request may go on; else the challenge that says what it needs.
    pub(super) fn check(&self, auth: &Auth, head: &Head, repository: Option<&str>) -> Result<(), Reply> {
        let field = head.header("authorization");
        if auth.scheme == Scheme::Basic {
            return if field.is_some() && auth.accepts_basic(field) {
                Ok(())
            } else {
                Err(error(401, "UNAUTHORIZED", "authentication required")
                    .with("www-authenticate", "Basic realm=\"testkit\""))
            };
        }
        let sent = field.and_then(|f| f.strip_prefix("Bearer "));
        if sent.is_some_and(|token| self.spend(token, repository)) {
            return Ok(());
        }
        Err(challenge(head, repository))
    }

    /// Uses a token once, if it is valid for this repository.
    fn spend(&self, token: &str, repository: Option<&str>) -> bool {
        let mut valid = self.valid();
        let Some(found) = valid.get_mut(token) else {
            return false;
        };
        let covers = repository.is_none_or(|repository| {
            let prefix = format!("repository:{repository}:");
            found.scopes.iter().flat_map(|s| s.split(' ')).any(|scope| scope.starts_with(&prefix))
        });
        if !covers {
            return false;
        }
        match &mut found.uses_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// 401 with a Bearer challenge that leads to the token endpoint of the host that the client asked.
pub(super) fn challenge(head: &Head, repository: Option<&str>) -> Reply {
    let host = head.header("host").unwrap_or("127.0.0.1");
    let actions = if matches!(head.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
    let scope = repository.map_or(String::new(), |name| format!(",scope=\"repository:{name}:{actions}\""));
    error(401, "UNAUTHORIZED", "authentication required")
        .with("www-authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"testkit\"{scope}"))
}

/// A JSON error as the distribution specification words it.
pub(super) fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status).json(&json!({ "errors": [{ "code": code, "message": message }] }))
}
