//! The switch-off: a strip of its phases over the days of the other drawings, its changes as a table, and its dry runs.
//!
//! The trap: a brownout of minutes is narrower than a pixel among months. What nobody could see is drawn as a line of a fixed
//! width.

use jiff::Timestamp;
use maud::{Markup, html};

use super::calendar::Calendar;
use super::chart::{axis, swatch};
use super::words::{count, minute, percent, plural, size, visible, when};
use crate::report::outcome::{DryRun, Phases, Report};
use crate::report::render::phases::{by, dry_run, now, what};

/// Narrower than this part of the drawing is a line.
const NARROW: i64 = 300;
/// The phases and their patterns; `observe` is empty ground.
const PATTERNS: [(&str, &str); 5] =
    [("announce", "p6"), ("freeze", "p1"), ("brownout", "p2"), ("tombstone", "p4"), ("gone", "p7")];
/// What a phase of a later version is drawn with.
const UNKNOWN: &str = "p5";

/// A phase for a time.
struct Stretch<'a> {
    phase: &'a str,
    is_paused: bool,
    from: Timestamp,
    to: Timestamp,
}

/// The section; nothing where no record tells of a phase.
pub(super) fn section(report: &Report, calendar: &Calendar) -> Markup {
    let phases = &report.phases;
    let now = now(phases, report.window.until);
    html! {
        @if now.is_some() || !report.dry_run.is_empty() {
            section #phases aria-labelledby="phases-title" {
                h2 #phases-title { "Switching off" }
                @if let Some(now) = now {
                    p { (visible(&now)) "." }
                    (strip(report, calendar))
                    (changes(phases))
                }
                @for run in &report.dry_run { (rehearsal(run, report.window.until)) }
            }
        }
    }
}

fn stretches(report: &Report) -> Vec<Stretch<'_>> {
    let changes = &report.phases.changes;
    let ends = changes.iter().skip(1).map(|change| change.at).chain([report.window.until]);
    let mut all: Vec<Stretch<'_>> = Vec::new();
    for (change, to) in changes.iter().zip(ends) {
        match all.last_mut() {
            // Another reason for the same is nothing to see.
            Some(last) if last.phase == change.phase && last.is_paused == change.paused => last.to = to,
            _ => all.push(Stretch { phase: &change.phase, is_paused: change.paused, from: change.at, to }),
        }
    }
    all.retain(|stretch| stretch.phase != "observe");
    all
}

fn strip(report: &Report, calendar: &Calendar) -> Markup {
    let stretches = stretches(report);
    let now = report.phases.now.as_deref().unwrap_or_default();
    let is_used = |phase: &str| stretches.iter().any(|stretch| stretch.phase == phase);
    let is_unknown = |stretch: &Stretch<'_>| PATTERNS.iter().all(|(name, _)| *name != stretch.phase);
    html! {
        ol.heat {
            li {
                span.who { "Phases" }
                svg.cells role="img" aria-label={ "Phases, now " (visible(now)) "; the table below has them all" } {
                    @for stretch in &stretches { (drawn(stretch, calendar)) }
                }
            }
            li.footer { span.spacer {} (axis(calendar)) }
        }
        ul.legend {
            @for (name, pattern) in PATTERNS.into_iter().filter(|(name, _)| is_used(name)) { li { (swatch(pattern)) (name) } }
            @if stretches.iter().any(is_unknown) { li { (swatch(UNKNOWN)) "another" } }
            @if stretches.iter().any(|stretch| stretch.is_paused) { li { "lower half: paused" } }
        }
    }
}

fn drawn(stretch: &Stretch<'_>, calendar: &Calendar) -> Markup {
    let whole = calendar.end - calendar.start;
    let clip = |at: Timestamp| at.as_second().clamp(calendar.start, calendar.end) - calendar.start;
    let (from, to) = (clip(stretch.from), clip(stretch.to));
    let pattern = PATTERNS.iter().find(|(name, _)| *name == stretch.phase).map_or(UNKNOWN, |(_, pattern)| pattern);
    let paint = format!("url(#{pattern})");
    let top = if stretch.is_paused { "50%" } else { "0" };
    let is_before = stretch.to.as_second() <= calendar.start;
    let title = html! {
        title {
            (visible(stretch.phase)) @if stretch.is_paused { ", paused" } " from " (minute(stretch.from)) " to "
            (minute(stretch.to)) " UTC"
        }
    };
    html! {
        @if !is_before {
            @if (to - from).saturating_mul(NARROW) < whole {
                @let middle = percent(i64::midpoint(from, to), whole);
                line x1=(middle) x2=(middle) y1=(top) y2="100%" stroke=(paint) stroke-width="4" { (title) }
            } @else {
                @let height = if stretch.is_paused { "50%" } else { "100%" };
                rect x=(percent(from, whole)) y=(top) width=(percent(to - from, whole)) height=(height) fill=(paint) { (title) }
            }
        }
    }
}

fn changes(phases: &Phases) -> Markup {
    html! {
        details #phase-changes {
            summary { (plural(size(phases.changes.len()), "change")) }
            div.scroll #phase-changes-scroll tabindex="0" role="region" aria-label="Changes of the phase" {
                table.plain {
                    caption { "Changes of the phase, latest first, in UTC" }
                    thead { tr { th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "By whom and why" } } }
                    tbody {
                        @for (place, change) in phases.changes.iter().enumerate().rev() {
                            tr {
                                td { (minute(change.at)) }
                                th scope="row" { bdi { (visible(&what(phases, place).unwrap_or_default())) } }
                                td { bdi { (visible(&by(change))) } }
                            }
                        }
                    }
                }
            }
            @if phases.left_out > 0 { p { "and " (plural(phases.left_out, "earlier record")) "." } }
        }
    }
}

fn rehearsal(run: &DryRun, until: Timestamp) -> Markup {
    let more = run.clients.saturating_sub(run.listed.len());
    html! {
        p { (visible(&dry_run(run))) ". They were served." }
        @if !run.listed.is_empty() {
            details #{ "dry-run-" (run.phase.name()) } {
                summary { "Whom the dry run of " (run.phase.name()) " would have turned away" }
                ul {
                    @for hit in &run.listed {
                        li {
                            code { (visible(&hit.identity)) } ": " (plural(hit.times, "time")) ", last " (when(hit.last, until))
                            @if !hit.is_user { "; never used the server" }
                        }
                    }
                }
                @if more > 0 { p { "and " (count(size(more))) " more." } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn brownout_of_minutes_can_be_seen_and_a_pause_is_another_stretch() {
        let report = sample::switching_off();
        let told: Vec<(&str, bool)> =
            stretches(&report).iter().map(|stretch| (stretch.phase, stretch.is_paused)).collect();
        assert_eq!(told, [("announce", false), ("brownout", false), ("announce", false), ("announce", true)]);
        let page = section(&report, &Calendar::of(&report)).into_string();
        assert_eq!(page.matches("<line ").count(), 1, "{page}");
        assert!(page.contains("brownout from 2026-11-15 09:00 to 2026-11-15 09:05 UTC"), "{page}");
        assert!(page.contains("lower half: paused") && page.contains("They were served"), "{page}");
    }

    #[test]
    fn page_of_a_log_without_phases_says_nothing_of_them() {
        let report = sample::with_a_gap();
        assert_eq!(section(&report, &Calendar::of(&report)).into_string(), "");
    }
}
