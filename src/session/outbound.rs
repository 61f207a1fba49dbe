//! From the upstream to the client: heads of answers, and the messages in them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{AbortHandle, abortable};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::calls::{Call, CallState, Serial};
use super::credential::Taker;
use super::exchange::{Errand, Outgoing, OutgoingKind, Source, Tagged};
use super::inbound::{accept, reject};
use super::loss::{Held, Loss, Word};
use super::recovery::Standing;
use super::revival::settled_version;
use super::task::{Handshake, Task};
use super::timers::GRACE;
use crate::auth::{Rejection, Sender};
use crate::mcp::{Message, MessageKind, RequestId, RpcError, code, error_response, result_response};
use crate::upstream::{Answer, End, Fault, Item, Replies};

impl Task {
    /// The head of an answer is in, or will not come.
    pub(super) fn on_head(&mut self, errand: Errand, answer: Result<Answer, Fault>) {
        match &answer {
            Ok(answer) if answer.status.is_server_error() => self.count_upstream_error("upstream_error"),
            Err(fault) if *fault != Fault::GivenUp => self.count_upstream_error(fault.reason()),
            Ok(_) | Err(_) => {}
        }
        match errand {
            Errand::Call { serial } => self.on_call_head(serial, answer),
            Errand::Message { barrier, generation, outgoing } => {
                if self.barrier.is_some_and(|raised| Some(raised.number) == barrier) {
                    self.barrier = None;
                }
                self.on_message_head(generation, *outgoing, answer);
            }
            Errand::Resume { serial } => self.on_resume_head(serial, answer),
            Errand::Listen => self.on_listen_head(answer),
            Errand::Own => {}
        }
    }

    fn count_upstream_error(&self, reason: &'static str) {
        self.context.books.metrics.upstream_errors.of(reason).inc();
    }

    /// A call will not be answered for this `fault`. A 5xx was counted when its head came, and who has its answer, or wants
    /// none, does not miss the rest.
    pub(super) fn count_fault(&mut self, serial: Serial, fault: &Fault) {
        let is_counted = matches!(fault, Fault::NotRpc { status: 500.., .. } | Fault::GivenUp);
        let is_owed = self.calls.get_mut(serial).is_some_and(|call| call.state == CallState::Owed);
        if is_owed && !is_counted {
            self.count_upstream_error(fault.reason());
        }
    }

