//! HTTP in: for legacy clients `GET /sse` and `POST /messages`, for others what is the upstream's own.
//!
//! ```text
//! request -> head (sane?) -> guard (host, origin) -> route -> stream (GET) | post (POST) -> session
//!                                        post of a session of another replica -> foreign -> post there
//!                                                          -> through (the upstream's own) -> passthrough
//!                                                          -> upgrade (Streamable HTTP where the stream is) -> both
//! every answer <- cors (pages may ask)
//! ```
//!
//! Errors become answers in one place (`reply`); each has a body that says what to do.

mod body;
mod census;
mod cors;
mod foreign;
mod forwarded;
mod guard;
mod head;
mod oauth;
mod page;
mod post;
mod probe;
mod reply;
mod route;
mod stream;
mod sunset;
mod through;
mod upgrade;
mod visitor;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Request, Response, Uri};
use hyper::body::Incoming;

pub use body::Body;
pub use guard::{AllowedHost, Guard};
pub use post::session_id;
pub use upgrade::{Said, UpgradeLimits};

use crate::auth::oauth::Oauth;
use crate::auth::{CredentialHeaders, ProbeKey, Verifier};
use crate::drain::{Phase, Tasks, Watch};
use crate::fleet::Fleet;
use crate::net::Peer;
pub use crate::net::TrustedProxies;
use crate::passthrough::{Content, Passthrough};
use crate::session::{Books, Sessions};
use crate::sunset::{Rules, Sunset};
use crate::upstream::Upstream;
use census::Census;
use foreign::Pace;
use probe::Probe;
use reply::Refused;
use route::Route;
use sunset::Lately;
use through::Place;
use upgrade::Upgrades;
use visitor::{Visitor, Who};

/// Where and how legacy clients are served.
#[derive(Debug, Clone, Default)]
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
    /// The server's own URL for Streamable HTTP, if clients can be told one.
    pub modern_url: Option<String>,
    /// What is passed through.
    pub passthrough: Through,
    /// The path of the upstream's MCP endpoint.
    pub mcp_path: String,
    /// Whether Streamable HTTP is spoken on the path of the stream.
    pub upgrade: bool,
    /// Most sessions that are kept for clients who do.
    pub max_upgraded: UpgradeLimits,
    /// After how much silence a comment goes on a stream of theirs.
    pub keep_alive: Duration,
}

/// Where requests go.
#[derive(Debug)]
pub struct Ways {
    /// Legacy sessions.
    pub sessions: Sessions,
    /// The upstream, as it is.
    pub passthrough: Passthrough,
    /// The upstream, in whatever era it speaks.
    pub upstream: Upstream,
    /// Where its tokens come from.
    pub oauth: Oauth,
    /// How far HTTP+SSE is switched off.
    pub sunset: Sunset,
    /// The other replicas.
    pub fleet: Fleet,
}

/// What is passed through to the upstream (`--passthrough`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Through {
    /// Nothing.
    #[default]
    Off,
    /// The path of its MCP endpoint.
    Mcp,
    /// Every path that is not ours.
    All,
}

impl Through {
    /// As it is typed, and as the log names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Through::Off => "off",
            Through::Mcp => "mcp",
            Through::All => "all",
        }
    }
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
    passthrough: Passthrough,
    upgrades: Upgrades,
    census: Census,
    sunset: Sunset,
    /// Who was turned away by it.
    lately: Lately,
    fleet: Fleet,
    /// Who was told of to other replicas.
    told: Pace,
    books: Books,
    drain: Watch,
}

impl Front {
    /// A front for what `ways` lead to. The end of `tasks` waits for what it does besides answering.
    #[must_use]
    pub fn new(config: Config, ways: Ways, books: Books, tasks: Tasks, drain: Watch) -> Self {
        let verifier = config.probe_key.clone().map(Verifier::new);
        let Ways { sessions, passthrough, upstream, oauth, sunset, fleet } = ways;
        let upgrades = Upgrades::new(upstream, config.max_upgraded, config.keep_alive, &books.metrics);
        let census = Census::new(books.clone(), tasks);
        let exchanges = passthrough.clone();
        let running = move || u64::try_from(exchanges.running()).unwrap_or(u64::MAX);
        books.metrics.watch_gauge("passed_through", running);
        let shared = Shared {
            config,
            verifier,
            sessions,
            oauth,
            passthrough,
            upgrades,
            census,
            sunset,
            lately: Lately::default(),
            fleet,
            told: Pace::default(),
            books,
            drain,
        };
        Front { shared: Arc::new(shared) }
    }

