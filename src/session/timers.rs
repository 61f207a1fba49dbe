//! What time does to a session, and the GET stream, which opens and opens again by time.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{AbortHandle, Aborted, abortable};
use http::HeaderValue;
use tokio::time::Instant;

use super::calls::{CallState, Serial};
use super::ending::NOBODY_WAITS;
use super::exchange::{Errand, Source};
use super::linger::Presence;
use super::login::LONGEST;
use super::loss::session_lost;
use super::outbound::may_be_loss;
use super::recovery::Standing;
use super::task::{Handshake, Task};
use crate::auth::{Credential, Rejection};
use crate::mcp::{self, RequestId, RpcError, code};
use crate::upstream::{Answer, End, Fault};

/// How long requests wait for a client's `initialized`.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long a request that was answered 401 waits to be posted again.
const DEFERRED: Duration = Duration::from_secs(30);
/// How many requests may wait to be posted again, and of how many more the late repetition must not run.
const REMEMBERED: usize = 64;
/// How long a session that is there to be refused stays.
const REFUSED: Duration = Duration::from_secs(60);
/// Bounds of the wait before the GET stream is opened again.
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A stream that lasted this long was a good one.
const GOOD_STREAM: Duration = Duration::from_secs(60);
/// Far enough not to matter.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// The upstream GET stream. There is never more than one (mcp-go would split the messages between two, rmcp would
/// leave one empty).
#[derive(Debug)]
pub(super) enum Listening {
    /// Not opened: the handshake is not done, or the server has none.
    Off,
    /// The head is awaited, without a limit: Java sends none until the first event.
    Opening { past: Past, last_id: Option<HeaderValue>, credential: Credential, asking: AbortHandle },
    /// It is being read.
    Open { past: Past, since: Instant, last_id: Option<HeaderValue>, reading: AbortHandle },
    /// It will be opened again.
    Closed { past: Past, until: Instant, last_id: Option<HeaderValue> },
    /// It will be opened under another credential than this one, which was turned down. Where it was not asked under this one
    /// (`unasked`), because a POST under it was turned down, also under the same once the upstream takes it again.
    Barred { past: Past, last_id: Option<HeaderValue>, credential: Credential, unasked: bool },
}

/// What came of opening the GET stream so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Past {
    /// How often in a row it was refused or did not last.
    attempt: u32,
    /// Whether it ever opened: then the server has one, whatever it says later.
    worked: bool,
}

impl Listening {
    /// Whether messages may come this way, now or once the head is there.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self, Listening::Opening { .. } | Listening::Open { .. })
    }
}

/// Requests whose POST was answered 401.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    owed: VecDeque<Refused>,
    answered: VecDeque<Posted>,
}

/// A request whose POST was answered 401.
#[derive(Debug)]
struct Refused {
    posted: Posted,
    since: Instant,
    /// When it gets its error, or its client is looked after once more.
    until: Instant,
}

/// A message by its id and a hash of its bytes: a client may use an id again, and only the same message is a repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Posted {
    id: RequestId,
    hash: u64,
}

impl Posted {
    /// Whether `body` with this id is the same message.
    pub(super) fn is(&self, id: &RequestId, body: &Bytes) -> bool {
        self.id == *id && *self == Posted::of(id.clone(), body)
    }

    pub(super) fn of(id: RequestId, body: &Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Posted { id, hash: hasher.finish() }
    }
}

impl Deferred {
    /// `id` is owed an error unless it is posted again in time. With too many of them the oldest has to get its error now,
    /// and is given back.
    #[must_use]
    fn defer(&mut self, id: RequestId, body: &Bytes, now: Instant) -> Option<RequestId> {
        self.forget(&id);
        self.owed.push_back(Refused { posted: Posted::of(id, body), since: now, until: now + DEFERRED });
        if self.owed.len() > REMEMBERED {
            self.owed.pop_front().map(|oldest| self.remember(oldest.posted))
        } else {
            None
        }
    }

    /// It gets its error: posted again from now on, it must not run.
    fn remember(&mut self, posted: Posted) -> RequestId {
        if self.answered.len() == REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(posted.clone());
        posted.id
    }

    /// `id` was posted again, or cancelled.
    pub(super) fn forget(&mut self, id: &RequestId) {
        self.owed.retain(|owed| owed.posted.id != *id);
    }

