//! When the proxy was watching: a strip for each replica, and what is missing.
//!
//! A gap is a few pixels at most, and a verdict hangs on it: so each is also marked by a line of a fixed width, and listed.

use jiff::Timestamp;
use maud::{Markup, html};

use super::calendar::{Calendar, union};
use super::chart::{axis, swatch};
use super::words::{count, minute, percent, plural, ratio, size, span, visible, when};
use crate::report::outcome::{Coverage, Replica, Report, Span};

/// Replicas that are drawn and listed.
const MOST_REPLICAS: usize = 50;
/// Spans closer together than this part of the drawing are drawn as one; nobody could see between them.
const FINEST: i64 = 1000;

/// The section with the strips.
pub(super) fn strip(report: &Report, calendar: &Calendar) -> Markup {
    let coverage = &report.coverage;
    let more = coverage.replicas.len().saturating_sub(MOST_REPLICAS);
    html! {
        section #coverage aria-labelledby="coverage-title" {
            h2 #coverage-title { "Coverage" }
            p { (summary(coverage)) }
            @if !coverage.replicas.is_empty() {
                ol.heat.coverage {
                    (row("all together", &whole(coverage), coverage.replicas.iter().flat_map(|one| one.spans.clone()), &coverage.gaps, report, calendar))
                    @for replica in coverage.replicas.iter().take(MOST_REPLICAS) {
                        (row(&replica.instance, &about(replica), replica.spans.iter().copied(), &[], report, calendar))
                    }
                    li.footer { span.spacer {} (axis(calendar)) }
                }
                @if more > 0 { p { "and " (plural(size(more), "more replica")) "." } }
                ul.legend {
                    li { svg.swatch aria-hidden="true" focusable="false" { rect.covered width="100%" height="100%" {} } "watching" }
                    li { (swatch("hole")) "no record" }
                    @if !coverage.gaps.is_empty() {
                        li { svg.swatch aria-hidden="true" focusable="false" { line.gap x1="50%" x2="50%" y1="0" y2="100%" {} } "gap in the judged time" }
                    }
                }
            }
        }
    }
}

fn summary(coverage: &Coverage) -> Markup {
    html! {
        @if coverage.replicas.is_empty() {
            "No replica has left a record, so silence proves nothing."
        } @else {
            strong { (ratio(coverage.ratio)) } " of the judged time is covered by at least one replica"
            @match coverage.gaps.first() {
                Some(longest) => {
                    ": " (plural(size(coverage.gap_count), "gap")) ", the longest " (span(signed(longest.seconds())))
                    " on " (minute(longest.from)) " UTC."
                }
                None => { ", without a gap." }
            }
            " " (missing(coverage))
        }
    }
}

fn missing(coverage: &Coverage) -> Markup {
    html! {
        @if coverage.missing_records > 0 || !coverage.holes.is_empty() {
            (plural(coverage.missing_records, "record")) " missing from the log. "
        } @else { "No record is missing from the log. " }
        @if !coverage.missing_boots.is_empty() {
            (plural(size(coverage.missing_boots.len()), "boot")) " known to other replicas left no record at all."
        }
    }
}

fn whole(coverage: &Coverage) -> String {
    ratio(coverage.ratio)
}

fn about(replica: &Replica) -> String {
    let boots = plural(size(replica.boots), "boot");
    let crashes = match replica.crashes {
        0 => String::new(),
        crashes => format!(", {} without a stop", count(size(crashes))),
    };
    format!("{boots}{crashes}, {}", if replica.is_running { "runs" } else { "stopped" })
}

fn row(
    name: &str,
    about: &str,
    spans: impl Iterator<Item = Span>,
    gaps: &[Span],
    report: &Report,
    calendar: &Calendar,
) -> Markup {
    let whole = calendar.end - calendar.start;
    let place = |second: i64| percent(second - calendar.start, whole);
    let length = |from: i64, to: i64| percent(to.min(calendar.end) - from.max(calendar.start), whole);
    let name = visible(name);
    let until = report.window.until.as_second();
    html! {
        li {
            span.who { bdi { (name) } " " span.age { (about) } }
            svg.cells role="img" aria-label={ (name) ": " (about) } {
                rect x="0" y="0" width=(place(until)) height="100%" fill="url(#hole)" {}
                @for (from, to) in drawn(spans, whole / FINEST) {
                    rect.covered x=(place(from)) y="12%" width=(length(from, to)) height="76%" {}
                }
                @for gap in gaps {
                    @let middle = place(i64::midpoint(gap.from.as_second(), gap.to.as_second()));
                    line.gap x1=(middle) x2=(middle) y1="0" y2="100%" {
                        title { "gap of " (span(signed(gap.seconds()))) " from " (minute(gap.from)) " UTC" }
                    }
                }
            }
        }
    }
}

