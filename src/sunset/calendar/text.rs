//! The calendar for a terminal.
//!
//! Promise: no sentence is wider than the terminal (40 columns at least). Headers stand as they are sent, each on one line:
//! broken over lines they would be others once they are copied.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;

use super::{Calendar, Row};
use crate::report::render::{duration, printable, wrap};
use crate::sunset::notice::iso;

/// The narrowest terminal that is written for.
const NARROWEST: usize = 40;
/// Columns in front of a fact, for its label.
const LABEL: usize = 10;
/// The least that sentences are given in a table; with less, they stand below their row.
const SENTENCE: usize = 26;
/// Spaces between two columns.
const GAP: usize = 2;

/// The calendar as text of at most `width` columns; it ends with a line feed.
#[must_use]
pub fn text(calendar: &Calendar, width: usize) -> String {
    let mut page = Page { columns: width.max(NARROWEST), lines: Vec::new() };
    page.now(calendar);
    if !calendar.steps.is_empty() {
        page.lines.push(String::new());
        page.table(calendar);
        page.lines.push(String::new());
        page.facts(calendar);
    }
    for (index, note) in calendar.notes.iter().enumerate() {
        page.fact(if index == 0 { "Notes" } else { "" }, note);
    }
    page.lines.push(String::new());
    page.lines.join("\n")
}

/// Lines so far, and what they have to fit into.
struct Page {
    columns: usize,
    lines: Vec<String>,
}

impl Page {
    fn fact(&mut self, label: &str, text: &str) {
        for (index, line) in wrap(&printable(text), self.columns - LABEL).into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.lines.push(format!("{label:LABEL$}{line}"));
        }
    }

    /// Lines that are not to be broken.
    fn verbatim(&mut self, label: &str, lines: impl Iterator<Item = String>) {
        for (index, line) in lines.enumerate() {
            let label = if index == 0 { label } else { "" };
            self.lines.push(format!("{label:LABEL$}{}", printable(&line)));
        }
    }

    fn now(&mut self, calendar: &Calendar) {
        let at = calendar.generated.strftime("%Y-%m-%d %H:%M UTC");
        let until = calendar.now.until.map(|until| {
            let left = u64::try_from(until.as_second() - calendar.generated.as_second()).unwrap_or_default();
            format!(", for {} more", duration(left))
        });
        let text = format!("{at}: {}{} (as planned)", calendar.now.phase, until.unwrap_or_default());
        self.fact("Now", &text);
    }

    fn table(&mut self, calendar: &Calendar) {
        let brownouts = calendar.brownouts();
        let has_seconds = calendar.steps.iter().any(|row| row.at.as_second() % 60 != 0);
        let cells: Vec<[String; 4]> = calendar
            .steps
            .iter()
            .map(|row| [when(row.at, has_seconds), row.weekday.clone(), row.name(brownouts), lasts(row)])
            .collect();
        let headings = ["UTC", "DAY", "PHASE", "FOR"];
        let widest = |index: usize| {
            let cells = cells.iter().filter_map(|row| row.get(index)).map(String::len);
            cells.chain(headings.get(index).map(|heading| heading.len())).max().unwrap_or(0) + GAP
        };
        let room = self.columns.saturating_sub((0..4).map(widest).sum());
        if room < SENTENCE {
            self.rows(&cells, &calendar.steps);
            return;
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.into_iter().chain(["WHAT HAPPENS TO CLIENTS"]));
        for (cells, row) in cells.into_iter().zip(&calendar.steps) {
            table.add_row(cells.into_iter().chain([wrap(&row.clients, room).join("\n")]));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, u16::try_from(GAP).unwrap_or(0)));
        }
        self.lines.extend(table.lines().map(|line| line.trim_end().to_owned()));
    }

    /// The table where there is no room for one.
    fn rows(&mut self, cells: &[[String; 4]], steps: &[Row]) {
        for ([when, day, phase, lasts], row) in cells.iter().zip(steps) {
            self.lines.push(format!("{when} {day}  {phase}"));
            let what = if row.until.is_some() { format!("for {lasts}: {}", row.clients) } else { row.clients.clone() };
            self.lines.extend(wrap(&what, self.columns - 4).into_iter().map(|line| format!("    {line}")));
        }
    }

    fn facts(&mut self, calendar: &Calendar) {
        let headers = calendar.headers.iter().map(|header| format!("{}: {}", header.name, header.value));
        self.verbatim("Headers", headers);
        for (index, told) in calendar.refusals.iter().enumerate() {
            self.fact(if index == 0 { "Refusals" } else { "" }, &format!("{}: {}", told.phase, told.text));
        }
        for (index, sentence) in calendar.guard.iter().enumerate() {
            self.fact(if index == 0 { "Guard" } else { "" }, sentence);
        }
        if let Some(phase) = calendar.dry_run {
            self.fact("Dry run", &format!("whom {phase} would refuse is written to the traffic log from the start on; it refuses nobody by that"));
        }
        for (index, exempt) in calendar.exempt.iter().enumerate() {
            let text = format!("{} until {} ({}: {})", exempt.client, exempt.expires, exempt.owner, exempt.reason);
            self.fact(if index == 0 { "Exempt" } else { "" }, &text);
        }
        if let Some(url) = &calendar.info_url {
            self.verbatim("More", std::iter::once(url.clone()));
        }
        if let Some(last) = calendar.steps.last().filter(|last| last.at <= calendar.generated) {
            self.fact("Over", &format!("nothing follows what began at {}", iso(last.at)));
        }
    }
}

