//! The task of one session: its state, its loop, its one exit.
//!
//! Everything that happens to a session happens here, one thing after the other: a message comes in (`inbound`), the
//! upstream says something (`outbound`), a time runs out (`timers`), the client leaves, the process drains.
//!
//! Cancel safety: every branch of the loop's `select!` may be dropped unfinished; each either owns nothing until it is
//! ready (queues, streams, wakers) or is a timer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep};

use super::binding::Binding;
use super::budget::Budget;
use super::calls::{CallState, Calls, Serial, ServerRequests};
use super::credential::Credentials;
use super::delivery::Delivery;
use super::desk::Desk;
use super::ending::Ending;
use super::evidence::Evidence;
use super::exchange::{Barrier, Errand, Outgoing, Tagged};
use super::keepsake::Keepsake;
use super::linger::{Merging, Presence};
use super::loss::Pinged;
use super::outbox::Outbox;
use super::places::Place;
use super::position::ResumeKey;
use super::recovery::Standing;
use super::reunion::Membership;
use super::revival::{Failure, Revived};
use super::sunset::View;
use super::timers::{Deferred, Listening};
use super::twice::Twice;
use super::vetting::{self, Vetting};
use super::{Closer, Context, Refusal, SessionId, Verdict};
use crate::auth::Sender;
use crate::drain::{Phase, Watch};
use crate::mcp::{RequestId, RpcError, code, error_response};
use crate::upstream::{Answer, Fault, Link};

/// Bytes of posted messages that one session may have waiting, or on their way to an upstream that does not take them.
const MAX_INBOUND: usize = 16 << 20;

/// Items of answers that are taken at once, before it is looked what else there is.
const ITEMS: usize = 32;

/// One session.
pub(super) struct Task {
    pub(super) context: Arc<Context>,
    pub(super) place: Place,
    pub(super) id: SessionId,
    /// Names it in the ids of its events.
    pub(super) key: ResumeKey,
    pub(super) inbox: mpsc::Receiver<Box<Delivery>>,
    pub(super) outbox: Outbox,
    pub(super) evidence: Evidence,
    /// Ends the client's connection; none while it has none.
    pub(super) closer: Option<Arc<Closer>>,
    pub(super) presence: Presence,
    /// Its place among the sessions of the same client.
    pub(super) membership: Membership,
    /// Whose it is.
    pub(super) binding: Arc<Binding>,
    /// The first POST will tell whether it is a session of its own.
    pub(super) undecided: bool,
    /// It is none: it goes on as another.
    pub(super) merging: Option<Merging>,
    /// The protocol version that its stream named.
    pub(super) version: Option<String>,
    /// Whatever is asked is refused.
    pub(super) refusal: Option<Refusal>,
    /// What it sees of the switch-off.
    pub(super) sunset: View,
    drain: Watch,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    /// When the session ends unless something is posted; none once something was.
    pub(super) unused_until: Option<Instant>,
    /// Bytes of posted messages that the upstream has not taken.
    pub(super) inbound: Budget,

    pub(super) link: Link,
    /// Counts upstream sessions: what belongs to an earlier one says nothing about this.
    pub(super) generation: u32,
    pub(super) standing: Standing,
    /// What it takes to stand up again.
    pub(super) keepsake: Keepsake,
    /// Another upstream session in the making, and the headers it is made with.
    pub(super) revival: Option<BoxFuture<'static, Result<Box<Revived>, Failure>>>,
    pub(super) reviving_with: Arc<HeaderMap>,
    pub(super) reviving_as: Option<Sender>,
    pub(super) attempts: u32,
    /// A ping under way.
    pub(super) pinging: Option<BoxFuture<'static, (u32, Pinged)>>,
    pub(super) ping_at: Instant,
    pub(super) pings: u64,
    /// How the upstream said last that a session is lost.
    pub(super) loss_text: String,
    /// Notifications of the client that were turned away, by this status, as if the session were lost.
    pub(super) held_messages: Vec<(u16, Outgoing)>,
    pub(super) handshake: Handshake,
    /// The client sent an `initialize` of its own on this session.
    pub(super) has_begun: bool,
    pub(super) credentials: Credentials,
    pub(super) listening: Listening,
    /// Whether the server ever opened its GET stream: then it has one, whatever it says later.
    pub(super) has_listened: bool,

