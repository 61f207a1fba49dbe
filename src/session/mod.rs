//! Legacy sessions: one task each, found by session id.
//!
//! A session is one task that owns its state (`task`), with one way in (its inbox, reached through a [`Handle`]), one
//! way out (the outbox, taken by the [`EventStream`]) and one exit, through which every end goes. The registry hands
//! out clones of handles, never guards of its map.

mod budget;
mod calls;
mod credential;
mod ending;
mod evidence;
mod inbound;
mod outbound;
mod outbox;
mod places;
mod task;
mod timers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http::{HeaderMap, HeaderValue};
use tokio::sync::{mpsc, oneshot};

pub use budget::{Budget, Hold};
pub use credential::{Credential, Rejection};
pub use evidence::{Books, Evidence};
pub use outbox::EventStream;

use crate::drain::{Tasks, Watch};
use crate::mcp::{Message, RequestId, RpcError};
use crate::traffic::{Client, Connection};
use crate::upstream::Transport;
use places::{Places, Seat};
use task::{Task, Ways};

/// Limits and times of a session; the defaults are WIRE's.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sessions that may be open at once.
    pub max_sessions: usize,
    /// Sessions that one principal may have open.
    pub max_per_principal: Option<usize>,
    /// Sessions that may be open from one address.
    pub max_per_address: Option<usize>,
    /// Requests of one session that may be with the upstream at once.
    pub max_in_flight: usize,
    /// Messages of one session that may wait for their turn.
    pub max_waiting: usize,
    /// Bound of the outbox in bytes.
    pub outbox_bytes: usize,
    /// Bytes that all sessions together may hold of events not taken by clients, and as many of messages not taken by
    /// the upstream.
    pub memory: usize,
    /// Larger messages become errors: bytes.
    pub max_message_to_client: Option<usize>,
    /// Silence on the stream after which a comment keeps the connection alive.
    pub keep_alive: Duration,
    /// A client that takes nothing for this long is closed.
    pub stall: Duration,
    /// A stream that looks like a probe is closed after this unless something is posted.
    pub probe: Duration,
    /// And any other.
    pub unused: Duration,
    /// Silence of the upstream after which a call is given up.
    pub call_silence: Duration,
    /// How long a POST may wait for the upstream's word on an unknown credential.
    pub verdict: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_sessions: 10_000,
            max_per_principal: None,
            max_per_address: None,
            max_in_flight: 64,
            max_waiting: 64,
            outbox_bytes: 1 << 20,
            memory: 512 << 20,
            max_message_to_client: None,
            keep_alive: Duration::from_secs(15),
            stall: Duration::from_secs(60),
            probe: Duration::from_secs(60),
            unused: Duration::from_secs(24 * 3600),
            call_silence: Duration::from_secs(600),
            verdict: Duration::from_secs(2),
        }
    }
}

/// Names a session in the endpoint URL. Whoever has it can post into the session: it is random (256 bits) and never
/// logged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Longer ones cannot be ours.
    pub const MAX_LEN: usize = 128;

    fn random() -> Self {
        SessionId(crate::traffic::random_hex(32).into())
    }

    /// As it stands in the endpoint URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

/// Everything a session needs from the rest of the program.
#[derive(Debug)]
struct Context {
    config: Config,
    transport: Arc<dyn Transport>,
    books: Books,
    tasks: Tasks,
    drain: Watch,
    /// All sessions that can be posted to.
    registry: DashMap<SessionId, Handle>,
    places: Arc<Places>,
    /// For what clients have not taken.
    outgoing: Budget,
    /// For what the upstream has not taken: apart, so that neither side can starve the other.
    incoming: Budget,
}

/// The registry of sessions. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Sessions {
    context: Arc<Context>,
}

/// A client at the door.
#[derive(Debug)]
pub struct Guest {
    /// Who it is, as far as its `GET` tells.
    pub client: Client,
    /// What its `GET` authenticated with.
    pub credential: Credential,
    /// The connection, for the log.
    pub connection: Connection,
    /// Ends the client's TCP connection, even one that takes no more bytes.
    pub closer: Closer,
    /// Whether its stream may carry keep-alive comments.
    pub bears_comments: bool,
    /// Whether the stream may only be there to see whether there is one.
    pub is_probe: bool,
}

/// Ends a connection from outside. hyper does not poll a body while its write buffer is full, so a client that has
/// stopped reading can only be ended by ending its connection.
pub struct Closer(Box<dyn Fn() + Send + Sync>);

impl Closer {
    /// A closer that calls `close`.
    pub fn new(close: impl Fn() + Send + Sync + 'static) -> Self {
        Closer(Box::new(close))
    }

    fn close(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closer")
    }
}

/// The way into a session.
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Delivery>,
    verdict: Duration,
}

/// One message on its way into a session.
#[derive(Debug)]
pub struct Delivery {
    /// What was posted.
    pub payload: Payload,
    /// The headers that go up with it.
    pub headers: Arc<HeaderMap>,
    /// What it authenticates with.
    pub credential: Credential,
    /// The memory it takes.
    pub hold: Arc<Hold>,
    /// Told what becomes of the POST; none for the later messages of a batch.
    pub verdict: Option<oneshot::Sender<Verdict>>,
}