/// Spans as they can be seen.
fn drawn(spans: impl Iterator<Item = Span>, finest: i64) -> Vec<(i64, i64)> {
    let mut seen: Vec<(i64, i64)> = Vec::new();
    for (from, to) in union(spans) {
        match seen.last_mut() {
            Some(open) if from - open.1 < finest => open.1 = to,
            _ => seen.push((from, to)),
        }
    }
    seen
}

/// Everything about it, folded away.
pub(super) fn details(report: &Report) -> Markup {
    let coverage = &report.coverage;
    let now = report.window.until;
    html! {
        section #evidence aria-labelledby="evidence-title" {
            h2 #evidence-title { "What the evidence is worth" }
            (edges(coverage, now))
            @if !coverage.gaps.is_empty() { (gaps(coverage)) }
            @if !coverage.holes.is_empty() {
                details #holes {
                    summary { "Missing records" }
                    ul { @for hole in &coverage.holes { li { (visible(hole)) } } }
                    @if coverage.holes.len() >= 100 { p { "There may be more; a hundred are kept." } }
                }
            }
            @if !coverage.missing_boots.is_empty() {
                details #missing-boots {
                    summary { "Boots without a record" }
                    p { "Other replicas named them in their heartbeats. Give their logs too, if there are any." }
                    ul { @for boot in &coverage.missing_boots { li { code { (visible(boot)) } } } }
                }
            }
            @if !coverage.replicas.is_empty() { (replicas(coverage)) }
        }
    }
}

fn edges(coverage: &Coverage, now: Timestamp) -> Markup {
    html! {
        dl.facts {
            div { dt { "First record" } dd { @if let Some(at) = coverage.first { (when(at, now)) } @else { "none" } } }
            div { dt { "Last record" } dd { @if let Some(at) = coverage.last { (when(at, now)) } @else { "none" } } }
            div {
                dt { "Largest clock step" }
                dd {
                    @if coverage.clock_step_s == 0 { "none" } @else {
                        (span(signed(coverage.clock_step_s))) "; every date above is later by as much"
                    }
                }
            }
        }
    }
}

fn gaps(coverage: &Coverage) -> Markup {
    let more = coverage.gap_count.saturating_sub(coverage.gaps.len());
    html! {
        details #gaps {
            summary { (plural(size(coverage.gap_count), "gap")) " in the judged time" }
            table.plain {
                caption { "Times that no replica covers, longest first, in UTC" }
                thead { tr { th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "Length" } } }
                tbody {
                    @for gap in &coverage.gaps {
                        tr { td { (minute(gap.from)) } td { (minute(gap.to)) } td { (span(signed(gap.seconds()))) } }
                    }
                }
            }
            @if more > 0 { p { "and " (count(size(more))) " more." } }
        }
    }
}

fn replicas(coverage: &Coverage) -> Markup {
    html! {
        details #replicas {
            summary { (plural(size(coverage.replicas.len()), "replica")) }
            div.scroll #replicas-scroll tabindex="0" role="region" aria-label="Replicas" {
                table.plain {
                    caption { "Replicas, in UTC" }
                    thead {
                        tr {
                            th scope="col" { "Replica" }
                            th.number scope="col" { "Boots" }
                            th.number scope="col" { "Without a stop" }
                            th scope="col" { "First covered" }
                            th scope="col" { "Last covered" }
                            th scope="col" { "At the end" }
                        }
                    }
                    tbody {
                        @for replica in coverage.replicas.iter().take(MOST_REPLICAS) {
                            tr {
                                th scope="row" { bdi { (visible(&replica.instance)) } }
                                td.number { (count(size(replica.boots))) }
                                td.number { (count(size(replica.crashes))) }
                                td { @if let Some(first) = replica.spans.first() { (minute(first.from)) } @else { "–" } }
                                td { @if let Some(last) = replica.spans.last() { (minute(last.to)) } @else { "–" } }
                                td { @if replica.is_running { "runs" } @else { "stopped" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_nobody_could_tell_apart_are_one() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let spans = [(0, 100), (105, 200), (300, 400)].map(|(from, to)| Span { from: at(from), to: at(to) });
        assert_eq!(drawn(spans.into_iter(), 50), [(0, 200), (300, 400)]);
    }
}
