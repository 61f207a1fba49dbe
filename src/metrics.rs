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
    /// Sessions that wait for their client to come back.
    pub sessions_lingering: Gauge,
    /// Streams that named their last event and got their session back.
    pub streams_resumed: Counter,
    /// Streams that came back without a word and were given the one session that could be meant.
    pub streams_adopted: Counter,
    /// Handshakes made upstream for clients that came back without one.
    pub handshakes_made: Counter,
    /// Upstream sessions that the upstream had lost.
    pub upstream_sessions_lost: Counter,
    /// Upstream sessions opened in place of such, or for clients without a handshake.
    pub upstream_sessions_revived: Counter,
    /// Attempts at that which failed.
    pub revivals_failed: Counter,
    /// Requests that were turned away for want of a session and sent again in the next.
    pub messages_replayed: Counter,
    /// Pings to the upstream.
    pub upstream_pings: Counter,
    /// Streams of calls that broke and were asked for again.
    pub upstream_streams_resumed: Counter,
    /// Sessions ended because their client had stopped reading.
    pub slow_consumers: Counter,
}
