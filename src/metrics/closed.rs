//! Families of series over closed lists of label values.
//!
//! Why not the library's own `Family`: it hashes a label set at every use, shows a series only once it was touched, and
//! in another order at every start.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// One series for each value of a closed list. Clones are the same series.
#[derive(Debug)]
pub struct Closed<M> {
    label: &'static str,
    series: Arc<[(&'static str, M)]>,
}

impl<M> Clone for Closed<M> {
    fn clone(&self) -> Self {
        Closed { label: self.label, series: Arc::clone(&self.series) }
    }
}

impl<M: Default> Closed<M> {
    /// A series for each of `values`, of which there is one at least.
    pub(super) fn new(label: &'static str, values: &'static [&'static str]) -> Self {
        debug_assert!(!values.is_empty(), "{label} has no values");
        Closed { label, series: values.iter().map(|value| (*value, M::default())).collect() }
    }
}

impl<M> Closed<M> {
    /// The series of `value`. One that is not in the list counts under the last.
    #[must_use]
    pub fn of(&self, value: &str) -> &M {
        let found = self.series.iter().find(|(name, _)| *name == value);
        debug_assert!(found.is_some(), "{value:?} is no {}", self.label);
        let (_, metric) = found.or(self.series.last()).expect("a list has a value at least");
        metric
    }

    /// All series, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &M)> {
        self.series.iter().map(|(value, metric)| (*value, metric))
    }
}

impl Closed<Counter> {
    /// The sum of all series.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.series.iter().map(|(_, counter)| counter.get()).sum()
    }
}

impl<M: TypedMetric> TypedMetric for Closed<M> {
    const TYPE: MetricType = M::TYPE;
}

impl<M: EncodeMetric + TypedMetric> EncodeMetric for Closed<M> {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        for (value, metric) in self.series.iter() {
            metric.encode(encoder.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// The latest of the times that were noted, in seconds since 1970; 0 before any.
#[derive(Debug, Clone, Default)]
pub struct Latest(Gauge<f64, AtomicU64>);

impl Latest {
    /// Notes `seconds` since 1970. Earlier times than one that was noted change nothing, so that what an earlier process
    /// knew can be given in at any time.
    pub fn note(&self, seconds: f64) {
        if seconds.is_finite() && seconds > 0.0 {
            // The bits of positive floats are in the order of the numbers.
            self.0.inner().fetch_max(seconds.to_bits(), Ordering::Relaxed);
        }
    }

    /// The latest time that was noted.
    #[must_use]
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

impl TypedMetric for Latest {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Latest {
    fn encode(&self, encoder: MetricEncoder) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// One state of a closed list holds: its series is 1, the others are 0. Clones are the same.
#[derive(Debug, Clone)]
pub struct StateSet {
    label: &'static str,
    states: &'static [&'static str],
    current: Arc<AtomicUsize>,
}

impl StateSet {
    pub(super) fn new(label: &'static str, states: &'static [&'static str], first: &str) -> Self {
        let set = StateSet { label, states, current: Arc::default() };
        set.set(first);
        set
    }

    /// From now on `state` holds, which must be in the list.
    pub fn set(&self, state: &str) {
        let found = self.states.iter().position(|name| *name == state);
        debug_assert!(found.is_some(), "{state:?} is no {}", self.label);
        if let Some(place) = found {
            self.current.store(place, Ordering::Relaxed);
        }
    }

    /// The state that holds.
    #[must_use]
    pub fn get(&self) -> &'static str {
        self.states.get(self.current.load(Ordering::Relaxed)).copied().unwrap_or_default()
    }
}

impl EncodeMetric for StateSet {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        // Read once: a scrape sees one state, never none and never two.
        let current = self.get();
        for state in self.states {
            encoder.encode_family(&[(self.label, *state)])?.encode_gauge(&u64::from(*state == current))?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_time_never_goes_back() {
        let last = Latest::default();
        for noted in [5.5, 3.0, -1.0, f64::NAN, f64::INFINITY] {
            last.note(noted);
            assert!((last.get() - 5.5).abs() < f64::EPSILON, "{noted}");
        }
        last.note(6.0);
        assert!((last.get() - 6.0).abs() < f64::EPSILON);
    }

    #[test]
    fn closed_list_counts_by_value_and_in_all() {
        let closed: Closed<Counter> = Closed::new("family", &["a", "other"]);
        closed.of("a").inc();
        closed.of("other").inc_by(2);
        assert_eq!((closed.of("a").get(), closed.total()), (1, 3));
    }
}
