//! The evidence: what all records together tell, kept small enough to hold for years.
//!
//! ```text
//! record -> boot (new or a duplicate? holes, coverage, open sessions) -> people (who used what when)
//! ```
//!
//! Records may come in any order and more than once. The same value is filled from files by `report` and, record by
//! record, by the running proxy, which keeps it in its state directory.

mod boot;
mod merge;
mod movers;
mod people;
mod phases;
mod ranges;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

pub use boot::{Boot, Open, Step};
pub use movers::{Mover, Movers, Way};
pub use people::{DAY_MS, Day, Group, People, Person, PersonId, day_of, is_principal, longest_gap, merge_days, span};
pub use phases::{Change, Phases, Tallies, Tally};
pub use ranges::{PULSE_MS, Runs, Seen, Stretch, subtract, union};

use super::access::LegacyKind;
use super::line::{Event, Line, Millis, Who};
use super::outcome::Refusing;
use crate::traffic::Engagement;

/// A difference between clocks of replicas that is nothing to speak of.
const SKEW_MS: Millis = 5_000;
/// Milliseconds of an hour: uses are written once an hour.
const HOUR_MS: Millis = 3_600_000;

/// Which records count.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Earlier ones are left out.
    pub since: Option<Millis>,
    /// Later ones are left out.
    pub until: Option<Millis>,
    /// Later ones, where `until` is not given, are from a clock that is fast: taken as made now.
    pub now: Millis,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// It counts, and carries a time that is still to come.
    FromTheFuture,
    /// It was given before.
    Duplicate,
    /// It is out of bounds.
    LeftOut,
}

/// The evidence.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Every start of every replica.
    pub boots: Vec<Boot>,
    /// Everyone who came over SSE.
    pub people: People,
    /// Everyone who came by Streamable HTTP; evidence that was saved before there were any has none.
    #[serde(default)]
    pub movers: Movers,
    /// How far the switch-off had come when.
    #[serde(default)]
    pub phases: Phases,
    /// Completed canary sessions by day.
    pub canaries: BTreeMap<i32, u64>,
    /// The last of them.
    pub last_canary: Option<Millis>,
    /// When a record was last found cut off or damaged, and how many were.
    pub damaged: Option<(Millis, u64)>,
    /// Inputs that could not be read to their end; each a sentence.
    pub unread: Vec<String>,
    /// Boots whose file ends in the middle of a record.
    pub cut: Vec<u32>,
    /// Boots by `boot.id`; two replicas may have made the same one.
    #[serde(skip)]
    index: HashMap<String, Vec<u32>>,
    /// The boot of the record before.
    #[serde(skip)]
    recent: usize,
}

impl Evidence {
    /// Takes in a record.
    pub fn take(&mut self, line: &Line<'_>, bounds: &Bounds) -> Taken {
        if bounds.since.is_some_and(|since| line.at < since) || bounds.until.is_some_and(|until| line.at > until) {
            return Taken::LeftOut;
        }
        let future = bounds.until.is_none() && line.at > bounds.now.saturating_add(SKEW_MS);
        let at = if bounds.until.is_none() { line.at.min(bounds.now) } else { line.at };
        let index = self.boot(line);
        let Some(boot) = self.boots.get_mut(index) else { return Taken::LeftOut };
        if boot.runs.insert(line.seq, at) == Seen::Again {
            return Taken::Duplicate;
        }
        let place = (u32::try_from(index).unwrap_or(u32::MAX), line.seq);
        if let Event::Phase(phase) = &line.event {
            self.phases.take(line, phase, at);
        }
        self.event(index, &line.event, at, place);
        if future { Taken::FromTheFuture } else { Taken::Counted }
    }

