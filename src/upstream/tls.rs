//! TLS toward the upstream. What it trusts and shows is what reqwest is told to for other documents (`fetch`).

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::Config;

/// The operator's files.
#[derive(Clone, Default)]
pub struct Pem {
    /// Certificates of authorities besides those of the system.
    pub authorities: Vec<u8>,
    /// The certificate chain to show, and its key.
    pub identity: Option<Vec<u8>>,
}

impl fmt::Debug for Pem {
    /// Without what the files hold: one is a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").finish_non_exhaustive()
    }
}

/// What connections to the upstream trust, and what they show.
///
/// # Errors
/// What keeps TLS from being set up: a key that does not fit its certificate, no authorities on this system.
pub fn client_tls(config: &Config) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    // Without TLS nobody has to vouch: images without any authorities are common.
    if config.url.scheme() != "https" {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let authorities: Vec<_> = CertificateDer::pem_slice_iter(&config.pem.authorities).filter_map(Result::ok).collect();
    let verifier = Verifier::new_with_extra_roots(authorities, provider).map_err(|error| error.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let Some(identity) = &config.pem.identity else { return Ok(builder.with_no_client_auth()) };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity).filter_map(Result::ok).collect();
    let key = PrivateKeyDer::from_pem_slice(identity).map_err(|error| error.to_string())?;
    builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())
}
