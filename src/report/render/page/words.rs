//! Words, figures and times as the page writes them.
//!
//! Every string that a report carries comes from a log and so from strangers. Maud escapes what HTML takes for markup;
//! [`visible`] deals with what a reader's eyes would be deceived by: control characters, characters without a width and
//! those that turn the writing direction. Figures are made of integers, so that the same report always gives the same page.

use jiff::Timestamp;
use maud::{Markup, html};
use ring::digest::{SHA256, digest};

pub(super) use crate::report::render::words::number as count;

/// Longer strings are cut: the log caps what it writes, but a page must not trust a file to be such a log.
const LONGEST: usize = 1000;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `text` with everything in it that cannot be seen, or that hides or turns its surroundings, written as `\u{…}`.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars().take(LONGEST) {
        if hides(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// The joiners U+200C and U+200D stay: words and emoji are made with them.
fn hides(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A length as a `u64`.
pub(super) fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// `1 client`, `12 clients`
pub(super) fn plural(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A position on a drawing, `12.345%`: `part` of `whole`, kept between 0 and 100.
pub(super) fn percent(part: i64, whole: i64) -> String {
    let thousandths = i128::from(part).saturating_mul(100_000) / i128::from(whole.max(1));
    let thousandths = thousandths.clamp(0, 100_000);
    format!("{}.{:03}%", thousandths / 1000, thousandths % 1000)
}

/// The same for figures without a sign.
pub(super) fn share(part: u64, whole: u64) -> String {
    let number = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
    percent(number(part), number(whole))
}

/// A part between 0 and 1 as `99.98 %`; cut, not rounded: what is not whole must never read as 100 %.
pub(super) fn ratio(part: f64) -> String {
    format!("{:.2} %", (part.clamp(0.0, 1.0) * 10_000.0).floor() / 100.0)
}

/// A length of time in its two largest units: `3 days 4 h`.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let two = |large: i64, unit: &str, small: i64, lesser: &str| {
        let unit = if unit == "day" && large != 1 { "days" } else { unit };
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {lesser}") }
    };
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => two(seconds / MINUTE, "min", seconds % MINUTE, "s"),
        HOUR..DAY => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "min"),
        _ => two(seconds / DAY, "day", seconds % DAY / HOUR, "h"),
    }
}

/// How long ago, or in how long: `3 days ago`, `in 27 days`.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    let distance = now.as_second() - at.as_second();
    let length = distance.abs();
    let (number, unit) = match length {
        0..MINUTE => return "just now".to_owned(),
        MINUTE..HOUR => (length / MINUTE, "minute"),
        HOUR..DAY => (length / HOUR, "hour"),
        _ => (length / DAY, "day"),
    };
    let number = plural(u64::try_from(number).unwrap_or_default(), unit);
    if distance > 0 { format!("{number} ago") } else { format!("in {number}") }
}

/// `2026-11-21 09:30`, for places that say that it is UTC.
pub(super) fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

/// A time with its age: the time in UTC, which is said.
pub(super) fn when(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(crate::clock::rfc3339(at)) { (minute(at)) " UTC" } " "
        span.age { (age(at, now)) }
    }
}

/// The same in a table whose caption says that times are in UTC.
pub(super) fn when_short(at: Option<Timestamp>, now: Timestamp) -> Markup {
    html! {
        @if let Some(at) = at {
            time datetime=(crate::clock::rfc3339(at)) { (minute(at)) } " "
            span.age { (age(at, now)) }
        } @else { "–" }
    }
}

/// A name for an element that stays the same as long as `identity` does: what is open stays open when the page refreshes.
pub(super) fn anchor(identity: &str) -> String {
    let hash = digest(&SHA256, identity.as_bytes());
    hash.as_ref().iter().take(8).fold(String::from("c-"), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(visible("a\u{202e}b\u{7}c\u{200b}\n"), "a\\u{202e}b\\u{7}c\\u{200b}\\u{a}");
        let family = "Zoë 👩\u{200d}👧 <b> – 名前";
        assert_eq!(visible(family), family);
        assert_eq!(visible(&"x".repeat(5000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn figures_are_grouped() {
        let grouped = [0, 999, 1000, 1_234_567].map(count);
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([plural(1, "client"), plural(2, "client")], ["1 client", "2 clients"]);
    }

    #[test]
    fn what_is_not_whole_never_reads_as_whole() {
        assert_eq!(ratio(0.999_99), "99.99 %");
        assert_eq!(ratio(1.0), "100.00 %");
        assert_eq!(percent(1, 3), "33.333%");
        assert_eq!([percent(7, 0), percent(-1, 3), percent(i64::MAX, 1)], ["100.000%", "0.000%", "100.000%"]);
    }

    #[test]
    fn ages_look_both_ways() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let told = |text: &str| age(text.parse().expect("a time"), now);
        assert_eq!(told("2026-11-21T11:59:30Z"), "just now");
        assert_eq!(told("2026-11-21T11:00:00Z"), "1 hour ago");
        assert_eq!(told("2026-10-01T12:00:00Z"), "51 days ago");
        assert_eq!(told("2026-12-18T13:00:00Z"), "in 27 days");
        assert_eq!([span(59), span(3600), span(93_784)], ["59 s", "1 h", "1 day 2 h"]);
    }

    #[test]
    fn anchors_are_names_that_nothing_can_break_out_of() {
        let name = anchor("name:\"><img onerror=alert(1)>");
        assert!(name.len() == 18 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
        assert_ne!(name, anchor("name:other"));
    }
}
