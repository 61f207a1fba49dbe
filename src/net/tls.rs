//! TLS for clients: certificate and key from files, read again when they change.
//!
//! Promise: there is always a certificate in force. Files that cannot be used leave the last good ones where they are, and
//! a diagnostic says which file and why. Connections keep what they were made with; new ones get what is in force.
//!
//! Why files are looked at and not watched: Kubernetes swaps a symlink two folders above, and network file systems tell
//! nobody. A look every 10 s costs three calls of the kernel.
//!
//! The trap: session tickets carry the client's certificate. Each loading makes new keys for them, so that nobody whose
//! authority was taken out comes back with a ticket.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::certificate;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// What is spoken within, the best first (ALPN).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificate and key stand.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority, in PEM form.
    pub cert: PathBuf,
    /// Its private key, in PEM form.
    pub key: PathBuf,
    /// Who vouches for clients; without it no client is asked for a certificate.
    pub clients: Option<ClientAuth>,
}

/// Which clients are let in by their certificates.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// The authorities' certificates, in PEM form.
    pub ca: PathBuf,
    /// Whether clients without a certificate are turned away; one that nobody vouches for always is.
    pub required: bool,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{0} cannot be read: {1}")]
    Read(PathBuf, io::Error),
    /// There is none in it.
    #[error("{0} holds no certificate in PEM form")]
    NoCertificate(PathBuf),
    /// There is none in it, or one in an unknown form, or with a password.
    #[error("{0} holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1, without a password)")]
    NoKey(PathBuf),
    /// They do not go together, or cannot be used.
    #[error("{cert} and {key} cannot be used together: {error}")]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What the TLS library says.
        error: rustls::Error,
    },
    /// It expired, and the one in force is still good.
    #[error("the certificate in {0} has expired")]
    Expired(PathBuf),
    /// It cannot vouch for anyone.
    #[error("{0} holds no certificate that can vouch for clients: {1}")]
    Authority(PathBuf, String),
    /// No random numbers, or something like it.
    #[error("the TLS library cannot be set up: {0}")]
    Library(rustls::Error),
}

/// The TLS of one listener. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    files: TlsFiles,
    current: RwLock<Loaded>,
    /// The files as they were when they were last read, usable or not. Held while they are read: one loading at a time.
    seen: Mutex<Signature>,
}

#[derive(Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Unix time of its last second; `None` where that cannot be read.
    not_after: Option<i64>,
}

/// Inode, size and time of change of each file; `None` where there is none.
type Signature = Vec<Option<(u64, u64, i64, i64)>>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        // Before they are read: what changes meanwhile is seen at the next look.
        let seen = Mutex::new(files.signature());
        let current = RwLock::new(files.load()?);
        Ok(Tls { shared: Arc::new(Shared { files, current, seen }) })
    }

    /// Reads the files again, changed or not.
    pub fn reload(&self) {
        let mut seen = self.seen();
        *seen = self.shared.files.signature();
        self.take_new();
    }

    /// Looks at the files every 10 s and reads them when they changed, for ever.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let tls = self.clone();
            // Beside the threads that serve clients: a file system may hang.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    fn look(&self) {
        let mut seen = self.seen();
        let now = self.shared.files.signature();
        if *seen != now {
            *seen = now;
            self.take_new();
        }
    }

    fn take_new(&self) {
        let files = &self.shared.files;
        let loaded = files.load().and_then(|loaded| {
            let (new, old) = (loaded.not_after, self.current().not_after);
            let is_over = |time: Option<i64>| time.is_some_and(|time| time < now());
            if is_over(new) && !is_over(old) { Err(TlsError::Expired(files.cert.clone())) } else { Ok(loaded) }
        });
        match loaded {
            Ok(loaded) => {
                tracing::info!(file = %files.cert.display(), "new connections get the certificate as it is now");
                *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
            }
            Err(error) => tracing::error!(%error, "the certificate stays the one that was loaded before"),
        }
    }

    /// The last second of the certificate in force, as Unix time; `None` where that cannot be read.
    #[must_use]
    pub fn not_after(&self) -> Option<i64> {
        self.current().not_after
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current().config)
    }

    fn current(&self) -> Loaded {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seen(&self) -> MutexGuard<'_, Signature> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.shared.files).finish()
    }
}

impl TlsFiles {
    fn load(&self) -> Result<Loaded, TlsError> {
        let chain: Vec<CertificateDer<'static>> = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|_| TlsError::NoKey(self.key.clone()))?;
        let not_after = chain.first().and_then(|end| certificate::not_after(end));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?;
        let builder = match &self.clients {
            Some(clients) => builder.with_client_cert_verifier(clients.verifier()?),
            None => builder.with_no_client_auth(),
        };
        let pair = |error| TlsError::Pair { cert: self.cert.clone(), key: self.key.clone(), error };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Library)?;
        Ok(Loaded { config: Arc::new(config), not_after })
    }

    fn signature(&self) -> Signature {
        let files = [&self.cert, &self.key].into_iter().chain(self.clients.as_ref().map(|clients| &clients.ca));
        let of = |path: &PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        };
        files.map(of).collect()
    }
}

impl ClientAuth {
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let refused = |problem: String| TlsError::Authority(self.ca.clone(), problem);
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.ca)? {
            roots.add(authority).map_err(|error| refused(error.to_string()))?;
        }
        let provider = Arc::new(ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if self.required { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| refused(error.to_string()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

/// All of a file, of which there is one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| TlsError::NoCertificate(path.to_owned()))
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