    fn event(&mut self, index: usize, event: &Event<'_>, at: Millis, place: (u32, u64)) {
        let Some(boot) = self.boots.get_mut(index) else { return };
        match event {
            Event::Other | Event::Phase(_) => {}
            Event::Start { passthrough } => boot.passes(*passthrough),
            Event::Stop { lost } => {
                boot.stop(at);
                boot.lost(*lost, at);
            }
            Event::Heartbeat { lost, clock_step_ms, active, passthrough, peers } => {
                boot.passes(*passthrough);
                boot.lost(*lost, at);
                if let Some(active) = active.filter(|_| boot.heartbeat.is_none_or(|(last, _)| at >= last)) {
                    boot.heartbeat = Some((at, active));
                }
                for peer in peers {
                    boot.named(peer, at);
                }
                for (person, moved) in boot.step(Step { seq: place.1, at, by: *clock_step_ms }) {
                    if let Some(person) = self.people.get_mut(person) {
                        person.may_have_used(moved, place);
                    }
                }
            }
            Event::Canary => {
                *self.canaries.entry(day_of(at)).or_default() += 1;
                self.last_canary = self.last_canary.max(Some(at));
            }
            Event::Connect { who, .. } => {
                let person = self.known(who, at);
                let boot = boot_of(&mut self.boots, index);
                let user = match boot.session(&who.session, person, at) {
                    Some(open) => Some(open.person),
                    None => boot.was_of(&who.session),
                };
                // Back from another address, or read after what followed: a door of whoever's session it is.
                self.came_by(user, person);
            }
            Event::Identify { who, seen_as } => self.identified(index, who, seen_as, at),
            Event::Use { who, uses } => self.used(index, who, *uses, at, place),
            Event::End { who, merged, engagement, uses, last_use } => {
                let person = self.known(who, at);
                let boot = boot_of(&mut self.boots, index);
                let open = boot.end(&who.session, person);
                let Some(account) = self.people.get_mut(person) else { return };
                account.sessions += u64::from(!merged);
                if let Some(open) = &open {
                    account.rehearsed.merge(&open.rehearsed);
                }
                let engagement = if *uses > 0 { Engagement::Use } else { *engagement };
                account.engagement = account.engagement.max(engagement);
                account.first_seen = open.as_ref().map_or(at, |open| open.since).min(account.first_seen);
                // A session that began before the log says how often it used the server, and no day for it but its last.
                let more = uses.saturating_sub(open.as_ref().map_or(0, |open| open.uses));
                // A session that used the server and does not say when: at its end at the latest.
                let last_use = last_use.or((engagement == Engagement::Use).then_some(at));
                if let Some(last_use) = last_use.map(|last| last.min(at)) {
                    account.used(last_use, more, Some(place));
                    if let Some(latest) = boot.used(person, last_use, place.1) {
                        account.may_have_used(latest, place);
                    }
                }
            }
            Event::Refused { who, reason, dry_run } => {
                let person = self.known(who, at);
                let phase = Refusing::of(reason);
                if *dry_run {
                    self.would_refuse(index, who, person, phase, at);
                } else if let Some(person) = self.people.get_mut(person) {
                    person.turned_away(at, !matches!(&**reason, "host" | "origin" | "request"), phase);
                }
            }
            Event::Upgrade { who } => self.movers.seen(who, Way::Upgraded, at),
            // Seen on the legacy URL too, by replicas that see nobody on the server's own: that one came says nothing of others.
            Event::Modern { who } => self.movers.seen(who, Way::Passed, at),
        }
    }

    fn known(&mut self, who: &Who<'_>, at: Millis) -> PersonId {
        let person = self.people.of(who, at);
        if let Some(seen_as) = &who.seen_as {
            self.people.describe(who, seen_as);
        }
        person
    }

    fn identified(&mut self, index: usize, who: &Who<'_>, seen_as: &str, at: Millis) {
        let person = self.known(who, at);
        self.people.describe(who, seen_as);
        let Some(open) = boot_of(&mut self.boots, index).session(&who.session, person, at) else { return };
        let door = std::mem::replace(&mut open.person, person);
        let since = open.since;
        if let Some(account) = self.people.get_mut(person) {
            account.first_seen = account.first_seen.min(since);
        }
        self.came_by(Some(person), door);
    }

    /// A dry run of `phase` would have turned `who` away, who was served: neither use nor an attempt, so it decides nothing.
    /// Told of the session, if it has one: whoever it turns out to be is whom the phase would have hit.
    fn would_refuse(&mut self, index: usize, who: &Who<'_>, person: PersonId, phase: Option<Refusing>, at: Millis) {
        let Some(phase) = phase else { return };
        let boot = boot_of(&mut self.boots, index);
        if let Some(open) = boot.open.get_mut(&*who.session) {
            open.rehearsed.add(phase, at);
        } else if let Some(person) = self.people.get_mut(boot.was_of(&who.session).unwrap_or(person)) {
            person.rehearsed.add(phase, at);
        }
    }

    /// `user` comes by the account `door` before it says its name.
    fn came_by(&mut self, user: Option<PersonId>, door: PersonId) {
        if let Some(account) = user.filter(|user| *user != door).and_then(|user| self.people.get_mut(user)) {
            account.comes_by(door);
        }
    }

    fn used(&mut self, index: usize, who: &Who<'_>, uses: u64, at: Millis, place: (u32, u64)) {
        let person = self.known(who, at);
        let boot = boot_of(&mut self.boots, index);
        let latest = boot.used(person, at, place.1);
        let uses = match boot.session(&who.session, person, at) {
            Some(open) => {
                open.person = person;
                open.uses = open.uses.saturating_add(uses);
                open.last_use = open.last_use.max(Some((at, place.1)));
                uses
            }
            // Its end was read before, and had all of them.
            None => 0,
        };
        if let Some(account) = self.people.get_mut(person) {
            account.used(at, uses, Some(place));
            if let Some(latest) = latest {
                account.may_have_used(latest, place);
            }
        }
    }

