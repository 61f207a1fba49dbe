//! The ordered, bounded queue of events owed to one session's SSE stream, and the stream that takes them.
//!
//! Promise: nothing is dropped and nothing reordered. When the queue is full the session stops reading from the upstream
//! (DESIGN rule 5), so the bound holds without loss. The stream is a response body: hyper polls it while the client
//! takes bytes, and drops it when the client is gone.
//!
//! The trap: hyper does not poll a body while its write buffer is full, so "not polled for long" is how a stalled client
//! shows, and ending the body then closes nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::budget::Budget;
use crate::sse;

/// Bytes of events made here that may wait for a client before it is listened to no more.
const MAX_OWN: usize = 256 << 10;
/// Bytes that a client which has nothing else to take may always be sent.
const SMALL: usize = 16 << 10;
/// Bytes that hyper is given at once.
const PIECE: usize = 64 << 10;

/// The session's end of the queue.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Mutex<Shared>>,
    /// Bound in bytes; a single larger event is taken when the queue is empty.
    bound: usize,
    /// The bound of all outboxes together.
    budget: Budget,
}

/// The client's end: the body of the answer to `GET /sse`.
#[derive(Debug)]
pub struct EventStream {
    shared: Arc<Mutex<Shared>>,
    keep_alive: Option<KeepAlive>,
}

#[derive(Debug)]
struct KeepAlive {
    interval: Duration,
    /// Fires at or before the time a comment is due; moving it at every event would cost more than waking up early.
    timer: Pin<Box<Sleep>>,
    last_frame: Instant,
}

#[derive(Debug)]
struct Shared {
    queue: VecDeque<Event>,
    /// Bytes in `queue`.
    bytes: usize,
    /// Those of them that were made here.
    own_bytes: usize,
    /// Bytes ever taken by the stream.
    taken: u64,
    /// When the stream last took something or found nothing to take.
    last_poll: Instant,
    /// The session is over: the stream ends after what is queued.
    finished: bool,
    /// The stream was dropped: the client is gone.
    gone: bool,
    /// The stream, waiting for an event.
    reader: Option<Waker>,
    /// The session, waiting for room, for emptiness or for the client to go.
    writer: Option<Waker>,
    /// What `bytes` are taken from.
    budget: Budget,
}

