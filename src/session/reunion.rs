//! Which session a client belongs to that comes back without saying so (WIRE, Stream 6).
//!
//! TypeScript clients open a new stream three seconds after any end of the old one, name no event, and go on without
//! `initialize`; one that waits for a running call posts nothing at all. So the events of the session it left have to
//! find it. Promise: no client ever gets another's. A session is given to a stream only if no other could be meant: among
//! all sessions and streams with the same credential, user agent and address there is one session, it has lost its stream,
//! there is one stream that has not said whose it is, and none of the others ended lately, whose client might as well be
//! the one that came. Where that fails the client gets a handshake made for it, and loses nothing but what was running.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Handle;
use super::face::Face;
use super::stream::{Arrival, Line};
use crate::auth::{Sender, keyed_hash};
use crate::metrics::Metrics;

/// For how long a session that ended is one whose client might still come back.
const GHOST: Duration = Duration::from_secs(3600);
/// How much earlier than the loss of a session's stream its client may have come back: that a connection is dead is noticed
/// with the next comment, after 15 s, or where the client vanished without a word, as long after as that took. A stream that
/// was there before is somebody else's.
const UNNOTICED: Duration = Duration::from_secs(20);
/// Families that are remembered at most; beyond that nobody is reunited until all that could be told apart are forgotten.
const MAX_FAMILIES: usize = 50_000;
/// So many arrivals later those are forgotten of whom nothing is left.
const TIDY: u64 = 256;

/// What sessions of one client have in common, as far as can be seen from outside: credential, principal, user agent and address, of
/// which only a keyed hash is kept. Clients without a credential are nobody's kin: anybody could be any other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kin([u8; 32]);

/// All sessions whose clients have credentials.
#[derive(Debug)]
pub(super) struct Reunions {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    families: HashMap<Kin, Family>,
    last: Serial,
    /// Too much was forgotten to tell clients apart.
    blind_until: Option<Instant>,
}

type Serial = u64;

/// When a client posted last, in milliseconds since its session joined; written without a lock at every POST.
type Heard = Arc<AtomicU64>;

#[derive(Debug, Default)]
struct Family {
    members: BTreeMap<Serial, Member>,
    /// When a session of theirs ended last.
    ghost: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    standing: Standing,
    /// When it joined.
    since: Instant,
    /// When its client posted something last.
    heard: Heard,
    /// The version that its handshake settled, or that its stream named.
    version: Option<String>,
    face: Face,
    handle: Handle,
}

#[derive(Debug)]
enum Standing {
    /// A session with its stream.
    Here,
    /// A session whose stream has ended, and the earliest time at which its client can have come back.
    Away { back_since: Instant },
    /// A stream that has not said whose it is, and the session it was lent to.
    Undecided { guest: Box<Newcomer>, with: Option<Serial> },
}

/// A stream that came back, with what a session needs to know that gets it.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) line: Arc<Line>,
    pub(super) arrival: Option<Arrival>,
    /// The protocol version that it names.
    pub(super) version: String,
}

/// What the first POST of a stream that came back says.
#[derive(Debug)]
pub(super) enum Decision {
    /// It is a session of its own.
    Alone,
    /// It goes on with the session that it was lent to.
    Merge(Handle, Face),
}

/// A session's place among its kin, given up on drop.
#[derive(Debug)]
pub(super) struct Membership {
    reunions: Arc<Reunions>,
    kin: Option<Kin>,
    serial: Serial,
    since: Instant,
    heard: Heard,
    /// The member itself while it has no kin: its client has shown no credential yet.
    alone: Option<Box<Member>>,
    /// Its client may come back after it ended.
    leaves_ghost: bool,
}

impl Kin {
    /// `None` for clients without a credential.
    pub(super) fn of(sender: &Sender, user_agent: Option<&str>, address: IpAddr) -> Option<Self> {
        let credential = sender.credential.hash()?;
        let (kind, principal) = (sender.principal.kind(), sender.principal.hash()?);
        let (user_agent, address) = (user_agent.unwrap_or_default(), address.to_string());
        let parts = [&credential[..], kind.as_bytes(), principal, user_agent.as_bytes(), address.as_bytes()];
        Some(Kin(keyed_hash(parts)))
    }
}

