//! What a report says in sentences, the same in the terminal and in a ticket.
//!
//! The trap: the sentences hold strangers' names as they came (but for lists, which are cut). Each form makes them
//! harmless when it writes them.

use std::fmt::Write as _;

use super::safe::{cut, printable};
use super::words::{age, bytes, count, date, duration, moment, number, percent, span};
use crate::report::fixes;
use crate::report::outcome::{Client, Grade, Measured, Report, Verdict};

/// Names in a list before `and 3 more`, and how wide one may be.
const NAMES: usize = 4;
const NAME: usize = 40;

/// What the verdict means, in a sentence.
pub(super) fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "SSE can be switched off.",
        Verdict::SafeWithNotes => "SSE can be switched off; read the notes first.",
        Verdict::Unknown => "the log cannot tell whether SSE can be switched off.",
        Verdict::NotYet => "do not switch SSE off.",
    }
}

/// From when on it is safe, in words.
pub(super) fn earliest(report: &Report) -> String {
    match (report.earliest_safe, report.verdict) {
        (Some(time), _) => {
            format!("{}, {}, if nobody uses SSE until then", moment(time), age(time, report.window.until))
        }
        (None, Verdict::Safe | Verdict::SafeWithNotes) => "now".to_owned(),
        (None, _) => "no date can be told".to_owned(),
    }
}

/// The time that was judged, and what the evidence is worth.
pub(super) fn judged(report: &Report) -> String {
    let window = span(report.window.since, report.window.until);
    let length = duration(report.window.length_s);
    match report.grade {
        Grade::TrafficLog => format!("{window} ({length})"),
        Grade::AccessLog => format!(
            "{window} ({length}), from access logs of an old server: a lower grade, because they tell neither what a \
             client did nor when nothing was logged"
        ),
    }
}

/// What proves that silence is silence, in one sentence.
pub(super) fn coverage(report: &Report) -> String {
    let coverage = &report.coverage;
    let mut parts = vec![format!("{} of that time is covered", percent(coverage.ratio))];
    parts.push(match coverage.gaps.first() {
        None => "no gap".to_owned(),
        Some(gap) => {
            let gaps = count(coverage.gap_count.max(1) as u64, "gap", "gaps");
            format!("{gaps}, the longest {} ({})", duration(gap.seconds()), span(gap.from, gap.to))
        }
    });
    let running = coverage.replicas.iter().filter(|replica| replica.is_running).count();
    let replicas = count(coverage.replicas.len() as u64, "replica", "replicas");
    let names = list(coverage.replicas.iter().map(|replica| replica.instance.as_str()));
    parts.push(if names.is_empty() { replicas } else { format!("{replicas}, {running} running ({names})") });
    parts.push(match coverage.missing_records {
        0 if coverage.holes.is_empty() => "no record is missing".to_owned(),
        0 => "records are missing".to_owned(),
        missing => format!("{} missing", count(missing, "record is", "records are")),
    });
    if !coverage.missing_boots.is_empty() {
        let boots = count(coverage.missing_boots.len() as u64, "boot has", "boots have");
        parts.push(format!("{boots} no log here ({})", list(coverage.missing_boots.iter().map(String::as_str))));
    }
    if coverage.clock_step_s > 0 {
        parts.push(format!("clocks stepped by up to {}, dates are later by as much", duration(coverage.clock_step_s)));
    }
    parts.join("; ")
}

/// How many clients moved, in a sentence; none where nobody ever used SSE or moved.
pub(super) fn moved(report: &Report) -> Option<String> {
    let moving = &report.moving;
    let clients = count(moving.clients() as u64, "client", "clients");
    if !moving.is_told() {
        let why = "not measured: no replica passes Streamable HTTP through (serve --passthrough mcp)";
        return (moving.clients() > 0).then(|| why.to_owned());
    }
    let mut parts = vec![
        format!("{} on SSE only", number(moving.legacy_only as u64)),
        format!("{} on both", number(moving.both as u64)),
        format!("{} moved", number(moving.modern_only as u64)),
        format!("{} vanished", number(moving.vanished as u64)),
    ];
    if moving.not_measured > 0 {
        parts.push(format!("{} not measured (?)", number(moving.not_measured as u64)));
    }
    let mut text = format!("{clients}: {}", parts.join(", "));
    if moving.never_legacy > 0 {
        let others = count(moving.never_legacy as u64, "other", "others");
        let _ = write!(text, "; {others} only by Streamable HTTP (report --all lists them)");
    }
    match (moving.measured, moving.since) {
        (Measured::Partly, Some(since)) => {
            let (some, all) = (moving.replicas as u64, moving.replicas_in_all as u64);
            let replicas = count(all, "replica", "replicas");
            let _ = write!(text, "; measured in part: since {} by {} of {replicas}", date(since), number(some));
        }
        (Measured::No, _) => text.push_str("; only upgrades are told: no replica passes Streamable HTTP through"),
        _ => {}
    }
    Some(text)
}

/// The positive control, in a sentence.
pub(super) fn canary(report: &Report) -> String {
    match (report.canary.runs, report.canary.last) {
        (0, _) => "none ran, so nothing shows that the public path would have let a client in".to_owned(),
        (runs, None) => format!("{} in that time", count(runs, "run", "runs")),
        (runs, Some(last)) => {
            format!("{} in that time, the last {}", count(runs, "run", "runs"), age(last, report.window.until))
        }
    }
}

/// What was read, with everything that was not as it should be.
pub(super) fn input(report: &Report) -> String {
    let input = &report.input;
    let mut text = format!(
        "{}, {}, {}: {} of the proxy",
        count(input.files as u64, "file", "files"),
        count(input.lines, "line", "lines"),
        bytes(input.bytes),
        count(input.records, "record", "records"),
    );
    let others = [
        (input.access_lines, "of access logs"),
        (input.duplicates, "given more than once"),
        (input.left_out, "outside --since and --until"),
        (input.from_the_future, "from the future, taken as made now"),
        (input.broken, "cut off or damaged"),
        (input.foreign, "foreign"),
    ];
    for (found, what) in others.into_iter().filter(|(found, _)| *found > 0) {
        let _ = write!(text, "; {} {what}", number(found));
    }
    text
}

/// The first names, and how many more there are.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| cut(&printable(name), NAME)).collect();
    let shown = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The ways to move of the clients that block, each with its clients.
pub(super) fn moves(report: &Report) -> Vec<(&'static fixes::Fix, Vec<&Client>)> {
    let mut ways: Vec<(&'static fixes::Fix, Vec<&Client>)> = Vec::new();
    for client in report.clients.iter().filter(|client| client.state.is_blocking()) {
        let fix = fixes::of(client.fix);
        match ways.iter_mut().find(|(known, _)| known.key == fix.key) {
            Some((_, clients)) => clients.push(client),
            None => ways.push((fix, vec![client])),
        }
    }
    ways
}
