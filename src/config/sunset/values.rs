//! The values of the switch-off's options, each by itself: dates, windows, shares, URLs.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use reqwest::Url;

use crate::config::units::{self, Read};
use crate::sunset::farewell::uri;
use crate::sunset::notice::LONGEST_URL;
use crate::sunset::{Form, Phase, Share, Window};

/// What `--brownout` names.
#[derive(Clone, Copy)]
pub(super) enum Brownout {
    /// The preset, spread between the dates.
    Ladder,
    Window(Window),
}

/// A date (midnight, UTC), a time (RFC 3339), or a time from `now`.
///
/// # Errors
/// When it is none, in words that stand behind the value.
pub fn date(text: &str, now: Timestamp) -> Read<Timestamp> {
    let text = text.trim();
    let at = if let Some(from_now) = text.strip_prefix('+') {
        let length = length(from_now)?;
        now.checked_add(length).map_err(|_| "is too far away".to_owned())?
    } else if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else {
        let has_time = text.contains(['T', ':']);
        let shape = if has_time {
            "is not a time with its zone, such as 2026-12-01T09:00:00Z"
        } else {
            "is not a date, such as 2026-12-01 or 2026-12-01T09:00:00Z, nor a time from now, such as +2m"
        };
        let date: Date = text.parse::<Date>().ok().filter(|_| !has_time).ok_or(shape)?;
        date.to_zoned(TimeZone::UTC).map_err(|_| shape)?.timestamp()
    };
    // No header and no text has a finer unit.
    Timestamp::from_second(at.as_second()).map_err(|_| "is too far away".to_owned())
}

/// `5m`, `1h 30m`, `PT5M` or `2d`.
fn length(text: &str) -> Read<SignedDuration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("needs a unit, such as {text}m"));
    }
    let span = text.parse::<Span>().ok();
    let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let length = length.filter(|length| *length >= SignedDuration::from_secs(1));
    length.ok_or_else(|| "has no duration of a second at least, such as 5m, PT5M or 2d".to_owned())
}

/// `ladder`, or an interval (ISO 8601): `START/DURATION` or `START/END`.
pub(super) fn brownout(text: &str, now: Timestamp) -> Read<Brownout> {
    if text.trim() == "ladder" {
        return Ok(Brownout::Ladder);
    }
    let (from, until) = text.split_once('/').ok_or(
        "is neither ladder nor START/DURATION nor START/END, such as 2026-12-01T14:00:00Z/5m; commas separate windows",
    )?;
    let (from, until) = (date(from, now)?, until.trim());
    let is_length =
        until.starts_with(['P', 'p']) || until.ends_with(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'Z' | 'z'));
    let until = if is_length && !until.starts_with('+') {
        from.checked_add(length(until)?).map_err(|_| "is too far away".to_owned())?
    } else {
        date(until, now)?
    };
    if from >= until {
        return Err("ends before it begins".to_owned());
    }
    Ok(Brownout::Window(Window { from, until }))
}

/// Everybody is sent there, and everybody reads it.
///
/// # Errors
/// What is wrong with it, in words that stand behind the value.
pub fn new_url(text: &str) -> Read<Url> {
    let url = units::upstream_url(text)?;
    if url.query().is_some() {
        return Err("must not have a query: it could be a key, and everybody is told".to_owned());
    }
    let length = uri(url.as_str()).len();
    if length > LONGEST_URL {
        return Err(format!(
            "has {length} characters; with more than {LONGEST_URL} no message to clients has room for it"
        ));
    }
    Ok(url)
}

pub(super) fn form(text: &str) -> Read<Form> {
    match text {
        "jsonrpc" => Ok(Form::Rpc),
        "http" => Ok(Form::Http),
        _ => Err("is neither jsonrpc nor http".to_owned()),
    }
}

/// A percentage of two decimals at most, more than none and at most all.
///
/// # Errors
/// When it is none, in words that stand behind the value.
pub fn share(text: &str) -> Read<Share> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(format!("needs a %, such as {}%", if text.is_empty() { "5" } else { text }));
    };
    let (whole, fraction) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), "0"));
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let hundredths = format!("{whole}{fraction:0<2}");
    let points = hundredths.parse::<u16>().ok().filter(|_| digits(whole, 3) && digits(fraction, 2));
    match points {
        Some(basis_points @ 1..=10_000) => Ok(Share { basis_points }),
        _ => Err("is not more than 0% and at most 100%, with two decimals at most, such as 5% or 0.5%".to_owned()),
    }
}

/// A phase that turns somebody away.
pub(super) fn refusing(text: &str) -> Read<Phase> {
    let phase: Phase = text.trim().parse()?;
    if phase < Phase::Freeze {
        return Err("refuses nobody; give freeze, brownout, tombstone or gone".to_owned());
    }
    Ok(phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_of_two_decimals() {
        for (text, points) in [("5%", 500), ("0.5%", 50), ("100%", 10_000), ("0.01%", 1), ("12.25 %", 1_225)] {
            assert_eq!(share(text), Ok(Share { basis_points: points }), "{text}");
        }
        for bad in ["0%", "100.01%", "0.001%", "-5%", "%", "5.%", ".5%", "1e1%", "+5%", "five%", "0005%"] {
            assert!(share(bad).is_err_and(|problem| problem.contains("at most 100%")), "{bad}");
        }
        assert_eq!(share("5"), Err("needs a %, such as 5%".to_owned()));
    }
}
