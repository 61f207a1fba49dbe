//! From the client to the upstream: what a posted message sets going.
//!
//! Messages start upstream in order of arrival (WIRE, POST 3): requests are started and not awaited, notifications and
//! responses are awaited to their response head, so that what the client said first is heard first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::abortable;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::calls::Start;
use super::calls::{CallState, Serial};
use super::credential::Standing;
use super::delivery::Delivery;
use super::exchange::{Answered, Barrier, Errand, Outgoing, OutgoingKind, Sent};
use super::keepsake::Effect;
use super::recovery::Standing as Upstream;
use super::task::{Handshake, Task};
use super::{Payload, Verdict};
use crate::auth::Rejection;
use crate::mcp::{Message, MessageKind, RequestId, RpcError, code, error_response, result_response};
use crate::upstream::{Fault, Sending};

/// How long a message holds up those behind it.
const BARRIER: Duration = Duration::from_secs(5);

/// Exchanges beside calls whose response head may be awaited at once: each holds a connection.
const MAX_BESIDE_CALLS: usize = 64;

type PostVerdict = Option<oneshot::Sender<Verdict>>;

/// Whether a waiting message may start.
enum Turn {
    Now,
    /// Not this one, but others behind it may.
    Later,
    /// Neither this one nor any behind it.
    Hold,
    /// Not before the session has a handshake, which nobody is going to make for it.
    AfterHandshake,
    /// It can never start.
    Never,
}

impl Task {
    /// Takes one posted message in.
    pub(super) async fn on_delivery(&mut self, delivery: Box<Delivery>) {
        // Once more: whose the session is may have been settled since it was asked at the door.
        if !self.context.lets_in(&self.binding, &delivery.sender) {
            return answer(delivery.verdict, Verdict::Gone);
        }
        self.unused_until = None;
        self.membership.hear();
        let Some(delivery) = self.decide(delivery) else { return };
        let Some(delivery) = self.vet(delivery) else { return };
        self.evidence.hear(&delivery.payload).await;
        let rejection = self.rejection(&delivery);
        match delivery.payload {
            Payload::Message(ref message) => match message.kind().clone() {
                MessageKind::Request { id, method } => {
                    self.evidence.request(message).await;
                    self.ask_for_leave(&method).await;
                    let body = message.bytes().clone();
                    self.on_request(id, &method, body, delivery);
                }
                MessageKind::Notification { method } => {
                    let message = message.clone();
                    self.ask_for_leave(&method).await;
                    self.on_notification(&method, &message, delivery);
                }
                MessageKind::Response { id, .. } => {
                    let message = message.clone();
                    self.on_response_of_client(id.as_ref(), &message, delivery).await;
                }
            },
            Payload::UnreadableRequest(id, error) => {
                accept(delivery.verdict);
                // One answer an id: that of the readable one.
                if !self.is_under_way(&id) {
                    self.deferred.forget(&id);
                    self.answer_error(&id, &error);
                }
            }
            Payload::UnreadableResponse(id, error) => {
                if let Some(rejection) = rejection {
                    return reject(delivery.verdict, rejection);
                }
                accept(delivery.verdict);
                if let Some((theirs, _)) = self.server_requests.close(&id) {
                    self.say(error_response(&theirs, &error));
                }
            }
        }
    }

    fn on_request(&mut self, id: RequestId, method: &str, body: Bytes, delivery: Box<Delivery>) {
        if self.is_repetition(&id, method, &body) {
            accept(delivery.verdict);
        } else if let Some(error) = self.refusal.as_ref().map(|refusal| refusal.error.clone()) {
            accept(delivery.verdict);
            self.twice.note_answered(&id, &body, method == "initialize", Instant::now());
            self.answer_error(&id, &error);
        } else if let Some(rejection) = self.rejection(&delivery) {
            self.defer(id, &body);
            reject(delivery.verdict, rejection);
        } else {
            // It was posted again, and gets one answer: not the error as well that it would get otherwise.
            self.deferred.forget(&id);
            self.take_in(id, method, body, delivery);
        }
    }