fn when(at: Timestamp, has_seconds: bool) -> String {
    at.strftime(if has_seconds { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M" }).to_string()
}

fn lasts(row: &Row) -> String {
    row.length_s.and_then(|length| u64::try_from(length).ok()).map_or_else(|| "good".to_owned(), duration)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn table_has_a_row_a_step_and_sentences_beside_it() {
        let text = text(&sample::calendar(), 100);
        let expected = "\
Now       2026-11-22 08:00 UTC: observe, for 8 days 16 h more (as planned)

UTC               DAY  PHASE            FOR         WHAT HAPPENS TO CLIENTS
2026-12-01 00:00  Tue  announce         14 days     all are served; answers say that HTTP+SSE ends
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("\n2026-12-20 14:00  Sun  brownout 1 of 2  5 min  "), "{text}");
        assert!(
            text.contains("\nHeaders   Deprecation: @1796083200\n          Sunset: Fri, 15 Jan 2027 00:00:00 GMT\n")
        );
        assert!(text.contains("\n          gone: HTTP+SSE was switched off on 2027-01-15. Set "), "{text}");
        assert!(text.contains("\nGuard     brownout, tombstone and gone are held back while"), "{text}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn no_sentence_is_wider_than_the_terminal() {
        for columns in [40, 60, 80, 120] {
            let text = text(&sample::calendar(), columns);
            let sent = |line: &&str| !["Deprecation: ", "Sunset: ", "Link: "].iter().any(|text| line.contains(text));
            for line in text.lines().filter(sent) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
            assert_eq!(text.matches("2 of 2").count(), 1, "{text}");
        }
    }

    #[test]
    fn rehearsal_shows_seconds_and_an_empty_plan_its_note() {
        let mut config = sample::config();
        config.plan.freeze = Some(sample::at("2026-12-15T09:30:07Z"));
        let calendar = Calendar::new(&config, sample::at("2026-12-15T09:30:08Z"));
        let shown = text(&calendar, 100);
        assert!(shown.contains("2026-12-15 09:30:07  Tue  freeze"), "{shown}");
        assert!(shown.starts_with("Now       2026-12-15 09:30 UTC: freeze, for 5 days 4 h more"), "{shown}");
        let empty = text(&Calendar::new(&crate::sunset::Config::default(), sample::at("2026-12-15T09:30:08Z")), 100);
        assert_eq!(empty.lines().count(), 2, "{empty}");
        assert!(empty.contains("Notes     no date is set"), "{empty}");
    }
}
