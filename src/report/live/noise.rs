//! What is forgotten, so that a public endpoint's scanners do not fill the memory.
//!
//! Who used the server is never forgotten. Who never did blocks nothing, with one exception: who was turned away may have
//! been a user under another address, and blocks as one. Where such a one has to go before its time, that is noted, and
//! the live verdict is UNKNOWN for as long as it matters.
//!
//! Who came by Streamable HTTP is remembered apart, up to as many, and forgotten without harm: the verdict does not ask.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::super::evidence::{DAY_MS, Day, Evidence, longest_gap, merge_days};
use super::super::line::Millis;

/// How long accounts without use are remembered at least, if there is room.
const KEPT_MS: Millis = 60 * DAY_MS;
/// Accounts without use that are remembered at most; each takes 1 to 2 KiB.
pub(super) const MOST: usize = 20_000;
/// How many are left when there were more.
const LEFT: usize = 15_000;

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Forgotten {
    /// How many accounts.
    pub(super) accounts: u64,
    /// The time until which some of them were turned away, too early to be forgotten.
    pub(super) barred_until: Option<Millis>,
    /// How many of those that came by Streamable HTTP.
    #[serde(default)]
    pub(super) movers: u64,
}

impl Forgotten {
    pub(super) fn add(&mut self, more: Forgotten) {
        self.accounts = self.accounts.saturating_add(more.accounts);
        self.barred_until = self.barred_until.max(more.barred_until);
        self.movers = self.movers.saturating_add(more.movers);
    }
}

/// Drops accounts without use that are old, and older ones of too many.
pub(super) fn forget(evidence: &mut Evidence, now: Millis) -> Forgotten {
    let old = now.saturating_sub(KEPT_MS.max(longest_patience(evidence)));
    let mut seen: Vec<Millis> = strangers(evidence).map(|(seen, _)| seen).filter(|seen| *seen >= old).collect();
    let before = match seen.len().checked_sub(LEFT) {
        Some(more) if seen.len() > MOST => *seen.select_nth_unstable(more).1,
        _ => old,
    };
    let barred = strangers(evidence).filter(|(seen, _)| (old..before).contains(seen)).filter_map(|(_, barred)| barred);
    let barred_until = barred.max();
    let known = count(evidence);
    evidence.forget_noise(before);
    let accounts = u64::try_from(known - count(evidence)).unwrap_or(u64::MAX);
    Forgotten { accounts, barred_until, movers: forget_movers(evidence, old) }
}

/// Drops those that came by Streamable HTTP only, and did so long ago or are too many; says how many.
fn forget_movers(evidence: &mut Evidence, old: Millis) -> u64 {
    let groups = evidence.people.groups();
    let users = groups.filter_map(|(identity, _, mut members)| {
        members.any(|(_, person)| person.last_use.is_some()).then(|| identity.to_owned())
    });
    let users: HashSet<String> = users.collect();
    let others = evidence.movers.all().filter(|(identity, _)| !users.contains(*identity));
    let mut seen: Vec<Millis> = others.map(|(_, mover)| mover.last).filter(|last| *last >= old).collect();
    let before = match seen.len().checked_sub(LEFT) {
        Some(more) if seen.len() > MOST => *seen.select_nth_unstable(more).1,
        _ => old,
    };
    let known = evidence.movers.count();
    evidence.movers.retain(|identity, mover| mover.last >= before || users.contains(identity));
    u64::try_from(known - evidence.movers.count()).unwrap_or(u64::MAX)
}

/// Accounts without use: when each was last seen, and when it was last turned away.
fn strangers(evidence: &Evidence) -> impl Iterator<Item = (Millis, Option<Millis>)> {
    let all = evidence.people.groups().flat_map(|(_, _, members)| members);
    all.filter(|(_, person)| person.last_use.is_none()).map(|(_, person)| (person.last_seen, person.last_refused))
}

/// How many accounts there are without use.
pub(super) fn count(evidence: &Evidence) -> usize {
    strangers(evidence).count()
}

/// The longest time that an attempt of one of those who used the server counts for, but for the window.
fn longest_patience(evidence: &Evidence) -> Millis {
    let gaps = evidence.people.groups().map(|(_, _, members)| {
        let lists: Vec<&[Day]> =
            members.map(|(_, person)| person.days.as_slice()).filter(|days| !days.is_empty()).collect();
        let own = lists.iter().map(|days| longest_gap(days)).max().unwrap_or_default();
        own.max(longest_gap(&merge_days(lists.into_iter())))
    });
    gaps.max().unwrap_or_default().saturating_mul(3) / 2
}
