//! Which servers are asked for a reference, and in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use palletjack_image::Reference;
use reqwest::Url;

use crate::auth::CredentialSources;
use crate::retry::RetryPolicy;

/// Everything that a [`Remote`](crate::Remote) is told. Plain data: the program fills it from its configuration file
/// and its environment, because this crate reads neither.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Per registry, by its name in references (`docker.io`, `ghcr.io`, `127.0.0.1:5000`).
    pub registries: BTreeMap<String, RegistryConfig>,
    /// Where credentials are looked up.
    pub credentials: CredentialSources,
    /// How long to wait for a server.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retry: RetryPolicy,
    /// Proxies, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them.
    pub proxy: ProxyConfig,
    /// What requests say in `User-Agent`; `palletjack/<version of this crate>` where it is empty.
    pub user_agent: String,
}

/// How one registry is reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Asked before the registry itself, in this order. A path in the URL is put in front of `/v2/`.
    pub mirrors: Vec<Url>,
    /// Whether the registry itself speaks HTTPS (`Some(true)`) or plain HTTP (`Some(false)`). Without it: HTTPS,
    /// except that registries on loopback speak plain HTTP, as Docker assumes of them.
    pub https: Option<bool>,
    /// Whether credentials may go to this registry's plain HTTP servers beyond loopback.
    pub insecure_credentials: bool,
}

/// How long to wait for a server.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the head of an answer. A mirror that fetches first needs some seconds.
    pub response: Duration,
    /// For the next bytes of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_mins(1),
            idle: Duration::from_secs(30),
        }
    }
}

/// Proxies for all registries.
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {
    /// For `http` servers.
    pub http: Option<Url>,
    /// For `https` servers.
    pub https: Option<Url>,
    /// Hosts that are reached directly, in the form of `NO_PROXY`: names, `.suffixes`, addresses, networks; comma-separated.
    pub except: String,
}

/// One server that may have what a reference names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// Scheme, host, port, and the path that comes before `v2/`; ends in `/`.
    pub(crate) base: Url,
    /// The registry's name where it is the registry itself: what credentials are kept under.
    pub(crate) domain: Option<String>,
    /// Whether credentials may be sent in the clear.
    insecure_credentials: bool,
}

impl Config {
    /// The servers for a reference, in the order in which they are asked.
    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, String> {
        let domain = reference.domain();
        let absent = RegistryConfig::default();
        let registry = self.registries.get(domain).unwrap_or(&absent);
        let insecure_credentials = registry.insecure_credentials;
        let mut endpoints = Vec::with_capacity(registry.mirrors.len() + 1);
        for mirror in &registry.mirrors {
            if !matches!(mirror.scheme(), "http" | "https") || mirror.host_str().is_none() {
                return Err(format!("mirror `{mirror}` of {domain} is not an http or https URL"));
            }
            let mut base = mirror.clone();
            base.set_query(None);
            base.set_fragment(None);
            if !base.path().ends_with('/') {
                base.set_path(&format!("{}/", base.path()));
            }
            endpoints.push(Endpoint { base, domain: None, insecure_credentials });
        }
        let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        let secure = registry.https.unwrap_or_else(|| !is_loopback(host));
        let text = format!("{}://{host}/", if secure { "https" } else { "http" });
        let base = Url::parse(&text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        endpoints.push(Endpoint { base, domain: Some(domain.to_owned()), insecure_credentials });
        Ok(endpoints)
    }
}

impl Endpoint {
    /// `<base>v2/<repository>/<rest>`.
    pub(crate) fn url(&self, repository: &str, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}v2/{repository}/{rest}", self.base.path()));
        url
    }

    /// What credentials are kept under: the registry's name, or the mirror's own host and port.
    pub(crate) fn credential_host(&self) -> String {
        match &self.domain {
            Some(domain) => domain.clone(),
            None => authority(&self.base),
        }
    }

    /// Whether a secret may be sent there: over TLS, on loopback, or where the configuration says so.
    pub(crate) fn may_have_credentials(&self) -> bool {
        self.insecure_credentials || is_confidential(&self.base)
    }

    /// Whether the configuration lets secrets travel in the clear.
    pub(crate) fn may_have_credentials_in_clear(&self) -> bool {
        self.insecure_credentials
    }

    /// What an image's `upstream` says: the registry's name, or the mirror's URL.
    pub(crate) fn upstream(&self) -> String {
        self.domain.clone().unwrap_or_else(|| self.to_string())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never with the user and password that a configured URL may carry.
        write!(
            f,
            "{}://{}{}",
            self.base.scheme(),
            authority(&self.base),
            self.base.path().trim_end_matches('/')
        )
    }
}