    /// Whether this message got its error: posted again so late, it must not run.
    pub(super) fn was_answered(&self, id: &RequestId, body: &Bytes) -> bool {
        !self.answered.is_empty() && self.answered.contains(&Posted::of(id.clone(), body))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RequestId> {
        self.owed.iter().map(|owed| owed.posted.id.clone())
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.owed.iter().map(|owed| owed.until).min()
    }

    /// One that gets its error now. Whoever asked since how to log in, as at `login`, is waited for (`login`).
    fn take_due(&mut self, now: Instant, login: Option<Instant>) -> Option<RequestId> {
        for owed in self.owed.iter_mut().filter(|owed| owed.until <= now) {
            let logs_in = login.is_some_and(|login| login >= owed.since) && owed.since + LONGEST > now;
            if logs_in {
                owed.until = (now + DEFERRED).min(owed.since + LONGEST);
            }
        }
        let due = self.owed.iter().position(|owed| owed.until <= now)?;
        let Refused { posted, .. } = self.owed.remove(due)?;
        Some(self.remember(posted))
    }
}

impl Task {
    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Instant {
        let reopen = match &self.listening {
            Listening::Closed { until, .. } => Some(*until),
            _ => None,
        };
        let grace = match self.handshake {
            Handshake::Answered { grace_until } => Some(grace_until),
            _ => None,
        };
        let stands = matches!(self.standing, Standing::Sound) && self.can_stand_up() && !self.credentials.are_spent();
        let ping = (stands && self.pinging.is_none()).then_some(self.ping_at);
        let again = match self.standing {
            Standing::Lost { again, .. } => again,
            _ => None,
        };
        let back = match self.presence {
            Presence::Away { until, .. } => Some(until),
            Presence::Here => None,
        };
        let stall = self.outbox.stalled_since().map(|since| since + self.context.config.stall);
        [
            self.barrier.map(|barrier| barrier.until),
            grace,
            self.calls.next_deadline(),
            self.deferred.next_deadline(),
            reopen,
            stall,
            ping,
            again,
            back,
            self.refusal.as_ref().map(|_| self.refused_until()),
            self.unused_until,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or_else(|| Instant::now() + NEVER)
    }

    /// Whether the answer of a call is there and not read for want of room.
    fn is_not_read(&mut self, serial: Serial) -> bool {
        let is_reading = self.calls.get_mut(serial).is_some_and(|call| call.status.is_some());
        is_reading && (self.parked.is_some() || self.outbox.is_spent())
    }

    pub(super) fn refused_until(&self) -> Instant {
        self.since + REFUSED
    }

    /// Does what is due. That the timer fires early is ordinary.
    pub(super) fn on_timer(&mut self) {
        let now = Instant::now();
        self.barrier = self.barrier.filter(|barrier| barrier.until > now);
        if matches!(self.handshake, Handshake::Answered { grace_until } if grace_until <= now) {
            self.handshake = Handshake::Done;
            self.warn();
        }
        while let Some(serial) = self.calls.overdue(now) {
            let silence = self.context.config.call_silence;
            if self.is_not_read(serial) {
                // It is us who are silent: the client takes nothing, or all clients together hold too much.
                self.calls.postpone(serial, now + silence);
                continue;
            }
            let owed = self.calls.get_mut(serial).filter(|call| call.state == CallState::Owed && !call.is_initialize);
            if let Some(id) = owed.map(|call| call.id.clone()) {
                self.say(mcp::cancelled(&id, NOBODY_WAITS));
            }
            let error = if self.calls.get_mut(serial).is_some_and(|call| call.generation != self.generation) {
                session_lost()
            } else {
                let silent = Fault::Silent(silence);
                self.count_fault(serial, &silent);
                silent.to_rpc()
            };
            self.fail_call(serial, &error);
        }
        while let Some((serial, last_id)) = self.calls.take_resume(now) {
            self.resume(serial, &last_id);
        }
        self.answer_those_who_gave_up(now);
        let is_sound = matches!(self.standing, Standing::Sound);
        // Under a credential that was turned down it would be turned down each time.
        let can_ask = self.can_stand_up() && !self.credentials.are_spent();
        if is_sound && can_ask && self.ping_at <= now && self.pinging.is_none() {
            self.ping();
        }
        if matches!(self.standing, Standing::Lost { again: Some(again), .. } if again <= now) {
            self.stand_up(false);
        }
        if let Listening::Closed { past, until, last_id } = &self.listening
            && *until <= now
        {
            let (past, last_id) = (*past, last_id.clone());
            self.listen(past, last_id);
        }
    }

    /// Those who were answered 401 and neither posted again nor look for a way to log in get their error.
    fn answer_those_who_gave_up(&mut self, now: Instant) {
        if self.deferred.next_deadline().is_none_or(|until| until > now) {
            return;
        }
        let client = self.evidence.client();
        let login = self.context.logins.last(client.address, client.user_agent.as_deref());
        while let Some(id) = self.deferred.take_due(now, login) {
            self.answer_unauthorized(&id);
        }
    }

    /// The POST of `id` was answered 401: an error follows unless it is posted again.
    pub(super) fn defer(&mut self, id: RequestId, body: &Bytes) {
        if let Some(oldest) = self.deferred.defer(id, body, Instant::now()) {
            self.answer_unauthorized(&oldest);
        }
    }

    fn answer_unauthorized(&mut self, id: &RequestId) {
        let text = "the upstream rejected the credential, and the request was not sent again with another";
        self.answer_error(id, &RpcError::new(code::UNAUTHORIZED, "unauthorized", text));
    }

    /// Opens the GET stream, once: the client's `initialized` was accepted. Servers without sessions have none.
    pub(super) fn start_listening(&mut self) {
        if self.link.can_listen() && matches!(self.listening, Listening::Off) {
            let past = Past { attempt: 0, worked: self.has_listened };
            self.listen(past, None);
        }
    }

    pub(super) fn stop_listening(&mut self) {
        match std::mem::replace(&mut self.listening, Listening::Off) {
            Listening::Opening { asking: exchange, .. } | Listening::Open { reading: exchange, .. } => exchange.abort(),
            Listening::Off | Listening::Closed { .. } | Listening::Barred { .. } => {}
        }
    }

    fn listen(&mut self, past: Past, last_id: Option<HeaderValue>) {
        let headers = self.credentials.headers();
        let credential = self.credentials.accepted().map(|sender| sender.credential).unwrap_or_default();
        if self.credentials.are_spent() {
            // The same again would be turned down again (SECURITY §2.3, Token refresh mid-session).
            self.listening = Listening::Barred { past, last_id, credential, unasked: true };
            return;
        }
        let sending = self.link.listen(&headers, last_id.as_ref());
        let (sending, asking) = abortable(sending);
        // The head of a stream that was given up is nobody's: above all not that of the next one.
        let head = sending.map(|answer| match answer {
            Ok(answer) => (Errand::Listen, answer),
            Err(Aborted) => (Errand::Own, Err(Fault::GivenUp)),
        });
        self.heads.push(head.boxed());
        self.listening = Listening::Opening { past, last_id, credential, asking };
    }

    /// The head of the GET stream is in. Servers say in four ways that they have none; that is no failure.
    pub(super) fn on_listen_head(&mut self, answer: Result<Answer, Fault>) {
        let Listening::Opening { past, last_id, credential, .. } = &self.listening else { return };
        let (past, last_id) = (*past, last_id.clone());
        match answer {
            Ok(answer) if answer.rejects_credential() && !(past.worked && may_be_loss(&answer)) => {
                tracing::debug!(status = answer.status.as_u16(), "the credential does not open the GET stream");
                let of_scope = Rejection::of(&answer).is_of_scope();
                self.listening = Listening::Barred { past, last_id, credential: *credential, unasked: false };
                if let Some(sender) = self.credentials.accepted().filter(|_| !of_scope) {
                    // So the upstream has asked for another.
                    self.binding.turned_down(sender.principal);
                }
                self.listen_under_another_credential();
            }
            Ok(answer) if answer.status.is_success() && answer.is_event_stream() => {
                let reading = self.read(Source::Listen, answer);
                let past = Past { worked: true, ..past };
                self.has_listened = true;
                self.listening = Listening::Open { past, since: Instant::now(), last_id, reading };
            }
            Ok(answer) if matches!(answer.status.as_u16(), 200..=299 | 400 | 404 | 405 | 501) && !past.worked => {
                tracing::debug!(status = answer.status.as_u16(), "upstream has no GET stream");
                self.listening = Listening::Off;
            }
            Ok(answer) => {
                let status = answer.status.as_u16();
                tracing::debug!(status, "upstream does not open its GET stream now");
                // Some refuse an event id that they do not know, by 400 or 500; 409 is only the stream before.
                self.listen_later(past, None, last_id.filter(|_| status == 409));
                if matches!(status, 400 | 401 | 404) {
                    self.suspect();
                }
            }
            Err(fault) => {
                tracing::debug!(%fault, "upstream GET stream failed");
                self.listen_later(past, None, last_id);
            }
        }
    }

    /// Opens a GET stream that was turned down, once the upstream has accepted another credential.
    pub(super) fn listen_under_another_credential(&mut self) {
        let Listening::Barred { past, last_id, credential, unasked } = &self.listening else { return };
        let has_another = self.credentials.accepted().is_some_and(|sender| sender.credential != *credential);
        if has_another || *unasked && !self.credentials.are_spent() {
            let (past, last_id) = (*past, last_id.clone());
            self.listen(past, last_id);
        }
    }

    /// The GET stream ended: it is opened again, later each time it does not last.
    pub(super) fn on_listen_end(&mut self, end: End) {
        let Listening::Open { mut past, since, ref mut last_id, .. } = self.listening else { return };
        let last_id = end.last_id.or(last_id.take());
        if since.elapsed() >= GOOD_STREAM {
            past.attempt = 0;
        }
        self.listen_later(past, end.retry, last_id);
    }

    fn listen_later(&mut self, past: Past, retry: Option<Duration>, last_id: Option<HeaderValue>) {
        let backoff = SHORTEST_BACKOFF.saturating_mul(1 << past.attempt.min(5)).min(LONGEST_BACKOFF);
        // A short `retry` is no leave to spin on a server that ends the stream at once.
        let wait = retry.unwrap_or_default().max(backoff).min(LONGEST_BACKOFF);
        // And up to half as long again: a server that is back must not see all sessions at once.
        let wait = wait + wait.mul_f64(self.spread() / 2.0);
        let past = Past { attempt: past.attempt + 1, ..past };
        self.listening = Listening::Closed { past, until: Instant::now() + wait, last_id };
    }
}
