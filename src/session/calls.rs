//! The requests a session has under way, in both directions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::AbortHandle;
use http::{HeaderMap, HeaderValue};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Verdict;
use super::exchange::{Answered, Sent};
use super::keepsake::Effect;
use super::loss::Held;
use crate::mcp::RequestId;

/// Names one exchange with the upstream; a request id may be used again once it was answered.
pub(super) type Serial = u64;

/// Exchanges that go on after their call was answered or cancelled. Beyond this the oldest is given up.
const MAX_TRAILING: usize = 64;
/// How long an answered exchange may go on: servers end it with the answer, broken ones never.
const TRAILING: Duration = Duration::from_secs(30);

/// One request of the client and the exchange that carries it.
#[derive(Debug)]
pub(super) struct Call {
    /// The client's id.
    pub(super) id: RequestId,
    /// What the client is still owed.
    pub(super) state: CallState,
    /// Whether it is `initialize`.
    pub(super) is_initialize: bool,
    /// What it changes upstream.
    pub(super) effect: Effect,
    /// What was sent, for as long as it might have to be sent again.
    pub(super) sent: Sent,
    /// Whether it was turned away once for want of a session, and sent again.
    pub(super) was_replayed: bool,
    /// The upstream session that it runs in.
    pub(super) generation: u32,
    /// An answer that looks like the loss of that session, until a ping has told.
    pub(super) held: Option<Held>,
    /// The status of the upstream's answer, once its head is in.
    pub(super) status: Option<u16>,
    /// The POST that waits for the upstream's word.
    pub(super) verdict: Option<oneshot::Sender<Verdict>>,
    /// When it went up.
    pub(super) started: Instant,
    /// When the exchange is given up unless something comes.
    pub(super) deadline: Instant,
    /// Ends the exchange: the wait for the head of the answer, then its reading.
    pub(super) reading: Option<AbortHandle>,
    /// How its stream is taken up again if it ends early.
    pub(super) thread: Thread,
}

/// How a stream that ended before the answer is taken up again (WIRE, Upstream 6).
#[derive(Debug, Default)]
pub(super) struct Thread {
    /// When it is asked for again.
    pub(super) at: Option<Instant>,
    /// The last event that came.
    pub(super) last_id: Option<HeaderValue>,
    /// How long the server wants its clients to wait. One that says so may end the stream again and again (MCP 2025-11-25,
    /// transports §Sending Messages 6).
    pub(super) retry: Option<Duration>,
    /// How often it was asked for since an event came.
    pub(super) attempts: u32,
}

/// A call that starts now.
pub(super) struct Start {
    pub(super) id: RequestId,
    pub(super) effect: Effect,
    pub(super) sent: Sent,
    pub(super) was_replayed: bool,
    pub(super) generation: u32,
    pub(super) verdict: Option<oneshot::Sender<Verdict>>,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
}

/// What a client is owed for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallState {
    /// Its answer.
    Owed,
    /// Nothing any more: it has its answer.
    Answered,
    /// Nothing: it cancelled.
    Cancelled,
}

/// All calls of a session.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Boxed: a map keeps room for eleven, in every session that ever had a call.
    by_serial: BTreeMap<Serial, Box<Call>>,
    /// The calls whose answer is owed: so few that looking through them costs less than a hash.
    owed: Vec<(RequestId, Serial)>,
    last: Serial,
}

impl Calls {
    /// Notes a call that starts now.
    pub(super) fn start(&mut self, start: Start) -> Serial {
        let Start { id, effect, sent, was_replayed, generation, verdict, started, deadline } = start;
        self.last += 1;
        self.owed.retain(|(owed, _)| *owed != id);
        self.owed.push((id.clone(), self.last));
        let call = Call {
            id,
            state: CallState::Owed,
            is_initialize: effect == Effect::Initialize,
            effect,
            sent,
            was_replayed,
            generation,
            held: None,
            status: None,
            verdict,
            started,
            deadline,
            reading: None,
            thread: Thread::default(),
        };
        self.by_serial.insert(self.last, Box::new(call));
        self.last
    }

    /// Calls whose answer is owed.
    pub(super) fn in_flight(&self) -> usize {
        self.owed.len()
    }

    /// Whether the upstream has not begun to answer some call.
    pub(super) fn await_heads(&self) -> bool {
        self.by_serial.values().any(|call| call.status.is_none())
    }

    /// Whether an answer is owed under `id`.
    pub(super) fn owes(&self, id: &RequestId) -> bool {
        self.owed(id).is_some()
    }