/// Host and, where it is not the scheme's own, port.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether nobody between here and there can read along.
pub(crate) fn is_confidential(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(&authority(url))
}

/// Whether `host[:port]` is this machine, by the rule that Docker has for registries: `localhost`, 127.0.0.0/8, ::1.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(config: &Config, reference: &str) -> Vec<String> {
        let reference: Reference = reference.parse().unwrap();
        config.endpoints(&reference).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn docker_hub_has_another_host_and_loopback_speaks_http() {
        let config = Config::default();
        for (reference, want) in [
            ("caddy:2", "https://registry-1.docker.io"),
            ("ghcr.io/a/b:1", "https://ghcr.io"),
            ("registry.example:8443/a/b:1", "https://registry.example:8443"),
            ("localhost:5000/a:1", "http://localhost:5000"),
            ("localhost/a:1", "http://localhost"),
            ("127.0.0.1:5000/a:1", "http://127.0.0.1:5000"),
            ("127.9.8.7:5000/a:1", "http://127.9.8.7:5000"),
            ("[::1]:5000/a:1", "http://[::1]:5000"),
            ("128.0.0.1:5000/a:1", "https://128.0.0.1:5000"),
            ("localhost.example/a:1", "https://localhost.example"),
        ] {
            assert_eq!(endpoints(&config, reference), [want]);
        }
    }

    #[test]
    fn mirrors_come_first_in_their_order() {
        let mirrors = ["http://127.0.0.1:5000", "https://mirror.example/hub/?x=1"];
        let mirrors = mirrors.iter().map(|m| m.parse().unwrap()).collect();
        let mut config = Config::default();
        config
            .registries
            .insert("docker.io".to_owned(), RegistryConfig { mirrors, ..RegistryConfig::default() });
        assert_eq!(
            endpoints(&config, "caddy:2"),
            ["http://127.0.0.1:5000", "https://mirror.example/hub", "https://registry-1.docker.io"]
        );
        assert_eq!(endpoints(&config, "ghcr.io/a/b:1"), ["https://ghcr.io"]);
        let reference: Reference = "caddy:2".parse().unwrap();
        let urls: Vec<String> = config
            .endpoints(&reference)
            .unwrap()
            .iter()
            .map(|endpoint| endpoint.url(reference.path(), "tags/list").to_string())
            .collect();
        assert_eq!(urls[1], "https://mirror.example/hub/v2/library/caddy/tags/list");
        assert_eq!(urls[2], "https://registry-1.docker.io/v2/library/caddy/tags/list");
    }

    #[test]
    fn https_can_be_asked_of_loopback_and_http_of_others() {
        let mut config = Config::default();
        for (name, https) in [("localhost:5000", true), ("registry.local", false)] {
            let registry = RegistryConfig { https: Some(https), ..RegistryConfig::default() };
            config.registries.insert(name.to_owned(), registry);
        }
        assert_eq!(endpoints(&config, "localhost:5000/a:1"), ["https://localhost:5000"]);
        assert_eq!(endpoints(&config, "registry.local/a:1"), ["http://registry.local"]);
    }

    #[test]
    fn secrets_go_over_tls_to_loopback_or_where_it_is_allowed() {
        let mut config = Config::default();
        let allowed = RegistryConfig {
            mirrors: vec![
                "http://10.0.0.1:5000".parse().unwrap(),
                "http://user:pw@127.0.0.1".parse().unwrap(),
            ],
            ..RegistryConfig::default()
        };
        config.registries.insert("docker.io".to_owned(), allowed.clone());
        let insecure = RegistryConfig { insecure_credentials: true, ..allowed };
        config.registries.insert("quay.io".to_owned(), insecure);
        let may = |reference: &str| -> Vec<bool> {
            let endpoints = config.endpoints(&reference.parse().unwrap()).unwrap();
            endpoints.iter().map(Endpoint::may_have_credentials).collect()
        };
        assert_eq!(may("caddy:2"), [false, true, true]);
        assert_eq!(may("quay.io/a/b:2"), [true, true, true]);
        assert!(!endpoints(&config, "caddy:2")[1].contains("pw"), "a secret in a message");
    }

    #[test]
    fn other_urls_are_refused_by_name() {
        let mut config = Config::default();
        let mirrors = vec!["ftp://mirror".parse().unwrap()];
        config
            .registries
            .insert("docker.io".to_owned(), RegistryConfig { mirrors, ..RegistryConfig::default() });
        let error = config.endpoints(&"caddy:2".parse().unwrap()).unwrap_err();
        assert!(error.contains("ftp://mirror"), "{error}");
    }
}
