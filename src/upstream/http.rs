//! The transport over sockets: hyper's client, which does nothing behind its operator's back.
//!
//! Redirects would carry credentials to other hosts, environment proxies would see them, decompression would let
//! 200 KB become 200 MB (SECURITY §0, 11); none of it happens here.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Request, Uri};
use bytes::Bytes;
use futures_util::Stream;
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use reqwest::Url;

use super::connect::{self, UpstreamClient};
use super::{Answer, Content, Exchange, Fault, Pem, Sending, Transport};
use crate::mcp;

/// Where the upstream is and how it is reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// The MCP endpoint, query included.
    pub url: Url,
    /// Headers that go with every request, instead of the client's own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The `Host` to name; that of the URL by default.
    pub host: Option<HeaderValue>,
    /// The version to speak.
    pub version: HttpVersion,
    /// Who may vouch for the server besides the authorities that the system knows.
    pub authorities: Vec<reqwest::Certificate>,
    /// What the server is shown if it asks who we are.
    pub identity: Option<reqwest::Identity>,
    /// The same two as they stand in the operator's files.
    pub pem: Pem,
    /// Bound for making a connection.
    pub connect_timeout: Duration,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/1.1: a connection for every stream.
    #[default]
    Http1,
    /// HTTP/2 without asking: one connection for all of them, on which servers allow about 100 at once.
    Http2,
}

/// Whether the proxy sets this header itself, so that an option must not.
#[must_use]
pub fn is_reserved(name: &HeaderName) -> bool {
    mcp::is_protocol_header(name)
        || [
            header::HOST,
            header::ACCEPT,
            header::ACCEPT_ENCODING,
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
            header::TE,
        ]
        .contains(name)
}

/// Node and uvicorn close idle connections after 5 s; a POST that races the close "may have run".
pub const POOL_IDLE: Duration = Duration::from_secs(4);
/// Unacknowledged data ends a connection after this: keep-alive probes alone do not cover it.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(45);
/// Probes on idle connections.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// HTTP/2: bytes that the server may send ahead on one stream.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// And on all of them.
pub(super) const CONNECTION_WINDOW: u32 = 1 << 30;

/// Reaches the upstream by hyper.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: UpstreamClient<Full<Bytes>>,
    /// What is added to every request.
    headers: HeaderMap,
    configured: Arc<Endpoint>,
    /// The configured one, with the path of a redirect that was followed.
    endpoint: RwLock<Arc<Endpoint>>,
}

/// Where requests go.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    url: Url,
    /// The same as hyper wants it.
    uri: Uri,
}

impl Endpoint {
    fn of(url: Url) -> Result<Self, String> {
        let uri = url.as_str().parse().map_err(|error| format!("{} cannot be requested: {error}", origin(&url)))?;
        Ok(Endpoint { url, uri })
    }
}

/// A client for `url` that does what it is told and nothing else: follows no redirect, tries nothing twice, takes no
/// proxy from the environment. `authorities` are trusted besides the system's.
pub fn client_builder(
    url: &Url,
    authorities: impl IntoIterator<Item = reqwest::Certificate>,
    connect_timeout: Duration,
) -> reqwest::ClientBuilder {
    install_tls_provider();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout);
    // Without TLS nobody has to vouch: images without any authorities are common.
    if url.scheme() == "https" { client.tls_certs_merge(authorities) } else { client.tls_certs_only([]) }
}

impl HttpTransport {
    /// Makes the client; no connection is opened.
    ///
    /// # Errors
    /// What keeps TLS from being set up: a key that does not fit its certificate, no authorities on this system.
    pub fn new(config: &Config) -> Result<Self, String> {
        let client = connect::client(config)?;
        let host = config.host.iter().map(|host| (header::HOST, host.clone()));
        let mut headers = HeaderMap::new();
        for (name, value) in config.headers.iter().cloned().chain(host) {
            headers.append(name, value);
        }
        let configured = Arc::new(Endpoint::of(config.url.clone())?);
        let endpoint = RwLock::new(Arc::clone(&configured));
        Ok(HttpTransport { shared: Arc::new(Shared { client, headers, configured, endpoint }) })
    }

