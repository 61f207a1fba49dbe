//! The table of clients: as many columns as the terminal has room for, and one line a client.
//!
//! The columns are ordered by what a reader needs to act; on a narrow terminal the last ones go first, and what is left
//! of the room belongs to the name. The trap: cells are measured and cut here, before the table is laid out, because a
//! table that wraps its cells is a table nobody can read.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use jiff::Timestamp;

use super::super::safe::{cut, printable, width};
use super::super::words::{date, number, short_age};
use crate::report::outcome::{Client, Movement, State};

/// Spaces between two columns.
const GAP: usize = 2;
/// The least that a name may be cut to while there are columns that can go.
const NAME: usize = 22;

/// A column: its heading, whether numbers stand in it, and its rank, the lowest going last.
struct Column {
    heading: &'static str,
    is_number: bool,
    rank: u8,
    cell: fn(&Client, Timestamp) -> String,
}

const COLUMNS: &[Column] = &[
    Column { heading: "STATE", is_number: false, rank: 0, cell: |client, _| client.state.title().to_owned() },
    Column { heading: "CLIENT", is_number: false, rank: 0, cell: |client, _| printable(&client.name) },
    Column { heading: "LAST USE", is_number: false, rank: 1, cell: |client, now| dated(client.last_use, now) },
    Column { heading: "BLOCKS UNTIL", is_number: false, rank: 2, cell: |client, _| until(client) },
    Column { heading: MOVED, is_number: false, rank: 3, cell: |client, _| movement(client).to_owned() },
    Column { heading: "USES", is_number: true, rank: 4, cell: |client, _| number(client.uses) },
    Column { heading: "RHYTHM", is_number: false, rank: 6, cell: |client, _| client.rhythm.title().to_owned() },
    Column { heading: "MOVES", is_number: false, rank: 5, cell: |client, _| client.moves.title().to_owned() },
    Column { heading: "SESSIONS", is_number: true, rank: 9, cell: |client, _| number(client.sessions) },
    Column { heading: "DAYS", is_number: true, rank: 8, cell: |client, _| number(wide(client.active_days)) },
    Column { heading: "PRINCIPALS", is_number: true, rank: 11, cell: |client, _| number(wide(client.principals)) },
    Column { heading: "REFUSED", is_number: true, rank: 12, cell: |client, _| number(client.refused) },
    Column { heading: "FIRST SEEN", is_number: false, rank: 7, cell: |client, _| date(client.first_seen) },
    Column { heading: "LAST SEEN", is_number: false, rank: 13, cell: |client, now| dated(Some(client.last_seen), now) },
    Column { heading: LAST_MODERN, is_number: false, rank: 10, cell: |client, now| last_modern(client, now) },
    Column { heading: "FAMILY", is_number: false, rank: 14, cell: |client, _| printable(&client.family) },
    Column { heading: "EVIDENCE", is_number: false, rank: 15, cell: |client, _| evidence(client) },
];
/// The columns that say nothing where it was not measured who moved.
const MOVED: &str = "MOVED?";
const LAST_MODERN: &str = "LAST MODERN";
/// Where the name stands in `COLUMNS`: the one column that gives way.
const NAME_COLUMN: usize = 1;

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn dated(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{}, {}", date(time), short_age(time, now)))
}

fn until(client: &Client) -> String {
    let blocks = client.state.is_blocking() || client.state == State::Waived;
    client.due.filter(|_| blocks).map_or_else(|| "–".to_owned(), date)
}

fn movement(client: &Client) -> &'static str {
    client.movement.map_or("–", Movement::title)
}

fn last_modern(client: &Client, now: Timestamp) -> String {
    client.modern.map_or_else(|| "–".to_owned(), |modern| dated(Some(modern.last), now))
}

fn evidence(client: &Client) -> String {
    printable(client.evidence.as_deref().unwrap_or("–"))
}