    /// Whether it came before: Python 1.12 with OAuth posts everything twice, and a 401 may be repeated after its id got its
    /// error. The message must not run twice (WIRE, POST 3).
    fn is_repetition(&mut self, id: &RequestId, method: &str, body: &Bytes) -> bool {
        let is_initialize = method == "initialize";
        if self.is_under_way(id) {
            if is_initialize {
                self.twice.note_habit();
            }
            return true;
        }
        self.deferred.was_answered(id, body) || self.twice.is_second(id, body, is_initialize, Instant::now())
    }

    /// A request that is not turned away.
    fn take_in(&mut self, id: RequestId, method: &str, body: Bytes, delivery: Box<Delivery>) {
        if method == "server/discover" {
            // Newer clients probe with it before `initialize`; this answer makes them fall back (WIRE, Stream 9). It is
            // what they expect, and counts as no error.
            accept(delivery.verdict);
            let error = RpcError::new(code::METHOD_NOT_FOUND, "legacy_transport", "Method not found: server/discover");
            self.outbox.push(&error_response(&id, &error));
        } else if method == "ping" && self.handshake == Handshake::None {
            accept(delivery.verdict);
            self.outbox.push(&result_response(&id, "{}"));
        } else if !self.has_room() {
            accept(delivery.verdict);
            let text = "too many requests of this session are in flight; wait for answers first";
            self.answer_error(&id, &RpcError::new(code::SESSION, "too_many_in_flight", text));
        } else {
            let effect = Effect::of_method(method);
            let kind = match effect {
                Effect::Initialize => OutgoingKind::Initialize(id),
                _ => OutgoingKind::Request(id),
            };
            self.enqueue(kind, effect, body, delivery);
        }
    }

    fn on_notification(&mut self, method: &str, message: &Message, delivery: Box<Delivery>) {
        if !self.has_room_beside_requests() {
            return answer(delivery.verdict, Verdict::Busy);
        }
        if let Some(rejection) = self.rejection(&delivery).filter(|_| self.refusal.is_none()) {
            // Before it does anything here: whoever says it may be nobody.
            return reject(delivery.verdict, rejection);
        }
        let kind = match method {
            "notifications/initialized" => OutgoingKind::Initialized,
            "notifications/progress" => OutgoingKind::Loose,
            "notifications/cancelled" => {
                if !self.on_cancel(message) {
                    return accept(delivery.verdict);
                }
                OutgoingKind::Loose
            }
            _ => OutgoingKind::Ordered,
        };
        self.enqueue_unless_refused(kind, message.bytes().clone(), delivery);
    }

    /// The client gives a request up. Returns whether the upstream has to hear of it.
    fn on_cancel(&mut self, message: &Message) -> bool {
        let Some(id) = message.request_id_param() else { return true };
        let waiting = self.waiting.iter().position(|outgoing| outgoing.kind == OutgoingKind::Request(id.clone()));
        if let Some(outgoing) = waiting.and_then(|at| self.waiting.remove(at)) {
            accept(outgoing.verdict);
            return false;
        }
        self.deferred.forget(&id);
        if let Some(serial) = self.calls.owed(&id)
            && let Some(call) = self.calls.get_mut(serial)
        {
            if call.is_initialize {
                // MCP 2024-11-05, cancellation §Behavior Requirements 2: `initialize` is not cancelled.
                return false;
            }
            accept(call.verdict.take());
            // The exchange is read to its end: a broken response stream may cost the upstream session.
            self.calls.settle(serial, CallState::Cancelled, Instant::now());
        }
        true
    }

