//! The tables of clients: those that count, and, folded away, those that are noise.
//!
//! On a narrow screen each row becomes a card, so every cell carries its heading along; the roles are written out because
//! browsers forget that a table is one when its `display` changes.

use jiff::Timestamp;
use maud::{Markup, html};

use super::client;
use super::words::{anchor, count, plural, size, visible, when_short};
use crate::report::outcome::{Client, Report, State};
use crate::report::render::sentences::moved;

/// Rows that are shown of those that count.
const MOST_ROWS: usize = 200;
/// Rows that are shown of the noise.
const MOST_NOISE: usize = 100;

const COLUMNS: [&str; 12] = [
    "Client",
    "State",
    "Due",
    "Last use",
    "Rhythm",
    "Uses",
    "Sessions",
    "Days",
    "First seen",
    "Principals",
    "Moves by",
    "Moved?",
];

/// The columns of `report`: the last says nothing where it was not measured who moved.
fn columns(report: &Report) -> &'static [&'static str] {
    let told = if report.moving.is_told() { COLUMNS.len() } else { COLUMNS.len() - 1 };
    COLUMNS.get(..told).unwrap_or_default()
}

/// The section of those that count.
pub(super) fn table(report: &Report) -> Markup {
    let shown: Vec<&Client> = report.clients.iter().filter(|client| client.state != State::Noise).collect();
    let more = shown.len().saturating_sub(MOST_ROWS);
    let now = report.window.until;
    html! {
        section #clients aria-labelledby="clients-title" {
            h2 #clients-title { "Clients" }
            @if shown.is_empty() {
                p.empty {
                    @if report.clients.is_empty() { "No legacy client came in this time." }
                    @else { "Nobody came who used the server or could be told by name." }
                }
            } @else {
                @if let Some(moved) = moved(report) { p #moved { "Moved: " (visible(&moved)) "." } }
                table.clients role="table" {
                    caption { "In the way first, then by last use; times in UTC" }
                    thead role="rowgroup" {
                        tr role="row" {
                            @for (place, name) in columns(report).iter().enumerate() {
                                th .number[(5..8).contains(&place) || place == 9] scope="col" role="columnheader" { (name) }
                            }
                        }
                    }
                    @for client in shown.iter().take(MOST_ROWS) { (rows(client, report, now)) }
                }
                @if more > 0 { (left_out(more)) }
            }
        }
    }
}

fn left_out(more: usize) -> Markup {
    html! { p { "and " (count(size(more))) " more; " code { "sse-sunset report --format csv" } " lists all of them." } }
}

fn rows(client: &Client, report: &Report, now: Timestamp) -> Markup {
    let cells = [
        (false, html! { (client::state(client.state)) }),
        (false, when_short(client.due, now)),
        (false, when_short(client.last_use, now)),
        (false, html! { (client.rhythm.title()) }),
        (true, html! { (count(client.uses)) }),
        (
            true,
            html! { (count(client.sessions)) @if client.open_sessions > 0 { " " span.age { (count(client.open_sessions)) " open" } } },
        ),
        (true, html! { (count(size(client.active_days))) }),
        (false, when_short(Some(client.first_seen), now)),
        (true, html! { (count(size(client.principals))) }),
        (false, html! { (client.moves.title()) }),
        (false, html! { (client::movement(client)) }),
    ];
    html! {
        tbody #(anchor(&client.identity)) role="rowgroup" .blocks[client.state.is_blocking()] tabindex="-1" {
            tr role="row" {
                th scope="row" role="rowheader" {
                    bdi.name { (visible(&client.name)) } " "
                    span.age { (visible(&client.family)) }
                }
                @for (place, (is_number, cell)) in cells.into_iter().take(columns(report).len() - 1).enumerate() {
                    td .number[is_number] role="cell" {
                        span.heading { (COLUMNS.get(place + 1).copied().unwrap_or_default()) } " "
                        span.value { (cell) }
                    }
                }
            }
            tr.more role="row" { td colspan=(columns(report).len()) role="cell" { (client::details(client, report)) } }
        }
    }
}

/// The section of those that are noise.
pub(super) fn noise(report: &Report) -> Markup {
    let noise: Vec<&Client> = report.clients.iter().filter(|client| client.state == State::Noise).collect();
    let more = noise.len().saturating_sub(MOST_NOISE);
    let now = report.window.until;
    html! {
        @if !noise.is_empty() {
            section #noise aria-labelledby="noise-title" {
                h2 #noise-title { "Noise" }
                p {
                    (plural(size(noise.len()), "anonymous client")) " came and never used the server: registries, \
                    monitors, scanners. Noise never blocks."
                }
                details #noise-list {
                    summary { "Who they are" }
                    div.scroll #noise-scroll tabindex="0" role="region" aria-label="Clients that are noise" {
                        table.plain {
                            caption { "Anonymous clients without use, times in UTC" }
                            thead {
                                tr {
                                    th scope="col" { "Client" }
                                    th scope="col" { "Got as far as" }
                                    th scope="col" { "Last seen" }
                                    th scope="col" { "First seen" }
                                    th.number scope="col" { "Sessions" }
                                    th.number scope="col" { "Turned away" }
                                    th.number scope="col" { "Addresses" }
                                }
                            }
                            tbody { @for client in noise.iter().take(MOST_NOISE) { (quiet_row(client, now)) } }
                        }
                    }
                    @if more > 0 { (left_out(more)) }
                }
            }
        }
    }
}

fn quiet_row(client: &Client, now: Timestamp) -> Markup {
    html! {
        tr #(anchor(&client.identity)) {
            th scope="row" { bdi.name { (visible(&client.name)) } }
            td { (client::engagement(client.engagement)) }
            td { (when_short(Some(client.last_seen), now)) }
            td { (when_short(Some(client.first_seen), now)) }
            td.number { (count(client.sessions)) }
            td.number { (count(client.refused)) }
            td.number { (count(size(client.principals))) }
        }
    }
}
