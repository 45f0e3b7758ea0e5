//! The token service: one token per repository, shared by all who need it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use palletjack_image::Reference;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::credentials::{Credential, CredentialError, Found};
use crate::config::{Endpoint, authority, is_confidential};
use crate::error::Cause;
use crate::event::{Event, Events};
use crate::http::{Http, Request};
use crate::quote;

/// The most bytes of a token service's answer that are read.
const MAX_ANSWER: usize = 256 << 10;

/// What a token is good for where the service does not say (token authentication specification, `expires_in`).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);

/// A token is not used in its last seconds: it must still be good when it arrives.
const SLACK: Duration = Duration::from_secs(5);

/// The passes of all repositories.
///
/// Whoever needs a new one locks the repository's place, so that of eight blobs that meet a 401 one asks and the
/// others wait for its answer. Whoever is cancelled while asking leaves the place to the next.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    places: Mutex<HashMap<(Endpoint, String), Arc<Place>>>,
    /// What a server asked for the last time: its other repositories will ask for the same.
    challenges: Mutex<HashMap<Endpoint, Challenge>>,
}

type Place = tokio::sync::Mutex<State>;

#[derive(Debug, Default)]
struct State {
    pass: Pass,
    until: Option<Instant>,
    found: Option<Found>,
}

/// What is sent with a request, if anything.
#[derive(Clone, Default)]
pub(crate) struct Pass {
    /// The value of `Authorization`.
    pub(crate) header: Option<HeaderValue>,
    /// Counts the passes of a repository, so that a 401 for an old one is told from a 401 for the present one.
    generation: u64,
    /// Whether it was had for credentials of the user's.
    personal: bool,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Tokens {
    /// What to send to a server for a repository, by what is known so far. Asks for a token ahead of the first 401
    /// where the server asked for one for another repository.
    pub(crate) async fn pass(
        &self,
        http: &Http,
        events: &Events,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<Pass, Cause> {
        let place = self.place(endpoint, reference);
        let mut state = place.lock().await;
        let expired = state.until.is_some_and(|until| Instant::now() >= until);
        if state.pass.header.is_some() && !expired {
            return Ok(state.pass.clone());
        }
        match self.known_challenge(endpoint) {
            Some(challenge) => {
                state.renew(http, events, endpoint, reference, &challenge).await?;
                Ok(state.pass.clone())
            }
            None => Ok(Pass { header: None, ..state.pass }),
        }
    }

    /// A new pass after a 401 for `used`. Where somebody else had one made meanwhile, that one.
    pub(crate) async fn renew(
        &self,
        http: &Http,
        events: &Events,
        endpoint: &Endpoint,
        reference: &Reference,
        challenge: Challenge,
        used: &Pass,
    ) -> Result<Pass, Cause> {
        self.challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(endpoint.clone(), without_scope(&challenge));
        let place = self.place(endpoint, reference);
        let mut state = place.lock().await;
        if state.pass.generation == used.generation {
            state.renew(http, events, endpoint, reference, &challenge).await?;
        }
        Ok(state.pass.clone())
    }

    /// What a 401 means in spite of a pass that was made for this very request.
    pub(crate) async fn refused(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        used: &Pass,
        message: String,
    ) -> Cause {
        let place = self.place(endpoint, reference);
        let state = place.lock().await;
        let host = endpoint.credential_host();
        if used.personal {
            return Cause::CredentialsRefused { host, message };
        }
        let found = state.found.as_ref();
        if found.is_some_and(|found| found.credential.is_some()) && !endpoint.may_have_credentials() {
            return Cause::Unencrypted;
        }
        Cause::NoCredentials { host, reason: found.and_then(|found| found.problem.clone()), message }
    }

    fn place(&self, endpoint: &Endpoint, reference: &Reference) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry((endpoint.clone(), reference.path().to_owned())).or_default().clone()
    }

    fn known_challenge(&self, endpoint: &Endpoint) -> Option<Challenge> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint).cloned()
    }
}

/// The scope belongs to one repository, all else to the server.
fn without_scope(challenge: &Challenge) -> Challenge {
    match challenge {
        Challenge::Basic => Challenge::Basic,
        Challenge::Bearer { realm, service, .. } => {
            Challenge::Bearer { realm: realm.clone(), service: service.clone(), scope: None }
        }
    }
}

