//! What was read, how the answer was found, and what it cannot tell.

use maud::{Markup, html};

use super::words::{count, minute, plural, size, span, visible, when};
use crate::report::outcome::Report;

/// Whether it was made of what a running proxy holds: records from no file.
fn is_live(report: &Report) -> bool {
    report.input.files == 0 && report.input.records > 0
}

/// What was wrong with the input, if anything was, and the canary.
pub(super) fn input(report: &Report) -> Markup {
    let input = &report.input;
    let odd = [
        (input.broken, "records cut off or damaged"),
        (input.foreign, "lines that are nothing we know"),
        (input.from_the_future, "records from the future, taken as made now"),
        (input.duplicates, "records given more than once, counted once"),
        (input.left_out, "records outside --since and --until"),
        (input.access_lines, "lines of access logs"),
    ];
    let more = input.problem_count.saturating_sub(size(input.problems.len()));
    html! {
        section #input aria-labelledby="input-title" {
            h2 #input-title { "What was read" }
            p {
                @if is_live(report) { (plural(input.records, "record")) ", taken in as the running proxy wrote them." }
                @else if input.lines == 0 { "Nothing was read." } @else {
                    (plural(input.records, "record")) " in " (plural(input.lines, "line")) " of " (plural(size(input.files), "file"))
                    " (" (count(input.bytes)) " bytes, unpacked)."
                    @if odd.iter().all(|(number, _)| *number == 0) && input.problem_count == 0 { " Nothing was wrong with them." }
                }
            }
            @if odd.iter().any(|(number, _)| *number > 0) {
                ul { @for (number, what) in odd { @if number > 0 { li { (count(number)) " " (what) } } } }
            }
            @if input.problem_count > 0 {
                details #problems {
                    summary { (plural(input.problem_count, "problem")) " with the input" }
                    ul { @for problem in &input.problems { li { (visible(problem)) } } }
                    @if more > 0 { p { "and " (count(more)) " more." } }
                }
            }
        }
    }
}

/// The rules, in plain words.
pub(super) fn method(report: &Report) -> Markup {
    let window = span(i64::try_from(report.window.length_s).unwrap_or(i64::MAX));
    html! {
        section #method aria-labelledby="method-title" {
            h2 #method-title { "How the answer is found" }
            details #rules {
                summary { "The rules, and what they cannot tell" }
                ul {
                    li { strong { "Use" } " is a call, a read, a prompt, a completion, a subscription, or an answer to a server's \
                        request. Connecting, shaking hands and listing is not: scanners do that too." }
                    li { "A client that used the server is " strong { "due" } " when its silence has lasted " (window)
                        ", or one and a half times its longest silence so far, whichever is longer. So a monthly client is not \
                        missed by looking for a week." }
                    li { strong { "NOT YET" } ": a session with use is open, or a client with use is not due and nobody answers for it." }
                    li { strong { "UNKNOWN" } ": less than 99 % of the window is covered, or one gap is longer than an hour, or records \
                        are missing, or the evidence is younger than the window. Silence counts only while somebody was watching." }
                    li { strong { "SAFE, with notes" } ": nothing is in the way, but a waiver is in force, or a client known by name came \
                        and never used the server, or no canary proved that the way was open." }
                    li { strong { "SAFE" } ": none of these." }
                    li { "A client that is " strong { "turned away" } " is not silent: its attempts count as use, if it ever got to use." }
                    li { "A client that " strong { "moved" } " was seen on Streamable HTTP, by the old URL or the new one, and is due on \
                         SSE; on " strong { "both" } ", it is not due yet. Being seen there proves no silence on SSE and is no use of \
                         it: the answer is the same without. A client that " strong { "vanished" } " is on neither. Only replicas that \
                         pass Streamable HTTP through can tell." }
                    li { "Anonymous clients are judged address by address and shown together. Addresses are pseudonyms, unless the proxy \
                        was told otherwise." }
                    li { "It cannot see who comes less often than the log is long, who reached the server on another way, or who will \
                        come for the first time tomorrow." }
                    li { "The live page of a proxy tells of that one replica. What the logs of all replicas tell together, \
                        sse-sunset report knows." }
                    li { "All times are in UTC. Ages are counted to the end of the judged time." }
                }
            }
        }
    }
}

/// Where the page comes from.
pub(super) fn making(report: &Report) -> Markup {
    let canary = report.canary;
    html! {
        section #making aria-labelledby="making-title" {
            h2 #making-title { "How this was made" }
            dl.facts {
                div { dt { "By" } dd { "sse-sunset " (env!("CARGO_PKG_VERSION")) ", " code { (report.schema) } } }
                div { dt { "Generated" } dd { time datetime=(crate::clock::rfc3339(report.generated)) { (minute(report.generated)) " UTC" } } }
                div {
                    dt { "Judged time" }
                    dd { (minute(report.window.since)) " to " (minute(report.window.until)) " UTC" }
                }
                div {
                    dt { "Canary" }
                    dd {
                        @match canary.last {
                            Some(at) => { (plural(canary.runs, "run")) " in the judged time, the last " (when(at, report.window.until)) }
                            None => { "none ran in the judged time" }
                        }
                    }
                }
                div {
                    dt { "From" }
                    dd { @if is_live(report) { "the running proxy" } @else { (plural(size(report.input.files), "file")) } }
                }
            }
        }
    }
}
