//! Each identity's row: what it did, when its silence will have lasted long enough, and what that means.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::super::evidence::{
    DAY_MS, Day, Evidence, Group, Mover, Person, PersonId, Stretch, Tallies, day_of, is_principal, longest_gap,
    merge_days, span,
};
use super::super::fixes;
use super::super::line::Millis;
use super::super::outcome::{Client, Measured, Moves, Refusing, Rhythm, State, Waiver};
use super::super::policy::{Pattern, Policy, timestamp};
use super::{movement, phases};
use crate::traffic::Engagement;

/// Addresses that a row lists at most.
const ADDRESSES: usize = 10;

/// A row, and what of it only the verdict needs.
#[derive(Debug)]
pub(super) struct Judged {
    /// For the report.
    pub row: Client,
    /// When its silence is proven to have lasted long enough: `due`, and as much later as time since was uncovered.
    pub proven: Millis,
    /// It was turned away, and so kind of client used the server that may have been it.
    pub is_barred_stranger: bool,
    /// Attempts within the window that were turned away and are nobody's that used the server.
    pub refused_unknown: u64,
    /// How many of them a phase of the switch-off turned away.
    pub refused_unknown_in_phases: u64,
}

/// What sessions do that are not over, by account.
#[derive(Debug, Default)]
struct Unended {
    open: u64,
    open_with_use: bool,
    lost: u64,
    last_use: Option<(Millis, u32, u64)>,
    rehearsed: Tallies,
}

/// Looks at every identity. `alive` are the boots that run, `uncovered` is time that nobody proves.
pub(super) fn judge(
    evidence: &Evidence,
    policy: &Policy,
    alive: &BTreeSet<usize>,
    uncovered: &[Stretch],
    days: &[Date],
    measured: Measured,
) -> Vec<Judged> {
    let judge = Judge {
        evidence,
        policy,
        uncovered,
        unended: unended(evidence, alive),
        attempts: Attempts::of(evidence),
        first_day: days.first().copied(),
        days: days.len(),
        measured,
    };
    let mut rows: Vec<Judged> =
        evidence.people.groups().filter_map(|(identity, group, members)| judge.row(identity, group, members)).collect();
    rows.sort_by(|a, b| {
        // Those that have nothing but SSE first: they are who is hit when it is switched off, be it for an hour.
        let key = |judged: &Judged| {
            let row = &judged.row;
            let movement = row.movement.filter(|_| row.due.is_some());
            (row.state, movement, std::cmp::Reverse(row.due), std::cmp::Reverse(row.last_seen))
        };
        key(a).cmp(&key(b)).then_with(|| a.row.identity.cmp(&b.row.identity))
    });
    rows
}

/// Sessions without an end: open where their boot runs, lost where it does not.
fn unended(evidence: &Evidence, alive: &BTreeSet<usize>) -> HashMap<PersonId, Unended> {
    let mut all: HashMap<PersonId, Unended> = HashMap::new();
    for (index, boot) in evidence.boots.iter().enumerate() {
        let is_alive = alive.contains(&index);
        for open in boot.open.values() {
            let account = all.entry(open.person).or_default();
            if is_alive {
                account.open += 1;
                account.open_with_use |= open.last_use.is_some();
            } else {
                account.lost += 1;
            }
            let last = Evidence::last_possible_use(open, boot);
            let place = u32::try_from(index).unwrap_or(u32::MAX);
            account.last_use = account.last_use.max(last.map(|(at, seq)| (at, place, seq)));
            account.rehearsed.merge(&open.rehearsed);
        }
    }
    all
}

/// When an account was turned away, and by which phase, if one was the reason.
type Attempt = (Millis, Option<Refusing>);