    async fn on_response_of_client(&mut self, id: Option<&RequestId>, message: &Message, delivery: Box<Delivery>) {
        if !self.has_room_beside_requests() {
            return answer(delivery.verdict, Verdict::Busy);
        }
        // Not taken for answered before the credential is known to be no bad one: the client answers again with another.
        if let Some(rejection) = self.rejection(&delivery).filter(|_| self.refusal.is_none()) {
            return reject(delivery.verdict, rejection);
        }
        let Some((theirs, method)) = id.and_then(|id| self.server_requests.close(id)) else {
            tracing::debug!(session = self.evidence.label(), "the client answered a request that nobody asked");
            return accept(delivery.verdict);
        };
        self.evidence.answered(&method).await;
        let body = message.with_id(&theirs);
        let Some(ours) = id.cloned() else { return accept(delivery.verdict) };
        let answered = Answered { ours, theirs, method };
        self.enqueue_unless_refused(OutgoingKind::Answer(Box::new(answered)), body, delivery);
    }

    fn enqueue_unless_refused(&mut self, kind: OutgoingKind, body: Bytes, delivery: Box<Delivery>) {
        if self.refusal.is_some() {
            accept(delivery.verdict);
        } else if let Some(rejection) = self.rejection(&delivery) {
            reject(delivery.verdict, rejection);
        } else {
            self.enqueue(kind, Effect::None, body, delivery);
        }
    }

    fn enqueue(&mut self, kind: OutgoingKind, effect: Effect, body: Bytes, delivery: Box<Delivery>) {
        let mut share = self.inbound.hold();
        if !share.grow(body.len()) {
            return self.refuse_for_size(kind, delivery.verdict);
        }
        let known_good = self.credentials.are_good_for(delivery.sender.credential, &body);
        // A good token expires, and is too narrow for some tool, and only a POST that waits can be told so in time for the
        // client to do something about it: this call would fail otherwise. Not a second one while the upstream takes its
        // time: Python posts one after another.
        let waits = known_good
            && kind.is_request()
            && delivery.sender.credential.is_some()
            && self.waiting.is_empty()
            && !self.calls.await_heads();
        delivery.was_good.store(waits, Ordering::Relaxed);
        let (sent, verdict) = Sent::of(delivery, body, share);
        let verdict = if known_good && !waits { answered(verdict) } else { verdict };
        self.waiting.push_back(Outgoing { kind, effect, sent, was_replayed: false, waits, verdict });
    }

    /// Whether another request may wait.
    fn has_room(&self) -> bool {
        self.waiting.iter().filter(|waiting| waiting.kind.is_request()).count() < self.context.config.max_waiting
    }

    /// Whether another notification or answer may wait. They have room of their own: a 503, the only way to turn one
    /// away, ends the Python client's writer.
    fn has_room_beside_requests(&self) -> bool {
        self.waiting.iter().filter(|waiting| !waiting.kind.is_request()).count() < self.context.config.max_waiting
    }

    /// The session holds as many bytes of posted messages as it may.
    fn refuse_for_size(&mut self, kind: OutgoingKind, verdict: PostVerdict) {
        let (OutgoingKind::Initialize(id) | OutgoingKind::Request(id)) = kind else {
            return answer(verdict, Verdict::Busy);
        };
        accept(verdict);
        let text = "the messages of this session that the upstream has not taken are too large together; wait for answers first";
        self.answer_error(&id, &RpcError::new(code::SESSION, "too_many_in_flight", text));
    }

    /// Whether a request with this id is waiting, or with the upstream.
    fn is_under_way(&self, id: &RequestId) -> bool {
        let is_it = |outgoing: &Outgoing| match &outgoing.kind {
            OutgoingKind::Initialize(waiting) | OutgoingKind::Request(waiting) => waiting == id,
            _ => false,
        };
        self.calls.owes(id) || self.waiting.iter().any(is_it)
    }

    fn rejection(&self, delivery: &Delivery) -> Option<Rejection> {
        match self.credentials.standing(delivery.sender.credential) {
            Standing::Rejected(rejection) => Some(rejection.clone()),
            Standing::Accepted | Standing::Unknown => None,
        }
    }