/// What was posted.
#[derive(Debug)]
pub enum Payload {
    /// A message.
    Message(Message),
    /// A request that cannot be read, but whose id was found: it is owed an error.
    UnreadableRequest(RequestId, RpcError),
    /// An answer to a server's request that cannot be read: the server is owed an error.
    UnreadableResponse(RequestId, RpcError),
}

/// What a POST is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// 202: the message is in hand; whatever becomes of it shows on the stream.
    Accepted,
    /// The upstream turned the credential down.
    Rejected(Rejection),
    /// 503: the session takes no more messages now, and this one has no id to answer under.
    Busy,
    /// 404: there is no such session any more.
    Gone,
}

impl Handle {
    /// Hands messages of one POST over, in order, and waits for the verdict: at once where the credential is known to
    /// be good, else until the upstream's response head is in, 2 s at most (WIRE, POST 2).
    pub async fn deliver(
        &self,
        payloads: Vec<Payload>,
        headers: HeaderMap,
        credential: Credential,
        hold: Hold,
    ) -> Verdict {
        let deadline = tokio::time::Instant::now() + self.verdict;
        let (headers, hold) = (Arc::new(headers), Arc::new(hold));
        let (sender, verdict) = oneshot::channel();
        let mut sender = Some(sender);
        for payload in payloads {
            let delivery = Delivery {
                payload,
                headers: Arc::clone(&headers),
                credential: credential.clone(),
                hold: Arc::clone(&hold),
                verdict: sender.take(),
            };
            match tokio::time::timeout_at(deadline, self.inbox.send(delivery)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Verdict::Gone,
                Err(_) => return Verdict::Busy,
            }
        }
        match tokio::time::timeout_at(deadline, verdict).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Verdict::Gone,
            Err(_) => Verdict::Accepted,
        }
    }
}

/// Why a session is served by refusing whatever it asks.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The word for the log.
    pub reason: &'static str,
    /// What the client is told.
    pub error: RpcError,
}

impl Sessions {
    /// An empty registry.
    #[must_use]
    pub fn new(config: Config, transport: Arc<dyn Transport>, books: Books, tasks: Tasks, drain: Watch) -> Self {
        let registry = DashMap::new();
        let places = Arc::default();
        let (outgoing, incoming) = (Budget::new(config.memory), Budget::new(config.memory));
        let context = Context { config, transport, books, tasks, drain, registry, places, outgoing, incoming };
        Sessions { context: Arc::new(context) }
    }

    /// A hold on memory for what a client posts.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.context.incoming.hold()
    }

    /// Opens a session, writes `legacy.connect`, and gives the stream, whose first event names `endpoint(id)`. `None` when
    /// even refusing would cost too much.
    ///
    /// Over the limit a session is opened all the same, to say so by a JSON-RPC error on `initialize`: TypeScript clients
    /// take an HTTP 503 for ever (WIRE, Limits). Such sessions have a limit of their own.
    pub async fn open(&self, guest: Guest, endpoint: impl FnOnce(&str) -> String) -> Option<EventStream> {
        let context = &self.context;
        let label = crate::traffic::random_hex(4);
        let (place, refusal) = match context.places.take(&guest, &context.config) {
            Seat::Free(place) => (place, None),
            Seat::Refused(place, refusal) => (place, Some(refusal)),
            Seat::None => {
                // Status 0: the connection is reset without an answer.
                context.books.refuse(&label, &guest.client, guest.connection, "limit", 0).await;
                return None;
            }
        };
        let id = SessionId::random();
        let evidence = Evidence::open(context.books.clone(), label, guest.client, guest.connection);
        let keep_alive = guest.bears_comments.then_some(context.config.keep_alive);
        let (outbox, stream) = outbox::outbox(context.config.outbox_bytes, context.outgoing.clone(), keep_alive);
        let unused = if guest.is_probe { context.config.probe } else { context.config.unused };
        outbox.push(crate::sse::endpoint_event(&endpoint(id.as_str())));
        let (sender, inbox) = mpsc::channel(context.config.max_waiting);
        let handle = Handle { inbox: sender, verdict: context.config.verdict };
        context.registry.insert(id.clone(), handle);
        let ways = Ways { inbox, outbox, closer: guest.closer };
        let task = Task::new(Arc::clone(context), place, id.clone(), ways, evidence, refusal, unused);
        context.tasks.spawn(task.live());
        Some(stream)
    }

    /// The way into the session named `id`.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Handle> {
        // Hashed under a random key first: how long the look-up takes tells nothing about ids.
        let handle = self.context.registry.get(&SessionId(id.into()))?;
        Some(handle.value().clone())
    }

    /// How many sessions can be posted to.
    #[must_use]
    pub fn len(&self) -> usize {
        self.context.registry.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An event that carries `message` to the client.
fn event(message: &Bytes) -> Bytes {
    crate::sse::message_event(message)
}

/// The challenges of an answer, for [`Rejection`].
fn challenges<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Vec<HeaderValue> {
    values.cloned().collect()
}
