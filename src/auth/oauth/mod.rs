//! OAuth for legacy clients (SECURITY §2): they log in to the public URL, and the upstream protects another one.
//!
//! ```text
//!  challenge   WWW-Authenticate, read and written anew     places     where clients look, and for what
//!  metadata    the documents and what becomes of them      swap       `resource` in queries and forms
//!  learning    what the upstream publishes (cached)        standing   what it said of credentials
//!  answers     documents and the facade, as HTTP           breaker    ends loops of refused clients
//!  names       under which URL clients know us             advice     what the operator is told
//! ```
//!
//! Promise: clients are sent to places that the configuration names and never to what a request says; nothing that is
//! secret is kept or logged; a server that asks for no credential is asked once and never again. The front asks
//! ([`Oauth::admit`] at `GET /sse`, [`Oauth::turned_down`] for every 401 and 403 that leaves); sessions do not know it.

mod advice;
mod answers;
mod breaker;
mod cached;
pub mod challenge;
mod learning;
mod metadata;
mod names;
mod places;
mod standing;
mod swap;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use answers::Relayed;
pub use places::{Endpoint, MetadataAt, Wanted};
pub use swap::{InvalidTarget, swap};

use crate::auth::{Credential, CredentialHeaders, Rejection};
use crate::traffic::Client;
use crate::upstream::{self, Fetcher, Shown, Upstream, Url};
use advice::Advice;
use breaker::{Breaker, Refusal};
use learning::{Learning, Protection};
use metadata::Resource;
use names::Names;
use places::Places;
use standing::{Known, Standing};

/// How long `GET /sse` may wait for the upstream's word.
const PROBE: Duration = Duration::from_secs(3);
/// Probes that may be under way: a restart brings all clients back at once.
const PROBES: usize = 64;
/// Who asks before any client comes.
const OURS: HeaderValue = HeaderValue::from_static(concat!("sse-sunset/", env!("CARGO_PKG_VERSION")));

/// What clients are told to ask tokens for (`--oauth-resource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResourceMode {
    /// The public URL where the upstream publishes metadata for another one; else whatever it says.
    #[default]
    Auto,
    /// The public URL.
    Exact,
    /// What the upstream says.
    Upstream,
    /// The public URL, and this proxy turns it into the upstream's on the way to the authorization server.
    Facade,
    /// Nothing: no part of OAuth is done here.
    None,
}

/// Whether the upstream is asked before a stream opens (`--oauth-probe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProbeMode {
    /// Where it was seen to ask for credentials.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: clients learn at their first POST.
    Off,
}

/// What the operator says.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What clients ask tokens for.
    pub resource: ResourceMode,
    /// When the upstream is asked.
    pub probe: ProbeMode,
    /// Where the challenge sends clients.
    pub metadata_at: MetadataAt,
    /// Further hosts whose metadata may be fetched.
    pub hosts: Vec<String>,
    /// The URL that clients know the proxy under; its path does not count.
    pub public: Option<Url>,
    /// Whether clients are spoken to in TLS where it is not known.
    pub is_tls: bool,
    /// What stands before our paths in the URL that clients know.
    pub public_path: String,
    /// The path of the event stream.
    pub sse_path: String,
    /// Whether nothing is known to stand between clients and this process.
    pub is_direct: bool,
    /// The headers that hold credentials.
    pub credentials: CredentialHeaders,
    /// Whether trusted proxies tell the addresses of clients.
    pub knows_addresses: bool,
}

/// Whose credential was refused.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// Whoever posts to this session.
    Session(&'a str),
    /// Whoever opens a stream.
    Newcomer(&'a Client),
}

/// What a client is told that was turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// The refusal, with challenges that lead to our metadata.
    Rejected(Rejection),
    /// 403: it has tried enough. The text is JSON.
    Broken(String),
}

/// The proxy's side of OAuth. Clones are the same.
#[derive(Debug, Clone)]
pub struct Oauth {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    names: Names,
    upstream: Upstream,
    learning: Learning,
    standing: Standing,
    breaker: Breaker,
    probes: Semaphore,
    /// Those without a credential tell everybody the same: one at a time.
    anonymous: Semaphore,
    advice: Advice,
}

/// What is done with the upstream's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It passes.
    Pass,
    /// `resource` becomes the public URL.
    Exact,
    /// The same, and the facade stands before the authorization server.
    Facade,
}

impl Oauth {
    /// For a proxy that listens on `address`.
    #[must_use]
    pub fn new(config: Config, address: SocketAddr, server: &upstream::Config, upstream: Upstream) -> Self {
        let names = Names::new(&config, address, &server.url);
        let learning = Learning::new(Fetcher::new(server), server.url.clone(), names.origins(), config.hosts.clone());
        Oauth {
            shared: Arc::new(Shared {
                names,
                upstream,
                learning,
                standing: Standing::new(config.probe == ProbeMode::Always),
                breaker: Breaker::new(),
                probes: Semaphore::new(PROBES),
                anonymous: Semaphore::new(1),
                advice: Advice::default(),
                config,
            }),
        }
    }