    /// Starts what may start, in order.
    pub(super) fn start_waiting(&mut self) {
        if let (Some(front), Upstream::Lost { .. }) = (self.waiting.front(), &self.standing)
            && matches!(front.kind, OutgoingKind::Initialize(_))
        {
            // The client begins anew by itself.
            self.standing = Upstream::Sound;
        }
        if !self.waiting.is_empty() && !matches!(self.standing, Upstream::Sound) {
            return self.stand_up(true);
        }
        let mut at = 0;
        while let Some(outgoing) = self.waiting.get(at) {
            let turn = self.turn(outgoing);
            match turn {
                Turn::Hold => return,
                Turn::AfterHandshake => return self.make_handshake(),
                Turn::Later => at += 1,
                Turn::Now | Turn::Never => {
                    let Some(outgoing) = self.waiting.remove(at) else { return };
                    if matches!(turn, Turn::Now) {
                        self.start(outgoing);
                    } else {
                        accept(outgoing.verdict);
                    }
                }
            }
        }
    }

    fn turn(&self, outgoing: &Outgoing) -> Turn {
        if self.barrier.is_some() {
            return Turn::Hold;
        }
        let has_slot = self.calls.in_flight() < self.context.config.max_in_flight;
        match (self.handshake, &outgoing.kind) {
            (Handshake::None, OutgoingKind::Initialize(_))
            | (Handshake::Answered { .. }, OutgoingKind::Initialized) => Turn::Now,
            (Handshake::None, OutgoingKind::Request(_) | OutgoingKind::Ordered) => Turn::AfterHandshake,
            // They speak of a session that this one is not.
            (Handshake::None, _) => Turn::Never,
            (Handshake::Asked, _) => Turn::Hold,
            (Handshake::Answered { .. }, _) => Turn::Later,
            // Another handshake on a session that has one: when nothing of the first is under way any more.
            (Handshake::Done, OutgoingKind::Initialize(_)) if self.calls.in_flight() > 0 => Turn::Later,
            // Answers and notifications pass requests that wait for a slot: a call in flight may wait for them.
            (Handshake::Done, OutgoingKind::Request(_)) if !has_slot => Turn::Later,
            (Handshake::Done, OutgoingKind::Loose) if self.is_crowded() => Turn::Later,
            (Handshake::Done, _) => Turn::Now,
        }
    }

    fn start(&mut self, mut outgoing: Outgoing) {
        // What was unknown when the message arrived may be known by now.
        let known_good = self.credentials.are_good_for(outgoing.sent.sender.credential, &outgoing.sent.body);
        let verdict = outgoing.verdict.take();
        outgoing.verdict = if known_good && !outgoing.waits { answered(verdict) } else { verdict };
        self.ping_at = Instant::now() + self.context.config.ping;
        match outgoing.kind {
            OutgoingKind::Initialize(_) | OutgoingKind::Request(_) => self.start_call(outgoing),
            OutgoingKind::Initialized | OutgoingKind::Ordered | OutgoingKind::Answer(_) | OutgoingKind::Loose => {
                self.start_message(outgoing);
            }
        }
    }

    fn start_call(&mut self, outgoing: Outgoing) {
        let Outgoing { kind, effect, sent, was_replayed, verdict, .. } = outgoing;
        let (OutgoingKind::Initialize(id) | OutgoingKind::Request(id)) = kind else { return };
        if effect == Effect::Initialize {
            self.renew_link();
            self.handshake = Handshake::Asked;
            self.has_begun = true;
        }
        let (body, headers) = (sent.body.clone(), Arc::clone(&sent.headers));
        let started = Instant::now();
        let deadline = started + self.context.config.call_silence;
        let generation = self.generation;
        let serial = self.calls.start(Start { id, effect, sent, was_replayed, generation, verdict, started, deadline });
        let sending = self.link.post(body, &headers);
        let sending = self.revocable(serial, sending);
        self.heads.push(sending.map(move |answer| (Errand::Call { serial }, answer)).boxed());
    }