/// When accounts that had used the server were turned away, found also where they had not yet said their name.
struct Attempts<'a> {
    /// Accounts that come by a connection-level identity, with their address.
    users_by_door: HashMap<&'a str, Vec<(PersonId, &'a Person)>>,
    /// Those who used the server, by address.
    users_by_address: HashMap<&'a str, Vec<PersonId>>,
    /// The connection-level identity of an account.
    identities: HashMap<PersonId, &'a str>,
    /// By account.
    last: HashMap<PersonId, Attempt>,
    /// Connection-level accounts that were turned away and may be any of several users.
    strangers: BTreeSet<PersonId>,
    /// Those that were turned away and of whom nobody knows who they are: no user comes by their name or address.
    unknown: BTreeSet<PersonId>,
}

impl<'a> Attempts<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let mut attempts = Attempts {
            users_by_door: HashMap::new(),
            users_by_address: HashMap::new(),
            identities: HashMap::new(),
            last: HashMap::new(),
            strangers: BTreeSet::new(),
            unknown: BTreeSet::new(),
        };
        for (identity, _, members) in evidence.people.groups() {
            attempts.identities.extend(members.map(|(id, _)| (id, identity)));
        }
        for (identity, _, members) in evidence.people.groups() {
            for (id, person) in members.filter(|(_, person)| person.last_use.is_some()) {
                let doors = person.doors.iter().filter_map(|door| attempts.identities.get(door).copied());
                if !person.address.is_empty() {
                    attempts.users_by_address.entry(&person.address).or_default().push(id);
                }
                // Its own name is a door too: some are turned away after they have said it.
                for door in doors.chain([identity]).collect::<BTreeSet<_>>() {
                    attempts.users_by_door.entry(door).or_default().push((id, person));
                }
            }
        }
        for (identity, _, members) in evidence.people.groups() {
            for (id, person) in members.filter(|(_, person)| person.last_refused.is_some()) {
                attempts.turned_away(identity, id, person);
            }
        }
        attempts
    }

    /// `person` was turned away. With use of its own it tried again; without, it may be one of those that come by the
    /// same door: those of its address if there are any, else whoever used the server from there under any name.
    fn turned_away(&mut self, identity: &str, id: PersonId, person: &Person) {
        let Some(at) = person.last_refused else { return };
        let mut tried = |id: PersonId, at: Millis| {
            let attempt = (at, person.refused_in.last_at(at));
            let last = self.last.entry(id).or_insert(attempt);
            *last = attempt.max(*last);
        };
        if person.last_use.is_some() {
            tried(id, at);
            return;
        }
        let users = self.users_by_door.get(identity).map(Vec::as_slice).unwrap_or_default();
        let mut neighbours = users.iter().filter(|(_, user)| user.address == person.address).peekable();
        if neighbours.peek().is_some() {
            neighbours.for_each(|(user, _)| tried(*user, at));
        } else if let Some(users) = self.users_by_address.get(person.address.as_str()) {
            for user in users {
                tried(*user, at);
            }
        } else if let Some(barred) = person.last_barred.filter(|_| !users.is_empty()) {
            // From an address that no user had: it may be any of them, so it stands in for them itself.
            tried(id, barred);
            self.strangers.insert(id);
        } else {
            self.unknown.insert(id);
        }
    }
}

struct Judge<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    uncovered: &'a [Stretch],
    unended: HashMap<PersonId, Unended>,
    attempts: Attempts<'a>,
    first_day: Option<Date>,
    days: usize,
    measured: Measured,
}

/// What one account means.
struct Member<'a> {
    person: &'a Person,
    state: State,
    due: Option<Millis>,
    /// `due`, and as much later as time since was uncovered.
    proven: Millis,
    last_use: Option<(Millis, Option<(u32, u64)>)>,
    attempt: Option<Attempt>,
    gap: Millis,
    open: u64,
    lost: u64,
    is_stranger: bool,
    refused_unknown: u64,
    refused_unknown_in_phases: u64,
    rehearsed: Tallies,
}

