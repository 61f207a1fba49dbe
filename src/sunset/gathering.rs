//! The list of those who were seen before the freeze: made here, joined with what the other replicas made.
//!
//! Promise: a client that any replica has seen is no newcomer at any of them. The list of all stands on the board, under no
//! replica's name, so that it outlives those who made it: replicas without a state directory come and go.
//!
//! The trap: a list that is too short refuses clients that are none. Until it is made, and for a while until every replica has
//! added its own, nobody is refused for want of being on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::control::{Shared, Sunset};
use super::decision::Chosen;
use super::share::SEEN;
use super::state::State;
use super::{Phase, Seen};
use crate::fleet::{Board, Unshared};

/// How long newcomers are let in while a replica has not added its list.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often another replica may be first before it is left for the next time.
const TRIES: usize = 8;

/// How far the list is made.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// What was made here.
    own: Option<Arc<Seen>>,
    /// The list before this time is being made.
    under_way: Option<Timestamp>,
    /// Since when a list before which time is wanted.
    wanted: Option<(Timestamp, Instant)>,
    /// Whether other replicas want the same.
    is_agreed: bool,
    /// What stands on the board, by its version.
    common: Option<(u64, Common)>,
    /// What counts, of which version of the board.
    joined: Option<(Option<u64>, Arc<Seen>)>,
    /// Whether somebody's list is awaited.
    is_waiting: bool,
    /// Whether operators know that somebody's did not come.
    is_told: bool,
}

/// The list of all.
#[derive(Debug, Clone, Default)]
struct Common {
    /// Those who were seen.
    seen: Arc<Seen>,
    /// The replicas that have added theirs.
    from: BTreeSet<String>,
}

/// The same as it stands on the board.
#[derive(Serialize, Deserialize)]
struct Written {
    seen: Seen,
    from: BTreeSet<String>,
}

impl Gathering {
    /// Whether it is not made yet.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some() || self.is_waiting
    }

    /// Whether somebody's list is awaited.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Begins anew if another list is wanted than before.
    fn want(&mut self, before: Timestamp) -> Instant {
        match self.wanted {
            Some((wanted, since)) if wanted == before => since,
            _ => {
                let (under_way, own, now) = (self.under_way, self.own.take(), Instant::now());
                let own = own.filter(|own| own.before == before);
                *self = Gathering { under_way, own, wanted: Some((before, now)), ..Gathering::default() };
                now
            }
        }
    }

    /// Reads what stands on the board, if it is another version than before.
    fn read(&mut self, board: &Board) {
        let Some(entry) = board.get(SEEN) else {
            self.common = None;
            return;
        };
        if self.common.as_ref().is_none_or(|(version, _)| *version != entry.version) {
            let common = match serde_json::from_slice::<Written>(&entry.bytes) {
                Ok(Written { seen, from }) => Common { seen: Arc::new(seen), from },
                Err(error) => {
                    tracing::error!(%error, "who other replicas have seen before the freeze cannot be understood here");
                    Common::default()
                }
            };
            self.common = Some((entry.version, common));
        }
    }

    /// The list of all before `before`, if it stands on the board.
    fn common(&self, before: Timestamp) -> Option<&Common> {
        self.common.as_ref().map(|(_, common)| common).filter(|common| common.seen.before == before)
    }

    /// What is known of those before `before`. The same as long as it does not change.
    fn joined(&mut self, own: &Arc<Seen>) -> Arc<Seen> {
        let common = self.common(own.before).map(|common| Arc::clone(&common.seen));
        let version = self.common.as_ref().map(|(version, _)| *version).filter(|_| common.is_some());
        if let Some((_, joined)) = self.joined.as_ref().filter(|(of, _)| *of == version) {
            return Arc::clone(joined);
        }
        let joined = match common {
            None => Arc::clone(own),
            Some(common) if common.holds(own) => common,
            Some(common) => {
                let mut joined = Seen::clone(own);
                joined.join(&common);
                Arc::new(joined)
            }
        };
        // Rules are the same as long as the list is: others may have added nothing new.
        let joined = match &self.joined {
            Some((_, before)) if **before == *joined => Arc::clone(before),
            _ => joined,
        };
        self.joined = Some((version, Arc::clone(&joined)));
        joined
    }
}

impl Sunset {
    /// Who was seen before newcomers were refused, or before their refusal is rehearsed.
    pub(super) fn seen_before(&self, state: &State, chosen: &Chosen) -> Option<Arc<Seen>> {
        let is_carried_out = chosen.phase >= Phase::Freeze || state.agreed.pause.is_some();
        if let Some(frozen) = state.agreed.frozen.filter(|_| is_carried_out) {
            return self.seen(Some(frozen), true);
        }
        let rehearsal = state.rehearsal().filter(|rehearsal| rehearsal.phase == Phase::Freeze);
        self.seen(rehearsal.map(|rehearsal| rehearsal.since), rehearsal.is_some_and(|rehearsal| rehearsal.is_by_hand))
    }

