//! The program's numbers, counted where things happen, and shown to whoever scrapes `/metrics`.
//!
//! Promise: every name there will ever be is there from the start, with 0, so that a rate over the first event is not
//! lost; and every label comes from a closed list, so that nothing a client says can make a series.
//!
//! Counting is on the path of every message: whoever counts holds the counter itself ([`ClientFamily`]), and no label is
//! looked up there. What others count already ([`Metrics::watch_gauge`]) is read when someone asks.

mod closed;
mod exposition;
mod help;
mod process;
mod reading;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use closed::{Closed, Latest, StateSet};
pub use exposition::Format;
use help::help;
use process::Process;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
use reading::Reading;

/// What the names of all metrics start with, those about the process left out.
const PREFIX: &str = "sse_sunset";

/// The answers to "is it safe to switch SSE off?" (EVIDENCE, The verdict).
pub const VERDICTS: &[&str] = &["not_yet", "unknown", "safe_with_notes", "safe"];
/// The phases of the switch-off (DESIGN, Sunset).
pub const PHASES: &[&str] = &["observe", "announce", "freeze", "brownout", "tombstone", "gone"];

/// What clients mean for the verdict (`report::outcome::State`), those left out that never came over SSE.
pub const CLIENT_STATES: &[&str] = &["open", "blocking", "waived", "looked", "quiet", "noise"];

/// Why connections come to no request: too many in all or from one address, no descriptor left, nothing sent, no header of
/// the PROXY protocol where one is due, a TLS handshake that failed or took too long.
pub const LOST_CONNECTIONS: &[&str] =
    &["limit", "address_limit", "descriptors", "silent", "proxy_header", "tls", "tls_timeout"];

/// The label of client families.
const FAMILY: &str = "client_family";

/// Bounds of latencies in seconds: from what a proxy adds to what `--call-timeout` allows.
const LATENCIES: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];

/// The closed lists of label values; they belong to modules above this one.
#[derive(Debug, Clone, Copy)]
pub struct Lists {
    /// `client_family`; the last one is that of all clients which no rule names.
    pub client_families: &'static [&'static str],
    /// Why sessions end.
    pub end_reasons: &'static [&'static str],
    /// Why clients are turned away.
    pub refusals: &'static [&'static str],
    /// What goes wrong with the upstream.
    pub upstream_errors: &'static [&'static str],
    /// What calls to other replicas come to.
    pub fleet_calls: &'static [&'static str],
    /// Why ids and envelopes of replicas are refused.
    pub fleet_faults: &'static [&'static str],
}

/// Counters since the start of the process, and what is now.
pub struct Metrics {
    /// Connections of clients that are open.
    pub connections_active: Gauge,
    /// Connections that came to no request, by one of [`LOST_CONNECTIONS`].
    pub connections_lost: Closed<Counter>,
    /// Sessions that run now.
    pub sessions_active: Gauge,
    /// Sessions that wait for their client to come back.
    pub sessions_lingering: Gauge,
    /// Sessions ever opened, by the family that their first request showed.
    pub sessions_opened: Closed<Counter>,
    /// Sessions that are over, by what ended them.
    pub sessions_ended: Closed<Counter>,
    /// Legacy requests turned away.
    pub refused: Closed<Counter>,
    /// Posts into sessions of other principals.
    pub foreign_posts: Counter,
    /// Requests that clients sent.
    pub requests: Counter,
    /// Use-level messages (EVIDENCE, Engagement).
    pub uses: Closed<Counter>,
    /// When a client of a family was last of use-level.
    pub last_use: Closed<Latest>,
    /// Seconds from the arrival of a request that goes upstream to the hand-over of its answer.
    pub request_duration: Histogram,
    /// JSON-RPC errors made by the proxy.
    pub errors_made: Counter,
    /// Messages that could not be given to a client, because it was gone or had stopped reading.
    pub undelivered: Counter,
    /// Bytes given to the connections of event streams.
    pub stream_bytes: Counter,
    /// Sessions ended because their client had stopped reading.
    pub slow_consumers: Counter,
    /// Sessions ended by a bug of ours.
    pub panics: Counter,
    /// Streams that named their last event and got their session back.
    pub streams_resumed: Counter,
    /// Streams that came back without a word and were given the one session that could be meant.
    pub streams_adopted: Counter,
    /// Handshakes made upstream for clients that came back without one.
    pub handshakes_made: Counter,
    /// Seconds from sending a request upstream to the head of its answer.
    pub upstream_head_duration: Histogram,
    /// Requests to the upstream that failed or were answered with 5xx.
    pub upstream_errors: Closed<Counter>,
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
    /// Requests of Streamable HTTP that clients made themselves.
    pub modern_requests: Counter,
    /// Clients that were served it on the path of the legacy stream, by family.
    pub upgrades: Closed<Counter>,
    /// One of [`VERDICTS`].
    pub verdict: StateSet,
    /// One of [`PHASES`].
    pub phase: StateSet,
    /// Posts handed to the replica that holds their session, by what came of it.
    pub fleet_calls: Closed<Counter>,
    /// The same, handed to this one.
    pub fleet_answers: Counter,
    /// Ids and envelopes that were refused.
    pub fleet_refused: Closed<Counter>,
    /// Commands sent to Redis.
    pub fleet_commands: Counter,
    /// Canary sessions that went the whole way.
    pub canaries: Counter,
    /// When the last of them did.
    pub last_canary: Latest,
    /// Clients that are known, by one of [`CLIENT_STATES`].
    pub clients: Closed<Gauge>,
    /// When the newest of those that used the server was first seen.
    pub newest_client: Latest,
    /// The number of the next session.
    numbers: AtomicU64,
    registry: Mutex<Registry>,
    process: Registry,
}

