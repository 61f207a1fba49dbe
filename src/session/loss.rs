//! The upstream has lost the session, or looks as if: how that shows, and what becomes of what was under way.
//!
//! A request that was refused for want of a session did not run, so it is sent again in the next one; a call that was
//! running may have run, so it gets an error (WIRE, Upstream 7). Servers disguise the loss in many ways, and texts of tools
//! look like it: what is no plain 404 is believed only when a ping on the same session says it too.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::calls::{CallState, Serial};
use super::credential::Credential;
use super::inbound::{accept, reject};
use super::keepsake::Keepsake;
use super::revival::{self, Attempt, Failure, Plan, Revived};
use super::task::{Handshake, Outgoing, OutgoingKind, Source, Task};
use crate::mcp::{Message, RpcError, code};
use crate::upstream::{Fault, Item, Link};

/// How long the upstream may take over a ping.
const PING: Duration = Duration::from_secs(10);
/// How long `initialize` may take, of which the client knows nothing.
const INITIALIZE: Duration = Duration::from_secs(60);
/// How long calls of the lost session that the upstream has not even begun to answer may still be turned away by it, so that
/// they can be sent again.
const STRAGGLERS: Duration = Duration::from_secs(5);
/// Bounds of the wait before an idle session tries again.
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// The golden ratio's part after the point, of 2^32.
const GOLDEN: u32 = 0x9E37_79B9;
/// The version of a handshake for a client of which none is known (MCP 2024-11-05 is the last with HTTP+SSE), and the newest
/// of the session era.
const OLDEST: &str = "2024-11-05";
const NEWEST: &str = "2025-11-25";

/// How the upstream session stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is there, or there was never one.
    Sound,
    /// Another is being made.
    Reviving(Attempt),
    /// It is lost, and another could not be made. The next message tries again, or time does.
    Lost { again: Instant, attempts: u32 },
}

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
    Error(RpcError),
}

/// What a ping found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pinged {
    Alive,
    Lost,
    /// The upstream did not say.
    Unknown,
}

