//! Legacy sessions: one task each, found by session id.
//!
//! A session is one task that owns its state (`task`), with one way in (its inbox, reached through a handle), one
//! way out (the outbox, taken by the [`EventStream`]) and one exit, through which every end goes. The registry hands
//! out clones of handles, never guards of its map.

mod binding;
mod budget;
mod calls;
mod canary;
mod credential;
mod delivery;
mod desk;
mod ending;
mod evidence;
mod exchange;
mod face;
mod guest;
mod inbound;
mod keepsake;
mod linger;
mod login;
mod loss;
mod outbound;
mod outbox;
mod places;
mod position;
mod queue;
mod recovery;
mod resuming;
mod reunion;
mod revival;
mod stream;
mod sunset;
mod task;
mod timers;
mod twice;
mod vetting;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::mpsc;

pub use binding::{Binding, OpaqueRotation};
pub use budget::{Budget, Hold};
pub use delivery::{Payload, Verdict};
pub use evidence::{Books, Evidence};
pub use guest::{Closer, Guest, Refusal};
pub use places::site;
pub use stream::EventStream;

use crate::auth::Sender;
use crate::drain::{Tasks, Watch};
use crate::fleet::{self, Fleet};
use crate::metrics::Lists;
use crate::sunset::Sunset;
use crate::traffic::{self, Connection};
use crate::upstream::{self, Upstream};
use binding::Alarm;
use delivery::Handle;
use face::Face;
use login::Logins;
use places::{Places, Seat};
use position::ResumeKey;
use reunion::Reunions;
use revival::Gate;
use stream::Arrival;
use task::{Outset, Task, Ways};

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
    /// How long a session waits for a client that has lost its stream.
    pub linger: Duration,
    /// Silence of the client after which the upstream session is pinged, so that it is not forgotten.
    pub ping: Duration,
    /// Silence of the upstream after which a call is given up.
    pub call_silence: Duration,
    /// How long a POST may wait for the upstream's word on an unknown credential.
    pub verdict: Duration,
    /// And on one that was good so far.
    pub moment: Duration,
    /// Whether a client may come with another credential that says nothing.
    pub opaque_rotation: OpaqueRotation,
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
            linger: Duration::from_secs(15),
            ping: Duration::from_secs(90),
            call_silence: Duration::from_secs(600),
            verdict: Duration::from_secs(2),
            moment: Duration::from_secs(1),
            opaque_rotation: OpaqueRotation::default(),
        }
    }
}

/// What sessions are counted by.
pub const LISTS: Lists = Lists {
    client_families: traffic::FAMILIES,
    end_reasons: ending::REASONS,
    refusals: evidence::REFUSALS,
    upstream_errors: upstream::REASONS,
    fleet_calls: fleet::CALLS,
    fleet_faults: fleet::FAULTS,
};

/// Names a session in the endpoint URL, and to the fleet its owner. Whoever has it can post into the session: nobody can
/// guess it, and it is never logged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Longer ones cannot be ours.
    pub const MAX_LEN: usize = 128;

    fn new(fleet: &Fleet) -> Self {
        SessionId(fleet.new_id().into())
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

/// Bytes of a session's label in the log: enough that no two of a year share one.
const LABEL: usize = 6;

/// Everything a session needs from the rest of the program.
#[derive(Debug)]
struct Context {
    config: Config,
    upstream: Upstream,
    books: Books,
    sunset: Sunset,
    /// Gives out session ids.
    fleet: Fleet,
    tasks: Tasks,
    drain: Watch,
    /// All sessions that can be posted to.
    registry: DashMap<SessionId, Handle>,
    /// The same by the key in the ids of their events.
    resumable: DashMap<ResumeKey, (SessionId, Face, Arc<Binding>)>,
    /// Tells of posts into other people's sessions.
    alarm: Alarm,
    logins: Logins,
    /// Finds the session of a client that does not say which is its own.
    reunions: Arc<Reunions>,
    gate: Gate,
    places: Arc<Places>,
    /// For what clients have not taken.
    outgoing: Budget,
    /// For what the upstream has not taken: apart, so that neither side can starve the other.
    incoming: Budget,
    /// For what clients have taken and might not have got.
    spare: Budget,
}

impl Context {
    /// Whether `sender` may post into the session of `binding`; operators hear of it if not.
    fn lets_in(&self, binding: &Binding, sender: &Sender) -> bool {
        let admitted = binding.admits(sender);
        if !admitted {
            self.books.metrics.foreign_posts.inc();
            binding.tell(&self.alarm, sender);
        }
        admitted
    }
}

/// The registry of sessions. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Sessions {
    context: Arc<Context>,
}

