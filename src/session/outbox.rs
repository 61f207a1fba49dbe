//! The ordered, bounded queue of events owed to one session's client.
//!
//! Promise: nothing is dropped and nothing reordered. When the queue is full the session stops reading from the upstream
//! (DESIGN rule 5), so the bound holds without loss. Every event has a position; what a stream took lately is kept for a
//! while, because a client whose connection breaks may not have got it, and says so by `Last-Event-ID`.
//!
//! One stream at a time takes the events (`stream`); while there is none they wait.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::budget::Budget;
use super::position::{Position, ResumeKey};
use super::stream::Arrival;
use super::{Credential, SessionId};
use crate::sse;

/// Bytes of events made here that may wait for a client before it is listened to no more.
const MAX_OWN: usize = 256 << 10;
/// Bytes that a client which has nothing else to take may always be sent.
const SMALL: usize = 16 << 10;
/// Bytes that hyper is given at once.
const PIECE: usize = 64 << 10;
/// Bytes of events that were taken and are kept in case the client did not get them.
const MAX_HISTORY: usize = 256 << 10;
/// For how long: after this the kernel has given up a connection whose client acknowledges nothing (45 s).
const HISTORY: Duration = Duration::from_secs(60);
/// Bytes of an event beside its message.
const FRAME: usize = 80;
/// Names under which a session can be posted to besides its own: those of the streams it adopted.
const MAX_ALIASES: usize = 16;

/// The session's end of the queue.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Mutex<Shared>>,
    /// Bound in bytes; a single larger event is taken when the queue is empty.
    bound: usize,
    /// The bound of all outboxes together.
    budget: Budget,
    key: ResumeKey,
    /// The position of the next event.
    next: AtomicU64,
}

/// The outside of a session: what streams take from, and where clients arrive that come back. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Face {
    shared: Arc<Mutex<Shared>>,
}

/// Which stream it is that takes from a session; a later one supersedes it.
pub(super) type Attachment = u64;

/// What a stream finds.
pub(super) enum Taken {
    Event(Bytes),
    /// Nothing yet; the stream will be woken.
    Nothing,
    /// No more: the session is over, or another stream has taken this one's place.
    Over,
}

#[derive(Debug)]
struct Shared {
    queue: VecDeque<Event>,
    /// Bytes in `queue` that were not taken.
    bytes: usize,
    /// Those of them that were made here.
    own_bytes: usize,
    /// Events that were taken, oldest first.
    history: VecDeque<Past>,
    history_bytes: usize,
    /// Bytes ever taken by streams.
    taken: u64,
    /// When the stream last took something or found nothing to take.
    last_poll: Instant,
    /// The position of the last event.
    last: Position,
    /// The session is over: the stream ends after what is queued.
    finished: bool,
    /// The stream that takes the events; none while the client is away.
    stream: Option<Attachment>,
    attachments: Attachment,
    /// The stream, waiting for an event.
    reader: Option<Waker>,
    /// The session, waiting for room, for emptiness, or for its client to go or to come.
    writer: Option<Waker>,
    /// What `bytes` are taken from.
    budget: Budget,
    /// What `history_bytes` are taken from.
    spare: Budget,
    /// Streams that came and of which the session has not heard yet.
    arrivals: Vec<Arrival>,
    /// What a client must show that comes back: what its stream came with, or what the upstream accepted last.
    credentials: [Option<Credential>; 2],
    aliases: Vec<SessionId>,
}

#[derive(Debug)]
struct Event {
    position: Position,
    bytes: Bytes,
    /// How much of it was taken.
    at: usize,
    is_own: bool,
}

#[derive(Debug)]
struct Past {
    position: Position,
    bytes: Bytes,
    taken: Instant,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
        self.spare.give(self.history_bytes);
    }
}

