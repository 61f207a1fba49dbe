//! What the sessions that share a stream want, what the server said to it, and what each has still to be told.
//!
//! Promise: nobody waits for anybody. A session's news wait here, one for each topic at most, so a slow one holds up
//! neither the stream nor the others, and what it costs is bounded by what it subscribed to. The lock is never held
//! across an `await`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::request::Rejection;
use super::topic::{News, Subject, Topic};
use crate::mcp::{RpcError, code};

/// For how long a "no" of the server holds: within it, the same is not asked again.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Resources that one session may subscribe to, and all that share a stream.
const MAX_RESOURCES: usize = 1024;
const MAX_SHARED: usize = 8192;

/// One stream and those who share it.
#[derive(Debug)]
pub(super) struct Share {
    state: Mutex<State>,
    /// Wakes the keeper of the stream: somebody wants something else.
    pub(super) changed: Notify,
    /// Wakes those who wait for what the server says.
    pub(super) progress: watch::Sender<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) seats: BTreeMap<u64, Seat>,
    next_seat: u64,
    /// All topics that are wanted, and by how many.
    pub(super) wanted: BTreeMap<Topic, usize>,
    /// What the server said last to each topic.
    pub(super) settled: BTreeMap<Topic, Settled>,
    /// Since when the server is known not to know the method.
    pub(super) unsupported: Option<Instant>,
    /// Whether there is a stream now.
    pub(super) is_open: bool,
    /// How many requests were begun.
    pub(super) attempts: u64,
    /// The last request that brought nothing, and why.
    pub(super) failure: Option<(u64, RpcError)>,
    pub(super) ended: Option<Ended>,
}

/// What the server said to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Honoured,
    Refused { at: Instant },
}

/// Why there will be no more news.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    Rejected(Rejection),
    Over,
}

/// One session.
#[derive(Debug)]
pub(super) struct Seat {
    wanted: BTreeSet<Topic>,
    /// What it has not taken yet.
    pending: BTreeMap<Topic, News>,
    waker: Option<Waker>,
    /// Of what it has missed news before it came here, as long as there is no stream that speaks of it.
    missed: BTreeSet<Topic>,
    /// How many requests had been begun when it came.
    since: u64,
    was_told_the_end: bool,
}

/// What a session gets next.
#[derive(Debug)]
pub(super) enum Next {
    News(Bytes),
    Rejected(Rejection),
    Nothing,
    Over,
}

/// What came of the first request for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The stream is open, for some of what was asked at least.
    Listening,
    /// The server listens to none of it, or nothing was asked.
    NothingHonoured,
    /// The server does not know `subscriptions/listen`.
    Unsupported,
    /// Not under this credential.
    Rejected(Rejection),
    /// Not yet; it will be tried again.
    NotNow,
}