impl Reunions {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Reunions { state: Mutex::default(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is finished before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session opens. With a `newcomer` it is one whose first POST will tell whether it is a session at all.
    pub(super) fn join(
        self: &Arc<Self>,
        kin: Option<Kin>,
        face: Face,
        handle: Handle,
        newcomer: Option<Newcomer>,
    ) -> Membership {
        let mut state = self.lock();
        state.last += 1;
        let serial = state.last;
        if serial.is_multiple_of(TIDY) {
            state.tidy(Instant::now());
        }
        let version = newcomer.as_ref().map(|newcomer| newcomer.version.clone());
        let standing = match newcomer {
            Some(guest) => Standing::Undecided { guest: Box::new(guest), with: None },
            None => Standing::Here,
        };
        let (since, heard) = (Instant::now(), Heard::default());
        let member = Member { standing, since, heard: Arc::clone(&heard), version, face, handle };
        let mut alone = None;
        if let Some(kin) = &kin {
            state.families.entry(kin.clone()).or_default().members.insert(serial, member);
            self.reunite(&mut state, kin);
        } else {
            alone = Some(Box::new(member));
        }
        drop(state);
        Membership { reunions: Arc::clone(self), kin, serial, since, heard, alone, leaves_ghost: false }
    }

    /// Lends the one stream that is undecided to the one session that has none, if no other could be meant.
    fn reunite(&self, state: &mut State, kin: &Kin) {
        let now = Instant::now();
        if state.blind_until.is_some_and(|until| until > now) {
            return;
        }
        let Some(family) = state.families.get_mut(kin) else { return };
        if let Some((stream, session)) = family.pair(now)
            && family.lend(stream, session)
        {
            self.metrics.streams_adopted.inc();
        }
    }
}

impl State {
    fn forget_if_empty(&mut self, kin: &Kin) {
        if self.families.get(kin).is_some_and(|family| family.members.is_empty() && family.ghost.is_none()) {
            self.families.remove(kin);
        }
    }

    fn tidy(&mut self, now: Instant) {
        let is_ghost = |family: &Family| family.ghost.is_some_and(|since| since + GHOST > now);
        self.families.retain(|_, family| !family.members.is_empty() || is_ghost(family));
        if self.families.len() > MAX_FAMILIES {
            self.families.retain(|_, family| !family.members.is_empty());
            self.blind_until = Some(now + GHOST);
        }
    }
}

impl Family {
    /// The one session, unless there are several, or one ended lately whose client might be anyone.
    fn only_session(&self, now: Instant) -> Option<(Serial, &Member)> {
        if self.ghost.is_some_and(|since| since + GHOST > now) {
            return None;
        }
        let is_session = |member: &Member| matches!(member.standing, Standing::Here | Standing::Away { .. });
        let mut sessions = self.members.iter().filter(|(_, member)| is_session(member));
        let (serial, only) = sessions.next()?;
        sessions.next().is_none().then_some((*serial, only))
    }

    /// The streams that have not said whose they are. One that was there long before `session` lost its own, or before its
    /// client posted there last, is not that client's, but may be any other's.
    fn streams<'a>(&'a self, session: &'a Member) -> Option<Vec<(Serial, &'a Member)>> {
        let Standing::Away { back_since } = session.standing else { return None };
        let heard = session.since + Duration::from_millis(session.heard.load(Ordering::Relaxed));
        let undecided = |member: &Member| matches!(member.standing, Standing::Undecided { with: None, .. });
        let streams: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| undecided(member))
            .map(|(serial, member)| (*serial, member))
            .take(2)
            .collect();
        streams.iter().all(|(_, stream)| stream.since >= back_since.max(heard)).then_some(streams)
    }

    /// The stream and the session that must belong together.
    fn pair(&self, now: Instant) -> Option<(Serial, Serial)> {
        let (serial, session) = self.only_session(now)?;
        match self.streams(session)?.as_slice() {
            [(stream, newcomer)] if newcomer.version == session.version => Some((*stream, serial)),
            _ => None,
        }
    }

    /// Whether the one session might still be paired, once the others have said whose they are.
    fn may_pair(&self, now: Instant) -> bool {
        let streams = self.only_session(now).and_then(|(_, session)| self.streams(session));
        streams.is_some_and(|streams| !streams.is_empty())
    }

    fn lend(&mut self, stream: Serial, session: Serial) -> bool {
        let Some(face) = self.members.get(&session).map(|member| member.face.clone()) else { return false };
        let Some(newcomer) = self.members.get_mut(&stream) else { return false };
        let Standing::Undecided { guest, with } = &mut newcomer.standing else { return false };
        let Some(arrival) = guest.arrival.take() else { return false };
        let attachment = match face.attach(None, arrival) {
            Ok(attachment) => attachment,
            Err(arrival) => {
                guest.arrival = Some(*arrival);
                return false;
            }
        };
        guest.line.lend(&newcomer.face, face, attachment);
        *with = Some(session);
        if let Some(member) = self.members.get_mut(&session) {
            member.standing = Standing::Here;
        }
        true
    }
}

