//! How far the switch-off has come, and whom dry runs would have turned away. Nothing here decides anything.

use std::collections::BTreeMap;

use super::super::evidence::{Change, Evidence, Person, PersonId, Tallies, Tally};
use super::super::line::Millis;
use super::super::outcome::{DryRun, PhaseChange, Phases, RefusedIn, Refusing, Rehearsed, WouldBe, WouldBeRefused};
use super::super::policy::{Policy, timestamp};

/// Changes, and clients of a dry run, that a report lists at most.
const LISTED: usize = 100;

/// What the accounts of a row were turned away by.
pub(super) fn refused<'a>(tallies: impl Iterator<Item = &'a Tallies>) -> RefusedIn {
    summed(tallies).all().map(|(phase, tally)| (phase, tally.times)).collect()
}

/// What dry runs would have done to the accounts of a row.
pub(super) fn would_be<'a>(tallies: impl Iterator<Item = &'a Tallies>) -> WouldBeRefused {
    let would_be = |tally: &Tally| WouldBe { times: tally.times, last: timestamp(tally.last) };
    summed(tallies).all().map(|(phase, tally)| (phase, would_be(tally))).collect()
}

/// What dry runs would have done to `person`, in sessions that are over and in others.
pub(super) fn rehearsed(person: &Person, unended: Option<&Tallies>) -> Tallies {
    summed([&person.rehearsed].into_iter().chain(unended))
}

fn summed<'a>(tallies: impl Iterator<Item = &'a Tallies>) -> Tallies {
    tallies.fold(Tallies::default(), |mut sum, tallies| {
        sum.merge(tallies);
        sum
    })
}

/// What holds, and how it came to that.
pub(super) fn phases(evidence: &Evidence, policy: &Policy) -> Phases {
    let told = evidence.phases.told(policy.until);
    let Some(last) = told.last() else { return Phases::default() };
    let since = told.iter().rev().take_while(|change| change.phase == last.phase).last();
    let more = told.len().saturating_sub(LISTED);
    Phases {
        now: Some(last.phase.clone()),
        since: since.map(|change| timestamp(change.at)),
        until: last.until.map(timestamp),
        left_out: evidence.phases.left_out().saturating_add(u64::try_from(more).unwrap_or(u64::MAX)),
        changes: told.iter().skip(more).map(listed).collect(),
    }
}

fn listed(change: &Change) -> PhaseChange {
    let Change { phase, before, by, why, paused, held_back, dry_run, .. } = change.clone();
    let (at, until) = (timestamp(change.at), change.until.map(timestamp));
    PhaseChange { at, phase, before, by, why, until, paused, held_back, dry_run }
}

/// One identity in a dry run.
struct Hit {
    tally: Tally,
    is_user: bool,
}

/// Every phase that was rehearsed.
pub(super) fn dry_runs(evidence: &Evidence, policy: &Policy) -> Vec<DryRun> {
    let told = evidence.phases.told(policy.until);
    let mut hits = hits(evidence);
    let of = |phase| dry_run(phase, hits.remove(&phase).unwrap_or_default(), &told);
    Refusing::ALL.into_iter().filter_map(of).collect()
}

/// Whom each dry run would have turned away.
fn hits(evidence: &Evidence) -> BTreeMap<Refusing, BTreeMap<&str, Hit>> {
    let mut open: BTreeMap<PersonId, Tallies> = BTreeMap::new();
    for session in evidence.boots.iter().flat_map(|boot| boot.open.values()).filter(|open| !open.rehearsed.is_empty()) {
        open.entry(session.person).or_default().merge(&session.rehearsed);
    }
    let mut hits: BTreeMap<Refusing, BTreeMap<&str, Hit>> = BTreeMap::new();
    for (identity, _, members) in evidence.people.groups() {
        let mut all = Tallies::default();
        let mut is_user = false;
        for (id, person) in members {
            all.merge(&rehearsed(person, open.get(&id)));
            is_user |= person.last_use.is_some();
        }
        for (phase, tally) in all.all() {
            hits.entry(phase).or_default().insert(identity, Hit { tally: *tally, is_user });
        }
    }
    hits
}

fn dry_run(phase: Refusing, hits: BTreeMap<&str, Hit>, told: &[Change]) -> Option<DryRun> {
    let rehearses = |change: &Change| change.dry_run.as_deref() == Some(phase.name());
    let named = told.iter().find(|change| rehearses(change)).map(|change| change.at);
    let since: Millis = hits.values().map(|hit| hit.tally.first).chain(named).min()?;
    let last = hits.values().map(|hit| hit.tally.last).max();
    let is_running = told.last().is_some_and(rehearses);
    // The first change after the last one that had it.
    let end = told.iter().rposition(rehearses).and_then(|at| told.get(at + 1)).map(|change| change.at);
    let until = if is_running { None } else { end.max(last) };
    let clients = hits.len();
    let users = hits.values().filter(|hit| hit.is_user).count();
    let times = hits.values().map(|hit| hit.tally.times).fold(0, u64::saturating_add);
    let mut listed: Vec<Rehearsed> = hits
        .into_iter()
        .map(|(identity, Hit { tally, is_user })| Rehearsed {
            identity: identity.to_owned(),
            is_user,
            times: tally.times,
            last: timestamp(tally.last),
        })
        .collect();
    // Stable: of equals the first by name.
    listed.sort_by_key(|hit| std::cmp::Reverse((hit.is_user, hit.times)));
    listed.truncate(LISTED);
    let until = until.map(timestamp);
    Some(DryRun { phase, since: timestamp(since), until, clients, users, times, listed })
}
