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
/// What is that small is not looked at.
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
        Reading { replies, desk: self.clone(), number, held: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether answer `number` may be read on; if not, it will be woken.
    fn admits(&self, number: u64, cx: &Context<'_>) -> bool {
        let mut shared = self.lock();
        if shared.open < SMALL || (shared.open < MAX_OPEN && !self.memory.is_short()) {
            return true;
        }
        if shared.first.is_none_or(|first| first == number) {
            shared.first = Some(number);
            return true;
        }
        shared.waiting.push(cx.waker().clone());
        false
    }

    /// Answer `number` holds `now` bytes instead of `before`.
    fn note(&self, number: u64, before: usize, now: usize) {
        if before == now && now > 0 {
            return;
        }
        let mut shared = self.lock();
        shared.open = shared.open + now - before;
        let is_done = now == 0 && shared.first == Some(number);
        if is_done {
            shared.first = None;
        }
        if is_done || shared.open < MAX_OPEN {
            let waiting = std::mem::take(&mut shared.waiting);
            drop(shared);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Stream for Reading {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if !self.desk.admits(self.number, cx) {
            return Poll::Pending;
        }
        let item = self.replies.poll_next_unpin(cx);
        let now = self.replies.held();
        let before = std::mem::replace(&mut self.held, now);
        if before > 0 || now > 0 || item.is_ready() {
            self.desk.note(self.number, before, now);
        }
        item
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.desk.note(self.number, self.held, 0);
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

    /// An answer whose body comes as it is sent.
    fn answer(desk: &Desk) -> (mpsc::Sender<Bytes>, Reading) {
        let (sender, mut chunks) = mpsc::channel(64);
        let body = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx).map(|chunk| chunk.map(Ok)));
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Box::pin(body) };
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
}
