//! Events in order, those that wait and those that were taken lately.
//!
//! Nothing here waits or wakes: bytes are counted, taken from budgets and given back.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::budget::Budget;
use super::position::Position;

/// Bytes that hyper is given at once.
const PIECE: usize = 64 << 10;
/// Bytes of events that were taken and are kept in case the client did not get them.
const MAX_HISTORY: usize = 256 << 10;
/// For how long: after this the kernel has given up a connection whose client acknowledges nothing (45 s).
const HISTORY: Duration = Duration::from_secs(60);

/// The events of one session.
#[derive(Debug)]
pub(super) struct Queue {
    events: VecDeque<Event>,
    /// Bytes in `events` that were not taken.
    bytes: usize,
    /// Those of them that were made here.
    own_bytes: usize,
    /// Events that were taken, oldest first.
    history: VecDeque<Past>,
    history_bytes: usize,
    /// Bytes ever taken.
    taken: u64,
    /// The position of the last event.
    last: Position,
    /// What the session may hold in all, of which history gets what is left.
    bound: usize,
    /// What `bytes` are taken from.
    budget: Budget,
    /// What `history_bytes` are taken from.
    spare: Budget,
}

/// One event on its way to the client.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) position: Position,
    pub(super) bytes: Bytes,
    /// How much of it was taken.
    pub(super) at: usize,
    /// It was made here.
    pub(super) is_own: bool,
}

#[derive(Debug)]
struct Past {
    position: Position,
    bytes: Bytes,
    taken: Instant,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
        self.spare.give(self.history_bytes);
    }
}

impl Queue {
    pub(super) fn new(bound: usize, budget: Budget, spare: Budget) -> Self {
        Queue {
            events: VecDeque::new(),
            bytes: 0,
            own_bytes: 0,
            history: VecDeque::new(),
            history_bytes: 0,
            taken: 0,
            last: 0,
            bound,
            budget,
            spare,
        }
    }

    /// Adds an event whose bytes were taken from the budget.
    pub(super) fn push(&mut self, event: Event) {
        self.last = event.position;
        self.bytes += event.bytes.len();
        if event.is_own {
            self.own_bytes += event.bytes.len();
        }
        self.events.push_back(event);
        self.keep_within(0);
    }

    /// Forgets until there is room for `bytes` more of history beside what waits.
    fn keep_within(&mut self, bytes: usize) {
        let most = MAX_HISTORY.min(self.bound.saturating_sub(self.bytes));
        while self.history_bytes + bytes > most && self.forget_oldest() {}
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Events that wait, one of which a part was taken included.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Those of them that were made here.
    pub(super) fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    /// Bytes ever taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The position of the last event.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// The position of the last event that was taken whole.
    pub(super) fn last_taken(&self) -> Position {
        self.events.front().map_or(self.last, |event| event.position - 1)
    }

    /// Whether a part of an event was taken.
    pub(super) fn is_amid_event(&self) -> bool {
        self.events.front().is_some_and(|event| event.at > 0)
    }

    /// The next bytes to send. A large event goes in pieces: hyper does not come back before it has written what it got,
    /// and a client that takes a large event slowly does take it.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        let front = self.events.front_mut()?;
        let end = front.bytes.len().min(front.at + PIECE);
        let piece = front.bytes.slice(front.at..end);
        front.at = end;
        let (is_own, is_over) = (front.is_own, end == front.bytes.len());
        self.bytes -= piece.len();
        if is_own {
            self.own_bytes -= piece.len();
        }
        self.taken += piece.len() as u64;
        self.budget.give(piece.len());
        if is_over && let Some(event) = self.events.pop_front() {
            self.remember(event);
        }
        Some(piece)
    }

    fn remember(&mut self, event: Event) {
        let now = Instant::now();
        self.forget_until(now);
        let bytes = event.bytes.len();
        self.keep_within(bytes);
        let most = MAX_HISTORY.min(self.bound.saturating_sub(self.bytes));
        if bytes <= most && self.spare.take(bytes) {
            self.history_bytes += bytes;
            self.history.push_back(Past { position: event.position, bytes: event.bytes, taken: now });
        }
    }

    /// Forgets what was taken so long ago that the client has it.
    pub(super) fn forget_until(&mut self, now: Instant) {
        while self.history.front().is_some_and(|past| past.taken + HISTORY <= now) && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(past) = self.history.pop_front() else { return false };
        self.history_bytes -= past.bytes.len();
        self.spare.give(past.bytes.len());
        true
    }

    /// An event of which only a part was taken goes to the next stream from its start.
    pub(super) fn rewind(&mut self) {
        if let Some(front) = self.events.front_mut()
            && front.at > 0
        {
            let again = std::mem::take(&mut front.at);
            self.bytes += again;
            if front.is_own {
                self.own_bytes += again;
            }
            self.budget.take_anyway(again);
        }
    }

    /// Puts back what was taken after `position`. Returns how many of the events since then are not kept any more.
    pub(super) fn go_back_to(&mut self, position: Position) -> u64 {
        while self.history.front().is_some_and(|past| past.position <= position) && self.forget_oldest() {}
        while let Some(past) = self.history.pop_back() {
            self.history_bytes -= past.bytes.len();
            self.spare.give(past.bytes.len());
            self.bytes += past.bytes.len();
            self.budget.take_anyway(past.bytes.len());
            self.events.push_front(Event { position: past.position, bytes: past.bytes, at: 0, is_own: false });
        }
        self.last.saturating_sub(position).saturating_sub(self.events.len() as u64)
    }
}
