//! The sessions that are kept here, for clients whose server keeps none.
//!
//! Promise: an id is worth something only to the principal that it was given to, as with legacy sessions; one that nobody has used
//! for [`IDLE`] is forgotten, and the client that comes back is told to initialize anew (404), as with any server.
//!
//! A session costs its client nothing, not even a connection, and many never say that they are done. So where there are as
//! many as may be, one gives way that nobody uses: first those that nobody has used at all, so that who opens sessions in
//! vain pushes out its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::auth::{Credential, Principal, Sender};
use crate::drain::{Phase, Watch};
use crate::metrics::Metrics;
use crate::session::{Binding, site};
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
/// Credentials that a session is known to be good with: one, and what was renewed while requests were under way.
const ACCEPTED: usize = 4;

/// How many sessions are kept at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpgradeLimits {
    /// Of all clients.
    pub all: usize,
    /// Of one principal, if that is limited.
    pub per_principal: Option<usize>,
    /// From one address, or of IPv6 its site.
    pub per_address: Option<usize>,
}

/// All of them. Clones are the same.
#[derive(Debug, Clone)]
pub(in crate::front) struct Upgrades {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    limits: UpgradeLimits,
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
    binding: Binding,
    /// Who opened it.
    opener: Sender,
    /// What the server itself has accepted, the latest last.
    accepted: Mutex<VecDeque<Credential>>,
    /// Ends the stream that it has now, when dropped.
    stream: Mutex<Option<oneshot::Sender<()>>>,
    usage: Mutex<Use>,
    /// Told when a use ends.
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct Use {
    /// Requests and streams that are under way.
    open: usize,
    /// Whether there ever was one.
    was_used: bool,
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
    /// No session yet.
    pub(in crate::front) fn new(
        upstream: Upstream,
        limits: UpgradeLimits,
        silence: Duration,
        metrics: &Metrics,
    ) -> Self {
        let upgrades = Upgrades {
            shared: Arc::new(Shared { upstream, limits, silence, kept: Mutex::default(), freed: Arc::default() }),
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

    /// Whether the server keeps sessions itself, once that is known.
    pub(super) fn are_servers(&self) -> Option<bool> {
        self.shared.upstream.keeps_sessions()
    }

    /// Keeps a session of `opener`, and names it; `None` when there are too many that are in use.
    pub(super) fn keep(&self, link: Link, binding: Binding, opener: Sender) -> Option<HeaderValue> {
        let id = format!("{PREFIX}{}", random_hex(RANDOM));
        let named = HeaderValue::from_str(&id).ok()?;
        let session = Kept {
            link,
            binding,
            opener,
            accepted: Mutex::default(),
            stream: Mutex::default(),
            usage: Mutex::new(Use { open: 0, was_used: false, since: Instant::now() }),
            freed: Arc::clone(&self.shared.freed),
        };
        let UpgradeLimits { all, per_principal, per_address } = self.shared.limits;
        // Nobody in particular is many.
        let per_principal = per_principal.filter(|_| opener.principal != Principal::Anonymous);
        let (principal, site_of) = (opener.principal, |kept: &Kept| site(kept.opener.address));
        let here = site_of(&session);
        let mut kept = self.kept();
        let has_room = make_room(&mut kept, per_principal, |kept| kept.opener.principal == principal)
            && make_room(&mut kept, per_address, |kept| site_of(kept) == here)
            && (kept.len() < all || make_room(&mut kept, Some(all), |_| true));
        if !has_room {
            return None;
        }
        kept.insert(id, Arc::new(session));
        Some(named)
    }

    /// Uses the session called `id`, if who asks is let in.
    pub(super) fn find(&self, id: &HeaderValue, lets_in: impl FnOnce(&Binding) -> bool) -> Option<Usage> {
        // The map hashes under a random key: how long this takes tells nothing about ids.
        let kept = self.kept().get(id.to_str().ok()?).cloned()?;
        if !lets_in(&kept.binding) {
            return None;
        }
        let mut usage = lock(&kept.usage);
        usage.open += 1;
        usage.was_used = true;
        drop(usage);
        Some(Usage { kept })
    }

    /// The server itself has accepted the opener of the session called `id`.
    pub(super) fn opened(&self, id: &HeaderValue) {
        let kept = id.to_str().ok().and_then(|id| self.kept().get(id).cloned());
        if let Some(kept) = kept {
            kept.accepted(&kept.opener);
        }
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

/// Makes room for one more among those that `count`, where there may be `max` of them: the one goes that nobody has used,
/// or else not for the longest time. Whether there is room.
fn make_room(kept: &mut HashMap<String, Arc<Kept>>, max: Option<usize>, count: impl Fn(&Kept) -> bool) -> bool {
    let Some(max) = max else { return true };
    let counted = || kept.iter().filter(|(_, kept)| count(kept));
    if counted().count() < max {
        return true;
    }
    let idle = counted().filter_map(|(id, kept)| Some((kept.idle_since()?, id)));
    let Some((_, id)) = idle.min() else { return false };
    let id = id.clone();
    kept.remove(&id);
    true
}

impl Kept {
    /// The server itself took what `sender` sent: a client that renews its token goes on with its session.
    pub(super) fn accepted(&self, sender: &Sender) {
        self.binding.accepted(sender.principal);
        let mut accepted = lock(&self.accepted);
        accepted.retain(|credential| *credential != sender.credential);
        accepted.push_back(sender.credential);
        if accepted.len() > ACCEPTED {
            accepted.pop_front();
        }
    }

    /// It turned the credential of `sender` down.
    pub(super) fn turned_down(&self, sender: &Sender) {
        self.binding.turned_down(sender.principal);
        lock(&self.accepted).retain(|credential| *credential != sender.credential);
    }

    /// Whether the server is known to take the credential of `sender`.
    pub(super) fn knows(&self, sender: &Sender) -> bool {
        lock(&self.accepted).contains(&sender.credential)
    }

    /// Begins the stream of the session, and ends the one before it: of two, each would take what the other is to hear.
    /// Resolves when this one is to end.
    pub(super) fn take_stream(&self) -> oneshot::Receiver<()> {
        let (held, ended) = oneshot::channel();
        *lock(&self.stream) = Some(held);
        ended
    }

    /// Whether it was ever used, and since when it is not; `None` while it is.
    fn idle_since(&self) -> Option<(bool, Instant)> {
        let usage = lock(&self.usage);
        (usage.open == 0).then_some((usage.was_used, usage.since))
    }

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
