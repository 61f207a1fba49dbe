//! The sessions that are kept here, for clients whose server keeps none.
//!
//! Promise: an id is worth something only to the principal that it was given to, as with legacy sessions; one that nobody has used
//! for [`IDLE`] is forgotten, and the client that comes back is told to initialize anew (404), as with any server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::drain::{Phase, Watch};
use crate::metrics::Metrics;
use crate::session::Binding;
use crate::traffic::random_hex;
use crate::upstream::{Link, Upstream};

/// How long a session is kept that nobody uses: after its last request ended, with no stream open.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How often it is looked for such.
const SWEEP: Duration = Duration::from_secs(60);
/// What our ids begin with, so that one that was forgotten is known to be none of the server's.
const PREFIX: &str = "sunset-";
/// Random bytes in an id: whoever has it and the credential can post into the session.
const RANDOM: usize = 32;

/// All of them. Clones are the same.
#[derive(Debug, Clone)]
pub(in crate::front) struct Upgrades {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    /// Most sessions that are kept.
    max: usize,
    /// A comment goes on a stream after this much silence.
    silence: Duration,
    kept: Mutex<HashMap<String, Arc<Kept>>>,
    freed: Arc<Notify>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) link: Link,
    /// Whose it is.
    pub(super) binding: Binding,
    usage: Mutex<Use>,
    /// Told when a use ends.
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct Use {
    /// Requests and streams that are under way.
    open: usize,
    /// Since when there are none.
    since: Instant,
}

/// A use of a session, until it is dropped.
#[derive(Debug)]
pub(super) struct Usage {
    kept: Arc<Kept>,
}

/// Whether an id was given out here, by this process or one like it.
pub(super) fn is_ours(id: &HeaderValue) -> bool {
    id.as_bytes().starts_with(PREFIX.as_bytes())
}

impl Upgrades {
    /// No session yet; at most `max` of them.
    pub(in crate::front) fn new(upstream: Upstream, max: usize, silence: Duration, metrics: &Metrics) -> Self {
        let upgrades = Upgrades {
            shared: Arc::new(Shared { upstream, max, silence, kept: Mutex::default(), freed: Arc::default() }),
        };
        let counted = upgrades.clone();
        metrics.watch_gauge("upgraded_sessions", move || u64::try_from(counted.kept().len()).unwrap_or(u64::MAX));
        upgrades
    }

    pub(super) fn silence(&self) -> Duration {
        self.shared.silence
    }

    /// A way to the server on which nothing was sent.
    pub(super) fn link(&self) -> Link {
        self.shared.upstream.link()
    }

    /// Keeps a session, and names it; `None` when there are too many.
    pub(super) fn keep(&self, link: Link, binding: Binding) -> Option<HeaderValue> {
        let id = format!("{PREFIX}{}", random_hex(RANDOM));
        let named = HeaderValue::from_str(&id).ok()?;
        let usage = Mutex::new(Use { open: 0, since: Instant::now() });
        let freed = Arc::clone(&self.shared.freed);
        let mut kept = self.kept();
        if kept.len() >= self.shared.max {
            return None;
        }
        kept.insert(id, Arc::new(Kept { link, binding, usage, freed }));
        Some(named)
    }

    /// Uses the session called `id`, if who asks is let in.
    pub(super) fn find(&self, id: &HeaderValue, lets_in: impl FnOnce(&Binding) -> bool) -> Option<Usage> {
        // The map hashes under a random key: how long this takes tells nothing about ids.
        let kept = self.kept().get(id.to_str().ok()?).cloned()?;
        if !lets_in(&kept.binding) {
            return None;
        }
        lock(&kept.usage).open += 1;
        Some(Usage { kept })
    }

    /// Forgets a session.
    pub(super) fn end(&self, id: &HeaderValue) {
        if let Ok(id) = id.to_str() {
            self.kept().remove(id);
        }
    }

    /// Forgets sessions that nobody uses; while the process drains, as soon as that is so: what a session listens to ends
    /// with it. Never ends.
    pub(in crate::front) async fn sweep(&self, mut drain: Watch) {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.kept().retain(|_, kept| !kept.is_idle(IDLE)),
                () = drain.reached(Phase::Closing) => break,
            }
        }
        loop {
            self.kept().retain(|_, kept| !kept.is_idle(Duration::ZERO));
            self.shared.freed.notified().await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Arc<Kept>>> {
        lock(&self.shared.kept)
    }
}

impl Kept {
    fn is_idle(&self, time: Duration) -> bool {
        let usage = lock(&self.usage);
        usage.open == 0 && usage.since.elapsed() >= time
    }
}

impl std::ops::Deref for Usage {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        &self.kept
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        let mut usage = lock(&self.kept.usage);
        usage.open -= 1;
        usage.since = Instant::now();
        drop(usage);
        self.kept.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
