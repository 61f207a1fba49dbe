//! The task of one session: its state, its loop, its one exit.
//!
//! Everything that happens to a session happens here, one thing after the other: a message comes in (`inbound`), the
//! upstream says something (`outbound`), a time runs out (`timers`), the client leaves, the process drains.
//!
//! Cancel safety: every branch of the loop's `select!` may be dropped unfinished; each either owns nothing until it is
//! ready (queues, streams, wakers) or is a timer.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{Abortable, FuturesUnordered, SelectAll};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::budget::{Budget, Hold};
use super::calls::{CallState, Calls, Serial, ServerRequests};
use super::credential::{Credential, Credentials};
use super::ending::Ending;
use super::evidence::Evidence;
use super::outbox::Outbox;
use super::places::Place;
use super::timers::{Deferred, Listening};
use super::{Closer, Context, Delivery, Refusal, SessionId, Verdict, event};
use crate::drain::{Phase, Watch};
use crate::mcp::{RequestId, RpcError, code, error_response};
use crate::upstream::{Answer, Fault, Item, Link, Replies};

/// Bytes of posted messages that one session may have waiting, or on their way to an upstream that does not take them.
const MAX_INBOUND: usize = 16 << 20;

/// One session.
pub(super) struct Task {
    pub(super) context: Arc<Context>,
    /// Held, not read: it is given back with the session.
    _place: Place,
    pub(super) id: SessionId,
    pub(super) inbox: mpsc::Receiver<Delivery>,
    pub(super) outbox: Outbox,
    pub(super) evidence: Evidence,
    pub(super) closer: Closer,
    /// Whatever is asked is refused.
    pub(super) refusal: Option<Refusal>,
    drain: Watch,
    phase: Phase,
    pub(super) since: Instant,
    /// When the session ends unless something is posted; none once something was.
    pub(super) unused_until: Option<Instant>,
    /// Bytes of posted messages that the upstream has not taken.
    pub(super) inbound: Budget,

    pub(super) link: Link,
    pub(super) handshake: Handshake,
    pub(super) credentials: Credentials,
    pub(super) listening: Listening,

    /// Messages that arrived and have not started upstream, in order.
    pub(super) waiting: VecDeque<Outgoing>,
    /// A message whose response head must be in before another starts.
    pub(super) barrier: Option<Barrier>,
    pub(super) next_barrier: u64,
    pub(super) calls: Calls,
    pub(super) server_requests: ServerRequests,
    /// Requests answered 401 that are owed an error unless they are posted again.
    pub(super) deferred: Deferred,

    /// Exchanges whose response head is awaited.
    pub(super) heads: FuturesUnordered<BoxFuture<'static, (Errand, Result<Answer, Fault>)>>,
    /// Answers that are being read.
    pub(super) bodies: SelectAll<Tagged>,
    /// An event that did not fit into the outbox. While there is one, no answer is read.
    pub(super) parked: Option<Bytes>,
    timer: Pin<Box<Sleep>>,
}

/// How a session is reached, and how it reaches its client.
pub(super) struct Ways {
    pub(super) inbox: mpsc::Receiver<Delivery>,
    pub(super) outbox: Outbox,
    pub(super) closer: Closer,
}

/// How far the handshake has come (MCP 2024-11-05, lifecycle §Initialization).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    /// No `initialize` was sent.
    None,
    /// `initialize` is with the upstream.
    Asked,
    /// It was answered; `initialized` goes next. TypeScript sends that and the first call on two connections, so a
    /// call may arrive first; a client that never says `initialized` goes on after the grace period.
    Answered { grace_until: Instant },
    /// `initialized` is with the upstream, or the client does without.
    Done,
}

/// A message on its way up.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) kind: OutgoingKind,
    pub(super) body: Bytes,
    pub(super) headers: Arc<HeaderMap>,
    pub(super) credential: Credential,
    /// The memory it takes, of the session's share and of the whole.
    pub(super) holds: (Hold, Arc<Hold>),
    pub(super) verdict: Option<oneshot::Sender<Verdict>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OutgoingKind {
    Initialize(RequestId),
    Request(RequestId),
    Initialized,
    /// A notification or a response: those after it wait for its response head.
    Ordered,
    /// `cancelled` and `progress`: nothing waits for them.
    Loose,
}

impl OutgoingKind {
    pub(super) fn is_request(&self) -> bool {
        matches!(self, OutgoingKind::Initialize(_) | OutgoingKind::Request(_))
    }
}

/// See [`Task::barrier`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Barrier {
    pub(super) number: u64,
    pub(super) until: Instant,
}

/// What an exchange is for.
#[derive(Debug)]
pub(super) enum Errand {
    /// A request of the client.
    Call { serial: Serial, credential: Credential, headers: Arc<HeaderMap> },
    /// Its notification, or its answer to the server.
    Message {
        barrier: Option<u64>,
        initialized: bool,
        credential: Credential,
        headers: Arc<HeaderMap>,
        verdict: Option<oneshot::Sender<Verdict>>,
    },
    /// The rest of a call's stream, which broke.
    Resume { serial: Serial },
    /// The GET stream.
    Listen,
    /// Something the proxy says of its own accord.
    Own,
}

/// What an answer that is being read belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Call(Serial),
    Listen,
}

/// An answer that is being read.
pub(super) struct Tagged {
    pub(super) source: Source,
    pub(super) replies: Abortable<Replies>,
}

impl Stream for Tagged {
    type Item = (Source, Item);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let source = self.source;
        self.replies.poll_next_unpin(cx).map(|item| item.map(|item| (source, item)))
    }
}

