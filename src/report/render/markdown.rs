//! A report as Markdown, for a ticket or a pull request.
//!
//! Promise: what strangers chose cannot become markup, a link, a mention or HTML on whatever forge shows it. Names stand
//! in code spans, where nothing is interpreted; sentences, which may hold names, are escaped sign by sign.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::phases;
use super::safe::printable;
use super::sentences::{canary, coverage, earliest, input, judged, list, meaning, moved, moves};
use super::words::{age, date, number};
use crate::report::fixes::Fix;
use crate::report::outcome::{Client, Movement, Report, State};

/// Rows of the table: a ticket is no data base.
const ROWS: usize = 50;
/// Problems that are listed.
const PROBLEMS: usize = 10;
/// Changes of the phase that are listed, the latest.
const CHANGES: usize = 10;

/// The report as Markdown (`CommonMark` with tables); it ends with a line feed.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut blocks = vec![
        format!("## SSE sunset: {}", report.verdict.title()),
        format!("> **{}:** {}", report.verdict.title(), escaped(meaning(report.verdict))),
        facts(report),
    ];
    blocks.push("### Clients".to_owned());
    blocks.extend(moved(report).map(|moved| format!("**Moved:** {}", escaped(&moved))));
    blocks.push(table(report));
    let ways = moves(report);
    if !ways.is_empty() {
        blocks.push("### How they move".to_owned());
        blocks.extend(ways.iter().map(|(fix, clients)| way(fix, clients)));
    }
    if report.phases.now.is_some() || !report.dry_run.is_empty() {
        blocks.push("### Switching off".to_owned());
        blocks.push(switching_off(report));
    }
    blocks.push("### Evidence".to_owned());
    blocks.push(evidence(report));
    if !report.notes.is_empty() {
        blocks.push("### Notes".to_owned());
        blocks.push(bullets(report.notes.iter().map(|note| escaped(note))));
    }
    if !report.input.problems.is_empty() {
        blocks.push(format!("### Problems in the input: {}", number(report.input.problem_count)));
        blocks.push(bullets(report.input.problems.iter().take(PROBLEMS).map(|problem| escaped(problem))));
    }
    blocks.push("### Method".to_owned());
    blocks.push(method().to_owned());
    blocks.join("\n\n") + "\n"
}

/// How the verdict is reached, in two lines.
fn method() -> &'static str {
    "A client blocks from its last use (a call, a read, a prompt, a completion, an answer) or refused attempt until the \
     window, or 1.5 times its longest pause if that is longer, has passed in silence.\n\
     Silence counts only while heartbeats prove that the proxy was there: below 99 % coverage, with a gap of more than \
     an hour or with records missing, the verdict is UNKNOWN."
}

fn facts(report: &Report) -> String {
    // A command is copied, so it stands as it is; a sentence is read.
    let next = if report.next.starts_with("sse-sunset ") { code(&report.next) } else { escaped(&report.next) };
    bullets(
        [
            format!("**Why:** {}", escaped(&report.reason)),
            format!("**Earliest safe date:** {}", escaped(&earliest(report))),
            format!("**Next:** {next}"),
            format!("**Judged:** {}", escaped(&judged(report))),
        ]
        .into_iter(),
    )
}

/// The phase that holds, the last changes, and what dry runs found.
fn switching_off(report: &Report) -> String {
    let phases = &report.phases;
    let now = phases::now(phases, report.window.until).map(|now| format!("**Phase:** {}", escaped(&now)));
    let places = (0..phases.changes.len()).rev().take(CHANGES);
    let changes = places.filter_map(|at| phases::change(phases, at)).map(|change| escaped(&change));
    let runs = report.dry_run.iter().map(|run| escaped(&phases::dry_run(run)));
    bullets(now.into_iter().chain(runs).chain(changes))
}

fn evidence(report: &Report) -> String {
    let mut lines = vec![
        format!("**Coverage:** {}", escaped(&coverage(report))),
        format!("**Canary:** {}", escaped(&canary(report))),
        format!("**Read:** {}", escaped(&input(report))),
    ];
    lines.extend(report.coverage.holes.iter().take(PROBLEMS).map(|hole| escaped(hole)));
    bullets(lines.into_iter())
}

fn bullets(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
}

const HEADINGS: [&str; 11] = [
    "State",
    "Client",
    "Last use",
    "Blocks until",
    "Uses",
    "Sessions",
    "Days",
    "Principals",
    "Rhythm",
    "Moves",
    "Moved?",
];

fn table(report: &Report) -> String {
    if report.clients.is_empty() {
        return "None.".to_owned();
    }
    // The last column says nothing where it was not measured who moved.
    let width = HEADINGS.len() - usize::from(!report.moving.is_told());
    let cells = |all: [String; HEADINGS.len()]| cells(all.get(..width).unwrap_or_default());
    let mut lines = vec![cells(HEADINGS.map(str::to_owned)), cells(HEADINGS.map(|_| "---".to_owned()))];
    lines.extend(report.clients.iter().take(ROWS).map(|client| cells(row(client, report.window.until))));
    let mut table = lines.join("\n");
    let left: Vec<&Client> = report.clients.iter().skip(ROWS).collect();
    if !left.is_empty() {
        let blocking = left.iter().filter(|client| client.state.is_blocking()).count();
        let _ =
            write!(table, "\n\nAnd {} more, of which {} block.", number(left.len() as u64), number(blocking as u64));
    }
    if report.clients_hidden > 0 {
        let hidden = number(report.clients_hidden as u64);
        let _ = write!(table, "\n\n{hidden} left out by --client or --who; the verdict counts all.");
    }
    table
}

