//! HTTP in, for legacy clients: `GET /sse` and `POST /messages`.
//!
//! ```text
//! request -> head (sane?) -> guard (host, origin) -> route -> stream (GET) | post (POST) -> session
//!                                                            cors (pages may ask) -> every answer
//! ```
//!
//! Errors become answers in one place (`reply`); each has a body that says what to do.

mod cors;
mod guard;
mod head;
mod oauth;
mod post;
mod probe;
mod reply;
mod stream;
mod visitor;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, Uri};
use http_body_util::Either;
use hyper::body::Incoming;

pub use guard::{AllowedHost, Guard};
pub use post::session_id;
pub use visitor::TrustedProxies;

use crate::auth::oauth::Oauth;
use crate::auth::{CredentialHeaders, ProbeKey, Verifier};
use crate::drain::{Phase, Watch};
use crate::mcp;
use crate::net::Peer;
use crate::session::{Books, EventStream, Sessions};
use probe::Probe;
use reply::Refused;
use visitor::Visitor;

/// The body of any answer: a text, or the stream.
pub type Body = Either<http_body_util::Full<Bytes>, EventStream>;

/// Where and how legacy clients are served.
#[derive(Debug, Clone)]
pub struct Config {
    /// The path of the event stream.
    pub sse_path: String,
    /// The path messages are posted to.
    pub messages_path: String,
    /// What stands before our paths in the URL the client knows, empty or starting with `/`.
    pub public_path: String,
    /// Largest body of a POST, in bytes.
    pub max_body: usize,
    /// How long the body of a POST may take.
    pub body_time: Duration,
    /// Which hosts and origins may ask.
    pub guard: Guard,
    /// Headers that pages of allowed origins may send besides those that clients are known to.
    pub cors_headers: Vec<HeaderName>,
    /// Starts of the `User-Agent`s whose streams get no keep-alive comments.
    pub no_keep_alive: Vec<String>,
    /// Whose word on addresses and prefixes is taken.
    pub trusted: TrustedProxies,
    /// A header that names the client.
    pub identity_header: Option<HeaderName>,
    /// The headers that carry credentials.
    pub credential_headers: CredentialHeaders,
    /// The key that the operator's own probes sign with.
    pub probe_key: Option<ProbeKey>,
}

/// Serves legacy clients. Clones serve the same sessions.
#[derive(Debug, Clone)]
pub struct Front {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Knows the operator's own probes, if they have a key.
    verifier: Option<Verifier>,
    sessions: Sessions,
    oauth: Oauth,
    books: Books,
    drain: Watch,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Stream,
    Message,
    /// Something that the path does not do.
    Method {
        allow: &'static str,
        text: &'static str,
    },
    Unknown,
}

impl Front {
    /// A front for `sessions`.
    #[must_use]
    pub fn new(config: Config, sessions: Sessions, oauth: Oauth, books: Books, drain: Watch) -> Self {
        let verifier = config.probe_key.clone().map(Verifier::new);
        Front { shared: Arc::new(Shared { config, verifier, sessions, oauth, books, drain }) }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let origin = self.shared.config.guard.allowed_origin(&request);
        let mut answer = self.route(request, peer).await.unwrap_or_else(Refused::into_answer);
        if let Some(origin) = origin {
            cors::let_read(origin, answer.headers_mut());
        }
        answer
    }

    async fn route(&self, mut request: Request<Incoming>, peer: Peer) -> Answered {
        let shared = &self.shared;
        if let Some(wanted) = shared.oauth.wanted(request.uri().path(), request.uri().query()) {
            head::check(&request).and_then(|()| shared.config.guard.admit_host(&request))?;
            request = match oauth::serve(shared, wanted, request).await {
                Ok(answered) => return answered,
                Err(request) => request,
            };
        }
        let visitor = Visitor::of(&request, peer.address, &shared.config);
        if asks_for_login(request.uri()) {
            shared.sessions.note_login(&visitor.client());
        }
        let route = shared.config.route(&request);
        let is_stream = route == Route::Stream;
        let probe = if is_stream { Probe::of(&request, shared.verifier.as_ref()) } else { Probe::default() };
        if let Err(refused) = head::check(&request).and_then(|()| shared.config.guard.admit(&request)) {
            if is_stream && probe.signed.is_none() {
                let client = visitor.client();
                let connection = visitor.connection(&shared.books);
                let label = crate::traffic::random_hex(4);
                shared.books.refuse(&label, &client, connection, refused.reason(), refused.status().as_u16()).await;
            }
            return Err(refused);
        }
        match route {
            Route::Method { allow, .. } if cors::is_preflight(&request) => {
                Ok(cors::permission(allow, &shared.config.cors_headers))
            }
            Route::Stream if shared.drain.phase() >= Phase::Closing => {
                // A 503 would make TypeScript clients give up; after a reset they try again (DESIGN, drain).
                peer.ender.reset();
                std::future::pending().await
            }
            Route::Stream => stream::open(shared, &visitor, &request, peer.ender, probe).await,
            Route::Message => post::deliver(shared, &visitor, request).await,
            Route::Method { allow, text } => Err(Refused::Method { allow, text }),
            Route::Unknown => Err(Refused::Path(shared.config.clone_paths())),
        }
    }
}

