//! The calendar for calendars (RFC 5545): an event for each phase and each brownout.
//!
//! Promise: the identifiers depend on the phases and not on their dates, so that a plan that moved, imported again, moves
//! its events. What comes back after a brownout is no event of its own: the one it began with still lasts.

use jiff::Timestamp;

use super::{Calendar, Row};
use crate::report::render::duration;
use crate::sunset::phase::Phase;

/// Octets of a line, without its end (RFC 5545 §3.1).
const LONGEST_LINE: usize = 75;

/// The calendar as an iCalendar file; none without a step, as a file without an event is no calendar (§3.6).
#[must_use]
pub fn ics(calendar: &Calendar) -> Option<String> {
    if calendar.steps.is_empty() {
        return None;
    }
    let mut file = String::new();
    property(&mut file, "BEGIN", "VCALENDAR");
    property(&mut file, "VERSION", "2.0");
    property(&mut file, "PRODID", concat!("-//sse-sunset//sse-sunset ", env!("CARGO_PKG_VERSION"), "//EN"));
    property(&mut file, "CALSCALE", "GREGORIAN");
    property(&mut file, "METHOD", "PUBLISH");
    for row in calendar.steps.iter().filter(|row| !row.is_return) {
        event(&mut file, calendar, row);
    }
    property(&mut file, "END", "VCALENDAR");
    Some(file)
}

fn event(file: &mut String, calendar: &Calendar, row: &Row) {
    let host = host(calendar);
    let number = row.brownout.map(|number| format!("-{number}")).unwrap_or_default();
    let until = end(calendar, row);
    let lasts = until.and_then(|until| u64::try_from(until.as_second() - row.at.as_second()).ok());
    let lasts = lasts.map(|length| format!(" ({})", duration(length))).unwrap_or_default();
    let name = row.name(calendar.brownouts());
    property(file, "BEGIN", "VEVENT");
    property(file, "UID", &format!("sse-sunset-{}{number}@{host}", row.phase));
    property(file, "DTSTAMP", &utc(calendar.generated));
    property(file, "DTSTART", &utc(row.at));
    if let Some(until) = until {
        property(file, "DTEND", &utc(until));
    }
    property(file, "SUMMARY", &escape(&format!("HTTP+SSE of {host}: {name}{lasts}")));
    property(file, "DESCRIPTION", &escape(&description(calendar, row)));
    if let Some(url) = calendar.info_url.as_ref().or(calendar.new_url.as_ref()) {
        property(file, "URL", url);
    }
    // Nobody is busy because of it.
    property(file, "TRANSP", "TRANSPARENT");
    property(file, "END", "VEVENT");
}

/// Where the event ends: a phase that lasts, at the next one that does, whatever brownouts lie between.
fn end(calendar: &Calendar, row: &Row) -> Option<Timestamp> {
    if row.phase == Phase::Brownout {
        return row.until;
    }
    let after = calendar.steps.iter().filter(|next| next.at > row.at && next.phase != Phase::Brownout);
    after.into_iter().find(|next| !next.is_return).map(|next| next.at)
}

fn description(calendar: &Calendar, row: &Row) -> String {
    let clients = format!("Clients: {}.", row.clients);
    let url = calendar.new_url.as_ref().map(|url| format!("New URL: {url}"));
    let guard = calendar.guard.iter().filter(|_| row.phase.hits_users()).map(|sentence| format!("Guard: {sentence}."));
    std::iter::once(clients).chain(url).chain(guard).collect::<Vec<_>>().join("\n")
}

/// The host whose HTTP+SSE ends; names the calendar's events, too.
fn host(calendar: &Calendar) -> String {
    let uri = calendar.new_url.as_ref().and_then(|url| url.parse::<http::Uri>().ok());
    uri.as_ref().and_then(http::Uri::host).unwrap_or("sse-sunset.invalid").to_owned()
}