impl Share {
    pub(super) fn new(state: State) -> Self {
        Share { state: Mutex::new(state), changed: Notify::new(), progress: watch::Sender::new(()) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a session in that wants `topics` and has `missed` news of some before.
    pub(super) fn join(&self, topics: impl IntoIterator<Item = Topic>, missed: BTreeSet<Topic>) -> u64 {
        let mut state = self.lock();
        let id = state.next_seat;
        state.next_seat += 1;
        let seat = Seat {
            wanted: BTreeSet::new(),
            pending: BTreeMap::new(),
            waker: None,
            missed,
            since: state.attempts,
            was_told_the_end: false,
        };
        state.seats.insert(id, seat);
        topics.into_iter().for_each(|topic| state.want(id, &topic));
        if state.is_open {
            state.make_up(&BTreeSet::new());
        }
        drop(state);
        self.changed.notify_one();
        id
    }

    /// Lets it out again.
    pub(super) fn leave(&self, id: u64) {
        let mut state = self.lock();
        let Some(seat) = state.seats.remove(&id) else { return };
        seat.wanted.iter().for_each(|topic| state.release(topic));
        drop(state);
        if let Some(waker) = seat.waker {
            waker.wake();
        }
        self.changed.notify_one();
    }

    /// What a session wants.
    pub(super) fn wanted(&self, id: u64) -> BTreeSet<Topic> {
        self.lock().seats.get(&id).map(|seat| seat.wanted.clone()).unwrap_or_default()
    }

    /// A session wants a resource. Returns how many requests were begun before, and whether it wanted it already.
    pub(super) fn subscribe(&self, id: u64, topic: &Topic) -> Result<(u64, bool), RpcError> {
        let mut state = self.lock();
        let Some(seat) = state.seats.get(&id) else { return Err(left()) };
        let wanted_already = seat.wanted.contains(topic);
        let of_all = state.wanted.len();
        if !wanted_already && (seat.wanted.len() >= MAX_RESOURCES || of_all >= MAX_SHARED) {
            let text = "too many resources are subscribed to; unsubscribe from others first";
            return Err(RpcError::new(code::SESSION, "too_many_subscriptions", text));
        }
        state.want(id, topic);
        let attempts = state.attempts;
        drop(state);
        self.changed.notify_one();
        Ok((attempts, wanted_already))
    }

    /// It wants it no more.
    pub(super) fn unsubscribe(&self, id: u64, topic: &Topic) {
        let mut state = self.lock();
        let Some(seat) = state.seats.get_mut(&id) else { return };
        seat.pending.remove(topic);
        seat.missed.remove(topic);
        if seat.wanted.remove(topic) {
            state.release(topic);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// What became of a resource that a session wants since `since` requests were begun; `None`: not known yet.
    pub(super) fn verdict(&self, id: u64, topic: &Topic, since: u64) -> Option<Result<(), RpcError>> {
        let state = self.lock();
        match &state.ended {
            Some(Ended::Rejected(_)) => {
                let text = "the server turned the credential of the subscription down";
                return Some(Err(RpcError::new(code::UNAUTHORIZED, "subscription_unauthorized", text)));
            }
            Some(Ended::Over) => return Some(Err(left())),
            None => {}
        }
        if state.seats.get(&id).is_none_or(|seat| !seat.wanted.contains(topic)) {
            return Some(Err(left()));
        }
        match state.settled.get(topic) {
            Some(Settled::Honoured) if state.is_open => Some(Ok(())),
            Some(Settled::Refused { .. }) => Some(Err(state.refusal())),
            _ => {
                let failed = state.failure.as_ref().filter(|(attempt, _)| *attempt > since);
                failed.map(|(_, error)| Err(error.clone()))
            }
        }
    }

    /// What came of the first request for a session; `None`: not known yet.
    pub(super) fn opened(&self, id: u64) -> Option<Opened> {
        let state = self.lock();
        if let Some(Ended::Rejected(rejection)) = &state.ended {
            return Some(Opened::Rejected(rejection.clone()));
        }
        let Some(seat) = state.seats.get(&id) else { return Some(Opened::NotNow) };
        let said: Vec<_> = seat.wanted.iter().map(|topic| state.settled.get(topic)).collect();
        if state.is_open && said.contains(&Some(&Settled::Honoured)) {
            Some(Opened::Listening)
        } else if said.iter().all(|said| matches!(said, Some(Settled::Refused { .. }))) {
            Some(if state.unsupported.is_some() { Opened::Unsupported } else { Opened::NothingHonoured })
        } else {
            state.failure.as_ref().filter(|(attempt, _)| *attempt > seat.since).map(|_| Opened::NotNow)
        }
    }

    /// What a session gets next; its waker is called when there may be more.
    pub(super) fn next(&self, id: u64, waker: &Waker) -> Next {
        let mut state = self.lock();
        let ended = state.ended.clone();
        let Some(seat) = state.seats.get_mut(&id) else { return Next::Over };
        if let Some((_, news)) = seat.pending.pop_first() {
            return Next::News(news.text);
        }
        match ended {
            Some(Ended::Rejected(rejection)) if !std::mem::replace(&mut seat.was_told_the_end, true) => {
                Next::Rejected(rejection)
            }
            Some(_) => Next::Over,
            None => {
                seat.waker = Some(waker.clone());
                Next::Nothing
            }
        }
    }

    /// There will be no more news.
    pub(super) fn end(&self, ended: Ended) {
        let mut state = self.lock();
        state.is_open = false;
        state.ended.get_or_insert(ended);
        state.seats.values_mut().filter_map(|seat| seat.waker.take()).for_each(Waker::wake);
        drop(state);
        self.progress.send_replace(());
    }
}

impl State {
    /// A share that nobody has joined yet, with what the server refused of late.
    #[must_use]
    pub(super) fn recalled(unsupported: Option<Instant>, settled: BTreeMap<Topic, Settled>) -> Self {
        State { settled, unsupported, ..State::default() }
    }

    /// A session wants a topic: what the server refused a while ago may be asked again.
    fn want(&mut self, id: u64, topic: &Topic) {
        if matches!(self.settled.get(topic), Some(Settled::Refused { at }) if at.elapsed() >= REFUSED_FOR) {
            self.settled.remove(topic);
        }
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if seat.wanted.insert(topic.clone()) {
            *self.wanted.entry(topic.clone()).or_default() += 1;
        }
    }

    fn release(&mut self, topic: &Topic) {
        if let Some(by) = self.wanted.get_mut(topic) {
            *by -= 1;
            if *by == 0 {
                self.wanted.remove(topic);
            }
        }
    }

    /// Why a resource that the server refused cannot be subscribed to.
    fn refusal(&self) -> RpcError {
        let (reason, text) = if self.unsupported.is_some() {
            (
                "subscriptions_unsupported",
                "the server does not support subscriptions (it knows no subscriptions/listen)",
            )
        } else {
            ("subscription_not_honoured", "the server does not offer updates of this resource")
        };
        RpcError::new(code::METHOD_NOT_FOUND, reason, text)
    }

    /// Tells all who want it.
    pub(super) fn tell(&mut self, news: &News) {
        // Those who wanted the whole hear of its parts.
        let topics: Vec<_> = match &news.subject {
            Subject::List(topic) => vec![topic.clone()],
            Subject::Resource(_) => self.wanted.keys().filter(|topic| topic.covers(&news.subject)).cloned().collect(),
        };
        for topic in &topics {
            for seat in self.seats.values_mut() {
                seat.hear(topic, news);
            }
        }
    }

    /// Tells of what may have changed unheard, now that the stream speaks of it: all who want it of `missed`, and each
    /// of what it missed itself.
    pub(super) fn make_up(&mut self, missed: &BTreeSet<Topic>) {
        let honoured = |topic: &&Topic| self.settled.get(*topic) == Some(&Settled::Honoured);
        for seat in self.seats.values_mut() {
            let (now, later) = std::mem::take(&mut seat.missed).into_iter().partition(|topic| honoured(&topic));
            seat.missed = later;
            for topic in missed.iter().filter(honoured).chain(&now) {
                seat.hear(topic, &topic.news());
            }
        }
    }
}

impl Seat {
    /// The latest news of a topic stand for all before. News of two parts of one resource become news of the whole.
    fn hear(&mut self, topic: &Topic, news: &News) {
        if !self.wanted.contains(topic) {
            return;
        }
        let news = match self.pending.get(topic) {
            Some(pending) if pending.subject != news.subject => topic.news(),
            _ => news.clone(),
        };
        self.pending.insert(topic.clone(), news);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The session whose subscription it is has ended.
fn left() -> RpcError {
    RpcError::new(code::SESSION, "subscription_over", "the subscription was given up before the server had answered")
}
