//! Time as the drawings show it: columns of a day, or of a week where the days would be too many to be seen.
//!
//! A column remembers whether the evidence has a hole in it, because an empty column means "nobody came" only where
//! somebody was watching.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::report::outcome::{Report, Span};

/// With more days than this, a column is a week.
const MOST_DAYS: usize = 120;
/// A column with less evidence than all but this is marked, in seconds; a longer gap makes a verdict UNKNOWN.
const TOLERATED: i64 = 3600;

/// The columns of the drawings.
pub(super) struct Calendar {
    /// Oldest first.
    pub(super) columns: Vec<Column>,
    /// Whether a column is a week.
    pub(super) is_weekly: bool,
    /// The first moment that is drawn, in seconds since 1970.
    pub(super) start: i64,
    /// The moment after the last one.
    pub(super) end: i64,
}

/// One column.
pub(super) struct Column {
    /// Its first day.
    pub(super) first: Date,
    /// Its last day.
    pub(super) last: Date,
    /// Whether more than an hour of it is without evidence.
    pub(super) is_uncovered: bool,
    /// Its days, as a part of the report's.
    days: std::ops::Range<usize>,
}

impl Column {
    /// Its day, or its days.
    pub(super) fn title(&self) -> String {
        if self.first == self.last { self.first.to_string() } else { format!("{} to {}", self.first, self.last) }
    }
}

impl Calendar {
    /// The columns for the days of `report`.
    pub(super) fn of(report: &Report) -> Self {
        let count = report.days.len();
        let is_weekly = count > MOST_DAYS;
        let step = if is_weekly { 7 } else { 1 };
        // Weeks are counted back from the last day: the last column is the one that people look at.
        let short = count % step;
        let starts = (0..usize::from(short > 0)).chain((short..count).step_by(step));
        let covered = union(report.coverage.replicas.iter().flat_map(|replica| replica.spans.iter().copied()));
        let columns: Vec<Column> = starts
            .filter_map(|from| {
                let to = if from < short { short } else { (from + step).min(count) };
                let (first, last) = (*report.days.get(from)?, *report.days.get(to - 1)?);
                let is_uncovered = is_uncovered(report, &covered, midnight(first), after(last));
                Some(Column { first, last, is_uncovered, days: from..to })
            })
            .collect();
        let edge = |at: Timestamp| at.as_second();
        let start = columns.first().map_or(edge(report.window.since), |column| midnight(column.first));
        let end = columns.last().map_or(edge(report.window.until), |column| after(column.last));
        Calendar { columns, is_weekly, start, end: end.max(start + 1) }
    }

    /// Figures per day as figures per column.
    pub(super) fn sums(&self, by_day: &[u64]) -> Vec<u64> {
        let sum = |column: &Column| by_day.get(column.days.clone()).unwrap_or_default().iter().sum();
        self.columns.iter().map(sum).collect()
    }

    /// `per day` or `per week`.
    pub(super) fn per(&self) -> &'static str {
        if self.is_weekly { "per week" } else { "per day" }
    }

    /// Days to write below the columns, with their columns: the first, the last, and three between where there is room.
    pub(super) fn ticks(&self) -> Vec<(usize, Date)> {
        let last = self.columns.len().saturating_sub(1);
        let mut places: Vec<usize> = if last < 8 { vec![0, last] } else { (0..=4).map(|n| n * last / 4).collect() };
        places.dedup();
        places.into_iter().filter_map(|place| Some((place, self.columns.get(place)?.first))).collect()
    }
}

/// The spans of all replicas as the fewest spans that do not touch, in seconds since 1970.
pub(super) fn union(spans: impl Iterator<Item = Span>) -> Vec<(i64, i64)> {
    let mut sorted: Vec<(i64, i64)> = spans.map(|span| (span.from.as_second(), span.to.as_second())).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (from, to) in sorted {
        match merged.last_mut() {
            Some(open) if from <= open.1 => open.1 = open.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

fn is_uncovered(report: &Report, covered: &[(i64, i64)], from: i64, to: i64) -> bool {
    // Before the first record there was no proxy that could have been down; without any there is nothing to compare.
    let Some(first) = report.coverage.first else { return false };
    let (from, to) = (from.max(first.as_second()), to.min(report.window.until.as_second()));
    let inside = |span: &(i64, i64)| (span.1.min(to) - span.0.max(from)).max(0);
    !covered.is_empty() && (to - from) - covered.iter().map(inside).sum::<i64>() > TOLERATED
}

/// The first moment of `day` in UTC, in seconds since 1970.
fn midnight(day: Date) -> i64 {
    day.to_zoned(TimeZone::UTC).map_or(0, |moment| moment.timestamp().as_second())
}

fn after(day: Date) -> i64 {
    midnight(day) + 24 * 3600
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn days_become_weeks_counted_from_the_end() {
        let mut report = sample::empty();
        let first: Date = "2026-01-01".parse().expect("a day");
        report.days = first.series(jiff::Span::new().days(1)).take(150).collect();
        let calendar = Calendar::of(&report);
        assert!(calendar.is_weekly);
        assert_eq!(calendar.columns.len(), 22);
        assert_eq!(calendar.columns[0].title(), "2026-01-01 to 2026-01-03");
        assert_eq!(calendar.columns[21].last, report.days[149]);
        let uses: Vec<u64> = vec![1; 150];
        let sums = calendar.sums(&uses);
        assert_eq!((sums[0], sums[1], sums.iter().sum::<u64>()), (3, 7, 150));
    }

    #[test]
    fn column_with_a_hole_is_marked() {
        let report = sample::with_a_gap();
        let marked: Vec<String> =
            Calendar::of(&report).columns.iter().filter(|column| column.is_uncovered).map(Column::title).collect();
        assert_eq!(marked, ["2026-11-10"]);
    }

    #[test]
    fn nothing_to_draw_is_no_column() {
        let calendar = Calendar::of(&sample::empty());
        assert!(calendar.columns.is_empty() && calendar.ticks().is_empty());
        assert!(calendar.end > calendar.start);
    }
}
