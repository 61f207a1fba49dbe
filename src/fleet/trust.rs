//! What is not to be trusted: counted at once, told in the log at a pace that nobody can drive up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::metrics::Closed;
use crate::metrics::Counter;
use crate::traffic::{FleetRefused, Log, Record};

/// Each fault is told of no more often than this.
const PACE: Duration = Duration::from_secs(10);
/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_millis(200);

/// Why an id or an envelope is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A session id that no key of ours sealed, or that was changed.
    ForgedId,
    /// A session id sealed under a key that is not known here: of another fleet, or retired.
    ForeignId,
    /// A session id whose session has ended, or whose owner is gone.
    ExpiredId,
    /// An envelope that no key of ours sealed, or that was changed or meant for another place.
    ForgedEnvelope,
    /// An envelope sealed under a key that is not known here.
    ForeignEnvelope,
    /// An envelope whose time is over.
    ExpiredEnvelope,
    /// An envelope that came before.
    ReplayedEnvelope,
}

/// Every fault as log and metrics name it, in the order of [`Fault`].
pub const FAULTS: &[&str] = &[
    "forged_id",
    "foreign_id",
    "expired_id",
    "forged_envelope",
    "foreign_envelope",
    "expired_envelope",
    "replayed_envelope",
];

const ALL: [Fault; 7] = [
    Fault::ForgedId,
    Fault::ForeignId,
    Fault::ExpiredId,
    Fault::ForgedEnvelope,
    Fault::ForeignEnvelope,
    Fault::ExpiredEnvelope,
    Fault::ReplayedEnvelope,
];

impl Fault {
    /// As log and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        FAULTS.get(self as usize).copied().unwrap_or_default()
    }
}

/// Counts faults until the log has them.
#[derive(Debug, Default)]
pub(super) struct Faults {
    untold: [AtomicU64; ALL.len()],
}

impl Faults {
    pub(super) fn note(&self, fault: Fault, counted: &Closed<Counter>) {
        counted.of(fault.name()).inc();
        if let Some(untold) = self.untold.get(fault as usize) {
            untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the log of them for ever.
    pub(super) async fn tell(&self, log: &Log) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: [Option<Instant>; ALL.len()] = [None; ALL.len()];
        loop {
            look.tick().await;
            for ((fault, untold), told) in ALL.into_iter().zip(&self.untold).zip(&mut told) {
                if told.is_some_and(|at| at.elapsed() < PACE) {
                    continue;
                }
                let count = untold.swap(0, Ordering::Relaxed);
                if count > 0 {
                    *told = Some(Instant::now());
                    if fault == Fault::ExpiredId {
                        tracing::info!(count, "there were posts into sessions that have ended");
                    } else {
                        let reason = fault.name();
                        tracing::warn!(reason, count, "refused what no replica of this fleet had sealed for it");
                    }
                    log.write(Record::FleetRefused(FleetRefused { reason: fault.name(), count })).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_their_own_names() {
        for (at, fault) in ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at);
            assert_eq!(fault.name(), FAULTS[at]);
        }
    }
}
