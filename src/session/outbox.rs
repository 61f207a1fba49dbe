//! The ordered, bounded queue of events owed to one session's client.
//!
//! Promise: nothing is dropped and nothing reordered. When the queue is full the session stops reading from the upstream
//! (DESIGN rule 5), so the bound holds without loss. Every event has a position; what a stream took lately is kept for a
//! while, because a client whose connection breaks may not have got it, and says so by `Last-Event-ID`.
//!
//! One stream at a time takes the events (`stream`); while there is none they wait.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::SessionId;
use super::budget::Budget;
use super::face::{Attachment, Face};
use super::position::ResumeKey;
use super::queue::{Event, Queue};
use super::stream::Arrival;
use crate::auth::Credential;
use crate::sse;

/// Bytes of events made here that may wait for a client before it is listened to no more.
const MAX_OWN: usize = 256 << 10;
/// Bytes that a client which has nothing else to take may always be sent.
const SMALL: usize = 16 << 10;
/// Bytes of an event beside its message.
const FRAME: usize = 80;
/// Events that the stream is not told of one by one.
const UNTOLD: usize = 32;

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
    /// Events that the stream was not told of.
    untold: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    /// When the stream last took something or found nothing to take.
    pub(super) last_poll: Instant,
    /// The session is over: the stream ends after what is queued.
    pub(super) finished: bool,
    /// The stream that takes the events; none while the client is away.
    pub(super) stream: Option<Attachment>,
    pub(super) attachments: Attachment,
    /// The stream, waiting for an event.
    pub(super) reader: Option<Waker>,
    /// The session, waiting for room, for emptiness, or for its client to go or to come.
    pub(super) writer: Option<Waker>,
    /// Streams that came and of which the session has not heard yet.
    pub(super) arrivals: Vec<Arrival>,
    /// Events that went to a stream which was not the client's, and are not kept any more.
    pub(super) lost: u64,
    /// What a client must show that comes back: what its stream came with, or what the upstream accepted last.
    pub(super) credentials: [Option<Credential>; 2],
    /// Names under which the session can be posted to besides its own.
    pub(super) aliases: Vec<SessionId>,
}

/// A new queue, of which `bound` bytes are used at most, taken from `budget`; what was taken is kept as far as `spare` has
/// room. `credential` is what the client came with.
#[must_use]
pub(super) fn outbox(bound: usize, budget: Budget, spare: Budget, key: ResumeKey, credential: Credential) -> Outbox {
    let shared = Shared {
        queue: Queue::new(bound, budget.clone(), spare),
        last_poll: Instant::now(),
        finished: false,
        stream: None,
        attachments: 0,
        reader: None,
        writer: None,
        arrivals: Vec::new(),
        lost: 0,
        credentials: [Some(credential), None],
        aliases: Vec::new(),
    };
    Outbox {
        shared: Arc::new(Mutex::new(shared)),
        bound,
        budget,
        key,
        next: AtomicU64::new(1),
        untold: AtomicUsize::new(0),
    }
}

pub(super) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Every section below is a few assignments; a panic in one leaves nothing half done.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// The session as streams and other sessions see it.
    pub(super) fn face(&self) -> Face {
        Face::of(Arc::clone(&self.shared))
    }

    /// Queues `message`, which was made here, whatever the bound says; see [`Outbox::has_room_for_own`].
    pub(super) fn push(&self, message: &Bytes) {
        let event = self.event(message, true);
        self.budget.take_anyway(event.bytes.len());
        self.put(event, true);
    }

    fn event(&self, message: &Bytes, is_own: bool) -> Event {
        let position = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = sse::message_event(&self.key.at(position), message);
        Event { position, bytes, at: 0, is_own }
    }

    /// Whether more may be asked that is answered here. A client that asks and asks and takes nothing is not listened to.
    pub(super) fn has_room_for_own(&self) -> bool {
        lock(&self.shared).queue.own_bytes() < MAX_OWN
    }

    /// Waits for that. Cancel safe.
    pub(super) async fn room_for_own(&self) {
        self.wait_for(|shared| shared.queue.own_bytes() < MAX_OWN).await;
    }

    /// Queues an event, and tells the stream of it and of those before it, if so wished.
    fn put(&self, event: Event, tells: bool) {
        let mut shared = lock(&self.shared);
        if shared.queue.is_empty() {
            // The stream had nothing to take until now: a stall is counted from here.
            shared.last_poll = Instant::now();
        }
        shared.queue.push(event);
        if tells {
            self.wake_stream(shared);
        }
    }

    /// Tells the stream of what was queued.
    pub(super) fn tell(&self) {
        self.wake_stream(lock(&self.shared));
    }

    fn wake_stream(&self, mut shared: MutexGuard<'_, Shared>) {
        self.untold.store(0, Ordering::Relaxed);
        let reader = shared.reader.take();
        drop(shared);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether the stream was not told of something.
    pub(super) fn is_untold(&self) -> bool {
        self.untold.load(Ordering::Relaxed) > 0
    }

    /// The same as [`Outbox::try_push`], but the stream is not told at once: what comes many at a time goes out in one write.
    /// Whoever pushes so has to [`tell`](Outbox::tell) it once nothing more comes.
    #[must_use]
    pub(super) fn try_push_untold(&self, message: &Bytes) -> bool {
        let tells = self.untold.fetch_add(1, Ordering::Relaxed) + 1 >= UNTOLD;
        let is_pushed = self.try_put(message, tells);
        if !is_pushed {
            // What waits for room waits for the stream.
            self.tell();
        }
        is_pushed
    }

    /// Queues `message` unless the queue is full, or all queues together are. Returns whether it did.
    #[must_use]
    pub(super) fn try_push(&self, message: &Bytes) -> bool {
        self.try_put(message, true)
    }

    fn try_put(&self, message: &Bytes, tells: bool) -> bool {
        let bytes = message.len() + FRAME;
        let is_empty = {
            let shared = lock(&self.shared);
            if !shared.queue.is_empty() && shared.queue.bytes() + bytes > self.bound {
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
        self.put(event, tells);
        true
    }

    /// Waits until a message of `bytes` fits, here and in the bound of all. Cancel safe.
    pub(super) async fn room_for(&self, bytes: usize) {
        let bytes = bytes + FRAME;
        self.wait_for(|shared| shared.queue.is_empty() || shared.queue.bytes() + bytes <= self.bound).await;
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

    /// Waits until a stream came of which the session has not heard or, if the client `is_here`, until none takes events.
    /// Cancel safe.
    pub(super) async fn coming_or_going(&self, is_here: bool) {
        self.wait_for(|shared| !shared.arrivals.is_empty() || is_here && shared.stream.is_none()).await;
    }

    /// Events that are lost since this was asked last.
    pub(super) fn take_lost(&self) -> u64 {
        std::mem::take(&mut lock(&self.shared).lost)
    }

    /// The upstream turned `credential` down: nobody gets the session by it.
    pub(super) fn unbind(&self, credential: Credential) {
        let mut shared = lock(&self.shared);
        for bound in &mut shared.credentials {
            if *bound == Some(credential) {
                *bound = None;
            }
        }
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
    pub(super) fn bind(&self, credential: Credential) {
        let mut shared = lock(&self.shared);
        let [_, accepted] = &mut shared.credentials;
        *accepted = Some(credential);
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
        lock(&self.shared).queue.taken()
    }
}
