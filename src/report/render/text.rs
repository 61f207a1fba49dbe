//! A report for a terminal: what blocks, until when, and what to do, on one screen.
//!
//! Promise: no line is wider than the terminal (40 columns at least), words carry what colour only underlines, and no
//! name in the report can move the cursor. Whether colour is wanted (`NO_COLOR`, not a terminal) the caller knows.

mod sparkline;
mod table;
#[cfg(test)]
mod tests;

use super::phases;
use super::safe::{printable, width, wrap};
use super::sentences::{canary, coverage, earliest, input, judged, list, meaning, moved, moves};
use super::words::{count, number};
use crate::report::outcome::{Client, Report, State, Verdict};
use sparkline::sparkline;

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; less than 40 are taken for 40.
    pub width: usize,
    /// Whether to underline with ANSI colours.
    pub colour: bool,
}

/// The narrowest terminal that is written for.
const NARROWEST: usize = 40;
/// Columns in front of a fact, for its label.
const LABEL: usize = 10;
/// Rows of clients that block; there may be thousands, and the first ones are the last that came.
const BLOCKING_ROWS: usize = 20;
/// Rows of clients that do not block.
const OTHER_ROWS: usize = 20;
/// Ways to move, holes and problems that are shown.
const FIXES: usize = 8;
const HOLES: usize = 3;
const PROBLEMS: usize = 10;

/// The report as text; it ends with a line feed.
#[must_use]
pub fn text(report: &Report, style: Style) -> String {
    let mut page = Page { columns: style.width.max(NARROWEST), colour: style.colour, lines: Vec::new() };
    page.verdict(report);
    page.uses(report);
    page.clients(report);
    page.fixes(report);
    page.evidence(report);
    page.problems(report);
    page.lines.push(String::new());
    page.lines.join("\n")
}

/// Colours that stay readable on light and dark grounds.
#[derive(Clone, Copy)]
enum Paint {
    Bold,
    Good,
    Doubtful,
    Bad,
}

impl Paint {
    fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Safe => Paint::Good,
            Verdict::SafeWithNotes | Verdict::Unknown => Paint::Doubtful,
            Verdict::NotYet => Paint::Bad,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Paint::Bold => "1",
            Paint::Good => "1;32",
            Paint::Doubtful => "1;33",
            Paint::Bad => "1;31",
        }
    }
}

/// Lines so far, and what they have to fit into.
struct Page {
    columns: usize,
    colour: bool,
    lines: Vec<String>,
}

