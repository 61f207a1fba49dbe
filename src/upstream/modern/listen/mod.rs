//! Changes of lists and resources, for all sessions of one upstream: `subscriptions/listen`.
//!
//! A server keeps a place for every stream (1,024 by default), and each holds a descriptor here; so sessions that the
//! server would take for one and the same share one stream ([`Key`]). Each hears only what it asked for.
//!
//! `keeper` is the task of a stream, `share` what it has in common with the sessions, `member` a session's hold on it,
//! `request` one exchange with the server, `topic` what there is to hear of.

mod keeper;
mod key;
mod member;
mod request;
mod share;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::http::HeaderMap;
use tokio::time::Instant;

use self::keeper::Keeper;

use self::share::{REFUSED_FOR, Settled, Share, State};
use self::topic::Topic;
use crate::drain::Tasks;
use crate::upstream::Transport;

pub(crate) use self::key::Key;
pub(crate) use self::member::{Change, Member};
pub(crate) use self::request::Rejection;
pub(crate) use self::share::Opened;
pub(crate) use self::topic::Kinds;

/// How many credentials are remembered whose last session has left.
const MAX_REMEMBERED: usize = 1024;

/// Where the sessions of one upstream join.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    shares: Arc<Shares>,
    tasks: Tasks,
}

/// All shared streams of one upstream.
#[derive(Debug)]
struct Shares {
    transport: Arc<dyn Transport>,
    /// The number of the last request.
    last_id: AtomicU64,
    /// Locked before the state of any share, never after.
    map: Mutex<Map>,
}

#[derive(Debug, Default)]
struct Map {
    running: HashMap<Key, Arc<Share>>,
    /// What was refused to sessions that are gone, so that those that come and go do not ask it each time.
    remembered: HashMap<Key, Refusals>,
}

/// What a server refused of late.
#[derive(Debug)]
struct Refusals {
    unsupported: Option<Instant>,
    /// Lists only: a resource is asked for by the one client that wants it.
    lists: BTreeMap<Topic, Instant>,
}

impl Hub {
    /// A hub without sessions; streams are kept by `tasks`.
    #[must_use]
    pub(crate) fn new(transport: Arc<dyn Transport>, tasks: Tasks) -> Self {
        let shares = Shares { transport, last_id: AtomicU64::new(0), map: Mutex::default() };
        Hub { shares: Arc::new(shares), tasks }
    }

    /// Lets a session in that wants to hear of the changes of these lists. `headers` are the client's forwarded ones.
    #[must_use]
    pub(crate) fn join(&self, headers: &HeaderMap, kinds: Kinds) -> Member {
        self.enter(headers, kinds.topics().collect(), BTreeSet::new())
    }

    /// Lets a session in under another credential, with all that it wanted as `old`. What it may have missed between the
    /// two is made up.
    #[must_use]
    pub(crate) fn rejoin(&self, headers: &HeaderMap, old: &Member) -> Member {
        let wanted = old.wanted();
        self.enter(headers, wanted.clone(), wanted)
    }

    fn enter(&self, headers: &HeaderMap, wanted: BTreeSet<Topic>, missed: BTreeSet<Topic>) -> Member {
        let key = Key::of(headers);
        let mut map = self.shares.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = map.running.get(&key) {
            let id = share.join(wanted, missed);
            return Member::new(Arc::clone(share), id);
        }
        let state = map.remembered.remove(&key).map(Refusals::recalled).unwrap_or_default();
        let share = Arc::new(Share::new(state));
        map.running.insert(key.clone(), Arc::clone(&share));
        let id = share.join(wanted, missed);
        drop(map);
        let headers = key.headers(headers);
        self.tasks.spawn(Keeper::new(Arc::clone(&self.shares), Arc::clone(&share), key, headers).run());
        Member::new(share, id)
    }
}

impl Shares {
    /// Numbers a request.
    fn number(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Map {
    /// Keeps what was refused, for the next session under this credential.
    fn remember(&mut self, key: &Key, state: &State) {
        let lists = state.settled.iter().filter_map(|(topic, said)| match (topic, said) {
            (Topic::Resource(_), _) | (_, Settled::Honoured) => None,
            (list, Settled::Refused { at }) => Some((list.clone(), *at)),
        });
        let refusals = Refusals { unsupported: state.unsupported, lists: lists.collect() };
        self.remembered.retain(|_, refusals| refusals.are_fresh());
        if refusals.are_fresh() && self.remembered.len() < MAX_REMEMBERED {
            self.remembered.insert(key.clone(), refusals);
        }
    }
}

impl Refusals {
    fn are_fresh(&self) -> bool {
        self.unsupported.iter().chain(self.lists.values()).any(|at| at.elapsed() < REFUSED_FOR)
    }

    /// What a session starts with that comes after them.
    fn recalled(self) -> State {
        let settled = self.lists.into_iter().map(|(list, at)| (list, Settled::Refused { at })).collect();
        State::recalled(self.unsupported, settled)
    }
}