    /// The call whose answer is owed under `id`.
    pub(super) fn owed(&self, id: &RequestId) -> Option<Serial> {
        self.owed.iter().find_map(|(owed, serial)| (owed == id).then_some(*serial))
    }

    pub(super) fn get_mut(&mut self, serial: Serial) -> Option<&mut Call> {
        self.by_serial.get_mut(&serial).map(|call| &mut **call)
    }

    /// Nothing is owed for `serial` any more; its exchange may go on for a while.
    pub(super) fn settle(&mut self, serial: Serial, state: CallState, now: Instant) {
        let Some(call) = self.by_serial.get_mut(&serial) else { return };
        call.state = state;
        if state == CallState::Answered {
            call.deadline = now + TRAILING;
        }
        self.owed.retain(|(_, owed)| *owed != serial);
        if self.by_serial.len() - self.owed.len() > MAX_TRAILING {
            let oldest = self.by_serial.iter().find(|(_, call)| call.state != CallState::Owed);
            if let Some(serial) = oldest.map(|(serial, _)| *serial) {
                self.remove(serial);
            }
        }
    }

    /// Forgets an exchange and gives it up.
    pub(super) fn remove(&mut self, serial: Serial) -> Option<Box<Call>> {
        let call = self.by_serial.remove(&serial)?;
        self.owed.retain(|(_, owed)| *owed != serial);
        if let Some(reading) = &call.reading {
            reading.abort();
        }
        Some(call)
    }

    /// The next time at which an exchange is given up, or a stream is asked for again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_serial.values().map(|call| call.thread.at.map_or(call.deadline, |at| at.min(call.deadline))).min()
    }

    /// A call whose stream is to be asked for now, and after which event.
    pub(super) fn take_resume(&mut self, now: Instant) -> Option<(Serial, HeaderValue)> {
        let is_due = |call: &Call| call.thread.at.is_some_and(|at| at <= now);
        let (serial, call) = self.by_serial.iter_mut().find(|(_, call)| is_due(call))?;
        call.thread.at = None;
        Some((*serial, call.thread.last_id.clone()?))
    }

    /// Gives up the exchanges of which nothing is owed any more.
    pub(super) fn leave_trailing(&mut self) {
        let trailing = self.by_serial.iter().filter(|(_, call)| call.state != CallState::Owed);
        let trailing: Vec<_> = trailing.map(|(serial, _)| *serial).collect();
        for serial in trailing {
            self.remove(serial);
        }
    }

    /// Calls whose answer waits for a ping.
    pub(super) fn held(&self) -> Vec<Serial> {
        self.by_serial.iter().filter(|(_, call)| call.held.is_some()).map(|(serial, _)| *serial).collect()
    }

    /// What the newest of these authenticated with.
    pub(super) fn held_headers(&self) -> Option<Arc<HeaderMap>> {
        let newest = self.by_serial.values().rev().find(|call| call.held.is_some())?;
        Some(Arc::clone(&newest.sent.headers))
    }

    /// Exchanges whose answer has begun, those included of which nothing is owed any more.
    pub(super) fn being_answered(&self) -> Vec<Serial> {
        let is_it = |call: &Call| call.status.is_some() && call.held.is_none() && !call.is_initialize;
        self.by_serial.iter().filter(|(_, call)| is_it(call)).map(|(serial, _)| *serial).collect()
    }

    /// Gives calls of which the upstream has said nothing yet until `until`.
    pub(super) fn hurry_those_without_head(&mut self, until: Instant) {
        for call in self.by_serial.values_mut().filter(|call| call.status.is_none()) {
            call.deadline = call.deadline.min(until);
        }
    }

    /// Gives an exchange more time.
    pub(super) fn postpone(&mut self, serial: Serial, until: Instant) {
        if let Some(call) = self.by_serial.get_mut(&serial) {
            call.deadline = until;
        }
    }

    /// An exchange whose time is over.
    pub(super) fn overdue(&self, now: Instant) -> Option<Serial> {
        self.by_serial.iter().find(|(_, call)| call.deadline <= now).map(|(serial, _)| *serial)
    }

    /// The requests that run upstream, `initialize` left out, which cannot be cancelled.
    pub(super) fn running(&self) -> impl Iterator<Item = &RequestId> {
        let runs = |call: &Call| call.state == CallState::Owed && !call.is_initialize;
        self.by_serial.values().filter(move |call| runs(call)).map(|call| &call.id)
    }

    /// The ids that are owed an answer, oldest first.
    pub(super) fn owed_ids(&self) -> Vec<RequestId> {
        self.by_serial.values().filter(|call| call.state == CallState::Owed).map(|call| call.id.clone()).collect()
    }
}

