//! Uses per day, stacked by client, as bars.
//!
//! Positions are parts of the drawing's width, so that it fits every screen while its text keeps its size. Whoever cannot
//! see it has its title, its description and the table below it.

use maud::{Markup, html};

use super::calendar::{Calendar, Column};
use super::words::{count, percent, plural, share, size, visible};
use crate::report::outcome::{Client, Report};

/// Clients with a colour of their own; the others are put together.
const MOST_SERIES: usize = 6;
/// The colour of the others.
const OTHERS: usize = 7;

/// What one colour stands for.
struct Series {
    /// The client, or what the others are called.
    label: String,
    /// Which colour and pattern, from 1.
    colour: usize,
    /// Uses per column.
    sums: Vec<u64>,
}

impl Series {
    fn total(&self) -> u64 {
        self.sums.iter().sum()
    }
}

/// The patterns that all drawings fill their shapes with: beside its colour, each has a texture of its own.
pub(super) fn patterns() -> Markup {
    // Cut out of the colour, in the colour of the ground.
    let textures = [
        "",
        "M-2 8L8 -2M2 12L12 2",
        "M0 3H10M0 8H10",
        "M2 -2L12 8M-2 2L8 12",
        "M3 0V10M8 0V10",
        "M2.5 1v3M7.5 6v3",
        "M0 5H10M5 0V10",
    ];
    html! {
        svg.patterns aria-hidden="true" focusable="false" {
            defs {
                @for (place, texture) in textures.into_iter().enumerate() {
                    pattern id={ "p" (place + 1) } width="10" height="10" patternUnits="userSpaceOnUse" {
                        rect .{ "s" (place + 1) } width="10" height="10" {}
                        @if !texture.is_empty() { path.cut d=(texture) {} }
                    }
                }
                pattern #hole width="6" height="6" patternUnits="userSpaceOnUse" {
                    rect.hole-ground width="6" height="6" {}
                    path.hole-line d="M-1.5 4.5L4.5 -1.5M1.5 7.5L7.5 1.5" {}
                }
            }
        }
    }
}

/// The section.
pub(super) fn uses(report: &Report, calendar: &Calendar) -> Markup {
    let series = stack(report, calendar);
    let totals = calendar.sums(&report.uses);
    let highest = totals.iter().copied().max().unwrap_or_default();
    html! {
        section #uses aria-labelledby="uses-title" {
            h2 #uses-title { "Uses " (calendar.per()) }
            @if highest == 0 {
                p.empty { "Nobody used the server over SSE in this time." }
            } @else {
                @let top = round_up(highest);
                div.chart {
                    div.scale aria-hidden="true" {
                        span { (count(top)) }
                        @if top >= 2 { span { (count(top / 2)) } }
                        span { "0" }
                    }
                    (drawing(report, calendar, &series, &totals, top))
                    (axis(calendar))
                }
                (legend(&series, calendar, report))
                (figures(calendar, &series, &totals))
            }
        }
    }
}

/// The clients with most uses, most first, and the rest.
fn stack(report: &Report, calendar: &Calendar) -> Vec<Series> {
    let mut users: Vec<(u64, &Client)> = report
        .clients
        .iter()
        .map(|client| (client.by_day.iter().sum::<u64>(), client))
        .filter(|(uses, _)| *uses > 0)
        .collect();
    users.sort_by(|(more, a), (less, b)| less.cmp(more).then_with(|| a.identity.cmp(&b.identity)));
    let mut rest = calendar.sums(&report.uses);
    let mut series = Vec::new();
    for (place, (_, client)) in users.iter().take(MOST_SERIES).enumerate() {
        let sums = calendar.sums(&client.by_day);
        for (left, taken) in rest.iter_mut().zip(&sums) {
            *left = left.saturating_sub(*taken);
        }
        series.push(Series { label: visible(&client.name), colour: place + 1, sums });
    }
    if rest.iter().any(|left| *left > 0) {
        let clients = size((users.len() + report.clients_hidden).saturating_sub(MOST_SERIES));
        let label =
            if clients > 0 { format!("all others ({})", plural(clients, "client")) } else { "others".to_owned() };
        series.push(Series { label, colour: OTHERS, sums: rest });
    }
    series
}

fn drawing(report: &Report, calendar: &Calendar, series: &[Series], totals: &[u64], top: u64) -> Markup {
    let window = report.window.since.as_second() - calendar.start;
    let whole = calendar.end - calendar.start;
    let sum = plural(totals.iter().sum(), "use");
    html! {
        svg.bars role="img" aria-labelledby="bars-title bars-text" {
            title #bars-title { "Uses " (calendar.per()) ", stacked by client" }
            desc #bars-text {
                (sum) " in all. The figures stand in the table below the drawing. Hatched: more than an hour without \
                evidence. Dashed line: where the judged time begins."
            }
            @for height in ["0.5%", "50%", "99.5%"] { line.grid x1="0" x2="100%" y1=(height) y2=(height) {} }
            @for (place, column) in calendar.columns.iter().enumerate() {
                (bar(calendar, place, column, series, totals.get(place).copied().unwrap_or_default(), top))
            }
            @if window > 0 {
                @let x = percent(window, whole);
                line.since x1=(x) x2=(x) y1="0" y2="100%" {}
            }
        }
    }
}