    /// Looks after what is under way: ends what stands still, forgets what nobody uses. Never ends.
    pub async fn watch(&self) {
        let shared = &self.shared;
        tokio::join!(shared.passthrough.watch(shared.drain.clone()), shared.upgrades.sweep(shared.drain.clone()));
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let origin = self.shared.config.guard.allowed_origin(&request);
        let mut answer = self.route(request, peer).await.unwrap_or_else(Refused::into_answer);
        if let Some(origin) = origin {
            cors::let_read(origin, &mut answer);
        }
        answer
    }

    /// Ways that are seldom taken are boxed: this future is as large as its largest, and moved before it begins.
    async fn route(&self, mut request: Request<Incoming>, peer: Peer) -> Answered {
        let shared = &self.shared;
        let who = Who::of(&request, &peer, &shared.config);
        let wanted = shared.oauth.wanted(request.uri().path(), request.uri().query());
        if wanted.is_some() || asks_for_login(request.uri()) {
            foreign::note_login(shared, who.client());
        }
        if let Some(wanted) = wanted {
            head::check(&request).and_then(|()| shared.config.guard.admit_host(&request))?;
            request = match Box::pin(oauth::serve(shared, wanted, request)).await {
                Ok(answered) => return answered,
                Err(request) => request,
            };
        }
        let route = shared.config.route(&request);
        if let Route::Through { is_mcp } = route {
            return Box::pin(self.pass(who, request, peer, is_mcp)).await;
        }
        let visitor = Visitor::of(who, &request, &peer, &shared.config);
        self.serve(route, &visitor, request, peer).await
    }

    async fn pass(&self, who: Who, request: Request<Incoming>, peer: Peer, is_mcp: bool) -> Answered {
        let shared = &self.shared;
        head::check(&request).and_then(|()| shared.config.guard.admit(&request))?;
        if cors::is_preflight(&request) {
            return Ok(cors::permission_for_upstream(&request));
        }
        let place = if is_mcp { Place::Endpoint } else { Place::Elsewhere };
        let (head, body) = request.into_parts();
        through::pass(shared, &who, head, Content::Stream(body), peer.ender, place).await
    }

    async fn serve(&self, route: Route, visitor: &Visitor, request: Request<Incoming>, peer: Peer) -> Answered {
        let rules = self.shared.sunset.rules();
        let is_legacy = matches!(route, Route::Stream | Route::Message | Route::Page | Route::Method { .. });
        let answer = self.serve_under(&rules, route, visitor, request, peer).await;
        if !is_legacy {
            return answer;
        }
        let answer = answer.map_err(|refused| sunset::told(refused, &rules));
        let mut answer = answer.unwrap_or_else(Refused::into_answer);
        sunset::sign(&rules, &mut answer);
        Ok(answer)
    }

    async fn serve_under(
        &self,
        rules: &Rules,
        route: Route,
        visitor: &Visitor,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Answered {
        let shared = &self.shared;
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
        sunset::admit(shared, rules, visitor, &route, &request, &probe).await?;
        match route {
            Route::Method { allow, .. } if cors::is_preflight(&request) => {
                Ok(cors::permission(allow, &shared.config.cors_headers))
            }
            Route::Page => Ok(page::answer(&shared.config, rules)),
            Route::Upgrade if cors::is_preflight(&request) => Ok(cors::permission_for_upstream(&request)),
            Route::Stream if shared.drain.phase() >= Phase::Closing => {
                // A 503 would make TypeScript clients give up; after a reset they try again (DESIGN, drain).
                peer.ender.reset();
                std::future::pending().await
            }
            Route::Stream => Box::pin(stream::open(shared, visitor, &request, peer.ender, probe)).await,
            Route::Message => post::deliver(shared, visitor, request).await,
            Route::Upgrade => Box::pin(upgrade::serve(shared, visitor, request, peer.ender)).await,
            Route::Method { allow, text } => Err(Refused::Method { allow, text }),
            // `pass` has them.
            Route::Through { .. } | Route::Unknown => Err(Refused::Path(shared.config.clone_paths())),
        }
    }
}

impl Config {
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
}
