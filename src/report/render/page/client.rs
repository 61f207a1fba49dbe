//! All about one client: how it can move, who it is, and where the log shows its last use.

use jiff::Timestamp;
use jiff::civil::Date;
use maud::{Markup, html};

use super::words::{anchor, count, plural, size, span, visible, when};
use crate::report::fixes::{self, Fix};
use crate::report::outcome::{Client, Modern, Movement, Moves, Report, State};
use crate::report::render::phases::refused_in;
use crate::traffic::Engagement;

/// Days with use that are listed.
const MOST_DAYS: usize = 31;

/// A state in words, with a sign, so that nothing hangs on its colour.
pub(super) fn state(state: State) -> Markup {
    let (class, sign) = match state {
        State::Open => ("open", "●"),
        State::Blocking => ("blocking", "■"),
        State::Waived => ("waived", "◇"),
        State::Looked => ("looked", "○"),
        State::Quiet => ("quiet", "✓"),
        State::Noise => ("noise", "·"),
        State::Modern => ("modern", "→"),
    };
    html! { span.state .(class) { span aria-hidden="true" { (sign) " " } (state.title()) } }
}

/// Where a client stands between SSE and Streamable HTTP.
pub(super) fn movement(client: &Client) -> &'static str {
    client.movement.map_or("–", Movement::title)
}

/// How far a client got, in words.
pub(super) fn engagement(engagement: Engagement) -> &'static str {
    match engagement {
        Engagement::Connect => "connecting",
        Engagement::Handshake => "the handshake",
        Engagement::Discovery => "lists",
        Engagement::Use => "use",
    }
}

/// What the row of a client unfolds to.
pub(super) fn details(client: &Client, report: &Report) -> Markup {
    let fix = fixes::of(client.fix);
    let name = anchor(&client.identity);
    html! {
        details #{ (name) "-more" } {
            summary {
                @if client.state == State::Modern { "What was seen of it" }
                @else { span.fix { (visible(&fix.summary)) } }
            }
            div.about {
                @if client.state != State::Modern { (moving(client, fix, &name)) }
                (facts(client, report))
            }
        }
    }
}

fn moving(client: &Client, fix: &Fix, name: &str) -> Markup {
    let how = match client.moves {
        Moves::Auto => "It moves by itself: it was upgraded.",
        Moves::Config => "It moves by a change of its configuration.",
        Moves::Code => "It moves by a change of its code, or a new version of it.",
        Moves::Unknown => "It is not known how it moves.",
    };
    html! {
        div.moving {
            p { strong { (visible(&fix.title)) ": " } (how) }
            @for (place, snippet) in fix.snippets.iter().enumerate() {
                figure {
                    figcaption #{ (name) "-place-" (place) } { (visible(&snippet.place)) }
                    pre #{ (name) "-text-" (place) } tabindex="0" role="region" aria-labelledby={ (name) "-place-" (place) } {
                        code { (snippet.text.trim_end()) }
                    }
                }
            }
            p.age {
                "Checked " (visible(&fix.checked)) @if !fix.sources.is_empty() { ": " }
                @for (place, source) in fix.sources.iter().enumerate() {
                    @if place > 0 { ", " }
                    @if source.starts_with("https://") { a href=(source) rel="noreferrer" { (visible(source)) } } @else { (visible(source)) }
                }
            }
        }
    }
}