    fn on_call_head(&mut self, serial: Serial, answer: Result<Answer, Fault>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => return self.fail_call(serial, &fault.to_rpc()),
        };
        let Some(call) = self.calls.get_mut(serial) else { return };
        self.context.books.metrics.upstream_head_duration.observe(call.started.elapsed().as_secs_f64());
        let (sender, headers, body) = (call.sent.sender, Arc::clone(&call.sent.headers), call.sent.body.clone());
        if answer.rejects_credential() && !(self.can_stand_up() && may_be_loss(&answer)) {
            let rejection = Rejection::of(&answer);
            if rejection.is_of_scope() {
                self.credentials.note_narrow(sender.credential, &body);
            }
            self.reject_credential(&sender, &rejection);
            return self.on_rejected_call(serial, rejection);
        }
        if answer.status.is_success() {
            self.accept_credential(&sender, &headers, taker(&answer));
        }
        self.read_call(serial, answer);
    }

    /// The head is all that is read of the answer to a notification or response.
    fn on_message_head(&mut self, generation: u32, mut outgoing: Outgoing, answer: Result<Answer, Fault>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                tracing::debug!(%fault, "upstream did not take a notification or response");
                return accept(outgoing.verdict);
            }
        };
        let status = answer.status.as_u16();
        let may_be_lost = outgoing.kind != OutgoingKind::Initialized && self.can_stand_up() && !outgoing.was_replayed;
        if answer.status.is_success() {
            self.accept_credential(&outgoing.sent.sender, &outgoing.sent.headers, taker(&answer));
            if outgoing.kind == OutgoingKind::Initialized {
                self.keepsake.note_initialized(&outgoing.sent.body);
                self.start_listening();
            }
        } else if may_be_lost && (status == 404 || may_be_loss(&answer)) {
            if status != 401 {
                accept(outgoing.verdict.take());
            }
            outgoing.was_replayed = true;
            return self.on_message_turned_away(generation, outgoing, status);
        } else if answer.rejects_credential() {
            return self.turn_message_away(generation, outgoing, Rejection::of(&answer));
        } else {
            tracing::debug!(status, "upstream refused a notification or response");
        }
        accept(outgoing.verdict);
    }

    fn on_message_turned_away(&mut self, generation: u32, mut outgoing: Outgoing, status: u16) {
        let is_certain = status == 404;
        let is_of_session = generation == self.generation;
        let is_lost = !is_of_session || !matches!(self.standing, Standing::Sound);
        if outgoing.kind != OutgoingKind::Ordered {
            // Nothing to any other session.
            accept(outgoing.verdict.take());
        } else if is_certain || is_lost {
            accept(outgoing.verdict.take());
            self.put_in_front(outgoing);
        } else {
            self.held_messages.push((status, outgoing));
        }
        if is_of_session && is_certain {
            self.lose_session();
        } else if is_of_session {
            self.suspect();
        }
    }

    /// A notification, or an answer to the server, did not get any further for its credential.
    pub(super) fn turn_message_away(&mut self, generation: u32, outgoing: Outgoing, rejection: Rejection) {
        self.reject_credential(&outgoing.sent.sender, &rejection);
        if let OutgoingKind::Answer(answered) = outgoing.kind
            && generation == self.generation
        {
            // Said again under another credential, it is still an answer to something.
            self.server_requests.reopen(*answered);
        }
        reject(outgoing.verdict, rejection);
    }

    /// A message was taken: what goes up of the proxy's own accord goes up as this one did. Whose the session is shows only
    /// where the upstream itself took it: what is answered here is answered to any token.
    pub(super) fn accept_credential(&mut self, sender: &Sender, headers: &Arc<HeaderMap>, taker: Taker) {
        if self.credentials.accept(sender, headers, taker) {
            if taker == Taker::Upstream {
                self.binding.accepted(sender.principal);
                self.outbox.bind(sender.credential);
            }
            self.membership.rename(self.evidence.kin(sender));
            self.listen_under_another_credential();
        }
    }

    /// 401: where the POST still waits, the client is told by HTTP, so that it renews its token and posts again; an error
    /// follows if it does not. Otherwise the error comes at once, and the next POST gets the 401.
    fn on_rejected_call(&mut self, serial: Serial, rejection: Rejection) {
        let Some(call) = self.calls.get_mut(serial) else { return };
        let waits = call.verdict.take().filter(|verdict| !verdict.is_closed());
        let (Some(verdict), CallState::Owed) = (waits, call.state) else {
            return self.fail_call(serial, &rejected(rejection.status));
        };
        if let Some(call) = self.calls.remove(serial) {
            if call.is_initialize {
                self.handshake = Handshake::None;
            }
            self.defer(call.id, &call.sent.body);
        }
        reject(Some(verdict), rejection);
    }

    fn read_call(&mut self, serial: Serial, answer: Answer) {
        let Some(call) = self.calls.get_mut(serial) else { return };
        if answer.status != StatusCode::UNAUTHORIZED {
            accept(call.verdict.take());
        }
        call.status = Some(answer.status.as_u16());
        if answer.status.is_success() {
            call.sent.was_taken(call.effect);
        }
        let reading = self.read(Source::Call(serial), answer);
        if let Some(call) = self.calls.get_mut(serial) {
            call.reading = Some(reading);
        }
    }

    /// Reads an answer until it ends, or until the handle says so.
    pub(super) fn read(&mut self, source: Source, answer: Answer) -> AbortHandle {
        let (replies, reading) = abortable(self.desk.read(Replies::of(answer)));
        self.bodies.push(Tagged { source, replies });
        reading
    }

    /// The upstream said something.
    pub(super) fn on_item(&mut self, source: Source, item: Item) {
        if let (Source::Call(serial), Item::Message(_) | Item::Garbage(_) | Item::Waiting) = (source, &item) {
            let silence = self.context.config.call_silence;
            if let Some(call) = self.calls.get_mut(serial)
                && call.state == CallState::Owed
            {
                call.deadline = Instant::now() + silence;
            }
        }
        match item {
            Item::Message(message) => match message.kind().clone() {
                MessageKind::Request { id, method } => self.on_server_request(&id, &method, &message),
                MessageKind::Notification { method } => self.on_server_notification(&method, &message),
                MessageKind::Response { id, .. } => self.on_answer(source, id.as_ref(), &message),
            },
            Item::Garbage(malformed) => {
                let (session, what) = (self.evidence.label(), malformed.category());
                tracing::warn!(session, what, "upstream sent something that is no message");
            }
            Item::Waiting => {}
            Item::End(end) => match source {
                Source::Call(serial) => self.on_call_end(serial, end),
                Source::Listen => self.on_listen_end(end),
            },
        }
    }

    fn on_answer(&mut self, source: Source, id: Option<&RequestId>, message: &Message) {
        // On the stream of a call with this id it is that call's, though the id may have been given to another since.
        let of_stream = match source {
            Source::Call(serial) => {
                self.calls.get_mut(serial).is_some_and(|call| Some(&call.id) == id).then_some(serial)
            }
            Source::Listen => None,
        };
        let by_id = of_stream.or_else(|| id.and_then(|id| self.calls.owed(id)));
        let anonymous = id.is_none_or(|id| id.as_json() == "\"server-error\"");
        let serial = match (by_id, source) {
            (Some(serial), _) => serial,
            // Errors of the transport come without an id, with null, or with "server-error" (Python).
            (None, Source::Call(serial)) if anonymous => serial,
            _ => {
                tracing::debug!(session = self.evidence.label(), "upstream answered what nobody waits for");
                return;
            }
        };
        if matches!(message.kind(), MessageKind::Response { is_error: true, .. }) {
            match self.loss_of_call(serial, &Word::Error(message)) {
                Loss::Certain => return self.send_again(serial),
                Loss::Possible => return self.hold_call(serial, Held::Message(message.clone())),
                Loss::None => {}
            }
            let is_unauthorized = |call: &mut Call| call.status == Some(StatusCode::UNAUTHORIZED.as_u16());
            if self.calls.get_mut(serial).is_some_and(is_unauthorized) {
                return self.on_bare_unauthorized(serial);
            }
        }
        self.deliver_answer(serial, message);
    }

    /// 401 without a challenge, and not for want of a session: the credential is no good, whatever the body says.
    pub(super) fn on_bare_unauthorized(&mut self, serial: Serial) {
        if let Some(sender) = self.calls.get_mut(serial).map(|call| call.sent.sender) {
            self.reject_credential(&sender, &Rejection::bare());
        }
        self.on_rejected_call(serial, Rejection::bare());
    }

    /// The credential was turned down in the midst of a call (2026-07-28): the client hears of it under the call's id, and
    /// by the challenge of its next POST.
    fn on_rejected_midway(&mut self, serial: Serial, rejection: &Rejection, is_newer: bool) {
        let sender = self.calls.get_mut(serial).map(|call| call.sent.sender);
        let newest = self.credentials.accepted().copied();
        for sender in sender.into_iter().chain(newest.filter(|_| is_newer)) {
            self.reject_credential(&sender, rejection);
        }
    }

    /// The upstream turned a credential down: neither it nor the client that shows it gets any further. One that only may
    /// too little for what was asked is as good as before.
    pub(super) fn reject_credential(&mut self, sender: &Sender, rejection: &Rejection) {
        if rejection.is_of_scope() {
            return;
        }
        self.outbox.unbind(sender.credential);
        self.binding.turned_down(sender.principal);
        self.credentials.reject(sender.credential, rejection.clone());
    }

    /// Gives a call its answer, under the client's id.
    pub(super) fn deliver_answer(&mut self, serial: Serial, message: &Message) {
        let Some(call) = self.calls.get_mut(serial).filter(|call| call.state == CallState::Owed) else { return };
        // It may have come on another stream, before the head of its own.
        accept(call.verdict.take());
        let (id, is_initialize, effect) = (call.id.clone(), call.is_initialize, call.effect);
        let arrived = call.sent.arrived;
        let is_error = matches!(message.kind(), MessageKind::Response { is_error: true, .. });
        if !is_error && call.sent.is_whole() {
            self.keepsake.note(effect, &call.sent.body, message);
        }
        if call.sent.sender.credential.is_some() && call.sent.is_whole() && !(is_initialize && is_error) {
            self.twice.note_answered(&id, &call.sent.body, is_initialize, Instant::now());
        }
        call.sent.forget();
        self.evidence.was_answered(&id, is_error);
        if let Some((code, text)) = message.error() {
            self.context.upstream.hear_error(code, &text);
        }
        if is_initialize {
            self.on_initialize_answer(message);
        }
        let renamed = !matches!(message.kind(), MessageKind::Response { id: Some(theirs), .. } if *theirs == id);
        if let Some(error) = self.too_large(message.bytes()) {
            self.answer_error(&id, &error);
        } else if renamed {
            self.deliver(&message.with_id(&id));
        } else {
            self.deliver(message.bytes());
        }
        let now = Instant::now();
        self.observe_answer(now - arrived);
        self.calls.settle(serial, CallState::Answered, now);
    }

    /// A request that went upstream was answered after this time, by whomever.
    pub(super) fn observe_answer(&self, time: Duration) {
        self.context.books.metrics.request_duration.observe(time.as_secs_f64());
    }

    fn on_initialize_answer(&mut self, message: &Message) {
        if matches!(message.kind(), MessageKind::Response { is_error: true, .. }) {
            self.renew_link();
            self.handshake = Handshake::None;
            return;
        }
        if let Some(version) = settled_version(message) {
            self.link.negotiated(&version);
            self.membership.settle(&version);
        }
        self.ping_at = Instant::now() + self.context.config.ping;
        self.handshake = Handshake::Answered { grace_until: Instant::now() + GRACE };
    }

    fn on_server_request(&mut self, id: &RequestId, method: &str, message: &Message) {
        if method == "ping" {
            // Answered here (WIRE, Toward the upstream 9), also while the client is away: Java ends sessions that leave one
            // unanswered, and this one waits for its client.
            self.say_to_server(result_response(id, "{}"));
        } else if let Some(error) = self.too_large(message.bytes()) {
            self.say_to_server(error_response(id, &error));
        } else if let Some(ours) = self.server_requests.open(id.clone(), method) {
            self.deliver(&message.with_id(&ours));
        } else {
            let text = "the legacy client leaves too many requests unanswered";
            self.say_to_server(error_response(id, &RpcError::new(code::SESSION, "too_many_unanswered", text)));
        }
    }

    fn on_server_notification(&mut self, method: &str, message: &Message) {
        if self.too_large(message.bytes()).is_some() {
            tracing::warn!(session = self.evidence.label(), method, "a notification was too large for the client");
            return self.evidence.lost(1);
        }
        if method != "notifications/cancelled" {
            return self.deliver_with_others(message.bytes());
        }
        let ours = message.request_id_param().and_then(|theirs| self.server_requests.give_up(&theirs));
        if let Some(renamed) = ours.and_then(|ours| message.with_request_id_param(&ours)) {
            self.deliver(&renamed);
        }
    }

    fn on_call_end(&mut self, serial: Serial, end: End) {
        let Some(call) = self.calls.get_mut(serial) else { return };
        if call.held.is_some() {
            // Its answer is here; a ping tells what it is worth.
            return;
        }
        if call.state != CallState::Owed && end.fault.is_none() {
            // It has its answer, as nearly every call does whose exchange ends.
            accept(call.verdict.take());
            self.calls.remove(serial);
            return;
        }
        let status = call.status.unwrap_or_default();
        if call.state == CallState::Owed
            && end.fault.is_none()
            && status == StatusCode::ACCEPTED.as_u16()
            && self.listening.is_asked_for()
        {
            // Taken without an answer: it may come on the GET stream, until the call's time is over.
            return;
        }
        if self.resume_later(serial, &end) {
            return;
        }
        let fault = end.fault.unwrap_or(Fault::Unanswered { status });
        self.end_call(serial, &fault);
    }

    /// A call whose exchange is over without an answer.
    fn end_call(&mut self, serial: Serial, fault: &Fault) {
        if let Fault::NotRpc { status, text, .. } = fault {
            match self.loss_of_call(serial, &Word::Text(text)) {
                Loss::Certain => return self.send_again(serial),
                Loss::Possible => return self.hold_call(serial, Held::Text(text.clone(), fault.to_rpc())),
                Loss::None => {}
            }
            if *status == StatusCode::UNAUTHORIZED.as_u16() {
                return self.on_bare_unauthorized(serial);
            }
        }
        if let Fault::Rejected { status, challenges, is_newer } = fault {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::UNAUTHORIZED);
            let rejection = Rejection { status, challenges: challenges.clone() };
            self.on_rejected_midway(serial, &rejection, *is_newer);
            return self.fail_call(serial, &rejected(status));
        }
        self.count_fault(serial, fault);
        self.fail_call(serial, &fault.to_rpc());
    }
}

/// What is said to a call whose POST waits no more.
fn rejected(status: StatusCode) -> RpcError {
    let text = if status == StatusCode::FORBIDDEN {
        "the upstream wants a credential that may more; asked again, this is answered by HTTP 403 with what it wants"
    } else {
        "the upstream rejected the credential"
    };
    RpcError::new(code::UNAUTHORIZED, "unauthorized", text).with("status", status.as_u16())
}

fn taker(answer: &Answer) -> Taker {
    Taker::of(answer.is_servers())
}

/// 401 without a challenge: old rmcp says so that a session is lost. `WWW-Authenticate` means that the credential is.
pub(super) fn may_be_loss(answer: &Answer) -> bool {
    matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) && answer.challenges().next().is_none()
}
