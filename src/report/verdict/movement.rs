//! How far each client has moved to Streamable HTTP.
//!
//! Nothing here decides anything: a client that was seen on Streamable HTTP is not silent on SSE for that, and one that was
//! upgraded did not use SSE by it.

use std::collections::BTreeSet;

use super::super::evidence::{Boot, Evidence, Mover, is_principal};
use super::super::fixes;
use super::super::line::Millis;
use super::super::outcome::{
    Client, Measured, Modern, Movement, Moves, Moving, RefusedIn, Rhythm, State, WouldBeRefused,
};
use super::super::policy::{Policy, timestamp};
use super::clients::Judged;
use crate::traffic::Engagement;

/// Where a client stands. `on_sse` is whether it still uses SSE, if it ever did; `gap` is its longest silence there.
pub(super) fn of(
    on_sse: Option<bool>,
    mover: Option<&Mover>,
    gap: Millis,
    measured: Measured,
    policy: &Policy,
) -> Option<Movement> {
    let on_http = mover.is_some_and(|mover| {
        let patience = policy.window.max(gap.max(mover.longest_gap()).saturating_mul(3) / 2);
        mover.last.saturating_add(patience) > policy.until
    });
    match (on_sse, on_http, measured) {
        (Some(true), true, _) => Some(Movement::Both),
        (_, true, _) => Some(Movement::ModernOnly),
        (None, false, _) => None,
        (Some(_), false, Measured::No) | (Some(false), false, Measured::Partly) => Some(Movement::NotMeasured),
        (Some(true), false, _) => Some(Movement::LegacyOnly),
        (Some(false), false, Measured::Yes) => Some(Movement::Vanished),
    }
}

/// What a row tells of `mover`.
pub(super) fn told(mover: &Mover) -> Modern {
    Modern {
        first: timestamp(mover.first),
        last: timestamp(mover.last),
        days: mover.days.len(),
        upgrades: mover.upgrades,
        first_upgrade: mover.upgraded.map(|(first, _)| timestamp(first)),
        last_upgrade: mover.upgraded.map(|(_, last)| timestamp(last)),
    }
}

/// Who counted modern clients, before it is known what that says of any client.
pub(super) fn measured(evidence: &Evidence, policy: &Policy) -> Moving {
    let start = policy.window_start();
    let within: Vec<&Boot> = evidence.boots.iter().filter(|boot| boot.runs.latest() > start).collect();
    let names =
        |boots: &mut dyn Iterator<Item = &&Boot>| boots.map(|boot| boot.instance.clone()).collect::<BTreeSet<_>>();
    let counting = names(&mut within.iter().filter(|boot| boot.passes_modern));
    let since = evidence.boots.iter().filter(|boot| boot.passes_modern).map(|boot| boot.runs.earliest()).min();
    let measured = match () {
        () if counting.is_empty() => Measured::No,
        () if within.iter().all(|boot| boot.passes_modern) && since.is_some_and(|since| since <= start) => {
            Measured::Yes
        }
        () => Measured::Partly,
    };
    Moving {
        measured,
        since: since.map(timestamp),
        replicas: counting.len(),
        replicas_in_all: names(&mut within.iter()).len(),
        ..Moving::default()
    }
}

/// The same with the clients counted; `judged` are all that ever came over SSE.
pub(super) fn count(moving: Moving, evidence: &Evidence, judged: &[Judged]) -> Moving {
    let users = || judged.iter().filter(|judged| judged.row.due.is_some());
    let of = |movement: Movement| users().filter(|judged| judged.row.movement == Some(movement)).count();
    let users_seen = users().filter(|judged| judged.row.modern.is_some()).count();
    Moving {
        legacy_only: of(Movement::LegacyOnly),
        both: of(Movement::Both),
        modern_only: of(Movement::ModernOnly),
        vanished: of(Movement::Vanished),
        not_measured: of(Movement::NotMeasured),
        never_legacy: evidence.movers.count() - users_seen,
        ..moving
    }
}

/// Rows of those that never came over SSE, the last seen first. There may be any number of them.
pub(super) fn strangers(evidence: &Evidence, judged: &[Judged], days: usize, policy: &Policy) -> Vec<Client> {
    let known: BTreeSet<&str> = judged.iter().map(|judged| judged.row.identity.as_str()).collect();
    let unknown = evidence.movers.all().filter(|(identity, _)| !known.contains(identity));
    let mut rows: Vec<Client> = unknown.map(|(identity, mover)| row(identity, mover, days, policy)).collect();
    rows.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then_with(|| a.identity.cmp(&b.identity)));
    rows
}

fn row(identity: &str, mover: &Mover, days: usize, policy: &Policy) -> Client {
    let fix = fixes::of(if mover.upgraded.is_some() { fixes::AUTO } else { &mover.family });
    Client {
        identity: identity.to_owned(),
        name: identity.split_once(':').map_or(identity, |(_, name)| name).to_owned(),
        source: mover.source.clone(),
        is_principal: is_principal(&mover.source),
        family: mover.family.clone(),
        seen_as: mover.seen_as.iter().cloned().collect(),
        principals: 1,
        addresses: Vec::new(),
        engagement: Engagement::Connect,
        first_seen: timestamp(mover.first),
        last_seen: timestamp(mover.last),
        last_use: None,
        last_attempt: None,
        last_attempt_in: None,
        active_days: 0,
        sessions: 0,
        open_sessions: 0,
        uses: 0,
        refused: 0,
        refused_in: RefusedIn::new(),
        would_be_refused: WouldBeRefused::new(),
        longest_gap_s: 0,
        rhythm: Rhythm::Never,
        due: None,
        state: State::Modern,
        waiver: None,
        moves: Moves::Auto,
        fix: &fix.key,
        movement: of(None, Some(mover), 0, Measured::Yes, policy),
        modern: Some(told(mover)),
        by_day: vec![0; days],
        evidence: None,
    }
}