fn cells(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn row(client: &Client, now: Timestamp) -> [String; HEADINGS.len()] {
    let blocks = client.state.is_blocking() || client.state == State::Waived;
    let state = if client.state.is_blocking() {
        format!("**{}**", client.state.title())
    } else {
        client.state.title().to_owned()
    };
    [
        state,
        // In a table a bar ends the cell, even in code; tables take the backslash off again.
        code(&client.name).replace('|', "\\|"),
        client.last_use.map_or_else(|| "never".to_owned(), |time| format!("{}, {}", date(time), age(time, now))),
        client.due.filter(|_| blocks).map_or_else(|| "–".to_owned(), date),
        number(client.uses),
        number(client.sessions),
        number(client.active_days as u64),
        number(client.principals as u64),
        client.rhythm.title().to_owned(),
        client.moves.title().to_owned(),
        client.movement.map_or("–", Movement::title).to_owned(),
    ]
}

/// What to tell the owners of `clients`.
fn way(fix: &Fix, clients: &[&Client]) -> String {
    let names = list(clients.iter().map(|client| client.name.as_str()));
    let mut blocks = vec![format!("**{}** ({}): {}", escaped(&fix.title), code(&names), escaped(&fix.summary))];
    for snippet in &fix.snippets {
        let fence = "`".repeat(longest_run(&snippet.text).max(2) + 1);
        let text = snippet.text.trim_end();
        blocks.push(format!("{}:\n\n{fence}{}\n{text}\n{fence}", escaped(&snippet.place), snippet.language));
    }
    let sources = fix.sources.iter().map(|source| format!("<{source}>")).collect::<Vec<_>>().join(", ");
    blocks.push(format!("Source: {sources} (looked up on {})", escaped(&fix.checked)));
    blocks.join("\n\n")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A stranger's text as a code span, in a fence that it cannot close.
fn code(text: &str) -> String {
    let text = printable(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    // Spaces keep ticks at the ends apart from the fence, and keep a span of spaces from vanishing.
    if text.is_empty() || text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) {
        return format!("{fence} {text} {fence}");
    }
    format!("{fence}{text}{fence}")
}

/// A sentence that may hold strangers' names, with every sign that Markdown could read as its own.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '|' | '~' | '#' | '!' | '$' => {
                safe.push('\\');
                safe.push(character);
            }
            // Entities, because forges look for mentions and tags after Markdown took its backslashes off.
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '@' => safe.push_str("@<!-- -->"),
            _ => safe.push(character),
        }
    }
    // Bare addresses become links of themselves, and a stranger's link is nobody's.
    let safe = safe.replace("://", ":\\//").replace("www.", "www\\.");
    unlisted(safe.trim())
}

/// `line`, so that its beginning is no list of its own: `- `, `+ `, `1. `, `1) `.
fn unlisted(line: &str) -> String {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = line.strip_suffix(rest).unwrap_or_default();
    let is_item = rest.starts_with(if number.is_empty() { ['-', '+'] } else { ['.', ')'] });
    if is_item { format!("{number}\\{rest}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn markdown_of_a_rich_report_reads_like_a_ticket() {
        sample::expect("rich.md", &markdown(&sample::rich()));
    }

    #[test]
    fn markdown_of_an_empty_report_says_that_there_is_nothing() {
        sample::expect("empty.md", &markdown(&sample::empty()));
    }

    #[test]
    fn code_cannot_be_closed_from_within() {
        assert_eq!(code("Cursor"), "`Cursor`");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("``"), "``` `` ```");
        assert_eq!(code(""), "`  `");
    }

    #[test]
    fn escaped_leaves_no_markup_mention_or_link() {
        assert_eq!(escaped("<img src=x> **a** | b_c"), "&lt;img src=x&gt; \\*\\*a\\*\\* \\| b\\_c");
        assert_eq!(escaped("@octocat [x](https://evil.example)"), "@<!-- -->octocat \\[x\\](https:\\//evil.example)");
        assert_eq!(escaped("- a"), "\\- a");
        assert_eq!(escaped("  12. a"), "12\\. a");
        assert_eq!(escaped("14 attempts"), "14 attempts");
        assert_eq!(escaped("a\n# b"), "a\\\\u\\{a\\}\\# b");
    }

    #[test]
    fn markdown_keeps_hostile_names_in_their_cell() {
        let mut report = sample::rich();
        let hostile = "x | y\n| <script>alert(1)</script> `z` @octocat";
        hostile.clone_into(&mut report.clients[0].name);
        format!("{hostile} used it").clone_into(&mut report.reason);
        let text = markdown(&report);
        let line = text.lines().find(|line| line.contains("open now")).expect("the row");
        let bars = line.replace("\\|", "").matches('|').count();
        assert_eq!(bars, HEADINGS.len() + 1, "{line}");
        let why = text.lines().find(|line| line.contains("**Why:**")).expect("the reason");
        assert!(!why.contains("<script") && !why.contains("@o") && !why.contains(" `z`"), "{why}");
    }
}