#[derive(Debug)]
struct Event {
    bytes: Bytes,
    is_own: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// Both ends of a new queue. A comment goes out after `keep_alive` of silence, if given.
#[must_use]
pub(super) fn outbox(bound: usize, budget: Budget, keep_alive: Option<Duration>) -> (Outbox, EventStream) {
    let now = Instant::now();
    let shared = Arc::new(Mutex::new(Shared {
        queue: VecDeque::new(),
        bytes: 0,
        own_bytes: 0,
        taken: 0,
        last_poll: now,
        finished: false,
        gone: false,
        reader: None,
        writer: None,
        budget: budget.clone(),
    }));
    let keep_alive = keep_alive.map(|interval| KeepAlive {
        interval,
        timer: Box::pin(tokio::time::sleep(interval)),
        last_frame: now,
    });
    (Outbox { shared: Arc::clone(&shared), bound, budget }, EventStream { shared, keep_alive })
}

impl Shared {
    /// The next bytes to send. A large event goes in pieces: hyper does not come back before it has written what it got,
    /// and a client that takes a large event slowly does take it.
    fn next_piece(&mut self) -> Option<Bytes> {
        let front = self.queue.front_mut()?;
        let piece = front.bytes.split_to(front.bytes.len().min(PIECE));
        let (is_own, is_over) = (front.is_own, front.bytes.is_empty());
        if is_over {
            self.queue.pop_front();
        }
        self.bytes -= piece.len();
        if is_own {
            self.own_bytes -= piece.len();
        }
        self.taken += piece.len() as u64;
        self.budget.give(piece.len());
        Some(piece)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Every section below is a few assignments; a panic in one leaves nothing half done.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// Queues `event`, which was made here, whatever the bound says; see [`Outbox::has_room_for_own`].
    pub(super) fn push(&self, event: Bytes) {
        self.budget.take_anyway(event.len());
        self.put(Event { bytes: event, is_own: true });
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

    /// Queues `event` unless the queue is full, or all queues together are.
    ///
    /// # Errors
    /// Gives the event back when it does not fit.
    pub(super) fn try_push(&self, event: Bytes) -> Result<(), Bytes> {
        {
            let shared = lock(&self.shared);
            if !shared.queue.is_empty() && shared.bytes + event.len() > self.bound {
                return Err(event);
            }
        }
        // A small one for a client that waits for it must get through, however much others hold.
        if event.len() <= SMALL && lock(&self.shared).queue.is_empty() {
            self.budget.take_anyway(event.len());
        } else if !self.budget.take(event.len()) {
            return Err(event);
        }
        self.put(Event { bytes: event, is_own: false });
        Ok(())
    }

    /// Waits until `bytes` fit, here and in the bound of all. Cancel safe.
    pub(super) async fn room_for(&self, bytes: usize) {
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

    /// Waits until the client is gone. Cancel safe.
    pub(super) async fn client_gone(&self) {
        self.wait_for(|shared| shared.gone).await;
    }

    /// Waits until everything was taken, or the client is gone. Cancel safe.
    pub(super) async fn drained(&self) {
        self.wait_for(|shared| shared.queue.is_empty() || shared.gone).await;
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

    /// No more events: the stream ends after those queued.
    pub(super) fn finish(&self) {
        let mut shared = lock(&self.shared);
        shared.finished = true;
        if let Some(reader) = shared.reader.take() {
            drop(shared);
            reader.wake();
        }
    }

    /// Since when something is queued that the client does not take, if so.
    #[must_use]
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        let shared = lock(&self.shared);
        (!shared.queue.is_empty()).then_some(shared.last_poll)
    }

    /// Events queued and not taken.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        lock(&self.shared).queue.len()
    }

    /// Bytes that the stream took, keep-alive comments left out.
    #[must_use]
    pub(super) fn bytes_taken(&self) -> u64 {
        lock(&self.shared).taken
    }
}

impl EventStream {
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut shared = lock(&self.shared);
        shared.last_poll = Instant::now();
        let Some(event) = shared.next_piece() else {
            if shared.finished {
                return Poll::Ready(None);
            }
            if !shared.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                shared.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        if let Some(writer) = shared.writer.take() {
            drop(shared);
            writer.wake();
        }
        Poll::Ready(Some(event))
    }
}

impl KeepAlive {
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = self.last_frame + self.interval;
            let now = Instant::now();
            if due <= now {
                self.last_frame = now;
                self.timer.as_mut().reset(now + self.interval);
                // Registers the timer again before the comment goes out.
                let _ = self.timer.as_mut().poll(cx);
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.poll_event(cx) {
            Poll::Ready(Some(event)) => {
                if let Some(keep_alive) = &mut self.keep_alive {
                    keep_alive.last_frame = Instant::now();
                }
                Poll::Ready(Some(Ok(Frame::data(event))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match &mut self.keep_alive {
                Some(keep_alive) => keep_alive.poll_due(cx).map(|()| Some(Ok(Frame::data(sse::KEEP_ALIVE)))),
                None => Poll::Pending,
            },
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.gone = true;
        if let Some(writer) = shared.writer.take() {
            drop(shared);
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn next(stream: &mut EventStream) -> Option<Bytes> {
        let frame = stream.frame().await?.expect("infallible");
        Some(frame.into_data().expect("data"))
    }

    #[tokio::test]
    async fn events_come_in_order_and_the_stream_ends_after_them() {
        let (outbox, mut stream) = outbox(100, Budget::new(1000), None);
        outbox.push(Bytes::from_static(b"1"));
        outbox.push(Bytes::from_static(b"2"));
        outbox.finish();
        assert_eq!(next(&mut stream).await.as_deref(), Some(&b"1"[..]));
        assert_eq!(next(&mut stream).await.as_deref(), Some(&b"2"[..]));
        assert_eq!(next(&mut stream).await, None);
        assert_eq!(outbox.bytes_taken(), 2);
    }

    #[tokio::test]
    async fn full_queue_gives_the_event_back_until_there_is_room() {
        let (outbox, mut stream) = outbox(4, Budget::new(1000), None);
        outbox.try_push(Bytes::from_static(b"larger than the bound")).expect("one message always fits");
        let refused = outbox.try_push(Bytes::from_static(b"x")).expect_err("full");
        assert!(outbox.room_for(refused.len()).now_or_never().is_none());
        next(&mut stream).await;
        outbox.room_for(refused.len()).await;
        outbox.try_push(refused).expect("room");
    }

    #[tokio::test]
    async fn all_outboxes_together_have_a_bound_too_but_small_events_always_pass() {
        let budget = Budget::new(10 * SMALL);
        let event = |smalls: usize| Bytes::from(vec![b'x'; smalls * SMALL]);
        let (one, mut stream_of_one) = outbox(100 * SMALL, budget.clone(), None);
        let (other, stream_of_other) = outbox(100 * SMALL, budget.clone(), None);
        one.try_push(event(8)).expect("room");
        let refused = other.try_push(event(3)).expect_err("the first holds it all");
        assert!(other.room_for(refused.len()).now_or_never().is_none());
        one.try_push(event(2)).expect("room");
        assert!(one.is_spent() && !other.is_spent(), "who owes nothing may still be sent a little");
        other.try_push(event(1)).expect("a small one");
        while one.len() > 0 {
            next(&mut stream_of_one).await;
        }
        other.room_for(refused.len()).await;
        other.try_push(refused).expect("room");
        drop((other, stream_of_other));
        one.try_push(event(10)).expect("what was left in a queue is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn large_event_goes_in_pieces_of_which_each_is_progress() {
        let budget = Budget::new(10 * PIECE);
        let (outbox, mut stream) = outbox(10 * PIECE, budget.clone(), Some(Duration::from_secs(15)));
        outbox.try_push(Bytes::from(vec![b'x'; 3 * PIECE])).expect("room");
        for left in [2, 1, 0] {
            tokio::time::sleep(Duration::from_secs(50)).await;
            assert_eq!(next(&mut stream).await.map(|piece| piece.len()), Some(PIECE), "and no comment in between");
            assert_eq!(outbox.len(), usize::from(left > 0));
            assert!(outbox.stalled_since().is_none_or(|since| since.elapsed().is_zero()));
        }
        assert!(budget.take(10 * PIECE), "all is given back");
    }

    #[tokio::test]
    async fn dropped_stream_is_a_client_gone() {
        let (outbox, stream) = outbox(4, Budget::new(1000), None);
        assert!(outbox.client_gone().now_or_never().is_none());
        drop(stream);
        outbox.client_gone().await;
    }

    #[tokio::test(start_paused = true)]
    async fn comment_goes_out_after_silence_only() {
        let (outbox, mut stream) = outbox(100, Budget::new(1000), Some(Duration::from_secs(15)));
        let start = Instant::now();
        assert_eq!(next(&mut stream).await.as_deref(), Some(&b": k\n"[..]));
        assert_eq!(start.elapsed(), Duration::from_secs(15));
        tokio::time::sleep(Duration::from_secs(10)).await;
        outbox.push(Bytes::from_static(b"event"));
        assert_eq!(next(&mut stream).await.as_deref(), Some(&b"event"[..]));
        assert_eq!(next(&mut stream).await.as_deref(), Some(&b": k\n"[..]));
        assert_eq!(start.elapsed(), Duration::from_secs(40));
        assert_eq!(next(&mut stream).await.as_deref(), Some(&b": k\n"[..]));
        assert_eq!(start.elapsed(), Duration::from_secs(55));
    }

    #[tokio::test(start_paused = true)]
    async fn stall_counts_from_the_last_time_the_client_took_something() {
        let (outbox, mut stream) = outbox(100, Budget::new(1000), None);
        assert_eq!(outbox.stalled_since(), None);
        tokio::time::sleep(Duration::from_secs(1000)).await;
        outbox.push(Bytes::from_static(b"1"));
        assert_eq!(outbox.stalled_since().map(|since| since.elapsed()), Some(Duration::ZERO), "silence is no stall");
        outbox.push(Bytes::from_static(b"2"));
        tokio::time::sleep(Duration::from_secs(5)).await;
        next(&mut stream).await;
        let since = outbox.stalled_since().expect("one event is left");
        assert_eq!(since.elapsed(), Duration::ZERO);
    }
}