/// The numbers of one client family, to be held by a session.
#[derive(Debug, Clone)]
pub struct ClientFamily {
    /// See [`Metrics::uses`].
    pub uses: Counter,
    /// See [`Metrics::last_use`].
    pub last_use: Latest,
}

/// Registers what it makes.
struct Register(Registry);

impl Register {
    fn add<M: Metric + Clone>(&mut self, name: &'static str, metric: M) -> M {
        self.0.register(name, help(name), metric.clone());
        metric
    }

    fn counter(&mut self, name: &'static str) -> Counter {
        self.add(name, Counter::default())
    }

    /// The unit becomes part of the name.
    fn measured<M: Metric + Clone>(&mut self, name: &'static str, unit: Unit, metric: M) -> M {
        self.0.register_with_unit(name, help(name), unit, metric.clone());
        metric
    }
}

impl Metrics {
    /// All numbers at 0; the verdict is unknown, and the phase is to observe.
    #[must_use]
    pub fn new(lists: Lists) -> Self {
        let mut of = Register(Registry::with_prefix(PREFIX));
        let families = lists.client_families;
        of.0.register("build", help("build"), Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Metrics {
            verdict: of.add("verdict", StateSet::new("verdict", VERDICTS, "unknown")),
            phase: of.add("phase", StateSet::new("phase", PHASES, "observe")),
            connections_active: of.add("connections_active", Gauge::default()),
            connections_lost: of.add("connections_lost", Closed::new("reason", LOST_CONNECTIONS)),
            sessions_active: of.add("sessions_active", Gauge::default()),
            sessions_lingering: of.add("sessions_lingering", Gauge::default()),
            sessions_opened: of.add("sessions_opened", Closed::new(FAMILY, families)),
            sessions_ended: of.add("sessions_ended", Closed::new("reason", lists.end_reasons)),
            refused: of.add("refused", Closed::new("reason", lists.refusals)),
            foreign_posts: of.counter("foreign_posts"),
            canaries: of.counter("canaries"),
            last_canary: of.measured("last_canary_timestamp", Unit::Seconds, Latest::default()),
            clients: of.add("clients", Closed::new("state", CLIENT_STATES)),
            newest_client: of.measured("newest_client_timestamp", Unit::Seconds, Latest::default()),
            requests: of.counter("requests"),
            uses: of.add("uses", Closed::new(FAMILY, families)),
            last_use: of.measured("last_use_timestamp", Unit::Seconds, Closed::new(FAMILY, families)),
            request_duration: of.measured("request_duration", Unit::Seconds, Histogram::new(LATENCIES)),
            errors_made: of.counter("errors"),
            undelivered: of.counter("messages_undelivered"),
            stream_bytes: of.measured("stream", Unit::Bytes, Counter::default()),
            slow_consumers: of.counter("slow_consumers"),
            panics: of.counter("panics"),
            streams_resumed: of.counter("streams_resumed"),
            streams_adopted: of.counter("streams_adopted"),
            handshakes_made: of.counter("handshakes_made"),
            upstream_head_duration: of.measured("upstream_head_duration", Unit::Seconds, Histogram::new(LATENCIES)),
            upstream_errors: of.add("upstream_errors", Closed::new("kind", lists.upstream_errors)),
            upstream_sessions_lost: of.counter("upstream_sessions_lost"),
            upstream_sessions_revived: of.counter("upstream_sessions_revived"),
            revivals_failed: of.counter("upstream_revivals_failed"),
            messages_replayed: of.counter("messages_replayed"),
            upstream_pings: of.counter("upstream_pings"),
            upstream_streams_resumed: of.counter("upstream_streams_resumed"),
            modern_requests: of.counter("modern_requests"),
            upgrades: of.add("upgrades", Closed::new(FAMILY, families)),
            fleet_calls: of.add("fleet_calls", Closed::new("outcome", lists.fleet_calls)),
            fleet_answers: of.counter("fleet_answers"),
            fleet_refused: of.add("fleet_refused", Closed::new("reason", lists.fleet_faults)),
            fleet_commands: of.counter("fleet_commands"),
            numbers: AtomicU64::new(0),
            registry: Mutex::new(of.0),
            process: Process::registry(),
        }
    }

    /// A session begins, whosever it is. Returns how many began before.
    pub fn enter_session(&self) -> u64 {
        self.sessions_active.inc();
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The numbers of the family called `name`.
    #[must_use]
    pub fn client_family(&self, name: &str) -> ClientFamily {
        ClientFamily { uses: self.uses.of(name).clone(), last_use: self.last_use.of(name).clone() }
    }

    /// Shows what `read` says whenever someone asks, as `sse_sunset_NAME`.
    pub fn watch_gauge(&self, name: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.registry().register(name, help(name), Reading::gauge(read));
    }

    /// Shows how many bytes `read` says, as `sse_sunset_NAME_bytes`.
    pub fn watch_bytes(&self, name: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.registry().register_with_unit(name, help(name), Unit::Bytes, Reading::gauge(read));
    }

    /// Shows a count that `read` has, as `sse_sunset_NAME_total`.
    pub fn watch_counter(&self, name: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.registry().register(name, help(name), Reading::counter(read));
    }

    /// All of it, as scrapers want it.
    #[must_use]
    pub fn exposition(&self, format: Format) -> String {
        exposition::write(&[&self.registry(), &self.process], format)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