/// Lays out `clients` in lines of at most `columns`; the first is the heading, then one a client.
pub(super) fn lines(clients: &[&Client], now: Timestamp, columns: usize) -> Vec<String> {
    let cells: Vec<Vec<String>> =
        COLUMNS.iter().map(|column| clients.iter().map(|client| (column.cell)(client, now)).collect()).collect();
    let widths: Vec<usize> = COLUMNS
        .iter()
        .zip(&cells)
        .map(|(column, cells)| cells.iter().map(|cell| width(cell)).chain([width(column.heading)]).max().unwrap_or(0))
        .collect();
    let is_told = |client: &&Client| client.movement.is_some_and(|movement| movement != Movement::NotMeasured);
    let (kept, name) = fit(&widths, columns, clients.iter().any(is_told));

    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(COLUMNS.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(column, _)| column.heading));
    for row in 0..clients.len() {
        let row = COLUMNS.iter().zip(&cells).enumerate().filter(|(index, _)| kept.get(*index) == Some(&true)).map(
            |(index, (column, cells))| {
                let cell = cells.get(row).map(String::as_str).unwrap_or_default();
                let cell = if index == NAME_COLUMN { cut(cell, name) } else { cell.to_owned() };
                Cell::new(cell).set_alignment(alignment(column))
            },
        );
        table.add_row(row);
    }
    let shown: Vec<&Column> = COLUMNS.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(column, _)| column).collect();
    for (column, laid_out) in shown.iter().zip(table.column_iter_mut()) {
        laid_out.set_padding((0, u16::try_from(GAP).unwrap_or(0)));
        laid_out.set_cell_alignment(alignment(column));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn alignment(column: &Column) -> CellAlignment {
    if column.is_number { CellAlignment::Right } else { CellAlignment::Left }
}

/// Which columns stay, and how wide the name may be.
fn fit(widths: &[usize], columns: usize, is_told: bool) -> (Vec<bool>, usize) {
    let tells = |column: &Column| is_told || ![MOVED, LAST_MODERN].contains(&column.heading);
    let mut kept: Vec<bool> = COLUMNS.iter().map(tells).collect();
    let natural = widths.get(NAME_COLUMN).copied().unwrap_or(0);
    loop {
        let others: usize = widths
            .iter()
            .zip(&kept)
            .enumerate()
            .filter(|(index, (_, kept))| **kept && *index != NAME_COLUMN)
            .map(|(_, (width, _))| width + GAP)
            .sum();
        let room = columns.saturating_sub(others);
        let last =
            COLUMNS.iter().enumerate().filter(|(index, column)| column.rank > 0 && kept.get(*index) == Some(&true));
        let last = last.max_by_key(|(_, column)| column.rank).map(|(index, _)| index);
        match last.and_then(|last| kept.get_mut(last)) {
            Some(last) if room < natural.min(NAME) => *last = false,
            _ => return (kept, natural.min(room)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    fn drawn(columns: usize) -> Vec<String> {
        let report = sample::rich();
        lines(&report.clients.iter().collect::<Vec<_>>(), report.window.until, columns)
    }

    #[test]
    fn table_drops_the_least_needed_columns_first() {
        let heading = |columns| drawn(columns).first().cloned().unwrap_or_default();
        let names = |columns| {
            heading(columns)
                .split("  ")
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(44), ["STATE", "CLIENT"]);
        assert_eq!(names(60), ["STATE", "CLIENT", "LAST USE"]);
        assert_eq!(names(80), ["STATE", "CLIENT", "LAST USE", "BLOCKS UNTIL", "MOVED?"]);
        assert!(names(120).len() > names(80).len());
        assert!(names(200).len() > names(120).len());
    }

    #[test]
    fn table_has_no_column_of_question_marks() {
        let mut report = sample::rich();
        for client in &mut report.clients {
            client.movement = client.movement.map(|_| Movement::NotMeasured);
        }
        let heading = lines(&report.clients.iter().collect::<Vec<_>>(), report.window.until, 400)
            .first()
            .cloned()
            .unwrap_or_default();
        assert!(
            !heading.contains(MOVED) && !heading.contains(LAST_MODERN) && heading.contains("EVIDENCE"),
            "{heading}"
        );
    }

    #[test]
    fn table_has_one_line_a_client() {
        for columns in [40, 80, 120, 200, 400] {
            assert_eq!(drawn(columns).len(), sample::rich().clients.len() + 1, "at {columns}");
        }
    }
}
