//! Questions about tags, asked through oci-client. The only file that names it.
//!
//! oci-client speaks the whole distribution protocol, but it drops status and headers (`Retry-After` among them, and
//! it is manifest requests that Docker Hub limits), reads manifests of any length into memory, and follows no mirror
//! with a path. So manifests and blobs go through the crate's own pool ([`crate::http`]), and oci-client is asked
//! where none of this matters and a failure only means that the question is asked in another way: which digest a tag
//! has now (a HEAD, which no rate limit counts), and which tags there are.
//!
//! It gets its credentials from the crate's token service, a client per question: it would keep the first
//! credentials of a host for all its repositories.

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as OciReference};

use base64::Engine as _;
use palletjack_image::{Digest, Reference};

use crate::auth::Pass;
use crate::config::{Endpoint, authority};
use crate::remote::Remote;
use crate::tls;

/// The most tags that are asked for. The rest does not matter to someone who mistyped one.
const MAX_TAGS: usize = 1000;

impl Remote {
    /// The digest that a tag has at the registry itself (a mirror may be behind), if that can be learnt with a HEAD.
    ///
    /// `None` means nothing but that it could not: [`Remote::resolve`] says why. The digest is what a header says and
    /// so a hint: whether what is cached is still current, never what content is.
    pub async fn digest_of_tag(&self, reference: &Reference) -> Option<Digest> {
        let (client, image, auth) = self.oci(reference).await?;
        let limit = self.http().config().timeouts.response;
        let digest = client.fetch_manifest_digest(&image, &auth);
        match tokio::time::timeout(limit, digest).await.ok()? {
            Ok(digest) => digest.parse().ok(),
            Err(error) => {
                tracing::debug!(%reference, %error, "no digest by HEAD");
                None
            }
        }
    }

    /// The tags of a reference's repository, the first thousand in the registry's order; none where it does not say.
    pub async fn tags(&self, reference: &Reference) -> Vec<String> {
        let Some((client, image, auth)) = self.oci(reference).await else { return Vec::new() };
        let limit = self.http().config().timeouts.response;
        let listing = client.list_tags(&image, &auth, Some(MAX_TAGS), None);
        match tokio::time::timeout(limit, listing).await {
            Ok(Ok(answer)) => {
                let valid = |tag: &String| tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_graphic());
                answer.tags.into_iter().filter(valid).take(MAX_TAGS).collect()
            }
            Ok(Err(error)) => {
                tracing::debug!(%reference, %error, "no list of tags");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    async fn oci(&self, reference: &Reference) -> Option<(Client, OciReference, RegistryAuth)> {
        let endpoint = self.endpoints(reference).ok()?.pop()?;
        let pass = self.pass(&endpoint, reference).await.ok()?;
        let auth = auth(&pass)?;
        // With a token it sends the question alone, else `/v2/` first.
        self.http().count_requests(if matches!(auth, RegistryAuth::Bearer(_)) { 1 } else { 2 });
        let client = self.oci_client(&endpoint).await?;
        let tag = reference.tag().unwrap_or("latest").to_owned();
        let image = OciReference::with_tag(authority(&endpoint.base), reference.path().to_owned(), tag);
        Some((client, image, auth))
    }

    async fn oci_client(&self, endpoint: &Endpoint) -> Option<Client> {
        let secure = endpoint.base.scheme() == "https";
        let timeouts = &self.http().config().timeouts;
        let mut config = ClientConfig {
            protocol: if secure { ClientProtocol::Https } else { ClientProtocol::Http },
            // Without TLS there is nothing to verify.
            accept_invalid_certificates: !secure,
            connect_timeout: Some(timeouts.connect),
            read_timeout: Some(timeouts.idle),
            user_agent: concat!("palletjack/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let build = move || {
            let roots = tls::system_roots();
            // It builds a second client that it never uses, and panics where that finds no certificates: on such a
            // machine the question is asked in another way.
            if roots.is_empty() {
                return None;
            }
            if secure {
                config.tls_certs_only = roots
                    .iter()
                    .map(|root| Certificate { encoding: CertificateEncoding::Der, data: root.to_vec() })
                    .collect();
            }
            tls::install_provider();
            Client::try_from(config).ok()
        };
        tokio::task::spawn_blocking(build).await.ok()?
    }
}

/// Our pass in oci-client's terms.
fn auth(pass: &Pass) -> Option<RegistryAuth> {
    let Some(header) = &pass.header else { return Some(RegistryAuth::Anonymous) };
    let header = header.to_str().ok()?;
    if let Some(token) = header.strip_prefix("Bearer ") {
        return Some(RegistryAuth::Bearer(token.to_owned()));
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}
