//! The switch-off in sentences: which phase holds and why, how it came to that, and what dry runs found.
//!
//! The trap: names of phases and reasons stand as a log had them, so they are strangers' texts like all others. Each form
//! makes them harmless when it writes them; names in lists are made so here, where they are cut.

use std::fmt::Write as _;

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::safe::{cut, printable};
use super::words::{count, date, moment, number, span};
use crate::report::outcome::{Client, DryRun, PhaseChange, Phases};

/// Changes that are told behind the phase.
const CHANGES: usize = 3;
/// Clients of a dry run that are named, and how wide a name may be.
const NAMES: usize = 4;
const NAME: usize = 40;

/// The phase that holds, since when and why, and what else is so; none where no record tells.
pub(super) fn now(phases: &Phases, until: Timestamp) -> Option<String> {
    let last = phases.changes.last()?;
    let begin = phases.changes.get(begun(phases, |change| change.phase == last.phase)?)?;
    let mut text = format!("{} since {}", last.phase, whence(begin));
    if let Some(end) = phases.until.filter(|end| *end > until) {
        let _ = write!(text, ", until {}", day_or_moment(end));
    }
    for (so, what) in states(last) {
        if let Some(begin) = begun(phases, so).and_then(|at| phases.changes.get(at)) {
            let _ = write!(text, "; {what} since {}", whence(begin));
        }
    }
    Some(text)
}

type So<'a> = Box<dyn Fn(&PhaseChange) -> bool + 'a>;

/// What is so besides the phase, and how it is said.
fn states(last: &PhaseChange) -> Vec<(So<'_>, String)> {
    let mut states: Vec<(So<'_>, String)> = Vec::new();
    if last.paused {
        states.push((Box::new(|change| change.paused), "paused".to_owned()));
    }
    if let Some(phase) = &last.held_back {
        states.push((Box::new(|change| change.held_back == last.held_back), format!("{phase} held back")));
    }
    if let Some(phase) = &last.dry_run {
        states.push((Box::new(|change| change.dry_run == last.dry_run), format!("dry run of {phase}")));
    }
    states
}

/// The first of the last changes in which something was `so` all the time.
fn begun(phases: &Phases, so: impl Fn(&PhaseChange) -> bool) -> Option<usize> {
    let lasting = phases.changes.iter().rev().take_while(|change| so(change)).count();
    phases.changes.len().checked_sub(lasting).filter(|_| lasting > 0)
}

/// The last changes that [`now`] does not tell, the latest first.
pub(super) fn before(phases: &Phases) -> Option<String> {
    let last = phases.changes.last()?;
    let mut told: BTreeSet<usize> = begun(phases, |change| change.phase == last.phase).into_iter().collect();
    told.extend(states(last).into_iter().filter_map(|(so, _)| begun(phases, so)));
    let untold = (0..phases.changes.len()).rev().filter(|at| !told.contains(at));
    let texts: Vec<String> = untold.take(CHANGES).filter_map(|at| change(phases, at)).collect();
    (!texts.is_empty()).then(|| format!("before: {}", texts.join(", ")))
}

/// The change at a place in the list, in a few words: `freeze 2026-12-01 (plan)`.
pub(super) fn change(phases: &Phases, at: usize) -> Option<String> {
    let change = phases.changes.get(at)?;
    Some(format!("{} {}", what(phases, at)?, whence(change)))
}

/// What is different since the change at a place in the list.
pub(super) fn what(phases: &Phases, at: usize) -> Option<String> {
    let change = phases.changes.get(at)?;
    let previous = at.checked_sub(1).and_then(|at| phases.changes.get(at));
    let was = |of: fn(&PhaseChange) -> Option<&String>| previous.and_then(of);
    let mut parts = Vec::new();
    if previous.is_none_or(|previous| previous.phase != change.phase) {
        parts.push(change.phase.clone());
    }
    match (previous.is_some_and(|previous| previous.paused), change.paused) {
        (false, true) => parts.push("paused".to_owned()),
        (true, false) => parts.push("resumed".to_owned()),
        _ => {}
    }
    match (was(|change| change.held_back.as_ref()), &change.held_back) {
        (before, Some(now)) if before != Some(now) => parts.push(format!("{now} held back")),
        (Some(before), None) => parts.push(format!("{before} no longer held back")),
        _ => {}
    }
    match (was(|change| change.dry_run.as_ref()), &change.dry_run) {
        (before, Some(now)) if before != Some(now) => parts.push(format!("dry run of {now}")),
        (Some(before), None) => parts.push(format!("end of the dry run of {before}")),
        _ => {}
    }
    if parts.is_empty() {
        parts.push(format!("{} once more", change.phase));
    }
    Some(parts.join(", "))
}

/// When it was, who had it so, and why.
fn whence(change: &PhaseChange) -> String {
    format!("{} ({})", day_or_moment(change.at), by(change))
}

/// Who had it so, and why.
pub(super) fn by(change: &PhaseChange) -> String {
    let by = if change.by.is_empty() { "nobody says who" } else { &change.by };
    change.why.as_ref().map_or_else(|| by.to_owned(), |why| format!("{by}: {why}"))
}

/// Plans have dates; people have moments.
fn day_or_moment(time: Timestamp) -> String {
    let is_midnight = time.as_second().rem_euclid(86_400) == 0;
    if is_midnight { date(time) } else { moment(time) }
}

/// What a dry run found, with names that are harmless.
pub(super) fn dry_run(run: &DryRun) -> String {
    let when = match run.until {
        None => format!("since {}", moment(run.since)),
        Some(until) => span(run.since, until),
    };
    let lead = format!("Dry run of {} ({when}): would have turned away", run.phase.name());
    if run.clients == 0 {
        return format!("{lead} nobody");
    }
    let clients = count(run.clients as u64, "client", "clients");
    let names = run.listed.iter().take(NAMES);
    let names: Vec<String> =
        names.map(|hit| format!("{} ({})", cut(&printable(&hit.identity), NAME), number(hit.times))).collect();
    let more = match run.clients.saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {} more", number(more as u64)),
    };
    let users = match run.users {
        0 => "none of which ever used the server".to_owned(),
        users => format!("{} of which used the server", number(users as u64)),
    };
    format!("{lead} {clients} ({users}), {}: {}{more}", count(run.times, "time", "times"), names.join(", "))
}