impl Sessions {
    /// Binds a session that is kept elsewhere to `opener`, who is told of it as `label`.
    #[must_use]
    pub fn bind(&self, label: String, opener: &Sender) -> Binding {
        Binding::new(self.context.config.opaque_rotation, label, opener)
    }

    /// Whether `sender` may use the session of `binding`; operators hear of it if not.
    #[must_use]
    pub fn lets_in(&self, binding: &Binding, sender: &Sender) -> bool {
        self.context.lets_in(binding, sender)
    }

    /// An empty registry. The ids of its sessions are `fleet`'s.
    #[must_use]
    pub fn new(
        config: Config,
        upstream: Upstream,
        books: Books,
        sunset: Sunset,
        fleet: Fleet,
        tasks: Tasks,
        drain: Watch,
    ) -> Self {
        let registry = DashMap::new();
        let places = Arc::default();
        let (outgoing, incoming) = (Budget::new(config.memory), Budget::new(config.memory));
        let spare = Budget::new(config.memory / 8);
        let reunions = Arc::new(Reunions::new(Arc::clone(&books.metrics)));
        let (resumable, gate) = (DashMap::new(), Gate::new());
        let (waiting, posted) = (outgoing.clone(), incoming.clone());
        books.metrics.watch_bytes("outbox", move || waiting.used());
        books.metrics.watch_bytes("inbox", move || posted.used());
        Sessions {
            context: Arc::new(Context {
                config,
                upstream,
                books,
                sunset,
                fleet,
                tasks,
                drain,
                registry,
                resumable,
                alarm: Alarm::default(),
                logins: Logins::default(),
                reunions,
                gate,
                places,
                outgoing,
                incoming,
                spare,
            }),
        }
    }

