//! Who came, and what they did: one account per identity, and for anonymous identities one per address.
//!
//! Memory goes with the number of accounts and the days on which each used the server, never with lines.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::line::{Millis, Who};
use super::super::outcome::Refusing;
use super::phases::Tallies;
use super::ranges::Stretch;
use crate::traffic::Engagement;

/// Milliseconds of a day.
pub const DAY_MS: Millis = 86_400_000;
/// Names under which one identity is shown besides its own, at most.
const SEEN_AS: usize = 6;
/// Connection-level identities that one account is known to come by, at most.
const DOORS: usize = 16;

/// Names an account: an index that never changes.
pub type PersonId = u32;

/// All accounts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct People {
    groups: HashMap<String, Group>,
    persons: Vec<Person>,
}

/// One identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    /// `identity.source`
    pub source: String,
    /// The family it was last seen as.
    pub family: String,
    /// Versions, bridges, user agents.
    pub seen_as: Vec<String>,
    /// Its accounts by address; a principal has one, without address.
    members: HashMap<String, PersonId>,
}

/// One account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Person {
    /// Its first record.
    pub first_seen: Millis,
    /// Its last record.
    pub last_seen: Millis,
    /// Its address, the last one if it had several.
    pub address: String,
    /// Its last use.
    pub last_use: Option<Millis>,
    /// Where that stands: the boot's index and the record's number.
    pub evidence: Option<(u32, u64)>,
    /// Days with use, in order.
    pub days: Vec<Day>,
    /// Sessions that are over.
    pub sessions: u64,
    /// Use-level messages.
    pub uses: u64,
    /// How far it went.
    pub engagement: Engagement,
    /// How often it was turned away.
    pub refused: u64,
    /// When it was last turned away by whatever rule.
    pub last_refused: Option<Millis>,
    /// When it was last turned away by a rule that turns away clients as such (limits, sunset), and not for a host or
    /// origin that the proxy does not serve.
    pub last_barred: Option<Millis>,
    /// In which phases it was turned away, and when.
    #[serde(default, skip_serializing_if = "Tallies::is_empty")]
    pub refused_in: Tallies,
    /// In which phases it would have been, by their dry runs. It was not, so this is no use and no attempt.
    #[serde(default, skip_serializing_if = "Tallies::is_empty")]
    pub rehearsed: Tallies,
    /// Accounts of the connection-level identities it came by.
    pub doors: Vec<PersonId>,
    /// It stands for a line of an old server's access log.
    pub of_access_log: bool,
}

/// A UTC day with use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Days since 1970.
    pub number: i32,
    /// Use-level messages.
    pub uses: u64,
    /// The first use.
    pub first: Millis,
    /// The last one.
    pub last: Millis,
}

/// Whether identities from `source` stand for one client each: authenticated, or named by the operator's header.
#[must_use]
pub fn is_principal(source: &str) -> bool {
    matches!(source, "sub" | "client_id" | "header" | "mtls")
}

/// The day of a time.
#[must_use]
pub fn day_of(at: Millis) -> i32 {
    i32::try_from(at.div_euclid(DAY_MS)).unwrap_or(if at < 0 { i32::MIN } else { i32::MAX })
}

impl People {
    /// The account of `who`, opened at need; seen at `at`.
    pub fn of(&mut self, who: &Who<'_>, at: Millis) -> PersonId {
        let id = match self.groups.get(&*who.identity) {
            Some(group) => group.members.get(if is_principal(&group.source) { "" } else { &*who.address }).copied(),
            None => None,
        };
        let id = id.unwrap_or_else(|| self.open(who, at));
        if let Some(person) = self.get_mut(id) {
            if at > person.last_seen && *person.address != *who.address && !who.address.is_empty() {
                person.address.clear();
                person.address.push_str(&who.address);
            }
            person.first_seen = person.first_seen.min(at);
            person.last_seen = person.last_seen.max(at);
        }
        id
    }

    fn open(&mut self, who: &Who<'_>, at: Millis) -> PersonId {
        let id = PersonId::try_from(self.persons.len()).unwrap_or(PersonId::MAX);
        let group = self.groups.entry(who.identity.to_string()).or_insert_with(|| Group {
            source: who.source.to_string(),
            family: who.family.to_string(),
            seen_as: Vec::new(),
            members: HashMap::new(),
        });
        let key = if is_principal(&group.source) { String::new() } else { who.address.to_string() };
        group.members.insert(key, id);
        self.persons.push(Person {
            first_seen: at,
            last_seen: at,
            address: who.address.to_string(),
            last_use: None,
            evidence: None,
            days: Vec::new(),
            sessions: 0,
            uses: 0,
            engagement: Engagement::Connect,
            refused: 0,
            last_refused: None,
            last_barred: None,
            refused_in: Tallies::default(),
            rehearsed: Tallies::default(),
            doors: Vec::new(),
            of_access_log: false,
        });
        id
    }

