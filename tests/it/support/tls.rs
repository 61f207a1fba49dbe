//! A certificate authority for one test: servers it vouches for, and clients.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

/// The authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Identity {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    /// Both as PEM.
    pub(crate) fn pem(&self) -> (String, String) {
        (self.cert.pem(), self.key.serialize_pem())
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        // Fails only if a provider was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        Identity { cert: params.signed_by(&key, &self.issuer).expect("a certificate"), key }
    }

    /// What a server called `localhost` needs whose certificate is good for so many seconds more.
    pub(crate) fn acceptor_for(&self, seconds: i64) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let now = i64::try_from(now.as_secs()).expect("before the end of time");
        let at =
            |time: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time.try_into().expect("after 1970"));
        (params.not_before, params.not_after) = (at(now - 365 * 24 * 3600), at(now + seconds));
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let builder = ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).expect("a certificate")))
    }

    /// What a server called `localhost` needs; with `wants_clients` it talks to those only that the authority vouches for.
    pub(crate) fn acceptor(&self, wants_clients: bool, http2: bool) -> TlsAcceptor {
        let identity = self.identity("localhost");
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
        let builder = ServerConfig::builder();
        let builder =
            if wants_clients { builder.with_client_cert_verifier(verifier) } else { builder.with_no_client_auth() };
        let key = rustls::pki_types::PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key");
        let mut config = builder.with_single_cert(vec![identity.cert.der().clone()], key).expect("a certificate");
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        TlsAcceptor::from(Arc::new(config))
    }
}
