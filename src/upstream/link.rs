//! One session's way to the upstream, whatever era it speaks (WIRE, Era).
//!
//! The session posts, listens and takes leave; this finds out what the server speaks and says it so. The era of a link does
//! not change once it is settled: a server that has become another is reported as one that lost the session (404), and
//! the session stands up again on a new link, which finds anew. So there is one way through every change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::era::{Belief, Era};
use super::modern::{self, ClientFacts, Discovered, Reply, is_refusal};
use super::session_era::{self, Evidence, Names};
use super::{Answer, Fault, Sending, Upstream};
use crate::mcp::{self, MessageKind, RequestId, RpcError, code, error_response};

/// Longest `initialize` that is kept until the era is found, in bytes. Those of clients are a tenth of it, and a session that
/// costs its client nothing must not cost more here; with a longer one it goes on in the session era.
const LONGEST_KEPT: usize = 32 << 10;
/// How long the first message after `initialize` waits for the era: the answer to that said nothing of it.
const PROBE: Duration = Duration::from_secs(2);
/// How often a link asks before it goes on as it is.
const PROBES: u32 = 3;
/// The id of a ping that asks about a credential.
const VET: &str = "sse-sunset-credential";
/// How long it may take to see whether the server speaks HTTP+SSE itself.
const LOOK: Duration = Duration::from_secs(3);

/// One upstream session, from before its `initialize` to its end.
#[derive(Debug)]
pub struct Link {
    upstream: Upstream,
    /// Shared with the exchanges under way: their answers settle it.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    way: Way,
    /// What the requests of the session era name.
    names: Names,
    /// The version that `initialize` settled.
    version: Option<String>,
    /// The server has become another: the session has to be made anew.
    outdated: bool,
}

#[derive(Debug, Default, Clone)]
enum Way {
    /// Nothing was sent.
    #[default]
    Fresh,
    Session,
    /// The server answered `initialize` and holds no session: it may know the modern era too, which serves better then.
    Undecided {
        initialize: Bytes,
        probes: u32,
    },
    Modern(modern::Session),
}

impl Link {
    pub(super) fn new(upstream: Upstream) -> Self {
        Link { upstream, state: Arc::default() }
    }