    /// Notes what the identity of `who` looks like.
    pub fn describe(&mut self, who: &Who<'_>, seen_as: &str) {
        let Some(group) = self.groups.get_mut(&*who.identity) else { return };
        if *group.family != *who.family && !who.family.is_empty() {
            group.family = who.family.to_string();
        }
        let new = !seen_as.is_empty() && !group.seen_as.iter().any(|known| known == seen_as);
        if new && group.seen_as.len() < SEEN_AS {
            group.seen_as.push(seen_as.to_owned());
        }
    }

    /// The account `id`.
    #[must_use]
    pub fn get(&self, id: PersonId) -> Option<&Person> {
        self.persons.get(usize::try_from(id).ok()?)
    }

    /// The account `id`, to be written to.
    pub fn get_mut(&mut self, id: PersonId) -> Option<&mut Person> {
        self.persons.get_mut(usize::try_from(id).ok()?)
    }

    /// Drops accounts that `keep` does not want; tells where each account is now.
    pub(super) fn retain(&mut self, keep: impl Fn(PersonId, &Person) -> bool) -> Vec<Option<PersonId>> {
        let mut moved = Vec::with_capacity(self.persons.len());
        let mut next = 0;
        for (person, id) in self.persons.iter().zip(0..) {
            moved.push(keep(id, person).then(|| {
                next += 1;
                next - 1
            }));
        }
        let place = |id: PersonId| usize::try_from(id).ok().and_then(|id| moved.get(id).copied().flatten());
        let mut kept = moved.iter().map(Option::is_some);
        self.persons.retain(|_| kept.next().unwrap_or(true));
        for person in &mut self.persons {
            person.doors = person.doors.iter().filter_map(|door| place(*door)).collect();
        }
        self.groups.retain(|_, group| {
            group.members = group.members.drain().filter_map(|(key, id)| Some((key, place(id)?))).collect();
            !group.members.is_empty()
        });
        moved
    }

    /// Takes in what `other` knows; `place` says where a record stands here that stands somewhere there. Tells which account
    /// here is each of its.
    pub(super) fn merge(
        &mut self,
        other: &People,
        place: impl Fn((u32, u64)) -> Option<(u32, u64)>,
    ) -> Vec<Option<PersonId>> {
        let mut moved = vec![None; other.persons.len()];
        for (identity, group) in &other.groups {
            let ours = self.groups.entry(identity.clone()).or_insert_with(|| Group::of(group));
            ours.merge(group);
            for (address, id) in &group.members {
                let Some(person) = other.get(*id) else { continue };
                let key = match address.as_str() {
                    _ if is_principal(&ours.source) => "",
                    "" => person.address.as_str(),
                    address => address,
                };
                let person = Person { evidence: person.evidence.and_then(&place), doors: Vec::new(), ..person.clone() };
                let known = ours.members.get(key).and_then(|id| usize::try_from(*id).ok());
                let at = known.unwrap_or(self.persons.len());
                match self.persons.get_mut(at) {
                    Some(known) => known.merge(person),
                    None => self.persons.push(person),
                }
                let here = PersonId::try_from(at).unwrap_or(PersonId::MAX);
                ours.members.insert(key.to_owned(), here);
                if let Some(moved) = usize::try_from(*id).ok().and_then(|id| moved.get_mut(id)) {
                    *moved = Some(here);
                }
            }
        }
        let here = |id: PersonId| usize::try_from(id).ok().and_then(|id| moved.get(id).copied().flatten());
        for (person, at) in other.persons.iter().zip(&moved) {
            let Some(known) = at.and_then(|at| self.get_mut(at)) else { continue };
            person.doors.iter().filter_map(|door| here(*door)).for_each(|door| known.comes_by(door));
        }
        moved
    }

    /// How many accounts there are.
    pub(super) fn count(&self) -> usize {
        self.persons.len()
    }

    /// Every identity with its accounts.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group, impl Iterator<Item = (PersonId, &Person)>)> {
        self.groups.iter().map(|(identity, group)| {
            let members = group.members.values().filter_map(|id| Some((*id, self.get(*id)?)));
            (identity.as_str(), group, members)
        })
    }
}

impl Group {
    /// The same identity, of which no account is known yet.
    fn of(group: &Group) -> Self {
        Group {
            members: HashMap::new(),
            source: group.source.clone(),
            family: group.family.clone(),
            seen_as: Vec::new(),
        }
    }

