//! How much of half-read answers one session holds.
//!
//! Why: a message can only be passed on whole, servers send many at once, and a client that takes nothing stops the reading of
//! none of them before the first is whole. Beyond a bound one answer is read on, to its end, and the others wait with the
//! upstream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::{Stream, StreamExt as _};

use super::budget::Budget;
use crate::upstream::{Item, Replies};

/// Bytes of half-read messages beyond which a session reads one answer at a time.
const MAX_OPEN: usize = 4 << 20;
/// So little is not looked at.
const SMALL: usize = 64 << 10;

/// Where one session's answers are put together.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    shared: Arc<Mutex<Shared>>,
    /// What all sessions hold for their clients: when that is short, nobody begins more than one.
    memory: Budget,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes of all half-read messages.
    open: usize,
    /// The answer that is read on when there are too many.
    first: Option<u64>,
    waiting: Vec<Waker>,
    last: u64,
}

/// An answer that is read at a desk.
#[derive(Debug)]
pub(super) struct Reading {
    replies: Replies,
    desk: Desk,
    number: u64,
    /// Bytes of it that lie on the desk.
    held: usize,
    /// It is the one that is read on.
    is_first: bool,
}

impl Desk {
    pub(super) fn new(memory: Budget) -> Self {
        Desk { shared: Arc::default(), memory }
    }

    /// Puts an answer on the desk.
    pub(super) fn read(&self, replies: Replies) -> Reading {
        let number = {
            let mut shared = self.lock();
            shared.last += 1;
            shared.last
        };
        Reading { replies, desk: self.clone(), number, held: 0, is_first: false }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether answer `number` may be read on, and whether as the only one; if not, it will be woken.
    fn admits(&self, number: u64, cx: &Context<'_>) -> Option<bool> {
        let mut shared = self.lock();
        if shared.first == Some(number) {
            return Some(true);
        }
        if shared.open < SMALL || (shared.open < MAX_OPEN && !self.memory.is_short()) {
            return Some(false);
        }
        if shared.first.is_none() {
            shared.first = Some(number);
            return Some(true);
        }
        shared.waiting.push(cx.waker().clone());
        None
    }

    /// An answer holds `now` bytes instead of `before`, and if it was the only one that was read on, `is_over` says that
    /// others may be again.
    fn note(&self, before: usize, now: usize, is_over: bool) {
        let mut shared = self.lock();
        shared.open = shared.open + now - before;
        if is_over {
            shared.first = None;
        }
        if is_over || shared.open < MAX_OPEN {
            let waiting = std::mem::take(&mut shared.waiting);
            drop(shared);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Stream for Reading {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let Some(is_first) = self.desk.admits(self.number, cx) else { return Poll::Pending };
        let item = self.replies.poll_next_unpin(cx);
        let now = self.replies.held();
        let before = std::mem::replace(&mut self.held, now);
        // A stream that has nothing begun, and may have nothing for long, keeps nobody waiting.
        let is_over = is_first && now == 0;
        self.is_first = is_first && !is_over;
        if before != now || is_over {
            self.desk.note(before, now, is_over);
        }
        item
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.held > 0 || self.is_first {
            self.desk.note(self.held, 0, self.is_first);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http::{HeaderMap, StatusCode};
    use tokio::sync::mpsc;

    use super::*;
    use crate::upstream::Answer;
    use crate::upstream::Content;

    /// An answer whose body comes as it is sent.
    fn answer(desk: &Desk) -> (mpsc::Sender<Bytes>, Reading) {
        let (sender, mut chunks) = mpsc::channel(64);
        let body = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx).map(|chunk| chunk.map(Ok)));
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Content::Bytes(Box::pin(body)) };
        (sender, desk.read(Replies::of(answer)))
    }

    fn megabytes(count: usize) -> Bytes {
        Bytes::from(vec![b' '; count << 20])
    }

    #[tokio::test]
    async fn beyond_the_bound_one_answer_is_read_to_its_end_before_the_others() {
        let desk = Desk::new(Budget::new(1 << 30));
        let (first, mut one) = answer(&desk);
        let (second, mut other) = answer(&desk);
        first.send(megabytes(3)).await.expect("room");
        second.send(megabytes(2)).await.expect("room");
        assert!(one.next().now_or_never().is_none() && other.next().now_or_never().is_none());
        assert_eq!((one.held, other.held), (3 << 20, 2 << 20), "both were begun below the bound");
        first.send(megabytes(1)).await.expect("room");
        second.send(megabytes(1)).await.expect("room");
        assert!(one.next().now_or_never().is_none() && other.next().now_or_never().is_none());
        assert_eq!((one.held, other.held), (4 << 20, 2 << 20), "the other waits");
        let (third, mut small) = answer(&desk);
        third.send(Bytes::from_static(b"{}")).await.expect("room");
        assert!(small.next().now_or_never().is_none(), "and so does what is begun now");
        drop(first);
        assert!(one.next().now_or_never().is_some(), "the first ends");
        drop(one);
        assert!(other.next().now_or_never().is_none());
        assert_eq!(other.held, 3 << 20, "then the other is read on");
        drop(second);
        assert!(other.next().now_or_never().is_some());
        drop((other, small));
        assert_eq!(desk.lock().open, 0);
    }

    /// The GET stream is polled with every comment of the server's, and may have no message for hours.
    #[tokio::test]
    async fn stream_that_has_nothing_begun_keeps_nobody_waiting() {
        let desk = Desk::new(Budget::new(1 << 30));
        let (first, mut one) = answer(&desk);
        let (second, mut other) = answer(&desk);
        let (_idle, mut listening) = answer(&desk);
        first.send(megabytes(3)).await.expect("room");
        second.send(megabytes(2)).await.expect("room");
        assert!(one.next().now_or_never().is_none() && other.next().now_or_never().is_none());
        assert!(listening.next().now_or_never().is_none());
        for (sender, reading) in [(first, &mut one), (second, &mut other)] {
            drop(sender);
            assert!(reading.next().now_or_never().is_some(), "read to its end");
        }
    }
}