impl Judge<'_> {
    fn row<'a>(
        &self,
        identity: &str,
        group: &Group,
        members: impl Iterator<Item = (PersonId, &'a Person)>,
    ) -> Option<Judged> {
        let (members, days, shared_gap) = self.members(group, members);
        let worst = members.first()?.state;
        // Nobody can answer for a session that is open and in use: switching off would cut it.
        let waiver = self.waiver(identity).filter(|_| worst == State::Blocking);
        let state = if waiver.is_some() { State::Waived } else { worst };
        let is_relevant = |member: &&Member<'_>| !worst.is_blocking() || member.state.is_blocking();
        let due = members.iter().filter(is_relevant).filter_map(|member| member.due).max();
        let last_use = members.iter().filter_map(|member| member.last_use).max();
        let attempt = members.iter().filter_map(|member| member.attempt).max();
        let is_barred_stranger = members.iter().any(|member| member.is_stranger);
        let sum = |of: fn(&Member<'_>) -> u64| members.iter().map(of).fold(0, u64::saturating_add);
        let engagement = members.iter().map(|member| member.person.engagement).max();
        let longest_gap = members.iter().map(|member| member.gap).max()?;
        let elsewhere = self.evidence.movers.get(identity);
        let (moves, fix) = how_it_moves(group, elsewhere, &members);
        let on_sse = due.map(|_| state.is_in_use());
        let movement = movement::of(on_sse, elsewhere, longest_gap.max(shared_gap), self.measured, self.policy);
        let row = Client {
            identity: identity.to_owned(),
            name: identity.split_once(':').map_or(identity, |(_, name)| name).to_owned(),
            source: group.source.clone(),
            is_principal: is_principal(&group.source),
            family: group.family.clone(),
            seen_as: group.seen_as.clone(),
            principals: members.len(),
            addresses: members
                .iter()
                .filter(is_relevant)
                .take(ADDRESSES)
                .map(|member| member.person.address.clone())
                .collect(),
            engagement: engagement.unwrap_or(Engagement::Connect),
            first_seen: timestamp(members.iter().map(|member| member.person.first_seen).min()?),
            last_seen: timestamp(members.iter().map(|member| member.person.last_seen).max()?),
            last_use: last_use.map(|(at, _)| timestamp(at)),
            last_attempt: attempt.map(|(at, _)| timestamp(at)),
            last_attempt_in: attempt.and_then(|(_, phase)| phase),
            active_days: days.len(),
            sessions: sum(|member| member.person.sessions + member.open + member.lost),
            open_sessions: sum(|member| member.open),
            uses: sum(|member| member.person.uses),
            refused: sum(|member| member.person.refused),
            refused_in: phases::refused(members.iter().map(|member| &member.person.refused_in)),
            would_be_refused: phases::would_be(members.iter().map(|member| &member.rehearsed)),
            longest_gap_s: longest_gap.unsigned_abs() / 1000,
            rhythm: rhythm(&days),
            due: due.map(timestamp),
            state,
            waiver,
            moves,
            fix,
            movement,
            modern: elsewhere.map(movement::told),
            by_day: self.by_day(&days),
            evidence: last_use.and_then(|(_, place)| place).and_then(|place| self.place(place)),
        };
        let proven = members.iter().filter(is_relevant).map(|member| member.proven).max().unwrap_or(Millis::MIN);
        let refused_unknown = sum(|member| member.refused_unknown);
        let refused_unknown_in_phases = sum(|member| member.refused_unknown_in_phases);
        Some(Judged { row, proven, is_barred_stranger, refused_unknown, refused_unknown_in_phases })
    }

    /// What each account of a group means, the worst first; the days of all, and the longest gap over all of them.
    fn members<'a>(
        &self,
        group: &Group,
        members: impl Iterator<Item = (PersonId, &'a Person)>,
    ) -> (Vec<Member<'a>>, Vec<Day>, Millis) {
        let members: Vec<(PersonId, &Person)> =
            members.filter(|(id, person)| person.is_anyone() || self.unended.contains_key(id)).collect();
        let days = merge_days(members.iter().map(|(_, person)| person.days.as_slice()));
        // A client that changes its address shows its rhythm only over all of them.
        let shared_gap = longest_gap(&days);
        let mut members: Vec<Member<'_>> =
            members.into_iter().map(|(id, person)| self.member(id, person, group, shared_gap)).collect();
        members
            .sort_by_key(|member| (member.state, std::cmp::Reverse(member.person.last_seen), &member.person.address));
        (members, days, shared_gap)
    }

    fn member<'a>(&self, id: PersonId, person: &'a Person, group: &Group, shared_gap: Millis) -> Member<'a> {
        let unended = self.unended.get(&id);
        let own = person.last_use.map(|at| (at, person.evidence));
        let in_session = unended.and_then(|unended| unended.last_use);
        let last_use = own.max(in_session.map(|(at, boot, seq)| (at, Some((boot, seq)))));
        let attempt = self.attempts.last.get(&id).copied();
        let last_active = last_use.map(|(at, _)| at).max(attempt.map(|(at, _)| at));
        let gap = longest_gap(&person.days);
        let patience = self.policy.window.max(gap.max(shared_gap).saturating_mul(3) / 2);
        let due = last_active.map(|last| last.saturating_add(patience));
        let state = match due {
            _ if unended.is_some_and(|unended| unended.open_with_use) => State::Open,
            Some(due) if due > self.policy.until => State::Blocking,
            Some(_) => State::Quiet,
            None if self.looked(person, group) => State::Looked,
            None => State::Noise,
        };
        let is_unknown = self.attempts.unknown.contains(&id)
            && person.last_refused.is_some_and(|at| at >= self.policy.window_start());
        Member {
            person,
            state,
            due,
            proven: due.zip(last_active).map_or(Millis::MIN, |(due, last)| due.saturating_add(self.unproven(last))),
            last_use,
            attempt,
            gap,
            open: unended.map_or(0, |unended| unended.open),
            lost: unended.map_or(0, |unended| unended.lost),
            is_stranger: self.attempts.strangers.contains(&id),
            refused_unknown: if is_unknown { person.refused } else { 0 },
            refused_unknown_in_phases: if is_unknown { person.refused_in.times() } else { 0 },
            rehearsed: phases::rehearsed(person, unended.map(|unended| &unended.rehearsed)),
        }
    }

    /// Authenticated or named, here within the window, and more than an anonymous handshake.
    fn looked(&self, person: &Person, group: &Group) -> bool {
        let known = is_principal(&group.source) || person.engagement >= Engagement::Discovery;
        known && person.last_seen >= self.policy.window_start()
    }

    fn waiver(&self, identity: &str) -> Option<Waiver> {
        let today = timestamp(self.policy.until).to_zoned(TimeZone::UTC).date();
        let in_force =
            |waiver: &&Waiver| waiver.expires >= today && Pattern::new(&waiver.client).matches_identity(identity);
        self.policy.waivers.iter().find(in_force).cloned()
    }

    fn by_day(&self, days: &[Day]) -> Vec<u64> {
        let mut uses = vec![0; self.days];
        let Some(first) = self.first_day.and_then(number_of) else { return uses };
        for day in days {
            let at = usize::try_from(day.number - first).ok();
            if let Some(slot) = at.and_then(|at| uses.get_mut(at)) {
                *slot = slot.saturating_add(day.uses);
            }
        }
        uses
    }

    /// How much of the time since `last` nobody proves.
    fn unproven(&self, last: Millis) -> Millis {
        let after = self.uncovered.iter().filter(|gap| gap.1 > last);
        after.map(|gap| gap.1 - gap.0.max(last)).fold(0, Millis::saturating_add)
    }

    fn place(&self, (boot, seq): (u32, u64)) -> Option<String> {
        let boot = self.evidence.boots.get(usize::try_from(boot).ok()?)?;
        Some(format!("{}/{seq}", boot.name()))
    }
}

