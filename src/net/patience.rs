//! How long a connection waits for bytes of its client (WIRE, Limits).
//!
//! Why not hyper's own timer: its header timer starts with the wait for a request, so it also ends idle keep-alive
//! connections, and a balancer that reuses one just then hands its client a 502. Here the time for a head begins with its
//! first byte, and idling is a wait of its own.
//!
//! On HTTP/2 many requests are answered at once, and frames come that belong to none (pings, windows). There the first
//! request has the time of a head, and afterwards the connection may idle while no stream is open; a client whose time is
//! over is told first (GOAWAY), so that it can send a request that crosses the end once more, elsewhere.
//!
//! The trap: hyper reads ahead. The start of a request that was sent together with the one before it lies in hyper's
//! buffer unseen, and gets the time of an idle connection. And while something lies there, hyper does not read: a client
//! that leaves then is not noticed until it is written to. So the socket is looked at now and then while a request is being
//! answered ([`Patience::is_to_look`]).

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep};

/// How long a client has to go after it was told, on HTTP/2.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often the socket of a client is looked at whose request is being answered; the first time takes as long as the wait
/// before it at most.
const LOOK: Duration = Duration::from_secs(15);

/// How long a client may take; each runs out by ending the connection.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the first byte of a new connection, and where the PROXY protocol is spoken for all of its header.
    pub first_byte: Duration,
    /// For the TLS handshake, from its first byte.
    pub handshake: Duration,
    /// For the whole head of a request, from its first byte.
    pub head: Duration,
    /// For the first byte of the next request.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Limits { first_byte: ten, handshake: ten, head: ten, idle: Duration::from_secs(120) }
    }
}

/// The wait of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    limits: Limits,
    state: Mutex<State>,
    /// Who polls, where answers end in tasks of their own.
    waker: AtomicWaker,
    look: AtomicBool,
}

#[derive(Debug)]
struct State {
    wait: Wait,
    /// Requests that are being answered.
    open: usize,
    /// Whether there may be more than one of them.
    multiplexed: bool,
    /// The client was told to go.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For the first byte of a request.
    Byte(Instant),
    /// For the rest of its head.
    Head(Instant),
    /// For a request, whatever bytes come.
    Request(Instant),
    /// A request is being answered; what it may take is for others to say.
    Nothing,
}

impl Patience {
    pub(super) fn new(limits: Limits, multiplexed: bool) -> Self {
        let wait = Wait::Byte(Instant::now() + limits.first_byte);
        let state = State { wait, open: 0, multiplexed, told: false };
        Patience { limits, state: Mutex::new(state), waker: AtomicWaker::new(), look: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn on_bytes(&self) {
        let mut state = self.state();
        if matches!(state.wait, Wait::Byte(_)) {
            state.wait = Wait::Head(Instant::now() + self.limits.head);
        }
    }

    /// Bytes went out. hyper lets go of an answer once it has the last of it, while a slow client still takes that.
    pub(super) fn on_written(&self) {
        let mut state = self.state();
        if matches!(state.wait, Wait::Byte(_)) && !state.multiplexed {
            state.wait = Wait::Byte(Instant::now() + self.limits.idle);
        }
    }

    /// Whether it is time to see if the client is still there.
    pub(super) fn is_to_look(&self) -> bool {
        self.look.load(Ordering::Relaxed) && self.look.swap(false, Ordering::Relaxed)
    }

    /// A request is there.
    pub(super) fn on_request(&self) {
        let mut state = self.state();
        state.open += 1;
        state.wait = Wait::Nothing;
    }

    /// Its answer is written, or nobody wants it any more.
    pub(super) fn on_answered(&self) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        if state.open > 0 {
            return;
        }
        let now = Instant::now();
        state.wait = match (state.multiplexed, state.told) {
            (false, _) => Wait::Byte(now + self.limits.idle),
            (true, false) => Wait::Request(now + self.limits.idle),
            (true, true) => Wait::Request(now + FAREWELL),
        };
        if state.multiplexed {
            drop(state);
            self.waker.wake();
        }
    }

    /// The time is over: whether the client can be told to go, which gives it a little more.
    pub(super) fn may_say_farewell(&self) -> bool {
        let mut state = self.state();
        let may = state.multiplexed && !state.told && matches!(state.wait, Wait::Request(_));
        if may {
            state.told = true;
            state.wait = Wait::Request(Instant::now() + FAREWELL);
        }
        may
    }

    /// Ready when the client took too long. To be polled by the task that serves the connection, after the connection:
    /// what changes the wait happens in there, save for answers on HTTP/2, which wake it. `timer` may fire early.
    pub(super) fn poll_over(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        // Before the look at the state: what changes after it finds the waker.
        self.waker.register(cx.waker());
        let (wait, multiplexed) = {
            let state = self.state();
            (state.wait, state.multiplexed)
        };
        let (Wait::Byte(until) | Wait::Head(until) | Wait::Request(until)) = wait else {
            // On HTTP/2 what comes is read at all times, and pings tell who is gone.
            if !multiplexed {
                self.look_again(timer, cx);
            }
            return Poll::Pending;
        };
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

    /// Has the connection polled once more, to look, whenever the timer says so. As it stands: setting it for every request
    /// would cost more than most of them.
    fn look_again(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + LOOK);
            self.look.store(true, Ordering::Relaxed);
            cx.waker().wake_by_ref();
        }
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
        let patience = Patience::new(Limits::default(), false);
        assert_eq!(over_after(&patience).await, Duration::from_secs(10));
        patience.on_request();
        patience.on_answered();
        assert_eq!(over_after(&patience).await, Duration::from_secs(120));
    }

