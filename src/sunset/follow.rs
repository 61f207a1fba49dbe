//! Follows the plan and the other replicas, for as long as the process lives.
//!
//! Two loops, because one may be held up: while the guard judges years of evidence in [`Sunset::follow_plan`], a pause of another
//! replica is taken in by [`Sunset::follow_fleet`].

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::control::{ASK_AGAIN, Asked, Sunset};
use super::share::news;
use crate::traffic::Log;

/// How long the first client waits for what the other replicas agreed on: they may have paused what the plan begins with.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
/// How often it is tried to share what could not be, and looked who has shared.
const SHARE_AGAIN: Duration = Duration::from_millis(500);
/// The longest time between two tries when others are always first: hurry would only cost Redis and them.
const SHARE_LATER: Duration = Duration::from_secs(5);

impl Sunset {
    /// Decides for the first time, so that the first client finds the phase that holds. What other replicas agreed on counts
    /// if it comes here within a second; the fleet has to run meanwhile.
    pub async fn begin(&self, log: &Log) {
        let mut board = self.shared.fleet.board();
        if timeout(KNOWN_WITHIN, board.wait_for(|board| board.is_read())).await.is_err() {
            tracing::warn!(
                "what the other replicas agreed on for the switch-off has not come here; beginning without, and following \
                 it once it comes"
            );
        }
        let _ = self.decide(None, Asked::Guard, log).await;
    }

    /// Follows the plan and the other replicas for ever.
    pub async fn run(&self, log: &Log) {
        // On the heap: they would make the future of the whole program large.
        tokio::join!(Box::pin(self.follow_plan(log)), Box::pin(self.follow_fleet(log)));
    }

    async fn follow_plan(&self, log: &Log) {
        loop {
            let mut next = self.decide(None, Asked::Guard, log).await.unwrap_or(ASK_AGAIN);
            self.pass_on(log).await;
            if self.unsaved().is_some() {
                next = next.min(ASK_AGAIN);
                self.save();
            }
            let next = Instant::now() + next;
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.shared.again.notified() => {}
                () = self.expect(log) => {}
            }
        }
    }

    /// Tries again and again what the other replicas have to be there for. The guard is not asked for that: it judges all of
    /// the evidence each time.
    async fn expect(&self, log: &Log) {
        let mut pause = SHARE_AGAIN;
        loop {
            tokio::time::sleep(pause).await;
            if self.unshared().is_some() || self.shared.gathering().is_waiting() {
                let _ = self.decide(None, Asked::Nobody, log).await;
                self.pass_on(log).await;
            }
            pause = until_next_try(pause, self.is_contested());
        }
    }

    /// Has the other replicas and the state directory know what holds.
    async fn pass_on(&self, log: &Log) {
        self.share(log).await;
        self.share_seen().await;
        self.compare_options();
        if self.shared.is_to_save.swap(false, Ordering::Relaxed) {
            self.save();
        }
    }

    /// A state directory that hangs does not hold it up.
    fn save(&self) {
        let sunset = self.clone();
        tokio::task::spawn_blocking(move || sunset.shared.save());
    }

    /// Follows the other replicas for ever: a pause of one is one of all.
    async fn follow_fleet(&self, log: &Log) {
        let mut board = self.shared.fleet.board();
        let mut last = None;
        loop {
            let news = Some(news(&board.borrow_and_update()));
            if news != last {
                last = news;
                let _ = self.decide(None, Asked::Nobody, log).await;
                self.shared.again.notify_one();
            }
            if board.changed().await.is_err() {
                // The fleet is gone, and the process with it.
                return std::future::pending().await;
            }
        }
    }
}

fn until_next_try(last: Duration, is_contested: bool) -> Duration {
    if is_contested { (last * 2).min(SHARE_LATER) } else { SHARE_AGAIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_are_always_first_with_is_tried_ever_less_and_never_given_up() {
        let mut pause = SHARE_AGAIN;
        for _ in 0..8 {
            pause = until_next_try(pause, true);
        }
        assert_eq!((until_next_try(SHARE_AGAIN, true), pause), (SHARE_AGAIN * 2, SHARE_LATER));
        assert_eq!(until_next_try(pause, false), SHARE_AGAIN, "Redis is back, and nobody waits");
    }
}
