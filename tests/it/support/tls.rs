//! A certificate authority for one test: servers it vouches for, and clients.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::within;

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

    /// Both as files, in place of those that may be there; `cert.pem` and `key.pem`.
    pub(crate) fn write_to(&self, folder: &Path) {
        std::fs::write(folder.join("cert.pem"), self.cert.pem()).expect("a file");
        std::fs::write(folder.join("key.pem"), self.key.serialize_pem()).expect("a file");
    }

    /// The certificate as it goes over the wire.
    pub(crate) fn der(&self) -> &[u8] {
        self.cert.der()
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
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Identity { cert: params.signed_by(&key, &self.issuer).expect("a certificate"), key }
    }

    /// An HTTP client that trusts this authority alone; with `http2` it offers both.
    pub(crate) fn client(&self, http2: bool, identity: Option<&Identity>) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.pem().as_bytes()).expect("a certificate");
        let mut builder = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).tls_certs_only([root]);
        if !http2 {
            builder = builder.http1_only();
        }
        if let Some(identity) = identity {
            let (cert, key) = identity.pem();
            builder = builder.identity(reqwest::Identity::from_pem(format!("{cert}{key}").as_bytes()).expect("both"));
        }
        builder.build().expect("a client")
    }

    /// A bare connection to a server called `localhost`, for one protocol of ALPN.
    pub(crate) async fn dial(&self, address: SocketAddr, protocol: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.expect("a connection");
        self.shake(stream, protocol).await.expect("a handshake")
    }

    /// The same on a connection that is there.
    pub(crate) async fn shake(&self, stream: TcpStream, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        within("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
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
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
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
        let key = PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key");
        let mut config = builder.with_single_cert(vec![identity.cert.der().clone()], key).expect("a certificate");
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        TlsAcceptor::from(Arc::new(config))
    }
}