    /// Messages whose credential has to be known first, and the question about it.
    pub(super) vetting: Vetting,
    pub(super) asking: Option<BoxFuture<'static, vetting::Word>>,
    /// Messages that arrived and have not started upstream, in order.
    pub(super) waiting: VecDeque<Outgoing>,
    /// A message whose response head must be in before another starts.
    pub(super) barrier: Option<Barrier>,
    pub(super) next_barrier: u64,
    pub(super) calls: Calls,
    pub(super) server_requests: ServerRequests,
    /// Requests answered 401 that are owed an error unless they are posted again.
    pub(super) deferred: Deferred,
    /// Whether the client posts everything twice.
    pub(super) twice: Twice,

    /// Exchanges whose response head is awaited.
    pub(super) heads: FuturesUnordered<BoxFuture<'static, (Errand, Result<Answer, Fault>)>>,
    /// Where half-read answers lie.
    pub(super) desk: Desk,
    /// Answers that are being read.
    pub(super) bodies: SelectAll<Tagged>,
    /// A message that did not fit into the outbox. While there is one, no answer is read.
    pub(super) parked: Option<Bytes>,
    timer: Pin<Box<Sleep>>,
}

/// How a session is reached, and how it reaches its client.
pub(super) struct Ways {
    pub(super) id: SessionId,
    pub(super) key: ResumeKey,
    pub(super) inbox: mpsc::Receiver<Box<Delivery>>,
    pub(super) outbox: Outbox,
    pub(super) closer: Arc<Closer>,
    pub(super) membership: Membership,
    pub(super) binding: Arc<Binding>,
}

/// What is known of a session's client from the start.
pub(super) struct Outset {
    /// Whatever it asks is refused.
    pub(super) refusal: Option<Refusal>,
    /// Time to post something.
    pub(super) unused: Duration,
    /// It came back, and did not say to which session.
    pub(super) undecided: bool,
    /// The protocol version it named.
    pub(super) version: Option<String>,
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

impl Task {
    pub(super) fn new(context: Arc<Context>, place: Place, ways: Ways, evidence: Evidence, outset: Outset) -> Self {
        let (drain, link) = (context.drain.clone(), context.upstream.link());
        let desk = Desk::new(context.outgoing.clone());
        let sunset = View::new(context.sunset.watch());
        let Ways { id, key, inbox, outbox, closer, membership, binding } = ways;
        let Outset { refusal, unused, undecided, version } = outset;
        let now = Instant::now();
        Task {
            context,
            place,
            id,
            key,
            inbox,
            outbox,
            evidence,
            closer: Some(closer),
            presence: Presence::Here,
            membership,
            binding,
            undecided,
            merging: None,
            version,
            refusal,
            sunset,
            drain,
            phase: Phase::Serving,
            since: now,
            unused_until: Some(now + unused),
            inbound: Budget::new(MAX_INBOUND),
            link,
            generation: 0,
            standing: Standing::Sound,
            keepsake: Keepsake::default(),
            revival: None,
            reviving_with: Arc::default(),
            reviving_as: None,
            attempts: 0,
            pinging: None,
            ping_at: now,
            pings: 0,
            loss_text: String::new(),
            held_messages: Vec::new(),
            handshake: Handshake::None,
            has_begun: false,
            credentials: Credentials::default(),
            listening: Listening::Off,
            has_listened: false,
            vetting: Vetting::default(),
            asking: None,
            waiting: VecDeque::new(),
            barrier: None,
            next_barrier: 0,
            calls: Calls::default(),
            server_requests: ServerRequests::default(),
            deferred: Deferred::default(),
            twice: Twice::default(),
            heads: FuturesUnordered::new(),
            desk,
            bodies: SelectAll::new(),
            parked: None,
            timer: Box::pin(tokio::time::sleep_until(now)),
        }
    }

    /// Runs the session to its end. A panic ends this session only: the state outlives it, so that what is owed can be
    /// answered (DESIGN rule 7).
    pub(super) async fn live(mut self: Box<Self>) {
        self.evidence.connected(self.refusal.as_ref().map(|refusal| refusal.reason)).await;
        let ending = if let Ok(ending) = AssertUnwindSafe(self.run()).catch_unwind().await {
            ending
        } else {
            self.context.books.metrics.panics.inc();
            tracing::error!(session = self.evidence.label(), "a session ended by a bug of the proxy");
            // They may be what failed.
            (self.revival, self.pinging, self.asking) = (None, None, None);
            Ending::Panicked
        };
        // In a box: the task is as large as its largest step, and this one is several times the rest.
        Box::pin(self.finish(ending)).await;
    }

