//! The upstream has lost the session, or looks as if: how that shows, and what becomes of what was under way.
//!
//! A request that was refused for want of a session did not run, so it is sent again in the next one; a call that was
//! running may have run, so it gets an error (WIRE, Upstream 7). Servers disguise the loss in many ways, and texts of tools
//! look like it: what is no plain 404 is believed only when a ping on the same session says it too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::StatusCode;
use tokio::time::Instant;

use super::calls::{CallState, Serial};
use super::exchange::{Outgoing, OutgoingKind};
use super::inbound::accept;
use super::recovery::Standing;
use super::revival;
use super::task::{Handshake, Task};
use crate::auth::Rejection;
use crate::mcp::{self, Message, RpcError, code};
use crate::upstream::Fault;

/// How long the upstream may take over a ping.
const PING: Duration = Duration::from_secs(10);
/// How much an answer looks like the loss of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    None,
    /// A ping has to say it too.
    Possible,
    Certain,
}

/// What an answer says that may be a loss.
pub(super) enum Word<'a> {
    /// A JSON-RPC error.
    Error(&'a Message),
    /// Something else.
    Text(&'a str),
}

/// An answer that looks like a loss, until a ping has told.
#[derive(Debug)]
pub(super) enum Held {
    Message(Message),
    /// What is no message at all, and the error that would be made of it.
    Text(String, RpcError),
}

impl Word<'_> {
    fn text(&self) -> String {
        match self {
            Word::Error(message) => message.error().unwrap_or_default().1,
            Word::Text(text) => (*text).to_owned(),
        }
    }
}

impl Held {
    fn text(&self) -> String {
        match self {
            Held::Message(message) => message.error().unwrap_or_default().1,
            Held::Text(text, _) => text.clone(),
        }
    }
}

/// What a ping found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pinged {
    Alive,
    /// And what it said.
    Lost(String),
    /// The upstream did not say.
    Unknown,
}

/// How much an answer of `status` on a session looks like its loss.
fn loss_in(status: u16, word: &Word<'_>) -> Loss {
    let is_error = matches!(word, Word::Error(_));
    let names_session = names_session(&word.text());
    match status {
        // Some map the errors of their tools to it: no such method, no such resource.
        404 if is_error && !names_session => Loss::Possible,
        404 => Loss::Certain,
        200..=299 | 400 | 401 if names_session => Loss::Possible,
        _ => Loss::None,
    }
}

impl Task {
    /// Whether the answer to a call, which came on the session it was sent in, is the loss of that session.
    pub(super) fn loss_of_call(&mut self, serial: Serial, word: &Word<'_>) -> Loss {
        let (can_stand_up, generation) = (self.can_stand_up(), self.generation);
        let Some(call) = self.calls.get_mut(serial) else { return Loss::None };
        let may_run_again =
            can_stand_up && call.state == CallState::Owed && !call.is_initialize && call.sent.is_whole();
        if !may_run_again || call.was_replayed {
            return Loss::None;
        }
        let status = call.status.unwrap_or_default();
        let loss = loss_in(status, word);
        // The session it was sent in is lost for sure: only an error of a tool can still be meant otherwise.
        let is_lost = call.generation != generation || !matches!(self.standing, Standing::Sound);
        match loss {
            Loss::Possible if is_lost && self.is_refusal(status, &word.text()) => Loss::Certain,
            Loss::Possible if is_lost => Loss::None,
            loss => loss,
        }
    }

    /// Whether an answer that came while the session was lost refused the request for that, so that it did not run. Behind a
    /// 2xx, or where no session is named, a tool may have spoken, unless it says just what the ping was told.
    fn is_refusal(&self, status: u16, text: &str) -> bool {
        (400..500).contains(&status) && names_session(text) || text == self.loss_text
    }

    /// Whether there is a session that could be lost and made again.
    pub(super) fn can_stand_up(&self) -> bool {
        self.link.can_be_lost() && self.handshake == Handshake::Done && self.keepsake.initialize().is_some()
    }

