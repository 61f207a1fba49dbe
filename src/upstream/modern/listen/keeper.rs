//! Keeps one shared stream open, and asks for another when something else is wanted.
//!
//! Promises: the new stream is acknowledged before the old one is closed; what may have been missed is made up; and
//! nothing is asked in a hot loop: what the server refused is asked again only when somebody wants something else, and
//! what broke is opened again after a wait that grows. The keeper ends with its last member.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ::http::HeaderMap;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::Shares;
use super::key::Key;
use super::request::{self, Outcome};
use super::share::{Ended, REFUSED_FOR, Settled, Share, State};
use super::topic::{News, Topic};
use crate::mcp::RpcError;
use crate::upstream::{Item, Replies};

/// Bounds of the wait before a stream is opened again.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A stream that lasted this long was a good one: the next wait is short again.
const GOOD_STREAM: Duration = Duration::from_secs(60);
/// Messages of an old stream that are still read once the new one is there.
const MOST_LEFT_OVER: usize = 1024;

/// The task of one shared stream.
pub(super) struct Keeper {
    shares: Arc<Shares>,
    share: Arc<Share>,
    key: Key,
    /// What goes up with every request.
    headers: Arc<HeaderMap>,
    current: Option<Current>,
    opening: Option<Opening>,
    /// Not before this is the next request made.
    not_before: Instant,
    /// How often in a row it went wrong.
    failures: u32,
    /// The number of its last request, which is no other stream's.
    number: u64,
    /// Of what news may have been missed.
    missed: BTreeSet<Topic>,
}

/// The stream that is read.
struct Current {
    replies: Box<Replies>,
    id: String,
    since: Instant,
}

/// A request that is not acknowledged yet.
struct Opening {
    outcome: BoxFuture<'static, Outcome>,
    id: String,
    attempt: u64,
    asked: Arc<BTreeSet<Topic>>,
}

/// What the keeper does next.
enum Plan {
    /// It ends.
    Over,
    /// It waits until something happens.
    Wait,
    /// The same, but not longer.
    WaitUntil(Instant),
}

impl Keeper {
    pub(super) fn new(shares: Arc<Shares>, share: Arc<Share>, key: Key, headers: HeaderMap) -> Self {
        Keeper {
            shares,
            share,
            key,
            headers: Arc::new(headers),
            current: None,
            opening: None,
            not_before: Instant::now(),
            failures: 0,
            number: 0,
            missed: BTreeSet::new(),
        }
    }

    /// Runs until the last member has left, or the credential was turned down.
    pub(super) async fn run(mut self) {
        loop {
            let due_at = match self.plan() {
                Plan::Over => return,
                Plan::Wait => None,
                Plan::WaitUntil(at) => Some(at),
            };
            tokio::select! {
                biased;
                () = self.share.changed.notified() => {}
                outcome = outcome(&mut self.opening) => self.conclude(outcome),
                item = item(&mut self.current) => self.take(item),
                () = due(due_at) => {}
            }
        }
    }

    /// Decides what to do next.
    fn plan(&mut self) -> Plan {
        let share = Arc::clone(&self.share);
        let mut state = share.lock();
        if state.ended.is_some() {
            return Plan::Over;
        }
        if state.wanted.is_empty() {
            self.close(&mut state);
            let is_left = state.seats.is_empty();
            drop(state);
            return if is_left && self.leave() { Plan::Over } else { Plan::Wait };
        }
        self.missed.retain(|topic| state.wanted.contains_key(topic));
        if state.settle_from_memory() {
            self.share.progress.send_replace(());
        }
        if self.opening.is_some() || !state.asks_for_more(self.current.is_some()) {
            return Plan::Wait;
        }
        if Instant::now() < self.not_before {
            return Plan::WaitUntil(self.not_before);
        }
        self.open(&mut state);
        Plan::Wait
    }

    /// Nobody wants anything: the stream is closed, and what goes on unheard is nobody's loss.
    fn close(&mut self, state: &mut State) {
        self.current = None;
        self.opening = None;
        self.missed.clear();
        state.is_open = false;
        state.settled.retain(|_, said| *said != Settled::Honoured);
    }

    /// Leaves, unless somebody has come meanwhile. Returns whether it has left.
    fn leave(&self) -> bool {
        let mut shares = self.shares.map.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.share.lock();
        if !state.seats.is_empty() {
            return false;
        }
        shares.remember(&self.key, &state);
        shares.running.remove(&self.key);
        drop(state);
        self.share.end(Ended::Over);
        true
    }

