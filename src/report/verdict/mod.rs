//! The verdict: the first rule that matches (EVIDENCE, The verdict).
//!
//! | verdict | when |
//! |---|---|
//! | NOT YET | a session with use is open, or the silence of one who used the server has not lasted long enough |
//! | UNKNOWN | silence within the window is not proven to be silence |
//! | SAFE, with notes | somebody looked and never used, a waiver is in force, no canary ran of late, and the like |
//! | SAFE | otherwise |

mod clients;
mod coverage;
mod movement;
mod phases;
mod words;

use jiff::civil::Date;

use super::evidence::{Evidence, day_of};
use super::line::Millis;
use super::outcome::{Canary, Client, Grade, Input, REPORT_SCHEMA, Report, State, Totals, Verdict, Window};
use super::policy::{Policy, timestamp};
use crate::traffic::Engagement;
use clients::{Judged, date_of};
use coverage::{Doubt, Proof};

/// Days that a report shows, at most.
const DAYS: i32 = 366;

/// Judges `evidence`, which was read from `input`.
#[must_use]
pub fn judge(evidence: &Evidence, input: Input, policy: &Policy) -> Report {
    let mut proof = coverage::prove(evidence, policy);
    let is_access_log = input.access_lines > 0;
    if proof.doubts.first() == Some(&Doubt::NoRecords) && is_access_log {
        proof.doubts.insert(0, Doubt::AccessLogOnly { legacy: input.legacy_access_lines });
    }
    if policy.is_forgetful {
        proof.doubts.insert(0, Doubt::NoState);
    }
    let days = days(evidence, policy);
    let moving = movement::measured(evidence, policy);
    let judged = clients::judge(evidence, policy, &proof.alive, &proof.uncovered, &days, moving.measured);
    let moving = movement::count(moving, evidence, &judged);
    let canary = canary(evidence, policy);
    let blocking = judged.iter().filter(|judged| judged.row.state.is_blocking()).count();
    let phases = phases::phases(evidence, policy);
    let notes = words::notes(&judged, policy, &canary, &phases, &input, &proof.vanished);
    let verdict = match () {
        () if blocking > 0 => Verdict::NotYet,
        () if !proof.doubts.is_empty() => Verdict::Unknown,
        () if notes.iter().any(|note| note.is_weighty) => Verdict::SafeWithNotes,
        () => Verdict::Safe,
    };
    let earliest_safe = earliest_safe(verdict, &judged, &proof, policy);
    let reason = words::reason(verdict, &judged, &proof, policy);
    let next = words::next(verdict, &judged, &proof, policy);
    let totals = totals(&judged, blocking);
    let uses = (0..days.len())
        .map(|day| {
            judged
                .iter()
                .filter_map(|judged| judged.row.by_day.get(day))
                .fold(0, |sum: u64, uses| sum.saturating_add(*uses))
        })
        .collect();
    let (clients, clients_hidden) = shown(evidence, judged, days.len(), policy);
    Report {
        schema: REPORT_SCHEMA,
        verdict,
        reason,
        earliest_safe: earliest_safe.map(timestamp),
        next,
        notes: notes.into_iter().map(|note| note.text).collect(),
        window: Window {
            since: timestamp(policy.window_start()),
            until: timestamp(policy.until),
            length_s: policy.window.unsigned_abs() / 1000,
        },
        generated: timestamp(policy.now),
        grade: if is_access_log { Grade::AccessLog } else { Grade::TrafficLog },
        totals,
        moving,
        phases,
        dry_run: phases::dry_runs(evidence, policy),
        days,
        uses,
        clients_hidden,
        clients,
        coverage: proof.coverage,
        canary,
        input,
    }
}

/// The clients to show, and how many are left out. Those that never came over SSE are shown when all are asked for, or some
/// by name; they are nobody's loss otherwise.
fn shown(evidence: &Evidence, judged: Vec<Judged>, days: usize, policy: &Policy) -> (Vec<Client>, usize) {
    let strangers = if policy.is_for_all || !policy.shown.is_empty() {
        movement::strangers(evidence, &judged, days, policy)
    } else {
        Vec::new()
    };
    let is_shown =
        |row: &Client| policy.shown.is_empty() || policy.shown.iter().any(|pattern| words::shows(pattern, row));
    let all = judged.len();
    let mut clients: Vec<Client> = judged.into_iter().map(|judged| judged.row).filter(is_shown).collect();
    let hidden = all - clients.len();
    clients.extend(strangers.into_iter().filter(is_shown));
    (clients, hidden)
}

/// The days to show: from the first evidence to the end of the window.
fn days(evidence: &Evidence, policy: &Policy) -> Vec<Date> {
    let last = day_of(policy.until);
    let boots = evidence.boots.iter().map(|boot| day_of(boot.runs.earliest()));
    let people =
        evidence.people.groups().flat_map(|(_, _, members)| members.map(|(_, person)| day_of(person.first_seen)));
    let first = boots.chain(people).min().unwrap_or(last).min(last).max(last.saturating_sub(DAYS - 1));
    (first..=last).map(date_of).collect()
}

fn canary(evidence: &Evidence, policy: &Policy) -> Canary {
    let since = day_of(policy.window_start());
    let within = |at: &Millis| *at >= policy.window_start() && *at <= policy.until;
    let last = evidence.last_canary.filter(within);
    // Runs are counted by day, and a window may begin in the midst of one.
    let runs = evidence.canaries.range(since..).map(|(_, runs)| *runs).sum();
    Canary { runs: if last.is_some() { runs } else { 0 }, last: last.map(timestamp) }
}

/// When SSE could be switched off if nobody came any more and coverage stayed whole from now on.
fn earliest_safe(verdict: Verdict, judged: &[Judged], proof: &Proof, policy: &Policy) -> Option<Millis> {
    if matches!(verdict, Verdict::Safe | Verdict::SafeWithNotes) {
        return None;
    }
    let mut latest = policy.until;
    for doubt in &proof.doubts {
        latest = latest.max(doubt.clean(policy.window)?);
    }
    let blocking = judged.iter().filter(|judged| judged.row.state.is_blocking());
    latest = blocking.map(|judged| judged.proven).fold(latest, Millis::max);
    // A waiver that expires before that day holds nothing off: its client blocks again.
    let mut waived: Vec<(jiff::civil::Date, Millis)> =
        judged.iter().filter_map(|judged| Some((judged.row.waiver.as_ref()?.expires, judged.proven))).collect();
    waived.sort_unstable();
    Some(waived.into_iter().fold(latest, |latest, (expires, proven)| {
        let is_over = expires < timestamp(latest).to_zoned(jiff::tz::TimeZone::UTC).date();
        if is_over { latest.max(proven) } else { latest }
    }))
}

fn totals(judged: &[Judged], blocking: usize) -> Totals {
    let sum = |of: fn(&Judged) -> u64| judged.iter().map(of).fold(0, u64::saturating_add);
    let used = |judged: &&Judged| judged.row.engagement == Engagement::Use;
    Totals {
        blocking,
        users: judged.iter().filter(used).count(),
        noise: judged.iter().filter(|judged| judged.row.state == State::Noise).count(),
        sessions: sum(|judged| judged.row.sessions),
        open_sessions: sum(|judged| judged.row.open_sessions),
        uses: sum(|judged| judged.row.uses),
        refused: sum(|judged| judged.row.refused),
    }
}