fn bar(calendar: &Calendar, place: usize, column: &Column, series: &[Series], total: u64, top: u64) -> Markup {
    let columns = size(calendar.columns.len());
    let left = share(size(place) * 100 + 8, columns * 100);
    let width = share(84, columns * 100);
    let mut below = 0;
    let mut parts = Vec::new();
    for one in series {
        let uses = one.sums.get(place).copied().unwrap_or_default();
        below += uses;
        if uses > 0 {
            parts.push((share(top.saturating_sub(below), top), share(uses, top), one.colour));
        }
    }
    html! {
        @if column.is_uncovered {
            rect x=(share(size(place), columns)) y="0" width=(share(1, columns)) height="100%" fill="url(#hole)" {}
        }
        @for (y, height, colour) in parts {
            rect.part x=(left) y=(y) width=(width) height=(height) fill={ "url(#p" (colour) ")" } {}
        }
        @if total > 0 || column.is_uncovered {
            rect.touch x=(share(size(place), columns)) y="0" width=(share(1, columns)) height="100%" {
                title {
                    (column.title()) ": " (plural(total, "use"))
                    @if column.is_uncovered { "; more than an hour without evidence" }
                }
            }
        }
    }
}

/// The days below a drawing.
pub(super) fn axis(calendar: &Calendar) -> Markup {
    let columns = size(calendar.columns.len());
    let last = calendar.columns.len().saturating_sub(1);
    html! {
        svg.axis aria-hidden="true" focusable="false" {
            @for (place, day) in calendar.ticks() {
                @let (x, side) = if place == 0 { ("0%".to_owned(), "start") }
                    else if place == last { ("100%".to_owned(), "end") }
                    else { (share(size(place) * 2 + 1, columns * 2), "middle") };
                text .lesser[place != 0 && place != last && side == "middle" && place * 2 != last && place * 2 + 1 != last]
                    x=(x) y="14" text-anchor=(side) { (day.strftime("%-d %b %Y")) }
            }
        }
    }
}

fn legend(series: &[Series], calendar: &Calendar, report: &Report) -> Markup {
    let has_hole = calendar.columns.iter().any(|column| column.is_uncovered);
    html! {
        ul.legend {
            @for one in series {
                li { (swatch(&format!("p{}", one.colour))) bdi { (one.label) } " " span.age { (count(one.total())) } }
            }
            @if has_hole { li { (swatch("hole")) "more than an hour without evidence" } }
            @if report.window.since.as_second() > calendar.start {
                li { span.dash aria-hidden="true" {} "the judged time begins" }
            }
        }
    }
}

/// A sample of a pattern, to stand beside what it means.
pub(super) fn swatch(pattern: &str) -> Markup {
    html! {
        svg.swatch aria-hidden="true" focusable="false" { rect width="100%" height="100%" fill={ "url(#" (pattern) ")" } {} }
    }
}

fn figures(calendar: &Calendar, series: &[Series], totals: &[u64]) -> Markup {
    let rows = calendar.columns.iter().enumerate().rev();
    html! {
        details #uses-figures {
            summary { "The same as a table" }
            div.scroll #uses-scroll tabindex="0" role="region" aria-label="Uses as a table" {
                table.plain {
                    caption { "Uses " (calendar.per()) ", days in UTC, latest first" }
                    thead {
                        tr {
                            th scope="col" { "Day" }
                            th.number scope="col" { "All" }
                            @for one in series { th.number scope="col" { bdi { (one.label) } } }
                        }
                    }
                    tbody {
                        @for (place, column) in rows {
                            @let at = |sums: &[u64]| sums.get(place).copied().unwrap_or_default();
                            tr {
                                th scope="row" { (column.title()) @if column.is_uncovered { " (evidence missing)" } }
                                td.number { (count(at(totals))) }
                                @for one in series { td.number { (count(at(&one.sums))) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The end of the scale: 1, 2, 4 or 6 times a power of ten, so that its half is a round figure too.
fn round_up(highest: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        if let Some(round) =
            [1, 2, 4, 6].map(|step| power.saturating_mul(step)).into_iter().find(|round| *round >= highest)
        {
            return round;
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn scale_ends_at_a_round_figure() {
        let ends = [1, 2, 3, 5, 7, 11, 250, 601, u64::MAX].map(round_up);
        assert_eq!(ends, [1, 2, 4, 6, 10, 20, 400, 1000, u64::MAX]);
    }

    #[test]
    fn every_use_is_in_some_colour() {
        let report = sample::crowd(20);
        let calendar = Calendar::of(&report);
        let series = stack(&report, &calendar);
        assert_eq!(series.len(), MOST_SERIES + 1);
        let drawn: u64 = series.iter().map(Series::total).sum();
        assert_eq!(drawn, report.uses.iter().sum::<u64>());
        assert_eq!(series[MOST_SERIES].label, "all others (14 clients)");
    }
}
