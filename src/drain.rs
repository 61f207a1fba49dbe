//! Orderly shutdown: which phase the process is in, and which tasks have to end before it may.
//!
//! Promise: nothing runs that nobody waits for. Every task of the program is spawned through [`Tasks`], so that the
//! end of the process is the end of all of them.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How far the shutdown has come. Phases only move forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Ordinary work.
    Serving,
    /// Not ready any more, but everything is still served while balancers notice.
    Leaving,
    /// New streams are turned away by a connection reset, which makes TypeScript clients retry elsewhere (a 503
    /// would make them give up). Sessions end as soon as they owe nothing.
    Closing,
    /// The deadline has passed: every pending id gets its error now.
    Over,
}

/// Moves the phase forward.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
}

/// Sees the phase.
#[derive(Debug, Clone)]
pub struct Watch {
    phase: watch::Receiver<Phase>,
}

impl Drain {
    /// A process that serves.
    #[must_use]
    pub fn new() -> (Drain, Watch) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Drain { phase: sender }, Watch { phase: receiver })
    }

    /// Enters `phase`, unless it was reached before.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let moves = *current < phase;
            if moves {
                *current = phase;
            }
            moves
        });
    }
}

impl Watch {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until `phase` or a later one is reached. Cancel safe.
    pub async fn reached(&mut self, phase: Phase) {
        if self.phase.wait_for(|current| *current >= phase).await.is_err() {
            // The owner of the phase is gone, and with it the process: nothing will be reached any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Where tasks are spawned and counted.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
}

/// Work that is no task of its own, and that the shutdown waits for like one until this is dropped.
#[derive(Debug)]
pub struct Part {
    _token: TaskTrackerToken,
}

impl Tasks {
    /// Has the shutdown wait for what is done until the [`Part`] is dropped.
    #[must_use]
    pub fn take_part(&self) -> Part {
        Part { _token: self.tracker.token() }
    }

    /// Runs `future` as a task that the shutdown waits for.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(future)
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until all tasks have ended, those included that are spawned meanwhile.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_never_goes_back() {
        let (drain, watch) = Drain::new();
        drain.enter(Phase::Closing);
        drain.enter(Phase::Leaving);
        assert_eq!(watch.phase(), Phase::Closing);
    }

    #[tokio::test]
    async fn reached_returns_for_later_phases_too() {
        let (drain, mut watch) = Drain::new();
        drain.enter(Phase::Over);
        watch.reached(Phase::Leaving).await;
    }

    #[tokio::test(start_paused = true)]
    async fn ended_waits_for_every_task() {
        let tasks = Tasks::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(released);
        assert_eq!(tasks.running(), 1);
        let part = tasks.take_part();
        release.send(()).expect("the task waits");
        tokio::time::timeout(std::time::Duration::from_millis(1), tasks.ended()).await.expect_err("a part is left");
        drop(part);
        tasks.ended().await;
        assert_eq!(tasks.running(), 0);
    }
}