impl Task {
    pub(super) fn new(
        context: Arc<Context>,
        place: Place,
        id: SessionId,
        Ways { inbox, outbox, closer }: Ways,
        evidence: Evidence,
        refusal: Option<Refusal>,
        unused: Duration,
    ) -> Self {
        let (drain, transport) = (context.drain.clone(), Arc::clone(&context.transport));
        let now = Instant::now();
        Task {
            context,
            _place: place,
            id,
            inbox,
            outbox,
            evidence,
            closer,
            refusal,
            drain,
            phase: Phase::Serving,
            since: now,
            unused_until: Some(now + unused),
            inbound: Budget::new(MAX_INBOUND),
            link: Link::new(transport),
            handshake: Handshake::None,
            credentials: Credentials::default(),
            listening: Listening::Off,
            waiting: VecDeque::new(),
            barrier: None,
            next_barrier: 0,
            calls: Calls::default(),
            server_requests: ServerRequests::default(),
            deferred: Deferred::default(),
            heads: FuturesUnordered::new(),
            bodies: SelectAll::new(),
            parked: None,
            timer: Box::pin(tokio::time::sleep_until(now)),
        }
    }

    /// Runs the session to its end. A panic ends this session only: the state outlives it, so that what is owed can be
    /// answered (DESIGN rule 7).
    pub(super) async fn live(mut self) {
        self.evidence.connected(self.refusal.as_ref().map(|refusal| refusal.reason)).await;
        let ending = if let Ok(ending) = AssertUnwindSafe(self.run()).catch_unwind().await {
            ending
        } else {
            self.context.books.metrics.panics.inc();
            tracing::error!(session = self.evidence.label(), "a session ended by a bug of the proxy");
            Ending::Panicked
        };
        self.finish(ending).await;
    }

    async fn run(&mut self) -> Ending {
        loop {
            if let Some(ending) = self.is_over() {
                return ending;
            }
            self.set_timer();
            let parked = self.parked.as_ref().map_or(0, Bytes::len);
            let next_phase = if self.phase < Phase::Closing { Phase::Closing } else { Phase::Over };
            let (spent, listens) = (self.outbox.is_spent(), self.outbox.has_room_for_own());
            tokio::select! {
                biased;
                () = self.outbox.client_gone() => return self.client_ending(),
                () = self.drain.reached(next_phase), if self.phase < Phase::Over => self.phase = next_phase,
                Some((errand, answer)) = self.heads.next() => self.on_head(errand, answer),
                Some(delivery) = self.inbox.recv(), if listens => self.on_delivery(delivery).await,
                () = self.outbox.room_for_own(), if !listens => {}
                () = self.outbox.room_for(parked), if self.parked.is_some() => self.unpark(),
                () = self.outbox.room_for(1), if spent && self.parked.is_none() => {}
                Some((source, item)) = self.bodies.next(), if !spent && self.parked.is_none() => {
                    self.on_item(source, item);
                }
                () = self.timer.as_mut() => self.on_timer(),
            }
            self.start_waiting();
        }
    }

    /// Whether the session has nothing left to do here.
    fn is_over(&self) -> Option<Ending> {
        let now = Instant::now();
        let config = &self.context.config;
        if self.outbox.stalled_since().is_some_and(|since| since + config.stall <= now) {
            return Some(Ending::SlowConsumer);
        }
        if self.refusal.is_some() && self.refused_until() <= now {
            return Some(Ending::Refused);
        }
        if self.unused_until.is_some_and(|until| until <= now) {
            return Some(Ending::Unused);
        }
        let owes_nothing = self.calls.in_flight() == 0 && self.waiting.is_empty() && self.parked.is_none();
        match self.phase {
            Phase::Over => Some(Ending::Drained),
            Phase::Closing if owes_nothing => Some(Ending::Drained),
            _ => None,
        }
    }

    /// The timer fires at or before the next deadline; moving it at every call would cost more than waking up early.
    fn set_timer(&mut self) {
        let deadline = self.next_deadline();
        if deadline < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Gives `message` to the client, or parks it until there is room; no answer is read meanwhile.
    pub(super) fn deliver(&mut self, message: &Bytes) {
        if let Err(event) = self.outbox.try_push(event(message)) {
            debug_assert!(self.parked.is_none(), "no answer is read while an event is parked");
            self.parked = Some(event);
        }
    }

    fn unpark(&mut self) {
        // Another session may have taken the room meanwhile.
        self.parked = self.parked.take().and_then(|event| self.outbox.try_push(event).err());
    }

    /// The error in place of a message that is larger than the client can take, if it is.
    pub(super) fn too_large(&self, message: &Bytes) -> Option<RpcError> {
        let max = self.context.config.max_message_to_client.filter(|max| message.len() > *max)?;
        let text = format!(
            "the message of {} bytes is larger than the {max} that this proxy passes to legacy clients \
             (--max-message-to-client); the call has run",
            message.len()
        );
        let error = RpcError::new(code::INTERNAL_ERROR, "message_too_large_for_client", text);
        Some(error.with("bytes", message.len()).with("limit_bytes", max))
    }

    /// Answers a request of the client with an error made here.
    pub(super) fn answer_error(&mut self, id: &RequestId, error: &RpcError) {
        self.evidence.made_error();
        self.outbox.push(event(&error_response(id, error)));
    }

    /// Ends a call that is owed an answer with an error made here.
    pub(super) fn fail_call(&mut self, serial: Serial, error: &RpcError) {
        let Some(mut call) = self.calls.remove(serial) else { return };
        if let Some(verdict) = call.verdict.take() {
            let _ = verdict.send(Verdict::Accepted);
        }
        if call.is_initialize && call.state == CallState::Owed {
            self.handshake = Handshake::None;
        }
        if call.state == CallState::Owed {
            self.answer_error(&call.id, error);
        }
    }
}
