//! The first screen: the answer, why, until when, what to do, and who is in the way.

use maud::{Markup, html};

use super::client;
use super::words::{age, anchor, count, minute, plural, ratio, size, span, visible, when};
use crate::report::fixes;
use crate::report::outcome::{Client, Grade, Report, Verdict};

/// Clients in the way that are named at the top; all of them stand in the table.
const MOST_BLOCKERS: usize = 6;

/// The verdict and what decides it.
pub(super) fn banner(report: &Report, title: &str) -> Markup {
    let window = report.window;
    html! {
        header #verdict .verdict .(report.verdict.name()) data-title=(title) {
            h1 { "Is it safe to switch SSE off?" }
            p.answer { (sign(report.verdict)) (report.verdict.title()) }
            p.reason { (visible(&report.reason)) }
            dl {
                div { dt { "Earliest safe date" } dd { (earliest(report)) } }
                div.next { dt { "Do next" } dd { (next(&report.next)) } }
                div {
                    dt { "Judged" }
                    dd {
                        (span(i64::try_from(window.length_s).unwrap_or(i64::MAX))) " up to "
                        time datetime=(crate::clock::rfc3339(window.until)) { (minute(window.until)) " UTC" }
                    }
                }
            }
        }
        (figures(report))
    }
}

/// A drawn sign, so that the answer does not hang on a colour or on a font.
fn sign(verdict: Verdict) -> Markup {
    let lines = match verdict {
        Verdict::Safe | Verdict::SafeWithNotes => "M6.5 12.5l4 4 7.5-8.5",
        Verdict::Unknown => "M9 9.2a3 3 0 1 1 4.6 2.6c-1 .7-1.6 1.2-1.6 2.4M12 17.6v.4",
        Verdict::NotYet => "M7.5 7.5l9 9M16.5 7.5l-9 9",
    };
    html! {
        svg.sign viewBox="0 0 24 24" aria-hidden="true" focusable="false" {
            circle cx="12" cy="12" r="11" {}
            path d=(lines) {}
        }
    }
}

fn earliest(report: &Report) -> Markup {
    let now = report.window.until;
    html! {
        @match (report.earliest_safe, report.verdict) {
            (Some(at), _) => {
                strong { time datetime=(crate::clock::rfc3339(at)) { (minute(at)) " UTC" } } " " span.age { (age(at, now)) }
            }
            (None, Verdict::Safe) => { strong { "now" } }
            (None, Verdict::SafeWithNotes) => { strong { "now" } ", once the notes are read" }
            (None, Verdict::Unknown | Verdict::NotYet) => { "no date can be told yet" }
        }
    }
}

/// A command is set apart, so that it can be copied. Its words are kept whole where they fit a line: browsers break after
/// the hyphens of an option.
fn next(text: &str) -> Markup {
    let shown = visible(text);
    html! {
        @if text.starts_with("sse-sunset ") {
            code.command {
                @for (place, word) in shown.split(' ').enumerate() { @if place > 0 { " " } span { (word) } }
            }
        } @else { (shown) }
    }
}

fn figures(report: &Report) -> Markup {
    let totals = report.totals;
    let figures = [
        (count(size(totals.blocking)), "in the way"),
        (count(size(totals.users)), "ever used the server"),
        (count(totals.open_sessions), "sessions open"),
        (count(totals.sessions), "sessions"),
        (count(totals.uses), "uses"),
        (count(totals.refused), "turned away"),
        (count(size(totals.noise)), "noise"),
        (ratio(report.coverage.ratio), "covered"),
        (count(report.canary.runs), "canary runs"),
    ];
    html! {
        dl.figures aria-label="The report in figures" {
            @for (figure, name) in figures {
                div { dt { (name) } dd { (figure) } }
            }
        }
    }
}

/// Who is in the way, with what to do about each.
pub(super) fn blockers(report: &Report) -> Markup {
    let blocking: Vec<&Client> = report.clients.iter().filter(|client| client.state.is_blocking()).collect();
    let more = blocking.len().saturating_sub(MOST_BLOCKERS);
    html! {
        @if !blocking.is_empty() {
            section #blockers aria-labelledby="blockers-title" {
                h2 #blockers-title { "What is in the way" }
                ul.blockers {
                    @for client in blocking.iter().take(MOST_BLOCKERS) { (blocker(client, report)) }
                }
                @if more > 0 {
                    p { "and " (count(size(more))) " more in " a href="#clients" { "the table of clients" } "." }
                }
            }
        }
    }
}

fn blocker(client: &Client, report: &Report) -> Markup {
    let now = report.window.until;
    html! {
        li {
            a.name href={ "#" (anchor(&client.identity)) } { bdi { (visible(&client.name)) } } " "
            (client::state(client.state)) " "
            span.when {
                @if let Some(due) = client.due { "until " (when(due, now)) }
                @if let Some(used) = client.last_use { " · last use " (age(used, now)) }
                @if let Some(tried) = client.last_attempt { " · turned away " (age(tried, now)) @if let Some(phase) = client.last_attempt_in { " (" (phase.name()) ")" } }
                " · " (client.rhythm.title())
            }
            p.todo { (visible(&fixes::of(client.fix).summary)) }
        }
    }
}

/// What a person should know besides.
pub(super) fn notes(report: &Report) -> Markup {
    let is_lower = report.grade == Grade::AccessLog;
    let hidden = size(report.clients_hidden);
    html! {
        @if !report.notes.is_empty() || is_lower || hidden > 0 {
            section #notes aria-labelledby="notes-title" {
                h2 #notes-title { "Notes" }
                ul {
                    @for note in &report.notes { li { (visible(note)) } }
                    @if is_lower {
                        li {
                            "This rests on access logs of an old server, in part or wholly. They do not tell what a \
                            session did, nor whether lines are missing: evidence of a lower grade."
                        }
                    }
                    @if hidden > 0 {
                        li {
                            (plural(hidden, "client")) " not shown, as the command asked; the verdict counts "
                            @if hidden == 1 { "it." } @else { "them." }
                        }
                    }
                }
            }
        }
    }
}