    /// The list of those who were seen before `before`: as it is, as it was kept, or nothing until it is made.
    fn seen(&self, before: Option<Timestamp>, is_agreed: bool) -> Option<Arc<Seen>> {
        let shared = &self.shared;
        let mut gathering = shared.gathering();
        let Some(before) = before else {
            *gathering = Gathering { under_way: gathering.under_way, ..Gathering::default() };
            return None;
        };
        let since = gathering.want(before);
        gathering.is_agreed = is_agreed && shared.fleet.is_shared();
        if gathering.own.is_none() {
            gathering.own = shared.store.as_ref().and_then(|store| store.seen(before)).map(Arc::new);
        }
        let Some(own) = gathering.own.clone() else {
            if gathering.under_way != Some(before) {
                gathering.under_way = Some(before);
                let sunset = self.clone();
                // Years of logs take a while. Nothing waits for it but the first refusal.
                tokio::task::spawn_blocking(move || sunset.gather(before));
            }
            return None;
        };
        if !gathering.is_agreed {
            return Some(own);
        }
        shared.seen_by_all(&mut gathering, &own, since)
    }

    fn gather(&self, before: Timestamp) {
        let shared = &self.shared;
        let (seen, is_whole) = Seen::gather(before, &shared.live, shared.log_file.as_deref());
        // What lacks a part is made again after the next start, when that may be readable.
        let store = shared.store.as_ref().filter(|_| is_whole);
        if let Some(Err(error)) = store.map(|store| store.keep_seen(&seen)) {
            tracing::warn!(%error, "who was seen before the freeze cannot be kept; it will be gathered again after a restart");
        }
        let mut gathering = shared.gathering();
        if gathering.under_way == Some(before) {
            (gathering.under_way, gathering.own) = (None, Some(Arc::new(seen)));
        }
        drop(gathering);
        shared.again.notify_one();
    }

    /// Has the board hold who was seen here.
    pub(super) async fn share_seen(&self) {
        for _ in 0..TRIES {
            let sunset = self.clone();
            // A list may be long.
            let to_add = tokio::task::spawn_blocking(move || sunset.shared.to_add()).await;
            let Ok(Some((version, bytes))) = to_add else { return };
            match self.shared.fleet.replace(SEEN, version, bytes).await {
                Ok(_) => {
                    self.shared.again.notify_one();
                    return;
                }
                Err(Unshared::Conflict) => {}
                Err(Unshared::Unreachable) => return,
            }
        }
    }
}

impl Shared {
    /// What counts of the list of all, or nothing while somebody's part of it is awaited.
    fn seen_by_all(&self, gathering: &mut Gathering, own: &Arc<Seen>, since: Instant) -> Option<Arc<Seen>> {
        let board = self.fleet.board().borrow().clone();
        gathering.read(&board);
        let from = gathering.common(own.before).map(|common| common.from.clone()).unwrap_or_default();
        let peers = self.fleet.peers().into_iter().map(|peer| peer.instance);
        let missing: Vec<String> = peers.chain([self.instance.clone()]).filter(|name| !from.contains(name)).collect();
        let is_whole = board.is_read() && missing.is_empty();
        // Without a state directory a new process knows nobody but by the board.
        let is_blind = !board.is_read() && self.store.is_none();
        gathering.is_waiting = is_blind || !is_whole && since.elapsed() < PATIENCE;
        if gathering.is_waiting {
            return None;
        }
        if !is_whole && !gathering.is_told {
            gathering.is_told = true;
            tracing::warn!(
                ?missing,
                "not all replicas have said in time whom they had seen before the freeze; whom only they know is taken for a \
                 newcomer until they do"
            );
        }
        Some(gathering.joined(own))
    }

    /// The list of all with what is known here, and in place of which version, if it lacks any of that.
    fn to_add(&self) -> Option<(Option<u64>, Bytes)> {
        let is_agreed = !self.state().is_unshared;
        let board = self.fleet.board().borrow().clone();
        let mut gathering = self.gathering();
        if !gathering.is_agreed || !is_agreed || !board.is_read() {
            return None;
        }
        let own = gathering.own.clone()?;
        gathering.read(&board);
        // A list of another freeze is over.
        let common = gathering.common(own.before).cloned().unwrap_or_default();
        if common.from.contains(&self.instance) && common.seen.holds(&own) {
            return None;
        }
        drop(gathering);
        let mut seen = Seen::clone(&own);
        seen.join(&common.seen);
        let mut from = common.from;
        from.insert(self.instance.clone());
        let bytes = serde_json::to_vec(&Written { seen, from }).expect("texts and times are JSON");
        Some((board.get(SEEN).map(|entry| entry.version), bytes.into()))
    }
}