/// A new queue, of which `bound` bytes are used at most, taken from `budget`; what was taken is kept as far as `spare` has
/// room. `credential` is what the client came with.
#[must_use]
pub(super) fn outbox(bound: usize, budget: Budget, spare: Budget, key: ResumeKey, credential: Credential) -> Outbox {
    let shared = Shared {
        queue: VecDeque::new(),
        bytes: 0,
        own_bytes: 0,
        history: VecDeque::new(),
        history_bytes: 0,
        taken: 0,
        last_poll: Instant::now(),
        last: 0,
        finished: false,
        stream: None,
        attachments: 0,
        reader: None,
        writer: None,
        budget: budget.clone(),
        spare,
        arrivals: Vec::new(),
        credentials: [Some(credential), None],
        aliases: Vec::new(),
    };
    Outbox { shared: Arc::new(Mutex::new(shared)), bound, budget, key, next: AtomicU64::new(1) }
}

impl Shared {
    /// The next bytes to send. A large event goes in pieces: hyper does not come back before it has written what it got,
    /// and a client that takes a large event slowly does take it.
    fn next_piece(&mut self) -> Option<Bytes> {
        let front = self.queue.front_mut()?;
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
        if is_over && let Some(event) = self.queue.pop_front() {
            self.remember(event);
        }
        Some(piece)
    }

    fn remember(&mut self, event: Event) {
        let now = Instant::now();
        self.forget_until(now);
        let bytes = event.bytes.len();
        while self.history_bytes + bytes > MAX_HISTORY && self.forget_oldest() {}
        if bytes <= MAX_HISTORY && self.spare.take(bytes) {
            self.history_bytes += bytes;
            self.history.push_back(Past { position: event.position, bytes: event.bytes, taken: now });
        }
    }

    /// Forgets what was taken so long ago that the client has it.
    fn forget_until(&mut self, now: Instant) {
        while self.history.front().is_some_and(|past| past.taken + HISTORY <= now) && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(past) = self.history.pop_front() else { return false };
        self.history_bytes -= past.bytes.len();
        self.spare.give(past.bytes.len());
        true
    }

