//! The preset of brownouts: six windows that grow, each at another time of day, spread over the time there is.
//!
//! Promise: the same dates always give the same windows, whenever they are asked for, so that a restart moves nothing. A
//! window that stands at night or on a Sunday is met by nobody who could act; so the hours go round the clock, and working
//! days are preferred.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::plan::Window;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// One window: its length in seconds, and the hour of the day (UTC) it begins at: an afternoon of Europe, a day of east
/// Asia, a morning of Europe, an afternoon of America, a day of India, and then all of them.
struct Rung {
    length: i64,
    hour: i64,
}

const RUNGS: [Rung; 6] = [
    Rung { length: 300, hour: 14 },
    Rung { length: 300, hour: 2 },
    Rung { length: HOUR, hour: 9 },
    Rung { length: 2 * HOUR, hour: 20 },
    Rung { length: 4 * HOUR, hour: 5 },
    Rung { length: DAY, hour: 12 },
];

/// The least time between two windows, and before the first.
const PAUSE: i64 = HOUR;

/// The least time it needs: each window a day in which its hour comes, itself, and a pause; in whole days.
pub const LEAST: SignedDuration = SignedDuration::from_secs(8 * DAY);

/// The windows between `from` and `until`; none if there is less than [`LEAST`] between them. With a day more than that, the
/// last one ends a day before `until`.
#[must_use]
pub fn ladder(from: Timestamp, until: Timestamp) -> Option<Vec<Window>> {
    if until.duration_since(from) < LEAST {
        return None;
    }
    // Fractions of a second are cut off at both ends, which the first pause more than outweighs.
    let (from, until) = (from.as_second(), until.as_second());
    let margin = if until - from >= LEAST.as_secs() + DAY { DAY } else { 0 };
    let needed: i64 = RUNGS.iter().map(Rung::slot).sum();
    let more = (until - from - margin - needed) / 6;
    let mut begin = from;
    let windows = RUNGS.iter().map(|rung| {
        let end = begin + rung.slot() + more;
        let window = rung.within(begin + PAUSE, end);
        begin = end;
        window
    });
    windows.collect()
}

impl Rung {
    /// The least time in which its hour surely comes, with all of it, after a pause.
    fn slot(&self) -> i64 {
        PAUSE + DAY + self.length
    }

    /// Where it stands between two seconds: on a working day if it can, else nearest the middle.
    fn within(&self, begin: i64, end: i64) -> Option<Window> {
        let first = begin.div_euclid(DAY) * DAY + self.hour * HOUR;
        let first = if first < begin { first + DAY } else { first };
        let step = usize::try_from(DAY).ok()?;
        let starts = (first..=end - self.length).step_by(step);
        let off_middle = |start: i64| (2 * start + self.length - begin - end).abs();
        let start = starts.min_by_key(|start| (!self.is_of_work(*start), off_middle(*start)))?;
        let (from, until) = (Timestamp::from_second(start).ok()?, Timestamp::from_second(start + self.length).ok()?);
        Some(Window { from, until })
    }

    fn is_of_work(&self, start: i64) -> bool {
        [start, start + self.length].into_iter().all(|second| {
            let day = Timestamp::from_second(second).map(|at| at.to_zoned(TimeZone::UTC).weekday());
            day.is_ok_and(|day| !matches!(day, Weekday::Saturday | Weekday::Sunday))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::sunset::Plan;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn six_windows_grow_on_working_days_before_the_end() {
        let windows = ladder(at("2026-12-01T00:00:00Z"), at("2027-01-29T00:00:00Z")).expect("room");
        let told: Vec<String> = windows
            .iter()
            .map(|window| {
                let from = window.from.strftime("%a %F %H:%M");
                format!("{from} {:#}", window.until.duration_since(window.from))
            })
            .collect();
        let expected = [
            "Fri 2026-12-04 14:00 5m",
            "Tue 2026-12-15 02:00 5m",
            "Thu 2026-12-24 09:00 1h",
            "Fri 2027-01-01 20:00 2h",
            "Tue 2027-01-12 05:00 4h",
            "Thu 2027-01-21 12:00 24h",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn least_time_is_enough_and_a_second_less_is_not() {
        let from = at("2026-12-01T17:03:09Z");
        let end = ladder(from, from + LEAST).and_then(|windows| windows.last().copied()).expect("a window");
        assert!(end.until <= from + LEAST);
        assert_eq!(ladder(from, from + LEAST - SignedDuration::from_secs(1)), None);
        assert_eq!(ladder(from, from - LEAST), None);
    }

    proptest! {
        #[test]
        fn windows_stand_in_order_apart_inside_and_at_different_hours(
            from in 0_i64..8_000_000_000,
            room in 8 * DAY..1_000 * DAY,
        ) {
            let (from, until) = (Timestamp::from_second(from)?, Timestamp::from_second(from + room)?);
            let windows = ladder(from, until).expect("room");
            let lengths: Vec<i64> = windows.iter().map(|w| w.until.duration_since(w.from).as_secs()).collect();
            prop_assert_eq!(lengths, [300, 300, HOUR, 2 * HOUR, 4 * HOUR, DAY]);
            let pause = SignedDuration::from_secs(PAUSE);
            prop_assert!(windows[0].from >= from + pause);
            for pair in windows.windows(2) {
                prop_assert!(pair[1].from >= pair[0].until + pause, "{:?}", pair);
            }
            let margin = SignedDuration::from_secs(if room >= 9 * DAY { DAY } else { 0 });
            prop_assert!(windows[5].until <= until - margin);
            let hours: BTreeSet<i64> = windows.iter().map(|w| w.from.as_second().rem_euclid(DAY)).collect();
            prop_assert_eq!(hours.len(), 6);
            let plan = Plan { freeze: Some(from), brownouts: windows, tombstone: Some(until), ..Plan::default() };
            prop_assert_eq!(plan.problems(), Vec::<String>::new());
        }
    }
}