    /// Takes in what an old server's access log tells of `who`. A post may be use or not: taken for use.
    pub fn access(&mut self, who: &Who<'_>, kind: LegacyKind, at: Millis, bounds: &Bounds) {
        if bounds.since.is_some_and(|since| at < since) || bounds.until.is_some_and(|until| at > until) {
            return;
        }
        let at = at.min(bounds.until.unwrap_or(bounds.now));
        let person = self.known(who, at);
        let Some(person) = self.people.get_mut(person) else { return };
        person.of_access_log = true;
        match kind {
            LegacyKind::Stream => person.sessions += 1,
            LegacyKind::Post => person.used(at, 1, None),
            LegacyKind::Refused => person.turned_away(at, true, None),
        }
    }

    /// A record was cut off or damaged, no later than `at`.
    pub fn damaged(&mut self, at: Millis) {
        let (last, count) = self.damaged.unwrap_or((at, 0));
        self.damaged = Some((last.max(at), count + 1));
    }

    /// The file that was read last ends in the middle of a record, after one of `boot`.
    pub fn cut_off(&mut self, boot: Option<u32>) {
        self.cut.extend(boot);
    }

    /// The boot of the record taken last.
    #[must_use]
    pub fn last_boot(&self) -> Option<u32> {
        if self.boots.is_empty() { None } else { u32::try_from(self.recent).ok() }
    }

    /// Drops accounts that never used the server and were last seen before `before`, so that a public endpoint's noise
    /// does not add up. They block nothing, and those that users come by are kept.
    pub fn forget_noise(&mut self, before: Millis) {
        let needed: HashSet<PersonId> =
            self.boots.iter().flat_map(|boot| boot.open.values().map(|open| open.person)).collect();
        let is_recent = |person: &Person| person.last_use.is_some() || person.last_seen >= before;
        // Doors of those who stay; the forgotten need none.
        let mut doors = HashSet::new();
        for (_, _, members) in self.people.groups() {
            let staying = members.filter(|(id, person)| is_recent(person) || needed.contains(id));
            doors.extend(staying.flat_map(|(_, person)| person.doors.iter().copied()));
        }
        let is_kept = |id, person: &Person| is_recent(person) || needed.contains(&id) || doors.contains(&id);
        let kept = self
            .people
            .groups()
            .flat_map(|(_, _, members)| members)
            .filter(|(id, person)| is_kept(*id, person))
            .count();
        if kept == self.people.count() {
            return;
        }
        let moved = self.people.retain(is_kept);
        for boot in &mut self.boots {
            boot.renumber(|id| usize::try_from(id).ok().and_then(|id| moved.get(id).copied().flatten()));
        }
    }

    /// Where the boot of `line` stands.
    fn boot(&mut self, line: &Line<'_>) -> usize {
        let is = |boot: &Boot| *boot.id == *line.boot && *boot.instance == *line.instance;
        if self.boots.get(self.recent).is_some_and(is) {
            return self.recent;
        }
        if self.index.is_empty() {
            for (number, boot) in self.boots.iter().enumerate() {
                self.index.entry(boot.id.clone()).or_default().push(u32::try_from(number).unwrap_or(u32::MAX));
            }
        }
        let known = self.index.get(&*line.boot).into_iter().flatten().filter_map(|at| usize::try_from(*at).ok());
        let known = known.into_iter().find(|at| self.boots.get(*at).is_some_and(is));
        self.recent = known.unwrap_or_else(|| {
            let boot = Boot::new(line.instance.to_string(), line.boot.to_string());
            self.boots.push(boot);
            let number = self.boots.len() - 1;
            self.index.entry(line.boot.to_string()).or_default().push(u32::try_from(number).unwrap_or(u32::MAX));
            number
        });
        self.recent
    }

    /// The last use of a session that nobody ended: uses are written once an hour, so any time up to the end of that
    /// hour, as long as its boot lived.
    #[must_use]
    pub fn last_possible_use(open: &Open, boot: &Boot) -> Option<(Millis, u64)> {
        let (at, seq) = open.last_use?;
        Some((end_of_hour(at).min(boot.runs.latest()).max(at), seq))
    }
}

/// The end of the UTC hour of `at`: a use that is written tells of no other one before.
fn end_of_hour(at: Millis) -> Millis {
    (at.div_euclid(HOUR_MS) + 1).saturating_mul(HOUR_MS) - 1
}

/// `index` comes from [`Evidence::boot`] and boots are never removed.
fn boot_of(boots: &mut [Boot], index: usize) -> &mut Boot {
    boots.get_mut(index).expect("boots are never removed")
}