    /// A call was turned away because its session is lost: it did not run, and is sent again.
    pub(super) fn send_again(&mut self, serial: Serial) {
        let Some(call) = self.calls.remove(serial) else { return };
        let generation = call.generation;
        if call.state == CallState::Owed {
            self.context.books.metrics.messages_replayed.inc();
            let outgoing = Outgoing {
                kind: OutgoingKind::Request(call.id),
                effect: call.effect,
                sent: call.sent,
                was_replayed: true,
                waits: false,
                verdict: call.verdict,
            };
            self.put_in_front(outgoing);
        }
        if generation == self.generation {
            self.lose_session();
        }
    }

    /// What is sent again goes before what has not been sent, in the order in which it was sent first.
    pub(super) fn put_in_front(&mut self, outgoing: Outgoing) {
        let at = self.waiting.iter().take_while(|waiting| waiting.was_replayed).count();
        self.waiting.insert(at, outgoing);
    }

    /// An answer looks like the loss of the session: a ping shall tell.
    pub(super) fn hold_call(&mut self, serial: Serial, held: Held) {
        if let Some(call) = self.calls.get_mut(serial) {
            call.held = Some(held);
        }
        if self.pinging.is_none() {
            self.ping();
        }
    }

    pub(super) fn suspect(&mut self) {
        if self.can_stand_up() && matches!(self.standing, Standing::Sound) {
            self.ping();
        }
    }

    /// Asks the upstream whether the session is there, which also keeps it there (rmcp forgets one after 300 s).
    pub(super) fn ping(&mut self) {
        self.ping_at = Instant::now() + self.context.config.ping;
        if self.pinging.is_some() {
            return;
        }
        self.context.books.metrics.upstream_pings.inc();
        self.pings += 1;
        let request = ping(self.pings);
        // Under the credential of what was turned away: the one that was accepted last may be the one that has expired, and
        // the upstream would speak of that instead.
        let held = || self.held_messages.last().map(|(_, message)| Arc::clone(&message.sent.headers));
        let headers = self.calls.held_headers().or_else(held).unwrap_or_else(|| self.credentials.headers());
        let sending = self.link.post(request.clone(), &headers);
        let generation = self.generation;
        let asking = async move {
            let pinged = match revival::ask(sending, &request, PING, &mut Vec::new()).await {
                Ok((status, answer)) => match answer.error() {
                    // A server that does not know pings has a session all the same.
                    Some((code::METHOD_NOT_FOUND, _)) | None => Pinged::Alive,
                    Some((_, text)) => pinged(loss_in(status, &Word::Error(&answer)), text),
                },
                Err(Fault::NotRpc { status, text, .. }) => match loss_in(status, &Word::Text(&text)) {
                    Loss::None => Pinged::Unknown,
                    loss => pinged(loss, text),
                },
                Err(_) => Pinged::Unknown,
            };
            (generation, pinged)
        };
        self.pinging = Some(asking.boxed());
    }

    pub(super) fn on_pinged(&mut self, generation: u32, pinged: Pinged) {
        if generation != self.generation {
            // It was asked about another session than the answers that wait for it.
            if !self.calls.held().is_empty() || !self.held_messages.is_empty() {
                self.ping();
            }
            return;
        }
        if let Pinged::Lost(text) = pinged {
            self.loss_text = text;
            return self.lose_session();
        }
        for (status, outgoing) in std::mem::take(&mut self.held_messages) {
            self.give_up_message(status, outgoing);
        }
        for serial in self.calls.held() {
            self.release(serial);
        }
    }

    /// It was no loss: the message is turned away as it seemed.
    fn give_up_message(&mut self, status: u16, outgoing: Outgoing) {
        if status == StatusCode::UNAUTHORIZED.as_u16() {
            self.turn_message_away(self.generation, outgoing, Rejection::bare());
        }
    }

    /// It was no loss: the answer is what it seemed.
    fn release(&mut self, serial: Serial) {
        let Some(call) = self.calls.get_mut(serial) else { return };
        let (status, held) = (call.status, call.held.take());
        match held {
            Some(_) if status == Some(StatusCode::UNAUTHORIZED.as_u16()) => self.on_bare_unauthorized(serial),
            Some(Held::Message(message)) => self.deliver_answer(serial, &message),
            Some(Held::Text(_, error)) => self.fail_call(serial, &error),
            None => {}
        }
    }

    /// What was asked in the session that is over: the client's answers would be taken for answers to other questions.
    pub(super) fn withdraw_questions(&mut self) {
        let is_ours = self.link.asks_by_itself();
        for id in self.server_requests.forget() {
            if is_ours {
                self.outbox.push(&mcp::cancelled(&id, "the call is over"));
            }
        }
    }