impl State {
    async fn renew(
        &mut self,
        http: &Http,
        events: &Events,
        endpoint: &Endpoint,
        reference: &Reference,
        challenge: &Challenge,
    ) -> Result<(), Cause> {
        let credential = self.credential(http, events, endpoint, reference).await;
        let personal = credential.is_some();
        let (header, lifetime) = match (challenge, credential) {
            (_, Some(Credential::Bearer(token))) => (bearer(&token)?, None),
            (Challenge::Basic, Some(Credential::Basic { user, password })) => {
                (basic(&user, &password)?, None)
            }
            // No pass can be had: the next 401 says why.
            (Challenge::Basic, _) => {
                self.replace(None, None, false);
                return Ok(());
            }
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let pull = format!("repository:{}:pull", reference.path());
                let scope = scope.as_deref().unwrap_or(&pull);
                let asked =
                    ask(http, events, endpoint, realm, service.as_deref(), scope, credential.as_ref());
                let (token, lifetime) = asked.await.map_err(|mut cause| {
                    if let Cause::NoCredentials { reason, .. } = &mut cause {
                        *reason = self.found.as_ref().and_then(|found| found.problem.clone());
                    }
                    cause
                })?;
                (bearer(&token)?, Some(lifetime))
            }
        };
        self.replace(Some(header), lifetime, personal);
        Ok(())
    }

    fn replace(&mut self, header: Option<HeaderValue>, lifetime: Option<Duration>, personal: bool) {
        self.pass = Pass { header, generation: self.pass.generation + 1, personal };
        // The monotonic clock: a device may learn the date in the middle of a run.
        self.until =
            lifetime.map(|lifetime| Instant::now() + lifetime.saturating_sub(SLACK).max(lifetime / 2));
    }

    /// Looked up once per repository, and only when a server asks for it.
    async fn credential(
        &mut self,
        http: &Http,
        events: &Events,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Option<Credential> {
        if self.found.is_none() {
            let host = endpoint.credential_host();
            let found = http.config().credentials.find(&host, reference.path()).await;
            if let Some(problem) = &found.problem {
                warn(events, &host, problem);
            }
            self.found = Some(found);
        }
        let found = self.found.as_ref().and_then(|found| found.credential.clone())?;
        endpoint.may_have_credentials().then_some(found)
    }
}

fn warn(events: &Events, host: &str, problem: &CredentialError) {
    events(Event::Warning(format!(
        "credentials for {host} could not be looked up: {problem}; going on without"
    )));
}

/// Asks a token service. Errors name it.
async fn ask(
    http: &Http,
    events: &Events,
    endpoint: &Endpoint,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<(String, Duration), Cause> {
    let mut url =
        endpoint.base.join(realm).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(
            || Cause::Challenge(format!("its token service is no URL: {}", quote::line(realm))),
        )?;
    let name = format!("{}://{}", url.scheme(), quote::line(&authority(&url)));
    // A secret goes to the service that the registry names over TLS or on this machine, not to one that anybody on
    // the way could have put there.
    if credential.is_some() && !is_confidential(&url) && !endpoint.may_have_credentials_in_clear() {
        return Err(Cause::Unencrypted);
    }
    let request = if let Some(Credential::Identity(refresh_token)) = credential {
        let mut form = vec![("grant_type", "refresh_token"), ("client_id", "palletjack"), ("scope", scope)];
        form.extend(service.map(|service| ("service", service)));
        form.push(("refresh_token", refresh_token));
        let mut request = Request::get(url);
        request.method = Method::POST;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.body = Some(encode(&form));
        request
    } else {
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            // Several scopes come separated by blanks and are sent one by one.
            for scope in scope.split_ascii_whitespace() {
                query.append_pair("scope", scope);
            }
        }
        let mut request = Request::get(url);
        if let Some(Credential::Basic { user, password }) = credential {
            request.authorization = Some(basic(user, password)?);
        }
        request
    };
    let failed = |cause: Cause| Cause::Token { realm: name.clone(), cause: Box::new(cause) };
    let answer = http.send(&request, events).await.map_err(failed)?;
    if !answer.status().is_success() {
        // 400 and 403 are what some services say to a wrong password.
        let wrong = matches!(answer.status().as_u16(), 400 | 401 | 403);
        if wrong && credential.is_some() {
            let host = endpoint.credential_host();
            return Err(Cause::CredentialsRefused { host, message: answer.message().await });
        }
        if answer.status().as_u16() == 401 {
            let host = endpoint.credential_host();
            return Err(Cause::NoCredentials { host, reason: None, message: answer.message().await });
        }
        return Err(failed(answer.error().await));
    }
    let body = answer.read(MAX_ANSWER).await.map_err(failed)?;
    let unusable = || failed(Cause::Status { status: 200, message: "the answer is not a token".to_owned() });
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| unusable())?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(unusable());
    }
    let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
    Ok((token, lifetime.min(Duration::from_hours(24))))
}

fn encode(form: &[(&str, &str)]) -> Bytes {
    // The query of a URL has the same encoding.
    let url = Url::parse_with_params("http://form", form);
    Bytes::from(url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default())
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Cause> {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret(&format!("Basic {text}"))
}

fn bearer(token: &str) -> Result<HeaderValue, Cause> {
    secret(&format!("Bearer {token}"))
}

fn secret(value: &str) -> Result<HeaderValue, Cause> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Cause::Challenge("the token has characters that cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
