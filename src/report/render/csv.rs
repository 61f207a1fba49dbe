//! A report as CSV: one row a client, for a spreadsheet or a script.
//!
//! Promise: the header is stable, columns are only ever added at the end; times are RFC 3339 in UTC, durations are in
//! seconds, lists are joined by `; `, what is not known is an empty cell. The trap: a spreadsheet runs a cell that begins
//! with `=`, `+`, `-` or `@` as a formula, and strangers choose the names; such a cell gets an apostrophe in front,
//! which spreadsheets take as "this is text" and scripts have to take off.

use jiff::Timestamp;
use serde::Serialize;

use super::safe::printable;
use crate::report::outcome::{Client, Refusing, Report, Waiver};

const HEADER: &[&str] = &[
    "identity",
    "name",
    "source",
    "is_principal",
    "family",
    "state",
    "due",
    "last_use",
    "last_attempt",
    "last_seen",
    "first_seen",
    "engagement",
    "rhythm",
    "longest_gap_s",
    "active_days",
    "sessions",
    "open_sessions",
    "uses",
    "refused",
    "principals",
    "moves",
    "fix",
    "waiver_client",
    "waiver_owner",
    "waiver_reason",
    "waiver_expires",
    "seen_as",
    "addresses",
    "evidence",
    "movement",
    "first_modern",
    "last_modern",
    "modern_days",
    "upgrades",
    "first_upgrade",
    "last_upgrade",
    "last_attempt_in",
    "refused_freeze",
    "refused_brownout",
    "refused_tombstone",
    "refused_gone",
    "would_be_refused",
    "last_would_be_refused",
];

/// The clients of a report as CSV, with a header; lines end with a line feed.
///
/// A cell that a spreadsheet would run as a formula (it begins with `=`, `+`, `-` or `@`) has an apostrophe in front.
#[must_use]
pub fn csv(report: &Report) -> String {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    writer.write_record(HEADER).expect("memory takes every row");
    for client in &report.clients {
        writer.write_record(row(client)).expect("every row has the cells of the header, a test reads them back");
    }
    let bytes = writer.into_inner().expect("memory takes every row");
    String::from_utf8(bytes).expect("cells of text make text")
}

fn row(client: &Client) -> [String; HEADER.len()] {
    let waiver = client.waiver.as_ref();
    let modern = client.modern.as_ref();
    let refused = |phase: Refusing| client.refused_in.get(&phase).copied().unwrap_or_default().to_string();
    let would_be = || client.would_be_refused.values();
    let answer = |field: fn(&Waiver) -> String| waiver.map(field).unwrap_or_default();
    [
        safe(&client.identity),
        safe(&client.name),
        safe(&client.source),
        client.is_principal.to_string(),
        safe(&client.family),
        name(client.state),
        time(client.due),
        time(client.last_use),
        time(client.last_attempt),
        time(Some(client.last_seen)),
        time(Some(client.first_seen)),
        name(client.engagement),
        name(client.rhythm),
        client.longest_gap_s.to_string(),
        client.active_days.to_string(),
        client.sessions.to_string(),
        client.open_sessions.to_string(),
        client.uses.to_string(),
        client.refused.to_string(),
        client.principals.to_string(),
        name(client.moves),
        safe(client.fix),
        answer(|waiver| safe(&waiver.client)),
        answer(|waiver| safe(&waiver.owner)),
        answer(|waiver| safe(&waiver.reason)),
        answer(|waiver| waiver.expires.to_string()),
        safe(&client.seen_as.join("; ")),
        safe(&client.addresses.join("; ")),
        safe(client.evidence.as_deref().unwrap_or_default()),
        client.movement.map(name).unwrap_or_default(),
        time(modern.map(|modern| modern.first)),
        time(modern.map(|modern| modern.last)),
        modern.map(|modern| modern.days.to_string()).unwrap_or_default(),
        modern.map(|modern| modern.upgrades.to_string()).unwrap_or_default(),
        time(modern.and_then(|modern| modern.first_upgrade)),
        time(modern.and_then(|modern| modern.last_upgrade)),
        client.last_attempt_in.map(name).unwrap_or_default(),
        refused(Refusing::Freeze),
        refused(Refusing::Brownout),
        refused(Refusing::Tombstone),
        refused(Refusing::Gone),
        would_be().map(|would| would.times).fold(0, u64::saturating_add).to_string(),
        time(would_be().map(|would| would.last).max()),
    ]
}

fn time(time: Option<Timestamp>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// The name that a value has in the JSON form, so that the two agree.
fn name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A stranger's text as a cell: printable, and never a formula. Full-width signs count, Excel knows them too.
fn safe(text: &str) -> String {
    let text = printable(text);
    if text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::sample;
    use super::*;

    fn read(text: &str) -> Vec<BTreeMap<String, String>> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.deserialize().map(|row| row.expect("a row")).collect()
    }

    #[test]
    fn csv_round_trips_every_client() {
        let report = sample::rich();
        let rows = read(&csv(&report));
        assert_eq!(rows.len(), report.clients.len());
        for (row, client) in rows.iter().zip(&report.clients) {
            assert_eq!(row["identity"], client.identity);
            assert_eq!(row["uses"].parse::<u64>().expect("a number"), client.uses);
            assert_eq!(row["due"].parse::<Timestamp>().ok(), client.due);
            assert_eq!(row["last_use"].parse::<Timestamp>().ok(), client.last_use);
            assert_eq!(row["first_seen"].parse::<Timestamp>().ok(), Some(client.first_seen));
            assert_eq!(
                row["waiver_owner"],
                client.waiver.as_ref().map(|waiver| waiver.owner.clone()).unwrap_or_default()
            );
            assert_eq!(row["seen_as"], client.seen_as.join("; "));
            let refused = client.refused_in.get(&Refusing::Brownout).copied().unwrap_or_default();
            assert_eq!(row["refused_brownout"], refused.to_string());
        }
        let states: Vec<&str> = rows.iter().map(|row| row["state"].as_str()).collect();
        assert_eq!(states, ["open", "blocking", "blocking", "waived", "looked", "quiet", "noise"]);
        assert_eq!(rows[1]["rhythm"], "weekly");
        let would_be = (rows[1]["would_be_refused"].as_str(), rows[1]["last_would_be_refused"].as_str());
        assert_eq!(would_be, ("7", "2026-11-16T06:00:00Z"));
        assert_eq!((rows[2]["last_attempt_in"].as_str(), rows[2]["refused_gone"].as_str()), ("brownout", "0"));
    }

    #[test]
    fn csv_header_is_what_scripts_rely_on() {
        let header = csv(&sample::empty());
        assert_eq!(header, HEADER.join(",") + "\n");
        assert!(HEADER.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }

    #[test]
    fn csv_gives_spreadsheets_no_formula_and_terminals_no_escape() {
        for hostile in
            ["=HYPERLINK(\"https://evil.example\")", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "＝1", "\u{1b}]0;x\u{7}"]
        {
            let mut report = sample::rich();
            hostile.clone_into(&mut report.clients[0].name);
            let text = csv(&report);
            let cell = read(&text)[0]["name"].clone();
            assert!(cell.starts_with('\'') || cell.starts_with("\\u{"), "{hostile:?} stands as {cell:?}");
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{hostile:?} came through");
        }
    }

    #[test]
    fn csv_keeps_commas_quotes_and_languages() {
        let mut report = sample::rich();
        "a, \"b\" שלום 東京".clone_into(&mut report.clients[0].name);
        assert_eq!(read(&csv(&report))[0]["name"], "a, \"b\" שלום 東京");
    }
}