/// A time in UTC (§3.3.5, form 2).
fn utc(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A text (§3.3.11).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            // No text may hold any other.
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// Writes a line, folded (§3.1): what follows the first begins with a space, and no character is torn.
fn property(file: &mut String, name: &str, value: &str) {
    let mut length = 0;
    for c in name.chars().chain([':']).chain(value.chars()) {
        if length + c.len_utf8() > LONGEST_LINE {
            file.push_str("\r\n ");
            length = 1;
        }
        file.push(c);
        length += c.len_utf8();
    }
    file.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// The properties of a file, unfolded; fails where it breaks a rule of the form.
    fn read(file: &str) -> Vec<(String, String)> {
        assert!(file.ends_with("\r\n"));
        assert_eq!(file.matches('\n').count(), file.matches("\r\n").count(), "every line ends with CRLF");
        assert!(file.split("\r\n").all(|line| line.len() <= 75), "75 octets a line");
        let unfolded = file.replace("\r\n ", "");
        let lines = unfolded.split_terminator("\r\n");
        lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a name and a value");
                (name.to_owned(), value.to_owned())
            })
            .collect()
    }

    fn values<'a>(properties: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        properties.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn events_are_the_phases_and_brownouts() {
        let properties = read(&ics(&sample::calendar()).expect("a calendar"));
        let mut open = Vec::new();
        for (name, value) in &properties {
            match name.as_str() {
                "BEGIN" => open.push(value.clone()),
                "END" => assert_eq!(open.pop().as_ref(), Some(value), "balanced"),
                _ => assert!(!open.is_empty(), "inside the calendar"),
            }
        }
        assert!(open.is_empty());
        assert_eq!(values(&properties, "BEGIN").iter().filter(|value| **value == "VEVENT").count(), 6);
        let starts = [
            "20261201T000000Z",
            "20261215T093000Z",
            "20261220T140000Z",
            "20270104T090000Z",
            "20270115T000000Z",
            "20270201T000000Z",
        ];
        assert_eq!(values(&properties, "DTSTART"), starts);
        let ends = ["20261215T093000Z", "20270115T000000Z", "20261220T140500Z", "20270104T100000Z", "20270201T000000Z"];
        assert_eq!(values(&properties, "DTEND"), ends, "the freeze lasts through brownouts; what is gone has no end");
        assert_eq!(values(&properties, "DTSTAMP"), ["20261122T080000Z"; 6]);
        assert_eq!(values(&properties, "SUMMARY")[2], "HTTP+SSE of mcp.example.com: brownout 1 of 2 (5 min)");
        assert!(
            values(&properties, "DESCRIPTION")[2].contains("an error that names the new URL\\; running ones go on.")
        );
        assert!(values(&properties, "DESCRIPTION")[2].contains("\\nNew URL: https://mcp.example.com/mcp\\nGuard: "));
    }

    #[test]
    fn identifiers_outlive_a_move_of_the_dates() {
        let identifiers = |calendar: &Calendar| {
            let properties = read(&ics(calendar).expect("a calendar"));
            values(&properties, "UID").into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let first = identifiers(&sample::calendar());
        let mut config = sample::config();
        config.plan.gone = Some(sample::at("2027-03-01T00:00:00Z"));
        assert_eq!(first, identifiers(&Calendar::new(&config, sample::at("2026-11-23T08:00:00Z"))));
        assert_eq!(first[2], "sse-sunset-brownout-1@mcp.example.com");
        let distinct: std::collections::BTreeSet<&String> = first.iter().collect();
        assert_eq!(distinct.len(), first.len());
    }

    #[test]
    fn long_lines_are_folded_between_characters_and_texts_escaped() {
        let mut calendar = sample::calendar();
        calendar.steps[0].clients = format!("a\\b; c, d\u{7}\r\n{}", "é€😀".repeat(40));
        let file = ics(&calendar).expect("a calendar");
        let properties = read(&file);
        let expected = format!("Clients: a\\\\b\\; c\\, d\\n{}.", "é€😀".repeat(40));
        assert!(values(&properties, "DESCRIPTION")[0].starts_with(&expected), "{file}");
    }

    #[test]
    fn plan_without_a_step_is_no_calendar() {
        let calendar = Calendar::new(&crate::sunset::Config::default(), sample::at("2026-11-22T08:00:00Z"));
        assert_eq!(ics(&calendar), None);
    }
}
