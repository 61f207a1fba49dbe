//! Numbers that others hold, read when someone asks.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A number that is read when someone asks.
pub(super) struct Reading<F> {
    read: F,
    is_count: bool,
}

impl<F: Fn() -> u64> Reading<F> {
    /// Of something that goes up and down.
    pub(super) fn gauge(read: F) -> Self {
        Reading { read, is_count: false }
    }

    /// Of something that only goes up.
    pub(super) fn counter(read: F) -> Self {
        Reading { read, is_count: true }
    }
}

impl<F> fmt::Debug for Reading<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

impl<F: Fn() -> u64> EncodeMetric for Reading<F> {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        let now = (self.read)();
        if self.is_count {
            encoder.encode_counter::<NoLabelSet, u64, u64>(&now, None)
        } else {
            encoder.encode_gauge(&now)
        }
    }

    fn metric_type(&self) -> MetricType {
        if self.is_count { MetricType::Counter } else { MetricType::Gauge }
    }
}
