//! How long a connection waits for bytes of its client (WIRE, Limits).
//!
//! Why not hyper's own timer: its header timer starts with the wait for a request, so it also ends idle keep-alive
//! connections, and a balancer that reuses one just then hands its client a 502. Here the time for a head begins with its
//! first byte, and idling is a wait of its own.
//!
//! The trap: hyper reads ahead. The start of a request that was sent together with the one before it lies in hyper's
//! buffer unseen, and gets the time of an idle connection.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long a client may take; each runs out by ending the connection.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the first byte of a new connection.
    pub first_byte: Duration,
    /// For the whole head of a request, from its first byte.
    pub head: Duration,
    /// For the first byte of the next request.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { first_byte: Duration::from_secs(10), head: Duration::from_secs(10), idle: Duration::from_secs(120) }
    }
}

/// The wait of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    limits: Limits,
    wait: Mutex<Wait>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For the first byte of a request.
    Byte(Instant),
    /// For the rest of its head.
    Head(Instant),
    /// A request is being answered; what it may take is for others to say.
    Nothing,
}

impl Patience {
    pub(super) fn new(limits: Limits) -> Self {
        let wait = Wait::Byte(Instant::now() + limits.first_byte);
        Patience { limits, wait: Mutex::new(wait) }
    }

    fn wait(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn on_bytes(&self) {
        let mut wait = self.wait();
        if matches!(*wait, Wait::Byte(_)) {
            *wait = Wait::Head(Instant::now() + self.limits.head);
        }
    }

    /// A request is there.
    pub(super) fn on_request(&self) {
        *self.wait() = Wait::Nothing;
    }

    /// Its answer is written.
    pub(super) fn on_answered(&self) {
        *self.wait() = Wait::Byte(Instant::now() + self.limits.idle);
    }

    /// Ready when the client took too long. To be polled by the task that serves the connection, after the connection:
    /// whatever changes the wait happens in there, so no waker is needed for it. `timer` may fire early.
    pub(super) fn poll_over(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        let (Wait::Byte(until) | Wait::Head(until)) = *self.wait() else { return Poll::Pending };
        if until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn over_after(patience: &Patience) -> Duration {
        let start = Instant::now();
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        poll_fn(|cx| patience.poll_over(timer.as_mut(), cx)).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_length() {
        let patience = Patience::new(Limits::default());
        assert_eq!(over_after(&patience).await, Duration::from_secs(10));
        patience.on_request();
        patience.on_answered();
        assert_eq!(over_after(&patience).await, Duration::from_secs(120));
    }

    #[tokio::test(start_paused = true)]
    async fn head_is_timed_from_its_first_byte_and_not_from_later_ones() {
        let patience = Patience::new(Limits::default());
        tokio::time::sleep(Duration::from_secs(9)).await;
        patience.on_bytes();
        tokio::time::sleep(Duration::from_secs(4)).await;
        patience.on_bytes();
        assert_eq!(over_after(&patience).await, Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_is_being_answered_waits_for_nothing() {
        let patience = Patience::new(Limits::default());
        patience.on_bytes();
        patience.on_request();
        patience.on_bytes();
        let over = tokio::time::timeout(Duration::from_secs(10_000), over_after(&patience)).await;
        over.expect_err("nothing is waited for");
    }
}
