//! Numbers, dates and durations as people read them. Everything is UTC, and ages are counted to the end of the window
//! that was judged, not to the moment of reading: the same report always says the same.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `1,234,567`
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 client`, `2 clients`
pub(super) fn count(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

/// `2026-11-21`
pub(super) fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// `2026-11-21 09:30 UTC`
pub(super) fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// From one moment to another, the date only once where it is the same.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    let end = if date(from) == date(to) { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
    format!("{} to {}", from.strftime("%Y-%m-%d %H:%M"), to.strftime(end))
}

/// How long `seconds` are, in the one or two units that matter.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let two = |large: i64, unit: &str, small: i64, lesser: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {lesser}"),
    };
    match seconds {
        ..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => two(seconds / MINUTE, "min", seconds % MINUTE, "s"),
        HOUR..DAY => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "min"),
        _ if seconds >= 10 * DAY || seconds % DAY < HOUR => days(seconds / DAY),
        _ => format!("{} {} h", days(seconds / DAY), seconds % DAY / HOUR),
    }
}

fn days(days: i64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// How long ago `time` was at `now`, or how far ahead it is: `3 days ago`, `in 28 days`.
pub(super) fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - time.as_second();
    let words = match seconds.abs() {
        ..MINUTE => return "now".to_owned(),
        away @ MINUTE..HOUR => plural(away / MINUTE, "minute"),
        away if away < 2 * DAY => plural(away / HOUR, "hour"),
        away => plural(away / DAY, "day"),
    };
    if seconds < 0 { format!("in {words}") } else { format!("{words} ago") }
}

fn plural(value: i64, unit: &str) -> String {
    format!("{value} {unit}{}", if value == 1 { "" } else { "s" })
}

/// The same for a table: `3d ago`, `in 28d`.
pub(super) fn short_age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - time.as_second();
    let words = match seconds.abs() {
        ..MINUTE => return "now".to_owned(),
        away @ MINUTE..HOUR => format!("{}min", away / MINUTE),
        away if away < 2 * DAY => format!("{}h", away / HOUR),
        away => format!("{}d", away / DAY),
    };
    if seconds < 0 { format!("in {words}") } else { format!("{words} ago") }
}

/// A part of the whole in percent, never rounded up to all of it: `99.97 %`.
pub(super) fn percent(ratio: f64) -> String {
    let text = if ratio >= 1.0 { "100".to_owned() } else { format!("{:.2}", (ratio * 10_000.0).floor() / 100.0) };
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short} %")
}

/// How much `bytes` are: `1.2 GB`.
pub(super) fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        ..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn numbers_are_grouped_and_counted() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(1, "client", "clients"), "1 client");
        assert_eq!(count(0, "client", "clients"), "0 clients");
        assert_eq!([0, 1_200, 2_310_000, 9_990_000_000].map(bytes), ["0 B", "1.2 kB", "2.3 MB", "9.9 GB"]);
    }

    #[test]
    fn durations_name_two_units_at_most() {
        let words = [45, 60, 4_320, 86_400, 90_000, 2_592_000].map(duration);
        assert_eq!(words, ["45 s", "1 min", "1 h 12 min", "1 day", "1 day 1 h", "30 days"]);
    }

    #[test]
    fn ages_look_both_ways_from_the_end_of_the_window() {
        let now = at("2026-11-21T12:00:00Z");
        assert_eq!(age(at("2026-11-21T11:59:30Z"), now), "now");
        assert_eq!(age(at("2026-11-21T11:59:00Z"), now), "1 minute ago");
        assert_eq!(age(at("2026-11-18T12:00:00Z"), now), "3 days ago");
        assert_eq!(age(at("2026-12-19T12:00:00Z"), now), "in 28 days");
        assert_eq!(short_age(at("2026-11-20T12:00:00Z"), now), "24h ago");
        assert_eq!(short_age(at("2026-12-19T12:00:00Z"), now), "in 28d");
    }

    #[test]
    fn percent_never_rounds_up_to_all() {
        assert_eq!([1.0, 0.999_999, 0.99, 0.5, 0.0].map(percent), ["100 %", "99.99 %", "99 %", "50 %", "0 %"]);
    }

    #[test]
    fn spans_name_the_date_once() {
        let from = at("2026-11-03T02:10:00Z");
        assert_eq!(span(from, at("2026-11-03T03:22:00Z")), "2026-11-03 02:10 to 03:22 UTC");
        assert_eq!(span(from, at("2026-11-04T03:22:00Z")), "2026-11-03 02:10 to 2026-11-04 03:22 UTC");
    }
}