    /// A hold on memory for what a client posts.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.context.incoming.hold()
    }

    /// Opens a session, writes `legacy.connect`, and gives the stream, whose first event names `endpoint(id)`. `None` when
    /// even refusing would cost too much.
    ///
    /// A guest that names its last event gets its session back. Over the limit a session is opened all the same, to say so by
    /// a JSON-RPC error on `initialize`: TypeScript clients take an HTTP 503 for ever (WIRE, Limits). Such sessions have a
    /// limit of their own.
    pub async fn open(&self, guest: Guest, endpoint: impl Fn(&str) -> String) -> Option<EventStream> {
        let context = &self.context;
        let closer = Arc::new(guest.closer.clone());
        let arrival = || Arrival {
            client: guest.client.clone(),
            connection: guest.connection.clone(),
            closer: Arc::clone(&closer),
            lost: 0,
            superseded: false,
            is_resume: true,
        };
        let keep_alive = guest.keep_alive(context.config.keep_alive);
        let bytes = || context.books.metrics.stream_bytes.clone();
        let named = guest.last_event_id.as_ref().and_then(position::read);
        if let Some((id, face, attachment)) = named.as_ref().and_then(|named| self.resume(named, &guest, arrival())) {
            let endpoint = crate::sse::endpoint_event(&endpoint(id.as_str()));
            return Some(EventStream::new(endpoint, face, attachment, keep_alive).counted(bytes()));
        }
        let label = crate::traffic::random_hex(LABEL);
        // Not one that comes back: what it is owed may be what fills the memory.
        let is_short = (context.outgoing.is_short() || context.incoming.is_short()) && guest.came_back().is_none();
        let (place, refusal) = match context.places.take(&guest, &context.config, is_short) {
            Seat::Free(place) => (place, None),
            Seat::Refused(place, refusal) => (place, Some(refusal)),
            Seat::None => {
                if guest.signed.is_some() {
                    return None;
                }
                // Status 0: the connection is reset without an answer.
                context.books.refuse(&label, &guest.client, guest.connection, "limit", 0).await;
                return None;
            }
        };
        let (id, key, credential) = (SessionId::new(&context.fleet), ResumeKey::random(), guest.sender.credential);
        let binding = Arc::new(Binding::new(context.config.opaque_rotation, label.clone(), &guest.sender));
        let (budget, spare) = (context.outgoing.clone(), context.spare.clone());
        let outbox = outbox::outbox(context.config.outbox_bytes, budget, spare, key.clone(), credential);
        let face = outbox.face();
        let mut endpoint = crate::sse::endpoint_event(&endpoint(id.as_str()));
        if let Some(comment) = context.sunset.rules().comment().filter(|_| guest.bears_comments) {
            // Before the event and with it: bytes that arrive behind it go-sdk loses.
            endpoint = [&**comment, &*endpoint].concat().into();
        }
        let stream = EventStream::new(endpoint, face.clone(), face.attach_first(), keep_alive).counted(bytes());
        let (sender, inbox) = mpsc::channel(context.config.max_waiting);
        let handle = Handle { inbox: sender, binding: Arc::clone(&binding) };
        context.registry.insert(id.clone(), handle.clone());
        context.resumable.insert(key.clone(), (id.clone(), face.clone(), Arc::clone(&binding)));
        let newcomer = guest.newcomer(&stream, arrival()).filter(|_| refusal.is_none());
        let undecided = newcomer.is_some();
        let membership = context.reunions.join(guest.kin(), face, handle, newcomer);
        let connection = Connection { reconnect: guest.came_back().is_some(), ..guest.connection };
        let evidence = Evidence::open(context.books.clone(), label, guest.client, connection, guest.signed.is_some());
        let ways = Ways { id, key, inbox, outbox, closer, membership, binding };
        let unused = if guest.is_probe { context.config.probe } else { context.config.unused };
        let outset = Outset { refusal, unused, undecided, version: guest.version };
        // Boxed: its future would keep room for it twice.
        let task = Box::new(Task::new(Arc::clone(context), place, ways, evidence, outset));
        context.tasks.spawn(task.live());
        Some(stream)
    }

    /// Gives a guest that names its last event the session of that event, if it shows the credential of the session.
    fn resume(
        &self,
        (key, position): &(ResumeKey, position::Position),
        guest: &Guest,
        arrival: Arrival,
    ) -> Option<(SessionId, Face, face::Attachment)> {
        let (id, face, binding) = self.context.resumable.get(key)?.value().clone();
        // Whoever gets the stream hears what is the session's: it takes its very credential, and a principal besides.
        if !face.belongs_to(guest.sender.credential) || !binding.belongs_to(guest.sender.principal) {
            return None;
        }
        let attachment = face.attach(Some(*position), arrival).ok()?;
        Some((id, face, attachment))
    }

    /// Whether the session named `id` takes messages of `sender`, who is told no more of others' than of none; `None` where
    /// this process has no such session.
    #[must_use]
    pub fn admits(&self, id: &str, sender: &Sender) -> Option<bool> {
        self.find(id).map(|handle| self.context.lets_in(&handle.binding, sender))
    }

    /// A client at `address` asked how to log in: if one of its requests was answered 401 before, it is going to come again.
    pub fn note_login(&self, address: IpAddr, user_agent: Option<&str>) {
        self.context.logins.note(address, user_agent);
    }

    /// The way into the session named `id`.
    fn find(&self, id: &str) -> Option<Handle> {
        // Hashed under a random key first: how long the look-up takes tells nothing about ids.
        let handle = self.context.registry.get(&SessionId(id.into()))?;
        Some(handle.value().clone())
    }

    /// How many sessions have ids under which key of the fleet: one that has any must not be thrown away.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for session in &self.context.registry {
            if let Some(key) = self.context.fleet.key_of(session.key().as_str()) {
                *counts.entry(key).or_default() += 1;
            }
        }
        counts
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