    async fn run(&mut self) -> Ending {
        loop {
            if let Some(ending) = self.is_over() {
                return ending;
            }
            self.set_timer();
            let parked = self.parked.as_ref().map_or(0, Bytes::len);
            let next_phase = if self.phase < Phase::Closing { Phase::Closing } else { Phase::Over };
            if self.phase < next_phase && self.drain.phase() >= next_phase {
                self.phase = next_phase;
                continue;
            }
            let (spent, listens) = (self.outbox.is_spent(), self.outbox.has_room_for_own());
            tokio::select! {
                biased;
                () = self.outbox.coming_or_going(self.presence.is_here()) => {
                    if let Some(ending) = Box::pin(self.on_coming_or_going()).await {
                        return ending;
                    }
                }
                Some((errand, answer)) = self.heads.next() => self.on_head(errand, answer),
                Some(delivery) = self.inbox.recv(), if listens => self.on_delivery(delivery).await,
                outcome = ready(&mut self.revival) => self.on_revival(outcome),
                (generation, pinged) = ready(&mut self.pinging) => self.on_pinged(generation, pinged),
                word = ready(&mut self.asking) => Box::pin(self.on_vetted(word)).await,
                () = self.outbox.room_for_own(), if !listens => {}
                () = self.outbox.room_for(parked), if self.parked.is_some() => self.unpark(),
                () = self.outbox.room_for(1), if spent && self.parked.is_none() => {}
                Some((source, item)) = self.bodies.next(), if !spent && self.parked.is_none() => {
                    self.on_item(source, item);
                    self.read_on();
                }
                () = yield_now(), if self.outbox.is_untold() => self.outbox.tell(),
                () = self.timer.as_mut() => self.on_timer(),
                // Last, because these hardly ever happen: only a session with nothing else to do asks.
                () = self.drain.reached(next_phase), if self.phase < Phase::Over => {}
                () = self.sunset.changed() => {
                    if let Some(ending) = Box::pin(self.on_sunset()).await {
                        return ending;
                    }
                }
            }
            if self.merging.is_some() {
                return Ending::Merged;
            }
            self.start_waiting();
        }
    }

    /// Takes what else has come of the answers that are being read: notifications come many at once.
    fn read_on(&mut self) {
        for _ in 0..ITEMS {
            if self.parked.is_some() || self.outbox.is_spent() {
                return;
            }
            // Whoever finds nothing here asks again, to be woken.
            let Some(Some((source, item))) = self.bodies.next().now_or_never() else { return };
            self.on_item(source, item);
        }
    }

    /// Whether the session has nothing left to do here.
    fn is_over(&mut self) -> Option<Ending> {
        let now = Instant::now();
        let stall = self.context.config.stall;
        if self.outbox.stalled_since().is_some_and(|since| since + stall <= now) {
            return Some(Ending::SlowConsumer);
        }
        if self.refusal.is_some() && self.refused_until() <= now {
            return Some(Ending::Refused);
        }
        if self.unused_until.is_some_and(|until| until <= now) {
            if !self.is_lent() {
                return Some(Ending::Unused);
            }
            self.unused_until = Some(now + self.context.config.unused);
        }
        if let Some(ending) = self.absence_over(now) {
            return Some(ending);
        }
        let owes_nothing = self.calls.in_flight() == 0 && self.waiting.is_empty() && self.parked.is_none();
        let is_lent = self.phase == Phase::Closing && self.is_lent();
        match self.phase {
            Phase::Over => Some(Ending::Drained),
            // One whose stream is lent ends with that: what is posted to it is still to be passed on.
            Phase::Closing if owes_nothing && !is_lent => Some(Ending::Drained),
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
        if self.parked.is_some() {
            // No answer is read while a message is parked; this one was held back by us.
            self.outbox.push(message);
        } else if !self.outbox.try_push(message) {
            self.parked = Some(message.clone());
        }
    }

    /// The same for a message that others may follow at once.
    pub(super) fn deliver_with_others(&mut self, message: &Bytes) {
        if self.parked.is_some() {
            self.deliver(message);
        } else if !self.outbox.try_push_untold(message) {
            self.parked = Some(message.clone());
        }
    }

    fn unpark(&mut self) {
        // Another session may have taken the room meanwhile.
        self.parked = self.parked.take().filter(|message| !self.outbox.try_push(message));
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
        self.outbox.push(&error_response(id, error));
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
            self.observe_answer(call.sent.arrived.elapsed());
            self.answer_error(&call.id, error);
        }
    }
}

/// Waits for a future that may not be there, and takes it away once it is done. Cancel safe.
async fn ready<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    let done = poll_fn(|cx| match future {
        Some(future) => future.as_mut().poll(cx),
        None => Poll::Pending,
    })
    .await;
    *future = None;
    done
}