    /// Where the MCP endpoint is now: the configured URL, with the path of a redirect that was followed.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.shared.endpoint().url.to_string()
    }

    /// The same with the path `path`, to which the server has redirected; `None` where that is the one it has.
    #[must_use]
    pub fn endpoint_at(&self, path: &str) -> Option<String> {
        let mut url = self.shared.endpoint().url.clone();
        let before = url.path().to_owned();
        url.set_path(path);
        (url.path() != before).then(|| url.to_string())
    }

    /// The endpoint is at `path`, as an answer from there has shown.
    pub fn remember_path(&self, path: &str) {
        let mut url = self.shared.endpoint().url.clone();
        url.set_path(path);
        if let Ok(endpoint) = Endpoint::of(url) {
            self.shared.remember(Arc::new(endpoint));
        }
    }

    /// Goes back to the configured URL, where `status` may be that of a way that is good no more: a redirect to a page about
    /// maintenance ends with the maintenance.
    pub fn reconsider(&self, status: StatusCode) {
        self.shared.reconsider(status);
    }
}

impl Shared {
    fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.endpoint.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn remember(&self, endpoint: Arc<Endpoint>) {
        if *self.endpoint() != *endpoint {
            *self.endpoint.write().unwrap_or_else(PoisonError::into_inner) = endpoint;
        }
    }

    fn reconsider(&self, status: StatusCode) {
        if status.is_server_error() || status == StatusCode::NOT_FOUND {
            self.remember(Arc::clone(&self.configured));
        }
    }

    /// Sends, and follows one 307 or 308 on the configured origin: Starlette answers `/mcp/` so, behind TLS with a
    /// `Location` of the wrong scheme. A way that proved good is remembered, until it proves bad.
    async fn exchange(self: Arc<Self>, exchange: Exchange) -> Result<Answer, Fault> {
        let endpoint = self.endpoint();
        let Exchange { method, mut headers, body } = exchange;
        for name in self.headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        let request = |uri: &Uri, headers| {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers;
            request
        };
        let answer = self.once(request(&endpoint.uri, headers.clone())).await?;
        if !answer.status.is_redirection() {
            self.reconsider(answer.status);
            return Ok(answer);
        }
        let location = answer.headers.get(header::LOCATION);
        let target = location.and_then(|location| endpoint.url.join(location.to_str().ok()?).ok());
        let kept = matches!(answer.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let Some(target) = target else { return Ok(answer) };
        if !kept || same_path(&target, &endpoint.url) {
            return Err(Fault::Redirect(origin(&target)));
        }
        let mut moved = endpoint.url.clone();
        moved.set_path(target.path());
        let moved = Arc::new(Endpoint::of(moved).map_err(Fault::Broken)?);
        let answer = self.once(request(&moved.uri, headers)).await?;
        if answer.status.is_redirection() {
            return Err(Fault::Redirect(origin(&target)));
        }
        if answer.status.is_success() {
            self.remember(moved);
        }
        Ok(answer)
    }

    async fn once(&self, request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        let (head, body) = self.client.request(request).await.map_err(|error| fault(&error))?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: Content::Bytes(Box::pin(Chunks(body))) })
    }
}

fn same_path(a: &Url, b: &Url) -> bool {
    a.path() == b.path()
}

/// Scheme, host and port: a path or query may hold secrets.
#[must_use]
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

impl Transport for HttpTransport {
    fn send(&self, exchange: Exchange) -> Sending {
        Box::pin(Arc::clone(&self.shared).exchange(exchange))
    }
}

impl Config {
    /// Scheme, host and port of the upstream: its path or query may hold secrets.
    #[must_use]
    pub fn origin(&self) -> String {
        origin(&self.url)
    }

    /// Its host, for want of a name.
    #[must_use]
    pub fn host_name(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

/// A response body as a stream of its chunks.
struct Chunks(Incoming);

impl Stream for Chunks {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(Fault::Broken(root_cause(&error)))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    // Trailers say nothing that is needed.
                    Err(_) => continue,
                },
            });
        }
    }
}

/// What an error of the client means for the call. Only a failed connect proves that nothing was sent.
fn fault(error: &legacy::Error) -> Fault {
    let text = root_cause(error);
    if error.is_connect() { Fault::Unreachable(text) } else { Fault::Broken(text) }
}

/// Chooses who does the cryptography of TLS, for every client of the process.
pub fn install_tls_provider() {
    // Fails only if a provider was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The innermost error says what happened; those around it say where.
#[must_use]
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