impl Page {
    fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour { format!("\u{1b}[{}m{text}\u{1b}[0m", paint.code()) } else { text.to_owned() }
    }

    fn blank(&mut self) {
        self.lines.push(String::new());
    }

    fn heading(&mut self, text: &str) {
        self.blank();
        for line in wrap(text, self.columns) {
            let line = self.paint(Paint::Bold, &line);
            self.lines.push(line);
        }
    }

    /// `text`, with its first line behind `lead` and the others as far in.
    fn hanging(&mut self, lead: &str, indent: usize, text: &str) {
        for (index, line) in wrap(text, self.columns.saturating_sub(indent)).into_iter().enumerate() {
            let lead = if index == 0 { lead } else { "" };
            self.lines.push(format!("{lead:indent$}{line}"));
        }
    }

    fn fact(&mut self, label: &str, text: &str) {
        self.hanging(label, LABEL, text);
    }

    fn bullet(&mut self, text: &str) {
        self.hanging("  - ", 4, text);
    }

    fn verdict(&mut self, report: &Report) {
        let verdict = format!("{}: {}", report.verdict.title(), meaning(report.verdict));
        for line in wrap(&verdict, self.columns) {
            let line = self.paint(Paint::of(report.verdict), &line);
            self.lines.push(line);
        }
        self.blank();
        self.fact("Why", &report.reason);
        self.fact("Earliest", &earliest(report));
        if report.next.contains("sse-sunset ") {
            // A command that is broken over lines is another command once it is pasted.
            self.lines.push(format!("{:<LABEL$}{}", "Next", printable(&report.next)));
        } else {
            self.fact("Next", &report.next);
        }
        self.fact("Judged", &judged(report));
        if let Some(phase) = phases::now(&report.phases, report.window.until) {
            self.fact("Phase", &phase);
        }
        if let Some(before) = phases::before(&report.phases) {
            self.fact("", &before);
        }
    }

    fn uses(&mut self, report: &Report) {
        let (Some(first), Some(last)) = (report.days.first(), report.days.last()) else { return };
        let drawn = sparkline(&report.uses, self.columns.saturating_sub(LABEL));
        self.lines.push(format!("{:LABEL$}{}", "Uses", drawn.line));
        let column = match drawn.days_a_column {
            1 => "a day".to_owned(),
            days => format!("{days} days"),
        };
        let most = report.days.iter().zip(&report.uses).rev().max_by_key(|(_, uses)| **uses);
        let most = match most.filter(|(_, uses)| **uses > 0) {
            None => "none at all".to_owned(),
            Some((day, uses)) => format!("at most {} a day ({day})", number(*uses)),
        };
        self.fact("", &format!("{first} to {last}, a column is {column}, {most}"));
    }

    fn clients(&mut self, report: &Report) {
        let totals = report.totals;
        self.heading(&format!(
            "Clients: {}; {} ever used the server, {} never did; {} ({} open), {}, {} refused",
            count(totals.blocking as u64, "blocks", "block"),
            number(totals.users as u64),
            number(totals.noise as u64),
            count(totals.sessions, "session", "sessions"),
            number(totals.open_sessions),
            count(totals.uses, "use", "uses"),
            number(totals.refused),
        ));
        if let Some(moved) = moved(report) {
            self.fact("Moved", &moved);
        }
        let (shown, folded) = rows(&report.clients);
        if shown.is_empty() {
            self.lines.push("none".to_owned());
        } else {
            let lines = table::lines(&shown, report.window.until, self.columns);
            for (index, line) in lines.into_iter().enumerate() {
                let client = index.checked_sub(1).and_then(|row| shown.get(row));
                let line = match (client.map(|client| client.state), index) {
                    (_, 0) => self.paint(Paint::Bold, &line),
                    (Some(state), _) if state.is_blocking() => self.mark(state, &line),
                    _ => line,
                };
                self.lines.push(line);
            }
        }
        for line in folds(&folded) {
            self.hanging("", 0, &line);
        }
        if report.clients_hidden > 0 {
            let hidden = count(report.clients_hidden as u64, "client is", "clients are");
            self.hanging("", 0, &format!("{hidden} left out here by --client or --who; the verdict counts all"));
        }
        for run in &report.dry_run {
            self.blank();
            self.hanging("", 0, &phases::dry_run(run));
        }
    }

    /// Colours the state, which stands first in its line.
    fn mark(&self, state: State, line: &str) -> String {
        match line.strip_prefix(state.title()) {
            Some(rest) => self.paint(Paint::Bad, state.title()) + rest,
            None => line.to_owned(),
        }
    }

    fn fixes(&mut self, report: &Report) {
        let ways = moves(report);
        if ways.is_empty() {
            return;
        }
        self.heading("How they move (configuration to copy: --format md or html)");
        for (fix, clients) in ways.iter().take(FIXES) {
            let names = list(clients.iter().map(|client| client.name.as_str()));
            self.bullet(&format!("{names}: {}", fix.summary));
            // An address that is broken in two opens nothing; the other forms have them all.
            if let Some(source) = fix.sources.iter().find(|source| width(source) + 4 <= self.columns) {
                self.lines.push(format!("    {source}"));
            }
        }
        if let Some(more @ 1..) = ways.len().checked_sub(FIXES) {
            self.bullet(&format!("and {more} more ways: --format md"));
        }
    }

    fn evidence(&mut self, report: &Report) {
        self.blank();
        self.fact("Coverage", &coverage(report));
        let holes = &report.coverage.holes;
        for hole in holes.iter().take(HOLES) {
            self.fact("", hole);
        }
        if let Some(more @ 1..) = holes.len().checked_sub(HOLES) {
            self.fact("", &format!("and {more} more holes: --format json"));
        }
        self.fact("Canary", &canary(report));
        self.fact("Read", &input(report));
        if !report.notes.is_empty() {
            self.heading("Notes");
            for note in &report.notes {
                self.bullet(note);
            }
        }
    }

    fn problems(&mut self, report: &Report) {
        let input = &report.input;
        if input.problems.is_empty() && input.problem_count == 0 {
            return;
        }
        self.heading(&format!("Problems in the input: {}", number(input.problem_count)));
        for problem in input.problems.iter().take(PROBLEMS) {
            self.bullet(problem);
        }
        let shown = input.problems.len().min(PROBLEMS) as u64;
        if let Some(more @ 1..) = input.problem_count.checked_sub(shown) {
            self.bullet(&format!("and {} more: --format json lists up to a hundred", number(more)));
        }
    }
}

/// The clients that get a row, and those that are only counted.
fn rows(clients: &[Client]) -> (Vec<&Client>, Vec<&Client>) {
    let (blocking, others): (Vec<&Client>, Vec<&Client>) =
        clients.iter().partition(|client| client.state.is_blocking());
    let has_room = others.len() <= OTHER_ROWS;
    let (named, noise): (Vec<&Client>, Vec<&Client>) =
        others.into_iter().partition(|client| has_room || client.state != State::Noise);
    let shown = blocking.iter().take(BLOCKING_ROWS).chain(named.iter().take(OTHER_ROWS)).copied().collect();
    let folded =
        blocking.iter().skip(BLOCKING_ROWS).chain(named.iter().skip(OTHER_ROWS)).chain(&noise).copied().collect();
    (shown, folded)
}

/// A sentence for each state among the clients that are only counted.
fn folds(clients: &[&Client]) -> Vec<String> {
    let states =
        [State::Open, State::Blocking, State::Waived, State::Looked, State::Quiet, State::Noise, State::Modern];
    let of = |state| clients.iter().filter(move |client| client.state == state);
    let sentences = states.into_iter().filter(|state| of(*state).count() > 0).map(|state| {
        let clients = of(state).count() as u64;
        let addresses = of(state).fold(0_u64, |sum, client| sum.saturating_add(client.principals as u64));
        match state {
            State::Open => format!("and {} with a session open now: --format csv lists all", some(clients)),
            State::Blocking => format!("and {} that block: --format csv lists all", some(clients)),
            State::Waived => format!("and {} that somebody answers for (waived)", some(clients)),
            State::Looked => format!("and {} that came and never used the server", some(clients)),
            State::Quiet => format!("and {} that have been quiet for long enough", some(clients)),
            State::Noise => format!(
                "and {} that never used the server (noise), from {}",
                count(clients, "anonymous client", "anonymous clients"),
                count(addresses, "address", "addresses"),
            ),
            State::Modern => {
                format!("and {} that came by Streamable HTTP only: --format csv lists all", some(clients))
            }
        }
    });
    sentences.collect()
}

fn some(clients: u64) -> String {
    count(clients, "client", "clients")
}