    /// Whether the server named a session for this link, which it may forget, and which is to be deleted.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.lock().names.session_id.is_some()
    }

    /// Whether what the server says may mean that the session has to be made anew.
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        let state = self.lock();
        state.names.session_id.is_some() || state.outdated
    }

    /// Whether there is a stream for what happens outside of calls.
    #[must_use]
    pub fn can_listen(&self) -> bool {
        let state = self.lock();
        state.names.session_id.is_some() || matches!(state.way, Way::Modern(_))
    }

    /// Whether what clients of this session say can go to the server as it is: it is settled that this is its era.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self.lock().way, Way::Session)
    }

    /// Whether what the client is asked are the proxy's own requests, made of what a stateless server wants to know: nobody
    /// else takes them back.
    #[must_use]
    pub fn asks_by_itself(&self) -> bool {
        matches!(self.lock().way, Way::Modern(_))
    }

    /// Notes the version that `initialize` settled.
    pub fn negotiated(&mut self, version: &str) {
        let mut state = self.lock();
        state.names.negotiated(version);
        state.version = Some(version.to_owned());
    }

    /// POSTs a message; `headers` are those of the client's own request.
    #[must_use]
    pub fn post(&self, body: Bytes, headers: &Arc<HeaderMap>) -> Sending {
        let way = self.lock().way.clone();
        match way {
            Way::Session => self.post_in_session(body, headers),
            Way::Modern(session) => self.post_modern(&session, &body, headers),
            Way::Fresh => match first(&body, None) {
                Some((id, facts)) => {
                    Opening { link: self.again(), id, facts, body, headers: Arc::clone(headers) }.open().boxed()
                }
                None => self.post_in_session(body, headers),
            },
            Way::Undecided { initialize, probes } => {
                let (link, headers) = (self.again(), Arc::clone(headers));
                async move {
                    link.decide(initialize, probes, &headers).await;
                    link.post_decided(body, &headers).await
                }
                .boxed()
            }
        }
    }

    /// Asks the server something harmless, to see by the head of its answer what it makes of the credential in `headers`.
    #[must_use]
    pub fn vet(&self, headers: &Arc<HeaderMap>) -> Sending {
        let way = self.lock().way.clone();
        match way {
            // A ping would be answered here.
            Way::Modern(_) => {
                let (link, headers) = (self.again(), Arc::clone(headers));
                async move {
                    match modern::ask(&link.upstream, &ClientFacts::of_nobody(), &headers).await {
                        Discovered::Rejected(answer) => Ok(answer),
                        Discovered::Unknown(fault) => Err(fault),
                        Discovered::Modern(..) | Discovered::Legacy => {
                            Ok(session_era::json(StatusCode::OK, Bytes::new()))
                        }
                    }
                }
                .boxed()
            }
            Way::Fresh | Way::Session | Way::Undecided { .. } => {
                let ping = format!(r#"{{"jsonrpc":"2.0","id":"{VET}","method":"ping"}}"#);
                self.post_in_session(Bytes::from(ping), headers)
            }
        }
    }

    /// Opens the stream for what happens outside of calls, after `last_event_id` if it was open before.
    #[must_use]
    pub fn listen(&self, headers: &HeaderMap, last_event_id: Option<&HeaderValue>) -> Sending {
        let state = self.lock();
        match &state.way {
            Way::Modern(session) => session.listen(headers),
            _ => self.upstream.transport().send(session_era::get(&state.names, headers, last_event_id)),
        }
    }

    /// Ends the session; `None` when the server holds none.
    #[must_use]
    pub fn delete(&self, headers: &HeaderMap) -> Option<Sending> {
        let exchange = session_era::delete(&self.lock().names, headers)?;
        Some(self.upstream.transport().send(exchange))
    }

    fn post_in_session(&self, body: Bytes, headers: &Arc<HeaderMap>) -> Sending {
        let (exchange, has_session) = {
            let state = self.lock();
            (session_era::post(&state.names, headers, body), state.names.session_id.is_some())
        };
        let sending = self.upstream.transport().send(exchange);
        if self.upstream.options().era.is_some() {
            return sending;
        }
        let (link, headers) = (self.again(), Arc::clone(headers));
        async move {
            let answer = sending.await?;
            if answer.status != StatusCode::BAD_REQUEST {
                return Ok(answer);
            }
            let (answer, evidence) = session_era::read_refusal(answer, has_session).await;
            let speaks_modern = match evidence {
                Evidence::None => false,
                Evidence::Weak => link.says_modern(&headers).await,
                Evidence::Certain => true,
            };
            if speaks_modern {
                link.upstream.believe(Belief::Modern);
                return Ok(link.outdated());
            }
            Ok(answer)
        }
        .boxed()
    }

    /// Whether the server says that it speaks the modern era, asked now.
    async fn says_modern(&self, headers: &HeaderMap) -> bool {
        let nobody = ClientFacts::of_nobody();
        let asking = modern::ask(&self.upstream, &nobody, headers);
        matches!(timeout(PROBE, asking).await, Ok(Discovered::Modern(..)))
    }

    fn post_modern(&self, session: &modern::Session, body: &Bytes, headers: &HeaderMap) -> Sending {
        let (replying, link) = (session.post(body, headers), self.again());
        async move {
            match replying.await? {
                Reply::Answer(answer) => Ok(answer),
                Reply::Outdated => Ok(link.outdated()),
            }
        }
        .boxed()
    }

    async fn post_decided(self, body: Bytes, headers: &Arc<HeaderMap>) -> Result<Answer, Fault> {
        let way = self.lock().way.clone();
        let sending = match way {
            Way::Modern(session) => self.post_modern(&session, &body, headers),
            Way::Fresh | Way::Session | Way::Undecided { .. } => self.post_in_session(body, headers),
        };
        sending.await
    }

    /// The server has become another: nothing that was agreed on holds any more.
    fn outdated(&self) -> Answer {
        self.lock().outdated = true;
        session_era::lost("the upstream is of another era now")
    }

    /// The server answered `initialize` without a session: if it speaks the modern era too, that is spoken from now on. It
    /// can do all that this can, and ask the client besides (UPSTREAMS 0.2).
    async fn decide(&self, initialize: Bytes, probes: u32, headers: &HeaderMap) {
        // A server that hangs must not keep one session after the other waiting for the same.
        let Ok(Some(_turn)) = timeout(PROBE, self.upstream.probing()).await else { return };
        let told = match &*self.lock() {
            State { way: Way::Undecided { .. }, version, .. } => version.clone(),
            _ => return,
        };
        let Some((_, facts)) = first(&initialize, told.as_deref()) else { return };
        let way = match self.upstream.belief() {
            Belief::Stateless => Way::Session,
            Belief::Nothing | Belief::Sessions | Belief::Modern => {
                let asking = modern::discover(&self.upstream, &facts, headers);
                match timeout(PROBE, asking).await {
                    Ok(Discovered::Modern(discovery, _)) => {
                        self.upstream.believe(Belief::Modern);
                        Way::Modern(modern::Session::new(self.upstream.clone(), facts, discovery))
                    }
                    Ok(Discovered::Legacy) => {
                        self.upstream.believe(Belief::Stateless);
                        Way::Session
                    }
                    // It says nothing of the era: the next message asks again, though not for ever.
                    Ok(Discovered::Rejected(_) | Discovered::Unknown(_)) | Err(_) if probes + 1 < PROBES => {
                        Way::Undecided { initialize, probes: probes + 1 }
                    }
                    Ok(Discovered::Rejected(_) | Discovered::Unknown(_)) | Err(_) => Way::Session,
                }
            }
        };
        self.lock().way = way;
    }

    fn again(&self) -> Link {
        Link { upstream: self.upstream.clone(), state: Arc::clone(&self.state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client's `initialize`, if the first message is one; `told` is the version that it was answered with.
fn first(body: &Bytes, told: Option<&str>) -> Option<(RequestId, ClientFacts)> {
    let message = mcp::parse(body).ok()?.pop()?;
    match message.kind() {
        MessageKind::Request { id, method } if &**method == "initialize" => {
            Some((id.clone(), ClientFacts::of(&message, told)))
        }
        _ => None,
    }
}

/// A link on which `initialize` is sent.
struct Opening {
    link: Link,
    id: RequestId,
    facts: ClientFacts,
    body: Bytes,
    headers: Arc<HeaderMap>,
}

impl Opening {
    async fn open(self) -> Result<Answer, Fault> {
        let upstream = &self.link.upstream;
        let options = upstream.options();
        let is_modern = upstream.belief() == Belief::Modern;
        let asks_first = options.prefer == Era::Modern && upstream.belief() == Belief::Nothing;
        if options.era != Some(Era::Session) && (is_modern || asks_first) {
            match modern::discover(upstream, &self.facts, &self.headers).await {
                Discovered::Modern(discovery, asked_now) => return Ok(self.greet(discovery, asked_now)),
                Discovered::Rejected(answer) => return Ok(answer),
                Discovered::Unknown(fault) if is_modern => return Err(fault),
                Discovered::Legacy if options.era.is_some() => return Ok(self.refuse(NOT_MODERN)),
                Discovered::Legacy | Discovered::Unknown(_) => {}
            }
        }
        self.initialize().await
    }

    fn greet(&self, discovery: Arc<modern::Discovery>, asked_now: bool) -> Answer {
        let upstream = &self.link.upstream;
        upstream.believe(Belief::Modern);
        let session = modern::Session::new(upstream.clone(), self.facts.clone(), discovery);
        let answer = session.greet(&self.id, asked_now);
        self.link.lock().way = Way::Modern(session);
        answer
    }

    /// As to a server of the session era: neither session nor version is named yet (rmcp and C# refuse a version header).
    async fn initialize(&self) -> Result<Answer, Fault> {
        let upstream = &self.link.upstream;
        let exchange = session_era::post(&Names::default(), &self.headers, self.body.clone());
        let answer = upstream.transport().send(exchange).await?;
        let is_open = upstream.options().era.is_none();
        if answer.status.is_success() {
            // Copied: it is a part of all that was read with it.
            let session_id = answer.session_id().map(mcp::copied_value);
            let mut state = self.link.lock();
            state.way = match &session_id {
                Some(_) => {
                    upstream.believe(Belief::Sessions);
                    Way::Session
                }
                None if is_open && upstream.belief() != Belief::Stateless && self.body.len() <= LONGEST_KEPT => {
                    Way::Undecided { initialize: Bytes::copy_from_slice(&self.body), probes: 0 }
                }
                None => Way::Session,
            };
            state.names.session_id = session_id;
            return Ok(answer);
        }
        if !is_open || !is_refusal(answer.status) {
            return Ok(answer);
        }
        match modern::ask(upstream, &self.facts, &self.headers).await {
            Discovered::Modern(discovery, asked_now) => Ok(self.greet(discovery, asked_now)),
            Discovered::Rejected(answer) => Ok(answer),
            Discovered::Legacy | Discovered::Unknown(_) if self.is_http_sse().await => Ok(self.refuse(IS_HTTP_SSE)),
            Discovered::Legacy | Discovered::Unknown(_) => Ok(answer),
        }
    }

    /// Whether the URL is an endpoint of HTTP+SSE: its stream begins with an `endpoint` event.
    async fn is_http_sse(&self) -> bool {
        let exchange = session_era::get(&Names::default(), &self.headers, None);
        let looking = async {
            let answer = self.link.upstream.transport().send(exchange).await.ok()?;
            session_era::begins_with_endpoint(answer).await
        };
        timeout(LOOK, looking).await.ok().flatten().unwrap_or(false)
    }

    fn refuse(&self, (reason, text): (&str, &str)) -> Answer {
        let body = error_response(&self.id, &RpcError::new(code::INTERNAL_ERROR, reason, text));
        session_era::json(StatusCode::OK, body)
    }
}

const NOT_MODERN: (&str, &str) = (
    "upstream_wrong_era",
    "the upstream does not speak 2026-07-28, which --era modern demands; start the proxy with --era auto",
);
const IS_HTTP_SSE: (&str, &str) = (
    "upstream_is_http_sse",
    "the upstream is itself an HTTP+SSE server: --upstream has to name the Streamable HTTP endpoint of the upgraded server, \
     often /mcp",
);