/// How much an answer of `status` on a session looks like its loss.
fn loss_in(status: u16, word: &Word<'_>) -> Loss {
    let (text, is_error) = match word {
        Word::Error(message) => (message.error().unwrap_or_default().1, true),
        Word::Text(text) => ((*text).to_owned(), false),
    };
    let text = text.to_ascii_lowercase();
    let names_session = text.contains("session") || text.contains("not initialized");
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
        let can_stand_up = self.can_stand_up();
        let Some(call) = self.calls.get_mut(serial) else { return Loss::None };
        let may_run_again =
            can_stand_up && call.state == CallState::Owed && !call.is_initialize && call.sent.is_whole();
        if !may_run_again || call.was_replayed {
            return Loss::None;
        }
        loss_in(call.status.unwrap_or_default(), word)
    }

    /// Whether there is a session that could be lost and made again.
    pub(super) fn can_stand_up(&self) -> bool {
        self.link.has_session() && self.handshake == Handshake::Done && self.keepsake.initialize().is_some()
    }

    /// A call was turned away because its session is lost: it did not run, and is sent again, unless its client has given it up
    /// since.
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
        self.suspect();
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
        let sending = self.link.post(request.clone(), &self.credentials.headers());
        let generation = self.generation;
        let asking = async move {
            let pinged = match revival::ask(sending, &request, PING, &mut Vec::new()).await {
                Ok((status, answer)) => match answer.error() {
                    // A server that does not know pings has a session all the same.
                    Some((code::METHOD_NOT_FOUND, _)) | None => Pinged::Alive,
                    Some(_) => pinged(loss_in(status, &Word::Error(&answer))),
                },
                Err(Fault::NotRpc { status, text, .. }) => match loss_in(status, &Word::Text(&text)) {
                    Loss::None => Pinged::Unknown,
                    loss => pinged(loss),
                },
                Err(_) => Pinged::Unknown,
            };
            (generation, pinged)
        };
        self.pinging = Some(asking.boxed());
    }

    pub(super) fn on_pinged(&mut self, generation: u32, pinged: Pinged) {
        if generation != self.generation {
            return;
        }
        if pinged == Pinged::Lost {
            for message in std::mem::take(&mut self.held_messages) {
                self.put_in_front(message);
            }
            for serial in self.calls.held() {
                if let Some(call) = self.calls.get_mut(serial) {
                    call.held = None;
                }
                self.send_again(serial);
            }
            return self.lose_session();
        }
        self.held_messages.clear();
        self.release_held();
    }

    /// It was no loss: the answers are what they seemed.
    fn release_held(&mut self) {
        for serial in self.calls.held() {
            let held = self.calls.get_mut(serial).and_then(|call| call.held.take());
            match held {
                Some(Held::Message(message)) => self.deliver_answer(serial, &message),
                Some(Held::Error(error)) => self.fail_call(serial, &error),
                None => {}
            }
        }
    }

    /// The session is lost: what ran in it is answered, what belongs to it is dropped, and another is made.
    pub(super) fn lose_session(&mut self) {
        if !matches!(self.standing, Standing::Sound) || !self.can_stand_up() {
            return;
        }
        tracing::info!(session = self.evidence.label(), "the upstream has lost the session; it is opened again");
        self.context.books.metrics.upstream_sessions_lost.inc();
        let error = session_lost();
        for serial in self.calls.being_answered() {
            self.fail_call(serial, &error);
        }
        // The client's answers to these would be taken for answers to other questions.
        self.server_requests.forget();
        for outgoing in std::mem::take(&mut self.waiting) {
            match outgoing.kind {
                OutgoingKind::Answer | OutgoingKind::Loose => accept(outgoing.verdict),
                _ => self.waiting.push_back(outgoing),
            }
        }
        self.barrier = None;
        self.pinging = None;
        self.stop_listening();
        let is_urgent = !self.waiting.is_empty();
        self.stand_up(is_urgent);
    }

    /// Has an upstream session made, at once if the client waits for it.
    pub(super) fn stand_up(&mut self, is_urgent: bool) {
        if let Standing::Reviving(attempt) = &self.standing {
            if is_urgent {
                attempt.hurry();
            }
            return;
        }
        let attempt = Attempt::default();
        if is_urgent {
            attempt.hurry();
        }
        self.attempts = match self.standing {
            Standing::Lost { attempts, .. } => attempts,
            _ => 0,
        };
        let waiting = self.waiting.front().map(|outgoing| outgoing.sent.headers.clone());
        let headers = waiting.unwrap_or_else(|| self.credentials.headers());
        self.reviving_with = headers.clone();
        let plan = Plan {
            link: Link::new(self.context.transport.clone()),
            keepsake: self.keepsake.clone(),
            headers,
            silence: INITIALIZE.min(self.context.config.call_silence),
            spread: self.spread(),
        };
        self.revival = Some(attempt.clone().make(self.context.gate.clone(), plan).boxed());
        self.standing = Standing::Reviving(attempt);
    }

    /// A session without a handshake is asked for something: its client had one before, and goes on without (WIRE, Stream
    /// 6). The handshake is made for it, and only its result is kept back.
    pub(super) fn make_handshake(&mut self) {
        if matches!(self.standing, Standing::Sound) {
            self.context.books.metrics.handshakes_made.inc();
            self.keepsake = Keepsake::made(handshake(self.version.as_deref()));
        }
        self.stand_up(true);
    }

    pub(super) fn on_revival(&mut self, outcome: Result<Box<Revived>, Failure>) {
        let headers = std::mem::take(&mut self.reviving_with);
        let credential = Credential::of(&headers);
        match outcome {
            Ok(revived) => {
                self.accept_credential(&credential, &headers);
                self.on_revived(*revived);
            }
            Err(failure) => {
                self.context.books.metrics.revivals_failed.inc();
                self.on_revival_failed(failure, credential);
            }
        }
    }

    fn on_revived(&mut self, revived: Revived) {
        let Revived { link, answer, version, aside } = revived;
        self.context.books.metrics.upstream_sessions_revived.inc();
        self.link = link;
        self.generation += 1;
        self.standing = Standing::Sound;
        let is_first = std::mem::replace(&mut self.handshake, Handshake::Done) != Handshake::Done;
        self.ping_at = Instant::now() + self.context.config.ping;
        self.membership.settle(&version);
        // Clients keep lists until they hear of a change, and only those listen whose server had announced any.
        let told = self.keepsake.lists();
        self.keepsake.note_lists(&answer);
        let lists = if is_first { self.keepsake.lists() } else { told };
        for notification in lists.notifications() {
            self.outbox.push(&notification);
        }
        self.calls.hurry_those_without_head(Instant::now() + STRAGGLERS);
        self.start_listening();
        for message in aside {
            self.on_item(Source::Listen, Item::Message(message));
        }
    }

    fn on_revival_failed(&mut self, failure: Failure, credential: Credential) {
        tracing::warn!(session = self.evidence.label(), %failure, "an upstream session could not be opened");
        let attempts = self.attempts;
        let backoff = SHORTEST_BACKOFF.saturating_mul(1 << attempts.min(5)).min(LONGEST_BACKOFF);
        let again = Instant::now() + backoff + SHORTEST_BACKOFF.mul_f64(self.spread());
        self.standing = match self.handshake {
            Handshake::Done => Standing::Lost { again, attempts: attempts + 1 },
            _ => Standing::Sound,
        };
        let error = failure.to_rpc();
        for outgoing in std::mem::take(&mut self.waiting) {
            self.turn_away(outgoing, &failure, &error);
        }
        if let Failure::Rejected(rejection) = failure {
            self.credentials.reject(credential, rejection);
        }
    }

    fn turn_away(&mut self, outgoing: Outgoing, failure: &Failure, error: &RpcError) {
        let Outgoing { kind, verdict, .. } = outgoing;
        let id = match kind {
            OutgoingKind::Initialize(id) | OutgoingKind::Request(id) => Some(id),
            _ => None,
        };
        let verdict = verdict.filter(|verdict| !verdict.is_closed());
        match (failure, verdict) {
            // The client is told by HTTP, so that it renews its token and posts again.
            (Failure::Rejected(rejection), Some(verdict)) => {
                if let Some(id) = id {
                    self.defer(id);
                }
                reject(Some(verdict), rejection.clone());
            }
            (_, verdict) => {
                accept(verdict);
                if let Some(id) = id {
                    self.answer_error(&id, error);
                }
            }
        }
    }

    /// From 0 to 1, different for each session, so that a restarted upstream does not see all at once. Multiples of the golden
    /// ratio lie evenly however many there are, and are the same in every run of a simulation.
    pub(super) fn spread(&self) -> f64 {
        f64::from(self.evidence.number().wrapping_mul(GOLDEN)) / f64::from(u32::MAX)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Rejected(rejection) => {
                write!(f, "the upstream rejected the credential (HTTP {})", rejection.status)
            }
            Failure::Refused(text) => {
                write!(f, "the upstream refused the handshake: {}", Fault::quote(text.as_bytes()))
            }
            Failure::Fault(fault) => fault.fmt(f),
        }
    }
}

