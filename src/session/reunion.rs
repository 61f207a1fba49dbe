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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::face::Face;
use super::stream::{Arrival, Line};
use super::{Credential, Handle};
use crate::metrics::Metrics;

/// For how long a session that ended is one whose client might still come back.
const GHOST: Duration = Duration::from_secs(3600);
/// Families that are remembered at most; beyond that nobody is reunited until all that could be told apart are forgotten.
const MAX_FAMILIES: usize = 50_000;
/// So many arrivals later those are forgotten of whom nothing is left.
const TIDY: u64 = 256;

/// What sessions of one client have in common, as far as can be seen from outside. Clients without a credential are nobody's
/// kin: anybody could be any other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kin {
    credential: Credential,
    user_agent: Option<String>,
    address: IpAddr,
}

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

#[derive(Debug, Default)]
struct Family {
    members: BTreeMap<Serial, Member>,
    /// When a session of theirs ended last.
    ghost: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    standing: Standing,
    /// The version that its handshake settled, or that its stream named.
    version: Option<String>,
    face: Face,
    handle: Handle,
}

#[derive(Debug)]
enum Standing {
    /// A session with its stream.
    Here,
    /// A session whose stream has ended.
    Away,
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
    /// Its client may come back after it ended.
    leaves_ghost: bool,
}

impl Kin {
    /// `None` for clients without a credential.
    pub(super) fn of(credential: &Credential, user_agent: Option<&str>, address: IpAddr) -> Option<Self> {
        credential.is_some().then(|| Kin {
            credential: credential.clone(),
            user_agent: user_agent.map(str::to_owned),
            address,
        })
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
        if let Some(kin) = &kin {
            let version = newcomer.as_ref().map(|newcomer| newcomer.version.clone());
            let standing = match newcomer {
                Some(guest) => Standing::Undecided { guest: Box::new(guest), with: None },
                None => Standing::Here,
            };
            let member = Member { standing, version, face, handle };
            state.families.entry(kin.clone()).or_default().members.insert(serial, member);
            self.reunite(&mut state, kin);
        }
        drop(state);
        Membership { reunions: Arc::clone(self), kin, serial, leaves_ghost: false }
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
    /// The stream and the session that must belong together.
    fn pair(&self, now: Instant) -> Option<(Serial, Serial)> {
        if self.ghost.is_some_and(|since| since + GHOST > now) {
            return None;
        }
        let (mut streams, mut sessions) = (Vec::new(), Vec::new());
        for (serial, member) in &self.members {
            match &member.standing {
                Standing::Undecided { with: None, .. } => streams.push((*serial, member)),
                // Half of a pair.
                Standing::Undecided { with: Some(_), .. } => {}
                Standing::Here | Standing::Away => sessions.push((*serial, member)),
            }
        }
        match (streams.as_slice(), sessions.as_slice()) {
            ([(stream, newcomer)], [(session, member)])
                if matches!(member.standing, Standing::Away) && newcomer.version == member.version =>
            {
                Some((*stream, *session))
            }
            _ => None,
        }
    }

    fn lend(&mut self, stream: Serial, session: Serial) -> bool {
        let Some(face) = self.members.get(&session).map(|member| member.face.clone()) else { return false };
        let Some(newcomer) = self.members.get_mut(&stream) else { return false };
        let Standing::Undecided { guest, with } = &mut newcomer.standing else { return false };
        let Some(arrival) = guest.arrival.take() else { return false };
        let Some(attachment) = face.attach(None, arrival) else { return false };
        guest.line.lend(&newcomer.face, face, attachment);
        *with = Some(session);
        if let Some(member) = self.members.get_mut(&session) {
            member.standing = Standing::Here;
        }
        true
    }
}

impl Membership {
    fn with_member<T>(&self, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let mut state = self.reunions.lock();
        let family = state.families.get_mut(self.kin.as_ref()?)?;
        family.members.get_mut(&self.serial).map(change)
    }

    /// Its handshake settled a version. From now on its client might come back after its end.
    pub(super) fn settle(&mut self, version: &str) {
        self.leaves_ghost = true;
        self.with_member(|member| member.version = Some(version.to_owned()));
    }

    /// The upstream accepted another credential than the one it came with.
    pub(super) fn rename(&mut self, kin: Option<Kin>) {
        if self.kin == kin {
            return;
        }
        let mut state = self.reunions.lock();
        let family = self.kin.as_ref().and_then(|kin| state.families.get_mut(kin));
        // A client that has no kin so far was never looked for.
        let Some(member) = family.and_then(|family| family.members.remove(&self.serial)) else { return };
        if let Some(kin) = &kin {
            state.families.entry(kin.clone()).or_default().members.insert(self.serial, member);
        }
        drop(state);
        self.kin = kin;
    }

    /// Its stream has ended, and it waits for its client.
    pub(super) fn step_out(&self) {
        self.with_member(|member| member.standing = Standing::Away);
        if let Some(kin) = &self.kin {
            self.reunions.reunite(&mut self.reunions.lock(), kin);
        }
    }

    /// Its client is back.
    pub(super) fn step_in(&self) {
        self.with_member(|member| member.standing = Standing::Here);
    }

    /// Whether a stream has come that might be its own.
    pub(super) fn is_waited_for(&self) -> bool {
        let state = self.reunions.lock();
        let family = self.kin.as_ref().and_then(|kin| state.families.get(kin));
        family.is_some_and(|family| {
            family.members.values().any(|member| matches!(member.standing, Standing::Undecided { with: None, .. }))
        })
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
        let Some(session) = with else { return Decision::Alone };
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
        if family.members.remove(&self.serial).is_some() && self.leaves_ghost {
            family.ghost = Some(Instant::now());
        }
        if family.members.is_empty() && family.ghost.is_none() {
            state.families.remove(kin);
        }
    }
}