    /// The session is lost: those whose answers were held back for looking like it are sent again, unless a tool may have
    /// meant something else.
    fn settle_held(&mut self) {
        for (_, mut outgoing) in std::mem::take(&mut self.held_messages) {
            accept(outgoing.verdict.take());
            self.put_in_front(outgoing);
        }
        for serial in self.calls.held() {
            let Some(call) = self.calls.get_mut(serial) else { continue };
            let (status, text) = (call.status.unwrap_or_default(), call.held.as_ref().map(Held::text));
            if self.is_refusal(status, &text.unwrap_or_default()) {
                if let Some(call) = self.calls.get_mut(serial) {
                    call.held = None;
                }
                self.send_again(serial);
            } else {
                self.release(serial);
            }
        }
    }

    /// The session is lost: what ran in it is answered, what belongs to it is dropped, and another is made.
    pub(super) fn lose_session(&mut self) {
        if !matches!(self.standing, Standing::Sound) || !self.can_stand_up() {
            return;
        }
        // One line for each session would be ten thousand after a restart; the heartbeat counts them.
        tracing::debug!(session = self.evidence.label(), "the upstream has lost the session; it is opened again");
        self.context.books.metrics.upstream_sessions_lost.inc();
        // From now on: what is turned away is sent again.
        self.standing = Standing::Lost { again: None, attempts: 0 };
        self.settle_held();
        let error = session_lost();
        for serial in self.calls.being_answered() {
            self.fail_call(serial, &error);
        }
        self.withdraw_questions();
        for outgoing in std::mem::take(&mut self.waiting) {
            match outgoing.kind {
                OutgoingKind::Answer(_) | OutgoingKind::Loose => accept(outgoing.verdict),
                _ => self.waiting.push_back(outgoing),
            }
        }
        self.barrier = None;
        self.pinging = None;
        self.stop_listening();
        let is_urgent = !self.waiting.is_empty();
        self.stand_up(is_urgent);
    }
}

/// What calls get that were running in a session that was lost.
pub(super) fn session_lost() -> RpcError {
    let text = "the upstream lost the session while the call was running; the call may have run";
    RpcError::new(code::INTERNAL_ERROR, "session_lost", text)
}

fn pinged(loss: Loss, text: String) -> Pinged {
    // On a ping there is no tool whose text could be mistaken.
    if loss == Loss::None { Pinged::Alive } else { Pinged::Lost(text) }
}

fn names_session(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("session") || text.contains("not initialized")
}

fn ping(number: u64) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":"sse-sunset-ping-{number}","method":"ping"}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i64, text: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"{text}"}}}}"#);
        crate::mcp::parse(&Bytes::from(text)).expect("an error").remove(0)
    }

    #[test]
    fn loss_is_told_from_other_refusals() {
        let of_error = |status, code, text| loss_in(status, &Word::Error(&error(code, text)));
        assert_eq!(of_error(404, -32001, "Session not found"), Loss::Certain);
        assert_eq!(of_error(404, -32601, "Method not found"), Loss::Possible);
        assert_eq!(of_error(400, -32000, "Bad Request: No valid session ID provided"), Loss::Possible);
        assert_eq!(of_error(400, -32602, "limit must be a number"), Loss::None);
        assert_eq!(of_error(200, 0, "Server not initialized"), Loss::Possible);
        assert_eq!(of_error(200, -32603, "no such row"), Loss::None);
        assert_eq!(of_error(500, -32603, "session store down"), Loss::None);
        assert_eq!(loss_in(404, &Word::Text("(no text)")), Loss::Certain);
        assert_eq!(loss_in(401, &Word::Text("Unauthorized: Session not found")), Loss::Possible);
        assert_eq!(loss_in(401, &Word::Text("Unauthorized")), Loss::None);
    }

    #[test]
    fn pings_of_ours_are_requests() {
        let id = crate::mcp::RequestId::text("sse-sunset-ping-1");
        let parsed = crate::mcp::parse(&ping(1)).expect("a message").remove(0);
        assert!(matches!(parsed.kind(), crate::mcp::MessageKind::Request { id: theirs, .. } if *theirs == id));
    }
}
