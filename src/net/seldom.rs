//! Says something at most so often: a flood must not fill the diagnostics.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Seldom {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Seldom {
    pub(super) fn new(every: Duration) -> Self {
        Seldom { every, last: Mutex::new(None) }
    }

    /// Whether it may be said now; then not again for a while.
    pub(super) fn may(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= self.every);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
