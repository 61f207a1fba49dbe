//! The exchanges that are passed through now: who has stopped moving, and what is cut when the process ends.
//!
//! Promise: no exchange is held for ever by a client that neither sends nor takes, there are no more of them than there are
//! descriptors for (on HTTP/2 one connection carries a hundred), and none outlives the deadline of the drain.
//!
//! Why one list that is looked through now and then, and no timer for each: an exchange lasts a millisecond, and setting a
//! timer would cost as much as passing it on. The trap: hyper does not poll a body while the client takes nothing, so a
//! body cannot see its own stall; whoever looks must stand outside and end the connection.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Failure;
use crate::drain::{Part, Tasks};
use crate::net::Ender;

/// How long either side may stand still.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A client that takes nothing of its answer for this long is disconnected.
    pub stall: Duration,
    /// So is one that sends nothing of its request.
    pub body_stall: Duration,
    /// Most exchanges at once: each may hold a connection to the upstream.
    pub max: usize,
}

/// Why an exchange was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client stopped sending, or taking.
    Stalled = 1,
    /// The process ends.
    Over,
}

/// All exchanges that run.
#[derive(Debug)]
pub(super) struct Exchanges {
    limits: Limits,
    /// What the times in exchanges are counted from.
    epoch: Instant,
    running: Mutex<All>,
    /// The end of the process waits for them.
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    exchanges: HashMap<u64, Arc<Exchange>>,
    /// The deadline has passed.
    over: bool,
}

/// One exchange, as its two bodies tell of it.
#[derive(Debug)]
pub(super) struct Exchange {
    ender: Ender,
    epoch: Instant,
    /// When a piece of the answer was handed over that is not taken yet: milliseconds after `epoch`, 0 for none.
    handed: AtomicU64,
    /// Since when a piece of the request is waited for, likewise.
    wanted: AtomicU64,
    /// A [`Cut`], or 0.
    cut: AtomicU8,
    was_cut: Notify,
    /// The head of the answer is with the client: from now on nothing but the end of the connection can say that it is cut.
    answered: AtomicBool,
}

/// Keeps an exchange in the list.
#[derive(Debug)]
pub struct Ticket {
    exchanges: Arc<Exchanges>,
    number: u64,
    exchange: Arc<Exchange>,
    _part: Part,
}

impl Exchanges {
    pub(super) fn new(limits: Limits, tasks: Tasks) -> Self {
        Exchanges { limits, epoch: Instant::now(), running: Mutex::default(), tasks }
    }

    /// Begins an exchange of the connection that `ender` ends, unless the deadline of the drain has passed, or there are too
    /// many.
    pub(super) fn begin(self: &Arc<Self>, ender: Ender) -> Result<Ticket, Failure> {
        let exchange = Arc::new(Exchange {
            ender,
            epoch: self.epoch,
            handed: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            cut: AtomicU8::new(0),
            was_cut: Notify::new(),
            answered: AtomicBool::new(false),
        });
        let mut all = self.all();
        if all.over {
            return Err(Failure::Ending);
        }
        if all.exchanges.len() >= self.limits.max {
            return Err(Failure::Crowded);
        }
        let number = all.next;
        all.next += 1;
        all.exchanges.insert(number, Arc::clone(&exchange));
        Ok(Ticket { exchanges: Arc::clone(self), number, exchange, _part: self.tasks.take_part() })
    }

    /// How often [`Exchanges::cut_stalled`] is to be called.
    pub(super) fn pace(&self) -> Duration {
        let shortest = self.limits.stall.min(self.limits.body_stall);
        (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }

    /// Cuts the exchanges whose client stands still.
    pub(super) fn cut_stalled(&self) {
        let now = Instant::now();
        let is_older = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Ordering::Relaxed);
            since != 0 && now.saturating_duration_since(self.epoch + Duration::from_millis(since)) >= limit
        };
        for exchange in self.all().exchanges.values() {
            if is_older(&exchange.handed, self.limits.stall) || is_older(&exchange.wanted, self.limits.body_stall) {
                exchange.cut(Cut::Stalled);
            }
        }
    }

    /// Cuts all of them, and lets none begin any more.
    pub(super) fn end(&self) {
        let mut all = self.all();
        all.over = true;
        for exchange in all.exchanges.values() {
            exchange.cut(Cut::Over);
        }
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.all().exchanges.len()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    fn cut(&self, cut: Cut) {
        if self.cut.compare_exchange(0, cut as u8, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        if self.answered.load(Ordering::SeqCst) {
            self.ender.end();
        } else {
            self.was_cut.notify_one();
        }
    }

    /// The head of the answer goes out.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::SeqCst);
        if self.cut.load(Ordering::SeqCst) != 0 {
            self.ender.end();
        }
    }

    fn now(&self) -> u64 {
        // Never 0, which is none.
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A piece of the answer goes to the client's connection.
    pub(super) fn handed(&self) {
        self.handed.store(self.now(), Ordering::Relaxed);
    }

    /// The client's connection asks for more of the answer.
    pub(super) fn asked(&self) {
        self.handed.store(0, Ordering::Relaxed);
    }

    /// A piece of the request is waited for.
    pub(super) fn wanted(&self) {
        let _ = self.wanted.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A piece of the request is there.
    pub(super) fn came(&self) {
        self.wanted.store(0, Ordering::Relaxed);
    }
}

impl Ticket {
    /// The exchange, for its bodies.
    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Awaits `work`, unless the exchange is cut before.
    ///
    /// # Errors
    /// Why it was cut.
    pub async fn unless_cut<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.exchange.was_cut.notified() => {
                let is_over = self.exchange.cut.load(Ordering::SeqCst) == Cut::Over as u8;
                Err(Failure::from(if is_over { Cut::Over } else { Cut::Stalled }))
            }
        }
    }

    /// The head of the answer goes out.
    pub fn answered(&self) {
        self.exchange.answered();
    }

    /// A piece of the answer goes to the client's connection.
    pub fn handed(&self) {
        self.exchange.handed();
    }

    /// The client's connection asks for more of the answer.
    pub fn asked(&self) {
        self.exchange.asked();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.exchanges.all().exchanges.remove(&self.number);
    }
}