/// How it can move, and the key of what to tell its owner. `elsewhere` is what was seen of it by Streamable HTTP.
fn how_it_moves(group: &Group, elsewhere: Option<&Mover>, members: &[Member<'_>]) -> (Moves, &'static str) {
    // Nobody who still comes over SSE may be taken for one that moves because others of that name do.
    let is_upgraded = |mover: &Mover| {
        let mut staying = members.iter().filter(|member| member.state.is_blocking());
        mover.upgraded.is_some() && staying.all(|member| mover.was_upgraded_from(&member.person.address))
    };
    let fix = fixes::of(if elsewhere.is_some_and(is_upgraded) { fixes::AUTO } else { &group.family });
    (fix.moves, &fix.key)
}

/// The number of a date since 1970.
fn number_of(date: Date) -> Option<i32> {
    let at: Timestamp = date.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(day_of(at.as_millisecond()))
}

/// The date of a day's number.
pub(super) fn date_of(number: i32) -> Date {
    timestamp(Millis::from(number).saturating_mul(DAY_MS)).to_zoned(TimeZone::UTC).date()
}

/// How often a client comes.
fn rhythm(days: &[Day]) -> Rhythm {
    let Some((first, last)) = span(days) else { return Rhythm::Never };
    if days.len() == 1 {
        return Rhythm::OneOff;
    }
    let numbers: Vec<i32> = days.iter().map(|day| day.number).collect();
    let all = day_of(last) - day_of(first) + 1;
    let count = i32::try_from(numbers.len()).unwrap_or(i32::MAX);
    let is_working = |number: &i32| !matches!(date_of(*number).weekday(), Weekday::Saturday | Weekday::Sunday);
    let working =
        i32::try_from((day_of(first)..=day_of(last)).filter(|number| is_working(number)).count()).unwrap_or(i32::MAX);
    if count >= 4 && all > 7 && numbers.iter().all(is_working) && count * 5 >= working * 4 {
        return Rhythm::Weekdays;
    }
    if count >= 3 && count * 5 >= all * 4 {
        return Rhythm::Daily;
    }
    let mut gaps: Vec<i32> = numbers.windows(2).filter_map(|pair| Some(pair.get(1)? - pair.first()?)).collect();
    gaps.sort_unstable();
    let is_about = |low: i32, high: i32| {
        let fitting = gaps.iter().filter(|gap| (low..=high).contains(*gap)).count();
        gaps.len() >= 2 && fitting * 3 >= gaps.len() * 2
    };
    match () {
        () if is_about(6, 8) => Rhythm::Weekly,
        () if is_about(26, 33) => Rhythm::Monthly,
        () => Rhythm::Irregular,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes(days: impl Iterator<Item = i32>) -> Rhythm {
        // 2026-11-02 is a Monday.
        let monday = number_of(jiff::civil::date(2026, 11, 2)).expect("in range");
        let day = |offset: i32| {
            let at = Millis::from(monday + offset) * DAY_MS;
            Day { number: monday + offset, uses: 1, first: at, last: at }
        };
        rhythm(&days.map(day).collect::<Vec<_>>())
    }

    #[test]
    fn rhythm_is_read_off_the_days() {
        assert_eq!(comes(0..0), Rhythm::Never);
        assert_eq!(comes(3..4), Rhythm::OneOff);
        assert_eq!(comes(0..20), Rhythm::Daily);
        assert_eq!(comes((0..28).filter(|day| day % 7 < 5)), Rhythm::Weekdays);
        assert_eq!(comes((0..60).step_by(7)), Rhythm::Weekly);
        assert_eq!(comes([0, 30, 61, 91].into_iter()), Rhythm::Monthly);
        assert_eq!(comes([0, 3, 19, 21].into_iter()), Rhythm::Irregular);
    }
}