    /// An event of which only a part was taken goes to the next stream from its start.
    fn rewind(&mut self) {
        if let Some(front) = self.queue.front_mut()
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

    /// Puts back what was taken after `position`. Returns how many events after that are not there any more: there may have been
    /// no room to keep any of them.
    fn go_back_to(&mut self, position: Position) -> u64 {
        while self.history.front().is_some_and(|past| past.position <= position) && self.forget_oldest() {}
        while let Some(past) = self.history.pop_back() {
            self.history_bytes -= past.bytes.len();
            self.spare.give(past.bytes.len());
            self.bytes += past.bytes.len();
            self.budget.take_anyway(past.bytes.len());
            self.queue.push_front(Event { position: past.position, bytes: past.bytes, at: 0, is_own: false });
        }
        let there = self.queue.iter().filter(|event| event.position > position).count();
        self.last.saturating_sub(position).saturating_sub(there as u64)
    }

    fn wake_session(&mut self) -> Option<Waker> {
        self.writer.take()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Every section below is a few assignments; a panic in one leaves nothing half done.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// The session as streams and other sessions see it.
    pub(super) fn face(&self) -> Face {
        Face { shared: Arc::clone(&self.shared) }
    }

    /// Queues `message`, which was made here, whatever the bound says; see [`Outbox::has_room_for_own`].
    pub(super) fn push(&self, message: &Bytes) {
        let event = self.event(message, true);
        self.budget.take_anyway(event.bytes.len());
        self.put(event);
    }

    fn event(&self, message: &Bytes, is_own: bool) -> Event {
        let position = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = sse::message_event(&self.key.at(position), message);
        Event { position, bytes, at: 0, is_own }
    }

    /// Whether more may be asked that is answered here. A client that asks and asks and takes nothing is not listened to.
    pub(super) fn has_room_for_own(&self) -> bool {
        lock(&self.shared).own_bytes < MAX_OWN
    }

    /// Waits for that. Cancel safe.
    pub(super) async fn room_for_own(&self) {
        self.wait_for(|shared| shared.own_bytes < MAX_OWN).await;
    }

    fn put(&self, event: Event) {
        let mut shared = lock(&self.shared);
        if shared.queue.is_empty() {
            // The stream had nothing to take until now: a stall is counted from here.
            shared.last_poll = Instant::now();
        }
        shared.last = event.position;
        shared.bytes += event.bytes.len();
        if event.is_own {
            shared.own_bytes += event.bytes.len();
        }
        shared.queue.push_back(event);
        if let Some(reader) = shared.reader.take() {
            drop(shared);
            reader.wake();
        }
    }

    /// Queues `message` unless the queue is full, or all queues together are. Returns whether it did.
    #[must_use]
    pub(super) fn try_push(&self, message: &Bytes) -> bool {
        let bytes = message.len() + FRAME;
        let is_empty = {
            let shared = lock(&self.shared);
            if !shared.queue.is_empty() && shared.bytes + bytes > self.bound {
                return false;
            }
            shared.queue.is_empty()
        };
        // A small one for a client that waits for it must get through, however much others hold.
        if bytes <= SMALL && is_empty {
            self.budget.take_anyway(bytes);
        } else if !self.budget.take(bytes) {
            return false;
        }
        let event = self.event(message, false);
        // What was taken was an estimate.
        self.budget.take_anyway(event.bytes.len());
        self.budget.give(bytes);
        self.put(event);
        true
    }

    /// Waits until a message of `bytes` fits, here and in the bound of all. Cancel safe.
    pub(super) async fn room_for(&self, bytes: usize) {
        let bytes = bytes + FRAME;
        self.wait_for(|shared| shared.queue.is_empty() || shared.bytes + bytes <= self.bound).await;
        if bytes <= SMALL {
            // Either the client takes what it has, or others do.
            tokio::select! {
                () = self.wait_for(|shared| shared.queue.is_empty()) => {}
                () = self.budget.room(bytes) => {}
            }
        } else {
            self.budget.room(bytes).await;
        }
    }

    /// Whether nothing may be read that would have to be kept: all outboxes together are full, and the client has
    /// something to take.
    pub(super) fn is_spent(&self) -> bool {
        self.budget.is_spent() && !lock(&self.shared).queue.is_empty()
    }

    /// Waits until no stream takes events. Cancel safe.
    pub(super) async fn client_gone(&self) {
        self.wait_for(|shared| shared.stream.is_none()).await;
    }

    /// Waits until a stream came of which the session has not heard. Cancel safe.
    pub(super) async fn arrival(&self) {
        self.wait_for(|shared| !shared.arrivals.is_empty()).await;
    }

    /// The streams that came.
    pub(super) fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut lock(&self.shared).arrivals)
    }

    /// Whether a stream takes events.
    pub(super) fn has_stream(&self) -> bool {
        lock(&self.shared).stream.is_some()
    }

    /// Waits until everything was taken, or there is nobody to take it. Cancel safe.
    pub(super) async fn drained(&self) {
        self.wait_for(|shared| shared.queue.is_empty() || shared.stream.is_none()).await;
    }