    /// What it looks like elsewhere.
    fn merge(&mut self, other: &Group) {
        if !other.family.is_empty() {
            self.family.clone_from(&other.family);
        }
        for seen_as in &other.seen_as {
            if self.seen_as.len() < SEEN_AS && !self.seen_as.contains(seen_as) {
                self.seen_as.push(seen_as.clone());
            }
        }
    }
}

impl Person {
    /// What the same account did elsewhere; its doors are left out.
    fn merge(&mut self, other: Person) {
        if other.last_seen > self.last_seen && !other.address.is_empty() {
            self.address = other.address;
        }
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        if other.last_use.is_some() && other.last_use >= self.last_use {
            (self.last_use, self.evidence) = (other.last_use, other.evidence);
        }
        self.days = merge_days([self.days.as_slice(), other.days.as_slice()].into_iter());
        self.sessions = self.sessions.saturating_add(other.sessions);
        self.uses = self.uses.saturating_add(other.uses);
        self.engagement = self.engagement.max(other.engagement);
        self.refused = self.refused.saturating_add(other.refused);
        self.last_refused = self.last_refused.max(other.last_refused);
        self.last_barred = self.last_barred.max(other.last_barred);
        self.refused_in.merge(&other.refused_in);
        self.rehearsed.merge(&other.rehearsed);
        self.of_access_log |= other.of_access_log;
    }

    /// It used the server `uses` times, the last time at `at`; `evidence` is where that stands.
    pub fn used(&mut self, at: Millis, uses: u64, evidence: Option<(u32, u64)>) {
        self.engagement = Engagement::Use;
        self.uses = self.uses.saturating_add(uses);
        if self.last_use.is_none_or(|last| at >= last) {
            self.last_use = Some(at);
            self.evidence = evidence;
        }
        let number = day_of(at);
        let index = match self.days.last() {
            Some(last) if last.number == number => Ok(self.days.len() - 1),
            Some(last) if last.number < number => Err(self.days.len()),
            _ => self.days.binary_search_by_key(&number, |day| day.number),
        };
        match index {
            Ok(index) => {
                if let Some(day) = self.days.get_mut(index) {
                    *day = Day {
                        uses: day.uses.saturating_add(uses),
                        first: day.first.min(at),
                        last: day.last.max(at),
                        ..*day
                    };
                }
            }
            Err(index) => self.days.insert(index, Day { number, uses, first: at, last: at }),
        }
    }

    /// Its last use may have been as late as `at`, because a clock was set. Its days and its rhythm stay as they were written.
    pub fn may_have_used(&mut self, at: Millis, evidence: (u32, u64)) {
        if self.last_use.is_none_or(|last| at > last) {
            self.last_use = Some(at);
            self.evidence = Some(evidence);
        }
    }

    /// It was turned away at `at`; `as_such` when that hits clients as such, and in which phase, if one was the reason.
    pub fn turned_away(&mut self, at: Millis, as_such: bool, phase: Option<Refusing>) {
        if let Some(phase) = phase {
            self.refused_in.add(phase, at);
        }
        self.refused += 1;
        self.last_refused = self.last_refused.max(Some(at));
        if as_such {
            self.last_barred = self.last_barred.max(Some(at));
        }
    }

    /// It comes by the account `door`, before it has said its name.
    pub fn comes_by(&mut self, door: PersonId) {
        if self.doors.len() < DOORS && !self.doors.contains(&door) {
            self.doors.push(door);
        }
    }

    /// Whether it left anything of its own: an account may only have been the door of others.
    #[must_use]
    pub fn is_anyone(&self) -> bool {
        self.sessions > 0 || self.uses > 0 || self.refused > 0 || self.last_use.is_some() || self.of_access_log
    }
}

/// The longest time between two of `days`, or within one of them; an upper bound for gaps shorter than a day.
#[must_use]
pub fn longest_gap(days: &[Day]) -> Millis {
    let between = days.windows(2).filter_map(|pair| match pair {
        [before, after] => Some(after.first - before.last),
        _ => None,
    });
    let within = days.iter().map(|day| day.last - day.first);
    between.chain(within).max().unwrap_or_default()
}

/// The days of several accounts as those of one.
#[must_use]
pub fn merge_days<'a>(lists: impl Iterator<Item = &'a [Day]>) -> Vec<Day> {
    let mut all: Vec<Day> = lists.flatten().copied().collect();
    all.sort_unstable_by_key(|day| day.number);
    all.dedup_by(|later, earlier| {
        let same = later.number == earlier.number;
        if same {
            earlier.uses = earlier.uses.saturating_add(later.uses);
            earlier.first = earlier.first.min(later.first);
            earlier.last = earlier.last.max(later.last);
        }
        same
    });
    all
}

/// The stretch from the first to the last of `days`.
#[must_use]
pub fn span(days: &[Day]) -> Option<Stretch> {
    Some((days.first()?.first, days.last()?.last))
}