/// How many of a client's refusals were of which phase: `freeze 2, brownout 9`; none where none was.
pub(super) fn refused_in(client: &Client) -> Option<String> {
    let parts: Vec<String> =
        client.refused_in.iter().map(|(phase, times)| format!("{} {}", phase.name(), number(*times))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{at, rich};
    use super::*;

    #[test]
    fn phase_is_told_with_its_reason_and_what_was_before() {
        let report = rich();
        let now = now(&report.phases, report.window.until).expect("a phase");
        assert_eq!(
            now,
            "freeze since 2026-11-10 10:00 UTC (plan), until 2026-12-01; paused since 2026-11-17 16:20 UTC (operator: the \
             reporting team moves *next* week); dry run of tombstone since 2026-11-15 08:30 UTC (start)"
        );
        let before = before(&report.phases).expect("a past");
        assert_eq!(
            before,
            "before: brownout 2026-11-10 09:00 UTC (plan), freeze 2026-11-01 (operator: everybody was told), announce \
             2026-10-01 (plan)"
        );
    }

    #[test]
    fn every_kind_of_change_has_its_words() {
        let mut phases = rich().phases;
        let last = phases.changes.pop().expect("a change");
        let changed = |change: fn(&mut PhaseChange)| {
            let mut next = last.clone();
            change(&mut next);
            next
        };
        phases.changes = vec![
            changed(|_| {}),
            changed(|next| next.paused = false),
            changed(|next| (next.paused, next.dry_run) = (false, None)),
            changed(|next| (next.paused, next.dry_run, next.held_back) = (false, None, Some("gone".to_owned()))),
            changed(|next| (next.paused, next.dry_run) = (false, None)),
            changed(|next| (next.paused, next.dry_run) = (false, None)),
        ];
        let words: Vec<String> = (0..6).filter_map(|at| what(&phases, at)).collect();
        assert_eq!(
            words,
            [
                "freeze, paused, dry run of tombstone",
                "resumed",
                "end of the dry run of tombstone",
                "gone held back",
                "gone no longer held back",
                "freeze once more"
            ]
        );
    }

    #[test]
    fn nothing_is_said_where_no_record_tells() {
        let phases = Phases::default();
        assert_eq!((now(&phases, at("2026-11-21T12:00:00Z")), before(&phases)), (None, None));
    }

    #[test]
    fn dry_run_says_whom_it_would_have_hit() {
        let mut run = rich().dry_run.remove(0);
        assert_eq!(
            dry_run(&run),
            "Dry run of tombstone (since 2026-11-15 08:30 UTC): would have turned away 3 clients (2 of which used the \
             server), 13 times: client_id:reporting (7), name:Cursor via mcp-remote (5), ua:python-httpx (1)"
        );
        run.clients = 9;
        run.until = Some(at("2026-11-15T09:00:00Z"));
        assert!(dry_run(&run).contains("(2026-11-15 08:30 to 09:00 UTC)"), "{}", dry_run(&run));
        assert!(dry_run(&run).ends_with(" and 6 more"), "{}", dry_run(&run));
        run.clients = 0;
        assert!(dry_run(&run).ends_with(": would have turned away nobody"), "{}", dry_run(&run));
    }
}