/// Requests of the server that the client has not answered; the client sees ids of ours.
///
/// Ours, because servers count from 0 as clients do, and mcp-go takes any message with a number it knows for its own
/// answer (WIRE, Stream 8).
#[derive(Debug, Default)]
pub(super) struct ServerRequests {
    open: BTreeMap<u64, (RequestId, Box<str>)>,
    last: u64,
}

/// Requests of the server that may be open at once; clients that never answer must not cost memory.
const MAX_SERVER_REQUESTS: usize = 256;
const OUR_PREFIX: &str = "sse-sunset-";

impl ServerRequests {
    /// Our id for the server's request; `None` when the client leaves too many unanswered.
    pub(super) fn open(&mut self, theirs: RequestId, method: &str) -> Option<RequestId> {
        if self.open.len() >= MAX_SERVER_REQUESTS {
            return None;
        }
        self.last += 1;
        self.open.insert(self.last, (theirs, method.into()));
        Some(ours(self.last))
    }

    /// None of them is open any more: the session they were asked in is over. Gives our ids for them.
    pub(super) fn forget(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        std::mem::take(&mut self.open).into_keys().map(ours)
    }

    /// The server's id and method for a request that the client answers.
    pub(super) fn close(&mut self, ours: &RequestId) -> Option<(RequestId, Box<str>)> {
        self.open.remove(&number(ours)?)
    }

    /// The client's answer did not get through: it may answer again.
    pub(super) fn reopen(&mut self, Answered { ours, theirs, method }: Answered) {
        if let Some(number) = number(&ours) {
            self.open.insert(number, (theirs, method));
        }
    }

    /// Our id for a request that the server gives up.
    pub(super) fn give_up(&mut self, theirs: &RequestId) -> Option<RequestId> {
        let number = *self.open.iter().find(|(_, (id, _))| id == theirs)?.0;
        self.open.remove(&number);
        Some(ours(number))
    }
}

fn number(ours: &RequestId) -> Option<u64> {
    let plain: String = serde_json::from_str(ours.as_json()).ok()?;
    plain.strip_prefix(OUR_PREFIX)?.parse().ok()
}

fn ours(number: u64) -> RequestId {
    RequestId::text(&format!("{OUR_PREFIX}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId::text(text)
    }

    fn start(calls: &mut Calls, name: &str, now: Instant) -> Serial {
        let headers = std::sync::Arc::default();
        let sent = Sent::new(bytes::Bytes::new(), headers, &crate::session::Budget::new(1));
        calls.start(Start {
            id: id(name),
            effect: Effect::None,
            sent,
            was_replayed: false,
            generation: 1,
            verdict: None,
            started: now,
            deadline: now,
        })
    }

    #[test]
    fn id_can_be_used_again_once_it_was_answered() {
        let now = Instant::now();
        let mut calls = Calls::default();
        let first = start(&mut calls, "a", now);
        calls.settle(first, CallState::Answered, now);
        assert!(!calls.owes(&id("a")));
        let second = start(&mut calls, "a", now);
        calls.remove(first);
        assert_eq!(calls.owed(&id("a")), Some(second));
    }

    #[test]
    fn trailing_exchanges_are_bounded() {
        let now = Instant::now();
        let mut calls = Calls::default();
        for number in 0..200 {
            let serial = start(&mut calls, &number.to_string(), now);
            calls.settle(serial, CallState::Cancelled, now);
        }
        assert_eq!(calls.by_serial.len(), MAX_TRAILING);
    }

    #[test]
    fn server_requests_are_mapped_back_once_and_bounded() {
        let mut requests = ServerRequests::default();
        let zero = RequestId::from_raw(serde_json::from_str("0").expect("json")).expect("an id");
        let ours = requests.open(zero.clone(), "roots/list").expect("room");
        assert!(ours.as_json().starts_with('"'));
        assert_eq!(requests.close(&ours), Some((zero.clone(), "roots/list".into())));
        assert_eq!(requests.close(&ours), None);
        assert_eq!(requests.close(&zero), None);
        let again = requests.open(zero.clone(), "ping").expect("room");
        assert_eq!(requests.give_up(&zero), Some(again));
        for _ in 0..MAX_SERVER_REQUESTS {
            assert!(requests.open(zero.clone(), "m").is_some());
        }
        assert_eq!(requests.open(zero, "m"), None);
    }
}
