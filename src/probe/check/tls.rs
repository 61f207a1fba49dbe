//! One TLS handshake, to see the version, the certificate, and for how long it is good.
//!
//! The handshake is carried through even with a certificate that nobody vouches for, because the reason and the dates
//! are what the operator needs; not a byte of HTTP goes over that connection, and every request of the check is made by a
//! client that verifies.
//!
//! The trap: a library that only verifies does not tell when a certificate expires. So it is asked to verify at the end of
//! time, and names the date in its refusal: no other parser of certificates is needed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::finding::{Advice, On, Side};
use super::text::milliseconds;

/// Certificates that are good for less than this are a warning: renewals that failed show three weeks ahead.
const SOON: Duration = Duration::from_secs(21 * 24 * 3600);
/// The last second of the year 9999: after every certificate has expired.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

/// Who may vouch for a server.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Certificates of authorities besides those of the system.
    extra: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// The system's authorities, and those of a PEM file.
    ///
    /// # Errors
    /// When the file holds no certificate.
    pub fn with_pem(pem: &[u8]) -> Result<Trust, String> {
        let extra: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
        if extra.is_empty() { Err("holds no certificate in PEM form".to_owned()) } else { Ok(Trust { extra }) }
    }

    /// The same for the client that makes the requests.
    pub(super) fn for_client(&self) -> Vec<reqwest::Certificate> {
        self.extra.iter().filter_map(|certificate| reqwest::Certificate::from_der(certificate).ok()).collect()
    }
}

/// What the certificate is worth.
#[derive(Debug, Default)]
struct Judgement {
    /// Why it is not trusted.
    problem: Option<String>,
    /// Its last second; `None` where the library does not say.
    not_after: Option<Timestamp>,
    /// Why it will not be trusted soon.
    soon: Option<String>,
}

/// Lets every certificate pass, and keeps what was found.
#[derive(Debug)]
struct Examiner {
    inner: Verifier,
    found: Mutex<Judgement>,
}

impl Examiner {
    fn judge(&self, end: &CertificateDer<'_>, chain: &[CertificateDer<'_>], name: &ServerName<'_>, now: UnixTime) {
        let at = |time: Duration| {
            self.inner.verify_server_cert(end, chain, name, &[], UnixTime::since_unix_epoch(time)).err()
        };
        let now = Duration::from_secs(now.as_secs());
        let judgement = Judgement {
            problem: at(now).map(|error| reason(&error)),
            not_after: at(END_OF_TIME).and_then(|error| expiry(&error)),
            soon: at(now + SOON).map(|error| reason(&error)),
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = judgement;
    }
}

impl ServerCertVerifier for Examiner {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, server_name, now);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn expiry(error: &Error) -> Option<Timestamp> {
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
        }
        _ => None,
    }
}

fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "no authority that this system knows vouches for it (unknown issuer, or the server leaves out an \
             intermediate certificate)"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            match expiry(error) {
                Some(at) => format!("it expired on {}", date(at)),
                None => "it has expired".to_owned(),
            }
        }
        other => other.to_string(),
    }
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// Shakes hands, and says whether clients that verify can go on.
pub(super) async fn look(
    on: &mut On<'_, '_>,
    host: &str,
    address: SocketAddr,
    trust: &Trust,
    patience: Duration,
) -> bool {
    let examiner = match Verifier::new_with_extra_roots(trust.extra.clone(), Arc::new(ring::default_provider())) {
        Ok(inner) => Arc::new(Examiner { inner, found: Mutex::default() }),
        Err(error) => {
            let seen = format!("no certificate can be verified here: {error}");
            let remedy = "install the certificates of the authorities on this machine (on Debian the package \
                          ca-certificates), or name them with --ca";
            on.failure("tls", seen, Advice::new("every TLS connection from here will fail", remedy));
            on.skipped(&["certificate"], "no authorities");
            return false;
        }
    };
    let began = Instant::now();
    let hands = timeout(patience, shake(host, address, Arc::clone(&examiner), on.side())).await;
    let took = milliseconds(began.elapsed());
    let problem = match hands {
        Ok(Ok(seen)) => {
            on.ok("tls", format!("{seen} ({took})"));
            return certificate(on, &examiner.found.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(Err(error)) => error,
        Err(_) => format!("nothing within {took}"),
    };
    on.failure(
        "tls",
        format!("the handshake failed: {problem}"),
        Advice::new(
            "no client can connect",
            "whoever runs this server or the balancer before it: is this port one for TLS, with TLS 1.2 or 1.3 on? \
             Else the URL should begin with http://",
        ),
    );
    on.skipped(&["certificate"], "no handshake");
    false
}

/// The version that was agreed on, and what is spoken within.
async fn shake(host: &str, address: SocketAddr, examiner: Arc<Examiner>, side: Side) -> Result<String, String> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(examiner).with_no_client_auth();
    // The proxy speaks HTTP/1.1 to its upstream; clients offer both.
    config.alpn_protocols = match side {
        Side::Upstream => vec![b"http/1.1".to_vec()],
        Side::Public => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let (_, connection) = stream.get_ref();
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let spoken = match connection.alpn_protocol() {
        Some(b"h2") => ", HTTP/2 for clients that want it",
        Some(b"http/1.1") => ", HTTP/1.1",
        _ => ", no ALPN: HTTP/1.1",
    };
    Ok(format!("{version}{spoken}"))
}

fn certificate(on: &mut On<'_, '_>, found: &Judgement) -> bool {
    let until = found.not_after.map(|at| {
        let days = (at.as_second() - Timestamp::now().as_second()).div_euclid(24 * 3600);
        (date(at), days)
    });
    if let Some(problem) = &found.problem {
        on.failure(
            "certificate",
            problem,
            Advice::new(
                "clients that verify certificates, and the proxy, refuse the connection",
                "whoever runs this server's TLS: install a valid certificate for this very name, with its \
                 intermediates. For an authority of your own give its certificate with --ca here and --upstream-ca \
                 to serve",
            ),
        );
        return false;
    }
    let renew = || {
        let remedy = "renew it now and look why that has not happened by itself; clients may see it the day it expires";
        Advice::new("the connection will be refused from then on", remedy)
    };
    match (until, &found.soon) {
        (Some((date, days)), None) => on.ok("certificate", format!("good until {date} ({days} days)")),
        (None, None) => on.ok("certificate", "valid"),
        (Some((date, days)), Some(_)) if days < 21 => {
            on.warning("certificate", format!("expires on {date}, in {days} days"), renew());
        }
        (_, Some(why)) => on.warning("certificate", format!("not good in 21 days from now: {why}"), renew()),
    }
    true
}