    #[tokio::test(start_paused = true)]
    async fn head_is_timed_from_its_first_byte_and_not_from_later_ones() {
        let patience = Patience::new(Limits::default(), false);
        tokio::time::sleep(Duration::from_secs(9)).await;
        patience.on_bytes();
        tokio::time::sleep(Duration::from_secs(4)).await;
        patience.on_bytes();
        assert_eq!(over_after(&patience).await, Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_is_being_answered_waits_for_nothing() {
        let patience = Patience::new(Limits::default(), false);
        patience.on_bytes();
        patience.on_request();
        patience.on_bytes();
        let over = tokio::time::timeout(Duration::from_secs(10_000), over_after(&patience)).await;
        over.expect_err("nothing is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn client_is_looked_for_while_its_request_is_being_answered() {
        let patience = Patience::new(Limits::default(), false);
        patience.on_bytes();
        patience.on_request();
        let over = tokio::time::timeout(Duration::from_secs(16), over_after(&patience)).await;
        over.expect_err("nothing is waited for");
        assert!(patience.is_to_look() && !patience.is_to_look());
        let frames = Patience::new(Limits::default(), true);
        frames.on_request();
        let over = tokio::time::timeout(Duration::from_secs(1000), over_after(&frames)).await;
        over.expect_err("nothing is waited for");
        assert!(!frames.is_to_look(), "pings do that");
    }

    #[tokio::test(start_paused = true)]
    async fn idling_begins_when_the_last_byte_is_out() {
        let patience = Patience::new(Limits::default(), false);
        patience.on_request();
        patience.on_answered();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(100)).await;
            patience.on_written();
        }
        assert_eq!(over_after(&patience).await, Duration::from_secs(120));
    }

    #[tokio::test(start_paused = true)]
    async fn multiplexed_connection_idles_only_while_no_request_is_open_and_frames_do_not_count() {
        let patience = Patience::new(Limits::default(), true);
        patience.on_bytes();
        patience.on_request();
        patience.on_request();
        patience.on_answered();
        let over = tokio::time::timeout(Duration::from_secs(10_000), over_after(&patience)).await;
        over.expect_err("one is open");
        patience.on_answered();
        tokio::time::sleep(Duration::from_secs(100)).await;
        patience.on_bytes();
        assert_eq!(over_after(&patience).await, Duration::from_secs(20));
        assert!(patience.may_say_farewell());
        assert_eq!(over_after(&patience).await, FAREWELL);
        assert!(!patience.may_say_farewell());
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_ends_elsewhere_wakes_whoever_waits() {
        let patience = std::sync::Arc::new(Patience::new(Limits::default(), true));
        patience.on_request();
        let other = std::sync::Arc::clone(&patience);
        let (over, ()) = tokio::join!(over_after(&patience), async move {
            tokio::time::sleep(Duration::from_secs(7)).await;
            other.on_answered();
        });
        assert_eq!(over, Duration::from_secs(127));
    }
}