fn facts(client: &Client, report: &Report) -> Markup {
    let now = report.window.until;
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    let gap = span(i64::try_from(client.longest_gap_s).unwrap_or(i64::MAX));
    let kind =
        if client.is_principal { "stands for one client" } else { "may be shared by many; judged address by address" };
    html! {
        dl.facts {
            (fact("Identity", html! { code { (visible(&client.identity)) } " from " (visible(&client.source)) "; " (kind) }))
            @if !client.seen_as.is_empty() { (fact("Seen as", list(&client.seen_as))) }
            @if !client.addresses.is_empty() { (fact("Addresses", list(&client.addresses))) }
            (fact("Got as far as", html! { (engagement(client.engagement)) ", last seen " (when(client.last_seen, now)) }))
            @if client.uses > 0 { (fact("Longest silence between uses", html! { (gap) })) }
            @if client.refused > 0 || client.last_attempt.is_some() {
                (fact("Turned away", html! {
                    (count(client.refused)) @if client.refused == 1 { " time" } @else { " times" }
                    @if let Some(phases) = refused_in(client) { " (" (phases) ")" }
                    @if let Some(at) = client.last_attempt {
                        ", last " (when(at, now)) @if let Some(phase) = client.last_attempt_in { " (" (phase.name()) ")" }
                        ", which counts as an attempt to use"
                    }
                }))
            }
            @for (phase, would) in &client.would_be_refused {
                (fact(&format!("Dry run of {}", phase.name()), html! {
                    "would have been turned away " (plural(would.times, "time")) ", last " (when(would.last, now)) "; it was served"
                }))
            }
            @if let Some(movement) = client.movement { (fact("Moved", html! { (moved(movement)) })) }
            @if let Some(modern) = client.modern { (fact("By Streamable HTTP", self::modern(modern, now))) }
            @if let Some(waiver) = &client.waiver {
                (fact("Waiver", html! {
                    (visible(&waiver.reason)) " Answered for by " (visible(&waiver.owner)) " until " (waiver.expires)
                    ", as " code { (visible(&waiver.client)) } "."
                }))
            }
            @if client.by_day.iter().any(|uses| *uses > 0) { (fact("Days with use", days(client, report))) }
            @if let Some(evidence) = &client.evidence { (fact("Last use in the log", pointer(evidence))) }
        }
    }
}

fn moved(movement: Movement) -> &'static str {
    match movement {
        Movement::LegacyOnly => "no: it uses SSE and was not seen on Streamable HTTP",
        Movement::Both => "in part: it uses SSE and Streamable HTTP",
        Movement::NotMeasured => "not measured: nobody counted through all of the window who came by Streamable HTTP",
        Movement::Vanished => "vanished: it used SSE, and is seen neither there nor on Streamable HTTP",
        Movement::ModernOnly => "yes: it uses Streamable HTTP, and SSE no more",
    }
}

fn modern(modern: Modern, now: Timestamp) -> Markup {
    html! {
        "on " (plural(size(modern.days), "day")) ", first " (when(modern.first, now)) ", last " (when(modern.last, now))
        @if let Some(first) = modern.first_upgrade { ", first upgraded on the old URL " (when(first, now)) }
    }
}

fn list(values: &[String]) -> Markup {
    html! { ul { @for value in values { li { code { (visible(value)) } } } } }
}

/// The days with use, latest first: what the drawings show, in figures.
fn days(client: &Client, report: &Report) -> Markup {
    let used = || report.days.iter().zip(&client.by_day).rev().filter(|(_, uses)| **uses > 0);
    let told: Vec<(&Date, &u64)> = used().take(MOST_DAYS).collect();
    let more = used().count().saturating_sub(MOST_DAYS);
    html! {
        span.days {
            @for (place, (day, uses)) in told.into_iter().enumerate() {
                @if place > 0 { ", " }
                span.day { (day) @if *uses != 1 { " (" (count(*uses)) ")" } }
            }
            @if more > 0 { " and " (plural(size(more), "earlier day")) }
        }
    }
}

/// What to search the log for. No command line is made of it: an instance may be called anything.
fn pointer(evidence: &str) -> Markup {
    let mut parts = evidence.rsplitn(3, '/');
    html! {
        @if let (Some(seq), Some(boot), Some(instance)) = (parts.next(), parts.next(), parts.next()) {
            code { "log.seq" } " " code { (visible(seq)) } " of " code { "boot.id" } " " code { (visible(boot)) }
            " at " code { "service.instance.id" } " " code { (visible(instance)) }
        } @else { code { (visible(evidence)) } }
    }
}