    fn open(&mut self, state: &mut State) {
        state.attempts += 1;
        let asked: Arc<BTreeSet<Topic>> = Arc::new(state.wanted.keys().cloned().collect());
        self.number = self.shares.number();
        let id = format!("listen-{}", self.number);
        let transport = Arc::clone(&self.shares.transport);
        let outcome = request::open(transport, Arc::clone(&self.headers), id.clone(), Arc::clone(&asked)).boxed();
        self.opening = Some(Opening { outcome, id, attempt: state.attempts, asked });
    }

    /// A request has come to something.
    fn conclude(&mut self, outcome: Outcome) {
        let Some(opening) = self.opening.take() else { return };
        match outcome {
            Outcome::Acknowledged { replies, honoured } => self.acknowledged(opening, replies, &honoured),
            Outcome::Unsupported => {
                tracing::info!("the server knows no subscriptions/listen; its clients hear of no changes");
                self.refused(&opening.asked);
            }
            Outcome::NotNow(error) => self.failed(&opening, error),
            Outcome::Rejected(rejection) => {
                let mut shares = self.shares.map.lock().unwrap_or_else(PoisonError::into_inner);
                shares.running.remove(&self.key);
                drop(shares);
                self.current = None;
                self.share.end(Ended::Rejected(rejection));
            }
        }
        self.share.progress.send_replace(());
    }

    fn acknowledged(&mut self, opening: Opening, replies: Box<Replies>, honoured: &BTreeSet<Topic>) {
        let now = Instant::now();
        self.read_left_over();
        let share = Arc::clone(&self.share);
        let mut state = share.lock();
        state.unsupported = None;
        if self.current.is_some() && state.wants_back(&opening.asked) {
            // Whoever wants it back was told that it is heard: the old one stays until there is one that has it all.
            self.not_before = now;
            return;
        }
        state.settled.retain(|_, said| *said != Settled::Honoured);
        for topic in opening.asked.iter() {
            let said = if honoured.contains(topic) { Settled::Honoured } else { Settled::Refused { at: now } };
            state.settled.insert(topic.clone(), said);
        }
        state.is_open = !honoured.is_empty();
        state.failure = None;
        self.not_before = now;
        // The old one is closed by this, now that the new one is there.
        self.current = state.is_open.then_some(Current { replies, id: opening.id, since: now });
        let missed = std::mem::take(&mut self.missed);
        state.make_up(&missed);
        if honoured.len() < opening.asked.len() {
            let (honoured, asked) = (honoured.len(), opening.asked.len());
            tracing::info!(honoured, asked, "the server does not announce all that was asked for");
        }
    }

    /// What the old stream had brought before the new one was there.
    fn read_left_over(&mut self) {
        let Some(current) = &mut self.current else { return };
        for _ in 0..MOST_LEFT_OVER {
            match current.replies.next().now_or_never() {
                Some(Some(Item::Message(message))) => {
                    if let Some(news) = News::of(&message) {
                        self.share.lock().tell(&news);
                    }
                }
                Some(Some(Item::Garbage(_) | Item::Waiting)) => {}
                // It was over already, nobody knows for how long.
                Some(Some(Item::End(_)) | None) => {
                    self.current = None;
                    return self.miss_what_was_honoured(&self.share.clone().lock());
                }
                None => return,
            }
        }
    }

    fn miss_what_was_honoured(&mut self, state: &State) {
        let honoured = state.settled.iter().filter(|(_, said)| **said == Settled::Honoured);
        self.missed.extend(honoured.map(|(topic, _)| topic.clone()));
    }

    /// The server does not know the method: what it honoured before, if anything, goes on.
    fn refused(&self, asked: &BTreeSet<Topic>) {
        let now = Instant::now();
        let mut state = self.share.lock();
        state.unsupported = Some(now);
        for topic in asked {
            if !state.is_heard(topic) {
                state.settled.insert(topic.clone(), Settled::Refused { at: now });
            }
        }
        let state = &mut *state;
        let wanted = &state.wanted;
        // What nobody wants any more is not worth another request either.
        state.settled.retain(|topic, said| *said != Settled::Honoured || wanted.contains_key(topic));
    }

    fn failed(&mut self, opening: &Opening, error: RpcError) {
        tracing::debug!(error = %error.message, "the server opened no subscription");
        let share = Arc::clone(&self.share);
        let mut state = share.lock();
        let unheard = opening.asked.iter().filter(|topic| !state.is_heard(topic));
        self.missed.extend(unheard.cloned());
        state.failure = Some((opening.attempt, error));
        self.wait_longer();
    }