impl Failure {
    /// What those are told who wait for the session.
    fn to_rpc(&self) -> RpcError {
        let error = match self {
            Failure::Rejected(rejection) => {
                let error = RpcError::new(code::UNAUTHORIZED, "unauthorized", String::new());
                error.with("status", rejection.status.as_u16())
            }
            Failure::Refused(_) => RpcError::new(code::INTERNAL_ERROR, "upstream_refused_session", String::new()),
            Failure::Fault(fault) => fault.to_rpc(),
        };
        // Whatever the handshake came to, this request never left.
        let what = self.to_string();
        let what = what.strip_suffix("; the call may have run").unwrap_or(&what);
        RpcError { message: format!("no session with the upstream: {what}; the request was not sent"), ..error }
    }
}

/// What calls get that were running in a session that was lost.
pub(super) fn session_lost() -> RpcError {
    let text = "the upstream lost the session while the call was running; the call may have run";
    RpcError::new(code::INTERNAL_ERROR, "session_lost", text)
}

fn pinged(loss: Loss) -> Pinged {
    // On a ping there is no tool whose text could be mistaken.
    if loss == Loss::None { Pinged::Alive } else { Pinged::Lost }
}

fn ping(number: u64) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":"sse-sunset-ping-{number}","method":"ping"}}"#))
}

/// The `initialize` for a client that has made its own elsewhere. What it can do is not known, so nothing is promised.
fn handshake(version: Option<&str>) -> Bytes {
    let version = version.filter(|version| (OLDEST..=NEWEST).contains(version)).unwrap_or_else(|| match version {
        Some(newer) if newer > NEWEST => NEWEST,
        _ => OLDEST,
    });
    let ours = env!("CARGO_PKG_VERSION");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":"sse-sunset-initialize","method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"sse-sunset","version":"{ours}"}}}}}}"#
    ))
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
    fn handshake_names_a_version_that_servers_with_sessions_know() {
        for (named, asked) in [
            (None, OLDEST),
            (Some("2025-06-18"), "2025-06-18"),
            (Some("2026-07-28"), NEWEST),
            (Some("2024-10-07"), OLDEST),
        ] {
            let message = crate::mcp::parse(&handshake(named)).expect("a message").remove(0);
            assert_eq!(message.method(), Some("initialize"));
            assert!(String::from_utf8_lossy(message.bytes()).contains(asked), "{named:?}");
        }
    }

    #[test]
    fn those_who_wait_are_told_that_nothing_was_sent() {
        let error = Failure::Fault(Fault::Broken("reset".into())).to_rpc();
        assert!(error.message.ends_with("(reset); the request was not sent"), "{}", error.message);
        let retry_after = Some("7".to_owned());
        let error = Failure::Fault(Fault::NotRpc { status: 503, text: "busy".into(), retry_after }).to_rpc();
        assert_eq!((error.data["status"].clone(), error.data["retry_after"].clone()), (503.into(), "7".into()));
    }

    #[test]
    fn pings_of_ours_are_requests() {
        let id = crate::mcp::RequestId::text("sse-sunset-ping-1");
        let parsed = crate::mcp::parse(&ping(1)).expect("a message").remove(0);
        assert!(matches!(parsed.kind(), crate::mcp::MessageKind::Request { id: theirs, .. } if *theirs == id));
    }
}
