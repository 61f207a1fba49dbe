//! Wall-clock time as the log writes it, and the steps that wall clocks make.
//!
//! Deadlines use monotonic time (`std` or tokio instants); wall time is only ever written down.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

/// A step of the wall clock smaller than this is drift.
const SMALLEST_STEP: Duration = Duration::from_secs(2);

/// The time now, as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn now() -> String {
    rfc3339(Timestamp::now())
}

/// `at` as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Seconds since 1970, now.
#[must_use]
pub fn unix_now() -> i64 {
    Timestamp::now().as_second()
}

/// The number of the UTC hour now, since 1970.
#[must_use]
pub fn hour_now() -> i64 {
    Timestamp::now().as_second().div_euclid(3600)
}

/// The number of the UTC day now, since 1970.
#[must_use]
pub fn day_now() -> i64 {
    Timestamp::now().as_second().div_euclid(24 * 3600)
}

/// Compares wall time with monotonic time, to notice that someone set the clock.
#[derive(Debug)]
pub struct StepDetector {
    wall: SystemTime,
    monotonic: Instant,
}

impl StepDetector {
    /// Starts to compare now.
    #[must_use]
    pub fn start() -> Self {
        StepDetector { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    /// By how many seconds the wall clock was set since the last call; zero for drift.
    pub fn step_s(&mut self) -> f64 {
        let now = StepDetector::start();
        let elapsed = now.monotonic.duration_since(self.monotonic).as_secs_f64();
        let wall = match now.wall.duration_since(self.wall) {
            Ok(forward) => forward.as_secs_f64(),
            Err(backward) => -backward.duration().as_secs_f64(),
        };
        *self = now;
        let step = wall - elapsed;
        if step.abs() < SMALLEST_STEP.as_secs_f64() { 0.0 } else { (step * 1000.0).round() / 1000.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_with_milliseconds_in_utc() {
        let at = Timestamp::from_millisecond(1_790_000_000_007).expect("in range");
        assert_eq!(rfc3339(at), "2026-09-21T14:13:20.007Z");
        let whole = Timestamp::from_second(1_790_000_000).expect("in range");
        assert_eq!(rfc3339(whole), "2026-09-21T14:13:20.000Z");
    }

    #[test]
    fn clock_without_a_step_shows_none() {
        assert!(StepDetector::start().step_s().abs() < f64::EPSILON);
    }
}