impl Membership {
    fn with_member<T>(&mut self, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        if let Some(member) = &mut self.alone {
            return Some(change(member));
        }
        let mut state = self.reunions.lock();
        let family = state.families.get_mut(self.kin.as_ref()?)?;
        family.members.get_mut(&self.serial).map(change)
    }

    /// Its handshake settled a version. From now on its client might come back after its end.
    pub(super) fn settle(&mut self, version: &str) {
        self.leaves_ghost = true;
        self.with_member(|member| member.version = Some(version.to_owned()));
    }

    /// The upstream accepted another credential than the one it came with, or its client has another address.
    pub(super) fn rename(&mut self, kin: Option<Kin>) {
        if self.kin == kin {
            return;
        }
        let mut state = self.reunions.lock();
        let family = self.kin.as_ref().and_then(|kin| state.families.get_mut(kin));
        let member = family.and_then(|family| family.members.remove(&self.serial));
        let Some(member) = member.or_else(|| self.alone.take().map(|member| *member)) else { return };
        // Others of the family may have changed their credential likewise, and come back under the new one.
        let ghost = self.kin.as_ref().and_then(|kin| state.families.get(kin)?.ghost);
        if let Some(before) = &self.kin {
            state.forget_if_empty(before);
        }
        match &kin {
            Some(kin) => {
                let family = state.families.entry(kin.clone()).or_default();
                family.members.insert(self.serial, member);
                family.ghost = family.ghost.max(ghost);
                self.reunions.reunite(&mut state, kin);
            }
            None => self.alone = Some(Box::new(member)),
        }
        drop(state);
        self.kin = kin;
    }

    /// Its client posted something: to no other session.
    pub(super) fn hear(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }

    /// Its stream has ended, and it waits for its client, which had not been there for `absence` by then.
    pub(super) fn step_out(&mut self, absence: Duration) {
        let now = Instant::now();
        let back_since = now.checked_sub(absence.max(UNNOTICED)).unwrap_or(self.since);
        self.with_member(|member| member.standing = Standing::Away { back_since });
        if let Some(kin) = &self.kin {
            self.reunions.reunite(&mut self.reunions.lock(), kin);
        }
    }

    /// Its client is back.
    pub(super) fn step_in(&mut self) {
        self.with_member(|member| {
            if matches!(member.standing, Standing::Away { .. }) {
                member.standing = Standing::Here;
            }
        });
    }

    /// Whether a stream has come that might be its own, and may still turn out to be.
    pub(super) fn is_waited_for(&self) -> bool {
        let state = self.reunions.lock();
        let family = self.kin.as_ref().and_then(|kin| state.families.get(kin));
        family.is_some_and(|family| family.may_pair(Instant::now()))
    }

    /// Whether its stream is lent to another session.
    pub(super) fn is_lent(&mut self) -> bool {
        self.with_member(|member| matches!(member.standing, Standing::Undecided { with: Some(_), .. })) == Some(true)
    }

    /// The first POST of a stream that came back: whether it begins anew, or goes on with the session it was lent to.
    pub(super) fn decide(&mut self, begins_anew: bool) -> Decision {
        let mut state = self.reunions.lock();
        let Some(family) = self.kin.as_ref().and_then(|kin| state.families.get_mut(kin)) else {
            return Decision::Alone;
        };
        let Some(member) = family.members.get_mut(&self.serial) else { return Decision::Alone };
        let Standing::Undecided { guest, with } = std::mem::replace(&mut member.standing, Standing::Here) else {
            return Decision::Alone;
        };
        member.version = None;
        let Some(session) = with else {
            if !begins_anew {
                // It had a session that nobody here knows. There may be more of those, and nothing tells them apart.
                family.ghost = Some(Instant::now());
            }
            return Decision::Alone;
        };
        let other = family.members.get(&session).map(|other| (other.handle.clone(), other.face.clone()));
        match other {
            Some((handle, face)) if !begins_anew => {
                family.members.remove(&self.serial);
                self.leaves_ghost = false;
                Decision::Merge(handle, face)
            }
            _ => {
                guest.line.take_back();
                Decision::Alone
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Some(kin) = &self.kin else { return };
        let mut state = self.reunions.lock();
        let Some(family) = state.families.get_mut(kin) else { return };
        let member = family.members.remove(&self.serial);
        // One that went without a word had a session somewhere, and may come again for it.
        let is_unknown = |member: &Member| matches!(member.standing, Standing::Undecided { .. });
        if member.is_some_and(|member| self.leaves_ghost || is_unknown(&member)) {
            family.ghost = Some(Instant::now());
        }
        state.forget_if_empty(kin);
    }
}