impl Config {
    fn route<B>(&self, request: &Request<B>) -> Route {
        let path = request.uri().path();
        if path == self.sse_path {
            // `Mcp-Session-Id` on a GET is Streamable HTTP; `MCP-Protocol-Version` tells nothing: Java always sends it.
            return match *request.method() {
                Method::GET if !request.headers().contains_key(mcp::SESSION_ID) => Route::Stream,
                _ => Route::Method { allow: "GET", text: reply::STREAM_ONLY },
            };
        }
        if self.is_messages(path) {
            return match *request.method() {
                Method::POST => Route::Message,
                _ => Route::Method { allow: "POST", text: reply::POST_ONLY },
            };
        }
        Route::Unknown
    }

    /// Any path that ends in the message path: old Kotlin and Java double the slash or the prefix, Python's own servers
    /// have a slash at the end (WIRE, Stream 2).
    fn is_messages(&self, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        path.ends_with(self.messages_path.strip_suffix('/').unwrap_or(&self.messages_path))
    }

    fn clone_paths(&self) -> (String, String) {
        (self.sse_path.clone(), self.messages_path.clone())
    }
}

/// Whether a request is for OAuth metadata, wherever clients look for it: its client is about to log in.
fn asks_for_login(uri: &Uri) -> bool {
    let well_known =
        |name: &str| uri.path().split_once("/.well-known/").is_some_and(|(_, rest)| rest.starts_with(name));
    well_known("oauth-")
        || well_known("openid-configuration")
        || uri.query().is_some_and(|query| query.contains("mcp-prm="))
}

/// What a request comes to.
type Answered = Result<Response<Body>, Refused>;

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str, headers: &[(&str, &str)]) -> Route {
        let config = Config {
            sse_path: "/sse".into(),
            messages_path: "/messages".into(),
            public_path: String::new(),
            max_body: 1,
            body_time: Duration::ZERO,
            guard: Guard::default(),
            cors_headers: Vec::new(),
            no_keep_alive: Vec::new(),
            trusted: TrustedProxies::default(),
            identity_header: None,
            credential_headers: CredentialHeaders::default(),
            probe_key: None,
        };
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        config.route(&request.body(()).expect("a request"))
    }

    #[test]
    fn messages_are_taken_on_any_path_that_ends_in_theirs() {
        for path in ["/messages", "/messages/", "//messages", "/gw/gw/messages", "/messages?sessionId=x"] {
            assert_eq!(route("POST", path, &[]), Route::Message, "{path}");
        }
        assert_eq!(route("POST", "/messages/x", &[]), Route::Unknown);
    }

    #[test]
    fn client_that_is_about_to_log_in_asks_for_metadata() {
        let asks = |uri: &'static str| asks_for_login(&Uri::from_static(uri));
        for uri in [
            "/.well-known/oauth-protected-resource/sse",
            "/.well-known/oauth-authorization-server",
            "/sse/.well-known/openid-configuration",
            "/sse?mcp-prm=1",
        ] {
            assert!(asks(uri), "{uri}");
        }
        for uri in ["/sse", "/messages?sessionId=x", "/.well-known/security.txt", "/oauth-protected-resource"] {
            assert!(!asks(uri), "{uri}");
        }
    }

    #[test]
    fn get_with_a_session_id_is_not_legacy_and_a_version_tells_nothing() {
        assert_eq!(route("GET", "/sse", &[("mcp-protocol-version", "2024-11-05")]), Route::Stream);
        assert!(matches!(route("GET", "/sse", &[("mcp-session-id", "x")]), Route::Method { allow: "GET", .. }));
        assert!(matches!(route("POST", "/sse", &[]), Route::Method { allow: "GET", .. }));
        assert!(matches!(route("GET", "/messages", &[]), Route::Method { allow: "POST", .. }));
        assert_eq!(route("GET", "/sse/.well-known/openid-configuration", &[]), Route::Unknown);
    }
}
