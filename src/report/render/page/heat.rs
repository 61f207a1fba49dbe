//! Client × day: who comes when, one row a client.
//!
//! A cell's height says the same as its colour. What a row shows also stands in words beside it, and day by day in the
//! client's own details.

use maud::{Markup, html};

use super::calendar::Calendar;
use super::chart::{axis, swatch};
use super::words::{anchor, count, plural, share, size, visible};
use crate::report::outcome::{Client, Report};
use jiff::tz::TimeZone;

/// Rows that are drawn.
const MOST_ROWS: usize = 40;
/// Levels of a cell.
const LEVELS: u64 = 4;

/// The section.
pub(super) fn map(report: &Report, calendar: &Calendar) -> Markup {
    let users: Vec<&Client> =
        report.clients.iter().filter(|client| client.by_day.iter().any(|uses| *uses > 0)).collect();
    let highest = users.iter().flat_map(|client| calendar.sums(&client.by_day)).max().unwrap_or_default();
    let more = users.len().saturating_sub(MOST_ROWS);
    html! {
        section #heat aria-labelledby="heat-title" {
            h2 #heat-title { "Who came when" }
            @if users.is_empty() {
                p.empty { "No client used the server in this time." }
            } @else {
                ol.heat {
                    @for client in users.iter().take(MOST_ROWS) { (row(client, calendar, highest)) }
                    li.footer { span.spacer {} (axis(calendar)) }
                }
                @if more > 0 {
                    p { "and " (count(size(more))) " more clients; " code { "sse-sunset report --format csv" } " lists all of them." }
                }
                (legend(calendar, highest, users.iter().take(MOST_ROWS).any(|client| upgraded(client, calendar).is_some())))
            }
        }
    }
}

fn row(client: &Client, calendar: &Calendar, highest: u64) -> Markup {
    let columns = size(calendar.columns.len());
    let name = visible(&client.name);
    let days = format!("{}, {}", client.rhythm.title(), plural(size(client.active_days), "day"));
    let moved = client.modern.and_then(|modern| modern.first_upgrade);
    let moved =
        moved.map(|at| format!(", first upgraded on {}", at.to_zoned(TimeZone::UTC).date())).unwrap_or_default();
    html! {
        li {
            span.who {
                a href={ "#" (anchor(&client.identity)) } { bdi { (name) } } " "
                span.age { (days) }
            }
            svg.cells role="img" aria-label={ (name) ": " (days) " with use" (moved) } {
                @for (place, (column, uses)) in calendar.columns.iter().zip(calendar.sums(&client.by_day)).enumerate() {
                    @let x = share(size(place) * 100 + 6, columns * 100);
                    @let width = share(88, columns * 100);
                    @if column.is_uncovered {
                        rect x=(share(size(place), columns)) y="0" width=(share(1, columns)) height="100%" fill="url(#hole)" {}
                    }
                    @if uses > 0 {
                        @let level = level(uses, highest);
                        rect .{ "h" (level) } x=(x) y=(share(LEVELS - level, LEVELS)) width=(width) height=(share(level, LEVELS)) {
                            title { (column.title()) ": " (plural(uses, "use")) }
                        }
                    }
                }
                @if let Some(place) = upgraded(client, calendar) {
                    circle .upgraded cx=(share(size(place) * 100 + 50, columns * 100)) cy="50%" r="5" {
                        title { "First upgraded to Streamable HTTP" }
                    }
                }
            }
        }
    }
}

/// The column of the day on which a client was first upgraded.
fn upgraded(client: &Client, calendar: &Calendar) -> Option<usize> {
    let day = client.modern?.first_upgrade?.to_zoned(TimeZone::UTC).date();
    calendar.columns.iter().position(|column| column.first <= day && day <= column.last)
}

/// The most uses that are still in each of the levels: a fraction of the largest figure, on a scale of powers.
fn bounds(highest: u64) -> [u64; 4] {
    if highest <= LEVELS {
        return [1, 2, 3, 4].map(|bound: u64| bound.min(highest.max(1)));
    }
    let mut root = 1_u64;
    while root.saturating_pow(4) < highest {
        root += 1;
    }
    // The last level is for the largest figures, the others end before it.
    [(root, 3), (root.saturating_pow(2), 2), (root.saturating_pow(3), 1), (highest, 0)]
        .map(|(bound, below)| bound.min(highest - below))
}

fn level(uses: u64, highest: u64) -> u64 {
    let place = bounds(highest).iter().position(|bound| uses <= *bound);
    // One use is one use: where no day has more, it is drawn in full.
    if highest <= 1 { LEVELS } else { place.map_or(LEVELS, |place| size(place) + 1) }
}

fn legend(calendar: &Calendar, highest: u64, has_upgrades: bool) -> Markup {
    let mut from = 1;
    let mut steps = Vec::new();
    for bound in bounds(highest) {
        if bound >= from {
            let label = if bound == from { count(from) } else { format!("{} to {}", count(from), count(bound)) };
            steps.push((level(bound, highest), label));
            from = bound + 1;
        }
    }
    html! {
        ul.legend {
            li { "Uses " (calendar.per()) ":" }
            @for (level, label) in steps {
                li {
                    svg.swatch aria-hidden="true" focusable="false" {
                        rect .{ "h" (level) } y=(share(LEVELS - level, LEVELS)) width="100%" height=(share(level, LEVELS)) {}
                    }
                    (label)
                }
            }
            @if has_upgrades {
                li {
                    svg.swatch aria-hidden="true" focusable="false" { circle .upgraded cx="50%" cy="50%" r="5" {} }
                    "first upgraded to Streamable HTTP"
                }
            }
            @if calendar.columns.iter().any(|column| column.is_uncovered) {
                li { (swatch("hole")) "more than an hour without evidence" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_with_the_uses() {
        assert_eq!([1, 3, 4, 9, 10, 81].map(|uses| level(uses, 81)), [1, 1, 2, 2, 3, 4]);
        assert_eq!(level(1, 1), 4);
        assert_eq!([1, 2].map(|uses| level(uses, 2)), [1, 2]);
        assert!((5..500).all(|highest| level(highest, highest) == LEVELS && level(1, highest) == 1));
        assert!((1..2000).all(|uses| level(uses, 2000) <= level(uses + 1, 2000)));
    }
}
