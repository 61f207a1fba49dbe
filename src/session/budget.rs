//! A bound on bytes that many hold together.
//!
//! Why: each queue has its own bound, and ten thousand of them at their bounds are more memory than a machine has. A
//! budget is taken from before bytes are kept and given back when they are gone; who gets none waits or refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes that may be held. Clones draw on the same bytes.
#[derive(Debug, Clone)]
pub struct Budget {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    used: AtomicUsize,
    max: usize,
    freed: Notify,
}

/// Bytes that are always to be had: whoever sends small messages must not suffer from those who send large ones. Their
/// number is bounded elsewhere, by connections and queues.
const SMALL: usize = 16 << 10;

/// Bytes taken from a budget, given back on drop.
#[derive(Debug)]
pub struct Hold {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Budget { account: Arc::new(Account { used: AtomicUsize::new(0), max, freed: Notify::new() }) }
    }

    /// A hold on nothing yet.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold { budget: self.clone(), bytes: 0 }
    }

    /// Whether `bytes` are to be had; one piece larger than all is, when nothing else is held.
    fn fits(&self, used: usize, bytes: usize) -> bool {
        used == 0 || used.saturating_add(bytes) <= self.account.max
    }

    /// Takes `bytes`, if they are to be had.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let taken = |used| self.fits(used, bytes).then_some(used.saturating_add(bytes));
        self.account.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Takes `bytes` whatever is left; for what is bounded otherwise.
    pub(super) fn take_anyway(&self, bytes: usize) {
        self.account.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives `bytes` back.
    pub(super) fn give(&self, bytes: usize) {
        if bytes > 0 {
            self.account.used.fetch_sub(bytes, Ordering::Relaxed);
            self.account.freed.notify_waiters();
        }
    }

    /// Bytes that are held.
    pub(super) fn used(&self) -> u64 {
        self.account.used.load(Ordering::Relaxed) as u64
    }

    /// Whether so little is left that nobody new is taken in.
    pub(super) fn is_short(&self) -> bool {
        self.account.used.load(Ordering::Relaxed) > self.account.max / 10 * 9
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(&self) -> bool {
        !self.fits(self.account.used.load(Ordering::Relaxed), 1)
    }

    /// Waits until `bytes` are to be had; another may take them before the caller does. Cancel safe.
    pub(super) async fn room(&self, bytes: usize) {
        loop {
            let mut freed = std::pin::pin!(self.account.freed.notified());
            freed.as_mut().enable();
            if self.fits(self.account.used.load(Ordering::Relaxed), bytes) {
                return;
            }
            freed.await;
        }
    }
}

impl Hold {
    /// Takes `bytes` more, if they are to be had; the first few always are.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let is_small = self.bytes.saturating_add(bytes) <= SMALL;
        if is_small {
            self.budget.take_anyway(bytes);
        } else if !self.budget.take(bytes) {
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        self.budget.give(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn budget_is_shared_and_given_back() {
        let budget = Budget::new(100 << 10);
        let (mut one, mut other) = (budget.hold(), budget.clone().hold());
        assert!(one.grow(60 << 10) && !other.grow(50 << 10) && other.grow(40 << 10));
        assert!(budget.is_spent());
        assert!(budget.hold().grow(SMALL), "small ones are always taken");
        drop(one);
        assert!(other.grow(60 << 10));
    }

    #[test]
    fn one_piece_larger_than_all_fits_when_nothing_is_held() {
        let budget = Budget::new(10);
        assert!(budget.take(100));
        assert!(!budget.take(1));
        budget.give(100);
        assert!(budget.take(1));
    }

    #[tokio::test]
    async fn waiting_ends_when_enough_is_given_back() {
        let budget = Budget::new(10);
        assert!(budget.take(5) && budget.take(5));
        let mut room = Box::pin(budget.room(7));
        assert!(room.as_mut().now_or_never().is_none());
        budget.give(5);
        assert!(room.as_mut().now_or_never().is_none(), "not enough yet");
        budget.give(5);
        room.await;
    }
}
