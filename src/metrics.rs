//! The program's numbers, counted where things happen.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Sessions that run now.
    pub sessions_active: Gauge,
    /// Sessions ever opened.
    pub sessions_opened: Counter,
    /// Legacy requests turned away, whatever the reason.
    pub refused: Counter,
    /// Requests that clients sent.
    pub requests: Counter,
    /// Use-level messages (EVIDENCE, Engagement).
    pub uses: Counter,
    /// JSON-RPC errors made by the proxy.
    pub errors_made: Counter,
    /// Requests to the upstream that failed or were answered with 5xx.
    pub upstream_failures: Counter,
    /// Messages that could not be given to a client, because it was gone or had stopped reading.
    pub undelivered: Counter,
    /// Sessions ended by a bug of ours.
    pub panics: Counter,
}