    fn start_message(&mut self, outgoing: Outgoing) {
        if outgoing.kind == OutgoingKind::Initialized {
            self.handshake = Handshake::Done;
            self.warn();
        }
        let barrier = (outgoing.kind != OutgoingKind::Loose).then(|| self.raise_barrier(Instant::now()));
        let sending = self.bounded(self.link.post(outgoing.sent.body.clone(), &outgoing.sent.headers));
        let generation = self.generation;
        let errand = Errand::Message { barrier, generation, outgoing: Box::new(outgoing) };
        self.heads.push(sending.map(move |answer| (errand, answer)).boxed());
    }

    /// The exchange of a call: whoever forgets the call gives it up too, even if its head never comes.
    fn revocable(&mut self, serial: Serial, sending: Sending) -> Sending {
        let (sending, exchange) = abortable(sending);
        if let Some(call) = self.calls.get_mut(serial) {
            call.reading = Some(exchange);
        }
        async move { sending.await.unwrap_or_else(|_| Err(Fault::GivenUp)) }.boxed()
    }

    /// The exchange of a message that has no call to bound it.
    fn bounded(&self, sending: Sending) -> Sending {
        let silence = self.context.config.call_silence;
        async move { timeout(silence, sending).await.unwrap_or(Err(Fault::Silent(silence))) }.boxed()
    }

    fn raise_barrier(&mut self, now: Instant) -> u64 {
        let number = self.next_barrier;
        self.next_barrier += 1;
        self.barrier = Some(Barrier { number, until: now + BARRIER });
        number
    }

    /// A new handshake gets a new upstream session; the old one, if any, is deleted.
    pub(super) fn renew_link(&mut self) {
        // What was cancelled runs on in the old one, and asks, where nobody can be told that it is not wanted.
        self.calls.leave_trailing();
        self.withdraw_questions();
        let old = std::mem::replace(&mut self.link, self.context.upstream.link());
        self.generation += 1;
        self.has_listened = false;
        if let Some(delete) = old.delete(&self.credentials.headers()) {
            let delete = self.bounded(delete);
            self.heads.push(delete.map(|answer| (Errand::Own, answer)).boxed());
        }
        self.stop_listening();
    }

    /// Whether the upstream leaves so much unanswered that more of what nobody waits for would only cost connections.
    fn is_crowded(&self) -> bool {
        self.heads.len() >= self.context.config.max_in_flight + MAX_BESIDE_CALLS
    }

    /// Answers the server itself. One that takes none of the answers gets no more of them.
    pub(super) fn say_to_server(&mut self, body: Bytes) {
        if self.is_crowded() {
            tracing::debug!(session = self.evidence.label(), "upstream takes no answers; one was dropped");
        } else {
            self.say(body);
        }
    }

    /// POSTs something of our own accord, under the credential that the upstream accepted last.
    pub(super) fn say(&mut self, body: Bytes) {
        let sending = self.bounded(self.link.post(body, &self.credentials.headers()));
        self.heads.push(sending.map(|answer| (Errand::Own, answer)).boxed());
    }
}

pub(super) fn accept(verdict: PostVerdict) {
    answer(verdict, Verdict::Accepted);
}

pub(super) fn reject(verdict: PostVerdict, rejection: Rejection) {
    answer(verdict, Verdict::Rejected(rejection));
}

fn answered(verdict: PostVerdict) -> PostVerdict {
    accept(verdict);
    None
}

pub(super) fn answer(verdict: PostVerdict, what: Verdict) {
    if let Some(verdict) = verdict {
        // The POST may have been given up meanwhile; then nobody wants to know.
        let _ = verdict.send(what);
    }
}