    /// Only one task, the session's, ever waits, on one condition or on several at once: one waker is enough.
    async fn wait_for(&self, condition: impl Fn(&Shared) -> bool) {
        poll_fn(|cx| {
            let mut shared = lock(&self.shared);
            if condition(&shared) {
                return Poll::Ready(());
            }
            if !shared.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
                shared.writer = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// The upstream accepted `credential`: a client that comes back may show it.
    pub(super) fn bind(&self, credential: &Credential) {
        let mut shared = lock(&self.shared);
        let [_, accepted] = &mut shared.credentials;
        if accepted.as_ref() != Some(credential) {
            *accepted = Some(credential.clone());
        }
    }

    /// No more events: the stream ends after those queued, and no other may come. Returns the names under which the session
    /// could be posted to besides its own.
    pub(super) fn finish(&self) -> Vec<SessionId> {
        let mut shared = lock(&self.shared);
        shared.finished = true;
        let aliases = std::mem::take(&mut shared.aliases);
        if let Some(reader) = shared.reader.take() {
            drop(shared);
            reader.wake();
        }
        aliases
    }

    /// Since when something is queued that the stream does not take, if so.
    #[must_use]
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        let shared = lock(&self.shared);
        (shared.stream.is_some() && !shared.queue.is_empty()).then_some(shared.last_poll)
    }

    /// Since when it was so when the stream went.
    #[must_use]
    pub(super) fn was_stalled_since(&self) -> Option<Instant> {
        let shared = lock(&self.shared);
        (!shared.queue.is_empty()).then_some(shared.last_poll)
    }

    /// Events queued and not taken.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        lock(&self.shared).queue.len()
    }

    /// Bytes that streams took, keep-alive comments left out.
    #[must_use]
    pub(super) fn bytes_taken(&self) -> u64 {
        lock(&self.shared).taken
    }
}

impl Face {
    /// Lets a new stream take the events: those after `position`, or those that no stream took. The stream before it, if
    /// there is one, is over. `None` when the session is over, or never was at that position.
    pub(super) fn attach(&self, position: Option<Position>, arrival: Arrival) -> Option<Attachment> {
        let mut shared = lock(&self.shared);
        if shared.finished || position.is_some_and(|position| position > shared.last) {
            return None;
        }
        shared.rewind();
        let lost = position.map_or(0, |position| shared.go_back_to(position));
        shared.attachments += 1;
        let attachment = shared.attachments;
        let superseded = shared.stream.replace(attachment).is_some();
        shared.last_poll = Instant::now();
        shared.arrivals.push(Arrival { lost, superseded, ..arrival });
        let wakers = [shared.reader.take(), shared.wake_session()];
        drop(shared);
        wakers.into_iter().flatten().for_each(Waker::wake);
        Some(attachment)
    }

    /// The first stream of a session takes its events: nobody has to be told.
    pub(super) fn attach_first(&self) -> Attachment {
        let mut shared = lock(&self.shared);
        shared.attachments += 1;
        shared.stream = Some(shared.attachments);
        shared.attachments
    }

    /// The stream takes no more.
    pub(super) fn detach(&self, attachment: Attachment) {
        let mut shared = lock(&self.shared);
        if shared.stream != Some(attachment) {
            return;
        }
        shared.stream = None;
        shared.rewind();
        if let Some(session) = shared.wake_session() {
            drop(shared);
            session.wake();
        }
    }

    /// The next bytes for the stream.
    pub(super) fn take(&self, attachment: Attachment, cx: &mut Context<'_>) -> Taken {
        let mut shared = lock(&self.shared);
        if shared.stream != Some(attachment) {
            return Taken::Over;
        }
        shared.last_poll = Instant::now();
        let Some(piece) = shared.next_piece() else {
            if shared.finished {
                return Taken::Over;
            }
            if !shared.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                shared.reader = Some(cx.waker().clone());
            }
            return Taken::Nothing;
        };
        if let Some(session) = shared.wake_session() {
            drop(shared);
            session.wake();
        }
        Taken::Event(piece)
    }

    /// Lets the stream that waits look again where its events come from.
    pub(super) fn wake_stream(&self) {
        if let Some(reader) = lock(&self.shared).reader.take() {
            reader.wake();
        }
    }

    /// Forgets what the client has by now; called when there is nothing else to do.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        lock(&self.shared).forget_until(now);
    }

    /// Whether a client that comes back with `credential` may have the session.
    pub(super) fn belongs_to(&self, credential: &Credential) -> bool {
        lock(&self.shared).credentials.iter().flatten().any(|bound| bound == credential)
    }

    /// Another name under which the session can be posted to; `false` when it is over. The oldest one falls away.
    pub(super) fn add_alias(&self, id: SessionId) -> Result<Option<SessionId>, ()> {
        let mut shared = lock(&self.shared);
        if shared.finished {
            return Err(());
        }
        shared.aliases.push(id);
        Ok((shared.aliases.len() > MAX_ALIASES).then(|| shared.aliases.remove(0)))
    }
}
