//! The times of access logs.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Above this, a number of seconds since 1970 is one of milliseconds: as seconds it lies in the year 5138.
const LATEST_SECOND: f64 = 1e11;

/// `10/Oct/2000:13:55:36 -0700`
pub(super) fn common(text: &[u8]) -> Option<Timestamp> {
    strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()
}

/// RFC 3339, also with an offset without a colon.
pub(super) fn rfc3339(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// What Caddy writes as text: RFC 3339, the common log's form, or wall time, which is UTC unless `time_local` was set.
pub(super) fn caddy(text: &str) -> Option<Timestamp> {
    rfc3339(text).or_else(|| common(text.as_bytes())).or_else(|| {
        let wall = DateTime::strptime("%Y/%m/%d %H:%M:%S%.f", text).ok()?;
        wall.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

/// A number of seconds or milliseconds since 1970.
pub(super) fn since_1970(number: f64) -> Option<Timestamp> {
    let seconds = if number.abs() < LATEST_SECOND { number } else { number / 1e3 };
    let rounded = SignedDuration::try_from_secs_f64(seconds).ok()?.round(jiff::Unit::Microsecond).ok()?;
    Timestamp::from_duration(rounded).ok()
}

/// A whole number of seconds, milliseconds or nanoseconds since 1970.
pub(super) fn whole_since_1970(number: i64) -> Option<Timestamp> {
    match number.unsigned_abs() {
        0..100_000_000_000 => Timestamp::from_second(number).ok(),
        100_000_000_000..100_000_000_000_000 => Timestamp::from_millisecond(number).ok(),
        _ => Timestamp::from_nanosecond(number.into()).ok(),
    }
}

/// Seconds.
pub(super) fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

/// What Go writes: `1m32.05s`, `6.31ms`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

/// From `start` to `end`, if it is not backwards.
pub(super) fn between(start: Timestamp, end: Timestamp) -> Option<Duration> {
    end.duration_since(start).try_into().ok()
}