    /// The stream brought something, or ended.
    fn take(&mut self, item: Option<Item>) {
        let Some(current) = &self.current else { return };
        match item {
            Some(Item::Message(message)) if request::is_end(&message, &current.id) => self.lost(),
            Some(Item::Message(message)) => {
                if let Some(news) = News::of(&message) {
                    self.share.lock().tell(&news);
                }
            }
            Some(Item::Garbage(_) | Item::Waiting) => {}
            Some(Item::End(_)) | None => self.lost(),
        }
    }

    fn lost(&mut self) {
        let Some(lost) = self.current.take() else { return };
        tracing::debug!(lasted = ?lost.since.elapsed(), "a subscription ended");
        if lost.since.elapsed() >= GOOD_STREAM {
            self.failures = 0;
        }
        let share = Arc::clone(&self.share);
        let mut state = share.lock();
        state.is_open = false;
        self.miss_what_was_honoured(&state);
        self.wait_longer();
    }

    fn wait_longer(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + wait(self.failures, spread(self.number));
    }
}

impl Drop for Keeper {
    /// A keeper that ends in any other way, by a panic, leaves nobody waiting.
    fn drop(&mut self) {
        if self.share.lock().ended.is_none() {
            let mut shares = self.shares.map.lock().unwrap_or_else(PoisonError::into_inner);
            shares.running.remove(&self.key);
            drop(shares);
            self.share.end(Ended::Over);
        }
    }
}

impl State {
    /// Answers from memory what need not be asked; returns whether it did. Forgets what is old.
    fn settle_from_memory(&mut self) -> bool {
        let wanted = &self.wanted;
        self.settled.retain(|topic, said| match said {
            Settled::Refused { at } => wanted.contains_key(topic) || at.elapsed() < REFUSED_FOR,
            Settled::Honoured => true,
        });
        let Some(at) = self.unsupported.filter(|at| at.elapsed() < REFUSED_FOR) else { return false };
        let before = self.settled.len();
        for topic in self.wanted.keys() {
            self.settled.entry(topic.clone()).or_insert(Settled::Refused { at });
        }
        self.settled.len() > before
    }

    /// Whether the stream, if there is one, is not the one that is wanted.
    fn asks_for_more(&self, has_stream: bool) -> bool {
        let is_honoured = |said: Option<&Settled>| said == Some(&Settled::Honoured);
        let more = |topic| match self.settled.get(topic) {
            None => true,
            said => !has_stream && is_honoured(said),
        };
        let less = |(topic, said)| has_stream && is_honoured(Some(said)) && !self.wanted.contains_key(topic);
        self.wanted.keys().any(more) || self.settled.iter().any(less)
    }

    /// Whether something that the open stream speaks of, and that was given up for a while, is wanted again after a
    /// request was made without it.
    fn wants_back(&self, asked: &BTreeSet<Topic>) -> bool {
        self.wanted.keys().any(|topic| self.is_heard(topic) && !asked.contains(topic))
    }

    /// Whether the stream that is open speaks of it.
    fn is_heard(&self, topic: &Topic) -> bool {
        self.is_open && self.settled.get(topic) == Some(&Settled::Honoured)
    }
}

/// Different for each stream: multiples of the golden ratio lie evenly however many there are, and are the same in every
/// run of a simulation.
fn spread(number: u64) -> u32 {
    const GOLDEN: u64 = 0x9E37_79B9;
    u32::try_from(number.wrapping_mul(GOLDEN) & u64::from(u32::MAX)).unwrap_or_default()
}

/// How long to wait after so many failures in a row: twice as long each time, less a part of its own, so that what was cut
/// off at once does not come back at once.
fn wait(failures: u32, spread: u32) -> Duration {
    let longest = LONGEST_WAIT.min(SHORTEST_WAIT * (1 << failures.min(6)));
    let part = f64::from(spread) / f64::from(u32::MAX);
    longest.mul_f64(1.0 - part / 2.0)
}

async fn outcome(opening: &mut Option<Opening>) -> Outcome {
    match opening {
        Some(opening) => (&mut opening.outcome).await,
        None => std::future::pending().await,
    }
}

async fn item(current: &mut Option<Current>) -> Option<Item> {
    match current {
        Some(current) => current.replies.next().await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_grows_from_one_second_to_thirty() {
        let bounds = |failures| (wait(failures, u32::MAX).as_secs_f64(), wait(failures, 0).as_secs_f64());
        assert_eq!(bounds(1), (1.0, 2.0));
        assert_eq!(bounds(2), (2.0, 4.0));
        assert_eq!(bounds(5), (15.0, 30.0));
        assert_eq!(bounds(u32::MAX), (15.0, 30.0));
    }
}
