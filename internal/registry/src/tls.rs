//! TLS: whose certificates are believed.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::CertificateResult;

use crate::event::{Event, Events};

/// A configuration that trusts nobody. It serves plain HTTP, for which a client must be built all the same, on
/// machines that have no certificates at all.
pub(crate) fn without_roots() -> Result<ClientConfig, rustls::Error> {
    config(RootCertStore::empty())
}

/// A configuration that trusts whom the system trusts; where the system trusts nobody, whom Mozilla trusted when this
/// program was built, with a warning. Reading some 140 certificates takes milliseconds: it is done when the first
/// HTTPS server is asked, not before.
pub(crate) fn with_system_roots(events: &Events) -> Result<ClientConfig, rustls::Error> {
    config(roots(rustls_native_certs::load_native_certs(), events))
}

fn roots(found: CertificateResult, events: &Events) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map_or_else(
            || "install the package ca-certificates".to_owned(),
            |error| crate::quote::line(&error.to_string()),
        );
        events(Event::Warning(format!(
            "this machine has no CA certificates ({why}): trusting those that this program was built with, \
             which know no private CA and grow old"
        )));
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The system's certificates that can be used.
pub(crate) fn system_roots() -> Vec<CertificateDer<'static>> {
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    certificates.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    certificates
}

fn config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes ring the process's default where no other provider is. Only oci-client needs one: it panics without.
pub(crate) fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        // Somebody else may have been first; then theirs serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_machine_without_certificates_gets_the_built_in_ones_and_a_warning() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events: Events = {
            let seen = seen.clone();
            Arc::new(move |event| seen.lock().unwrap().push(event))
        };
        let roots = roots(CertificateResult::default(), &events);
        assert!(roots.len() > 50, "{} roots", roots.len());
        assert!(
            matches!(&seen.lock().unwrap()[..], [Event::Warning(text)] if text.contains("ca-certificates"))
        );
    }

    #[test]
    fn plain_http_needs_no_certificates() {
        assert!(without_roots().is_ok());
    }
}