    fn is_off(&self) -> bool {
        self.shared.config.resource == ResourceMode::None
    }

    /// Whether nobody who opens a stream is asked for anything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let probe = self.shared.config.probe;
        self.is_off() || probe == ProbeMode::Off || (probe == ProbeMode::Auto && self.shared.standing.is_open())
    }

    /// What a request for `path` asks for, if it is anything of OAuth.
    #[must_use]
    pub fn wanted(&self, path: &str, query: Option<&str>) -> Option<Wanted> {
        let wanted = self.shared.names.any().filter(|_| !self.is_off())?.wanted(path, query)?;
        let is_facade = self.shared.config.resource == ResourceMode::Facade;
        (is_facade || !matches!(wanted, Wanted::Facade | Wanted::Endpoint(_))).then_some(wanted)
    }

    /// Asks the upstream whether it wants credentials, and learns what protects it. At start, before any client comes.
    pub async fn learn(&self) {
        if self.is_off() {
            return;
        }
        // Some gateways turn away requests that name no program.
        let nobody = HeaderMap::from_iter([(header::USER_AGENT, OURS)]);
        let shown = Shown::of(&nobody);
        let Ok(said) = timeout(PROBE, self.probe(&shown, &nobody)).await else {
            // It took the request and says nothing. Whoever comes next asks again.
            return self.shared.standing.silent(&shown);
        };
        if let Some(rejection) = said {
            self.rewritten(None, rejection).await;
            if self.shared.config.resource == ResourceMode::Facade && self.shared.names.any().is_some() {
                let learning = &self.shared.learning;
                advice::on_facade(&learning.server().await, learning.maps_server());
            }
        }
    }

    /// Whether a client that opens a stream with `headers`, as they go up, may; else how the upstream turns it down.
    ///
    /// # Errors
    /// The upstream's refusal, as it came.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let shared = &self.shared;
        if self.is_quiet() {
            return Ok(());
        }
        let is_auto = shared.config.probe == ProbeMode::Auto;
        let shown = Shown::of(headers);
        match timeout(PROBE, self.ask(&shown, headers, is_auto)).await {
            Ok(None) => Ok(()),
            Ok(Some(rejection)) => Err(rejection),
            Err(_) => {
                // Every POST is judged by the upstream anyway; a client that is kept waiting is lost.
                shared.standing.silent(&shown);
                Ok(())
            }
        }
    }

    async fn ask(&self, shown: &Shown, headers: &HeaderMap, is_auto: bool) -> Option<Rejection> {
        let standing = &self.shared.standing;
        if is_auto && !shown.is_empty() && standing.without() == Known::Nothing {
            // What a credential is worth tells nothing of whether one is needed.
            let anonymous = headers.iter().filter(|(name, _)| Shown::is_of_the_way(name));
            let anonymous: HeaderMap = anonymous.map(|(name, value)| (name.clone(), value.clone())).collect();
            self.probe(&Shown::of(&anonymous), &anonymous).await;
            if standing.is_open() {
                return None;
            }
        }
        match standing.of(shown) {
            Known::Good => None,
            Known::Bad(rejection) => Some(rejection),
            Known::Nothing => self.probe(shown, headers).await,
        }
    }

    /// Knocks, and notes what was said. One that waited for its turn may find that it is known by then.
    async fn probe(&self, shown: &Shown, headers: &HeaderMap) -> Option<Rejection> {
        let shared = &self.shared;
        let probes = if shown.is_empty() { &shared.anonymous } else { &shared.probes };
        let _turn = probes.acquire().await.ok()?;
        match shared.standing.of(shown) {
            Known::Good => return None,
            Known::Bad(rejection) => return Some(rejection),
            Known::Nothing => {}
        }
        match shared.upstream.knock(headers).await {
            Ok(knocked) if knocked.is_refusal => {
                let rejection = Rejection { status: knocked.status, challenges: knocked.challenges };
                shared.standing.rejected(shown, rejection.clone());
                Some(rejection)
            }
            Ok(knocked) if knocked.status.is_server_error() => {
                shared.standing.silent(shown);
                None
            }
            Ok(_) => {
                shared.standing.accepted(shown);
                None
            }
            Err(_) => {
                shared.standing.silent(shown);
                None
            }
        }
    }

    /// What a client is told that asked for `host`, and whose request with `headers`, as they went up, the upstream answered
    /// with `rejection`.
    pub async fn turned_down(
        &self,
        asker: Asker<'_>,
        host: Option<&str>,
        headers: &HeaderMap,
        rejection: Rejection,
    ) -> Turned {
        if self.is_off() {
            return Turned::Rejected(rejection);
        }
        let shown = Shown::of(headers);
        if rejection.status == StatusCode::UNAUTHORIZED {
            self.shared.standing.doubt(&shown);
            let credential = self.shared.config.credentials.credential(headers);
            if credential.is_some() && self.breaks(asker, credential, headers) {
                return Turned::Broken(self.refusal_text(host));
            }
        }
        Turned::Rejected(self.rewritten(host, rejection).await)
    }

    /// Whether anybody's refusals are being counted, so that it matters who is accepted.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.shared.breaker.counts()
    }

    /// The upstream took a credential of `asker`.
    pub fn accepted(&self, asker: Asker<'_>) {
        match asker {
            Asker::Session(id) => self.shared.breaker.accepted(&id),
            Asker::Newcomer(client) if self.is_told_apart(client) => self.shared.breaker.accepted(&label_of(client)),
            Asker::Newcomer(_) => {}
        }
    }

    /// Whether refusals of a newcomer are its own. With a token that names nobody and behind a balancer that is not trusted,
    /// it looks like everybody else who has a client of its kind.
    fn is_told_apart(&self, client: &Client) -> bool {
        let names = [&client.principal.header, &client.principal.subject];
        self.shared.config.knows_addresses || names.into_iter().flatten().any(|name| !name.is_empty())
    }

    /// Whether the client has tried enough. The operator is told once, with what the token says of itself.
    fn breaks(&self, asker: Asker<'_>, credential: Credential, headers: &HeaderMap) -> bool {
        let refusal = match asker {
            Asker::Session(id) => self.shared.breaker.refused(&id, &credential),
            Asker::Newcomer(client) if self.is_told_apart(client) => {
                self.shared.breaker.refused(&label_of(client), &credential)
            }
            Asker::Newcomer(_) => Refusal::Passes,
        };
        if refusal == Refusal::Opens {
            advice::on_loop(headers);
        }
        refusal != Refusal::Passes
    }

    fn refusal_text(&self, host: Option<&str>) -> String {
        let stream = self.shared.names.of(host).map_or("this URL", |places| &places.stream);
        let text = format!(
            "upstream rejects tokens issued for {stream}; the server behind this proxy must accept that audience, or its \
             operator start the proxy with --oauth-resource facade"
        );
        serde_json::json!({"error": "access_denied", "error_description": text}).to_string()
    }

    /// The refusal as clients get it: with challenges that lead to our metadata, if there is any.
    async fn rewritten(&self, host: Option<&str>, rejection: Rejection) -> Rejection {
        let shared = &self.shared;
        let named = challenge::named_metadata(&rejection.challenges);
        shared.learning.hear(named.as_deref());
        let Some(places) = shared.names.of(host) else {
            if named.is_some() {
                shared.advice.on_unknown_name();
            }
            return rejection;
        };
        let protection = shared.learning.protection_soon().await;
        if let Err(problem) = &protection {
            shared.advice.on_unknown_protection(problem);
        }
        let resource = protection.as_ref().ok().and_then(|protection| protection.resource.as_ref());
        let metadata = resource.map(|_| places.metadata());
        if let Some(resource) = resource {
            shared.advice.on_login(self.effect(places, resource), &resource.name, &places.stream);
            // Whoever runs the server has thought of the public URL: what it says reaches its clients.
            let is_public = named.as_ref().is_some_and(|named| named.starts_with(&format!("{}/", places.origin)));
            if self.effect(places, resource) == Effect::Pass && is_public {
                return Rejection {
                    challenges: challenge::rewrite(&rejection.challenges, rejection.status, None),
                    ..rejection
                };
            }
        }
        let challenges = challenge::rewrite(&rejection.challenges, rejection.status, metadata.as_deref());
        Rejection { challenges, ..rejection }
    }

    fn effect(&self, places: &Places, resource: &Resource) -> Effect {
        match self.shared.config.resource {
            ResourceMode::Upstream | ResourceMode::None => Effect::Pass,
            ResourceMode::Auto if swap::is_same(&resource.name, &places.stream) => Effect::Pass,
            ResourceMode::Auto | ResourceMode::Exact => Effect::Exact,
            ResourceMode::Facade => Effect::Facade,
        }
    }

    async fn protection(&self) -> Result<Arc<Protection>, cached::Problem> {
        self.shared.learning.protection().await
    }
}

/// What tells one newcomer from another. The subject of a token that nobody has verified is not enough: others could open
/// the breaker of a client whose name they know.
fn label_of(client: &Client) -> impl std::hash::Hash + '_ {
    let principal = &client.principal;
    (&principal.header, &principal.subject, &principal.client_id, client.address, &client.user_agent)
}
