//! What each metric says of itself, by the name it is registered under.

const HELP: &[(&str, &str)] = &[
    ("build", "The build that runs"),
    ("verdict", "Whether SSE can be switched off; the one verdict that holds is 1"),
    ("phase", "The phase of the switch-off; the one that holds is 1"),
    ("paused", "Whether the switch-off is paused: nobody is refused"),
    ("connections_active", "Connections of clients that are open"),
    ("connections_lost", "Connections of clients that ended before a request could be read"),
    ("sessions_active", "Legacy sessions that are open, lingering ones included"),
    ("sessions_lingering", "Open sessions that wait for their client to come back"),
    ("sessions_opened", "Legacy sessions opened, by the family that the request for the stream showed"),
    ("sessions_ended", "Legacy sessions that are over, by what ended them"),
    ("refused", "Attempts of legacy clients that were turned away"),
    ("fleet_answers", "Posts of other replicas' clients, taken for sessions held here"),
    ("fleet_calls", "Posts handed to the replica that holds their session, by what came of it"),
    ("fleet_commands", "Commands sent to Redis"),
    ("fleet_connected", "Whether Redis can be reached and what is published there arrives"),
    ("fleet_peers", "Other replicas that are there"),
    ("fleet_refused", "Session ids and envelopes that no replica of this fleet had sealed, or whose time was over"),
    ("foreign_posts", "Posts into sessions that belong to another principal, answered like unknown sessions"),
    ("canaries", "Signed canary sessions that went the whole way"),
    ("last_canary_timestamp", "Unix time at which the last of them did; 0 where none is known"),
    ("clients", "Clients that ever came over SSE and are remembered, by what they mean for the verdict"),
    (
        "newest_client_timestamp",
        "Unix time at which the newest of the clients that used the server was first seen; 0 where none is known",
    ),
    ("requests", "JSON-RPC requests of legacy clients"),
    (
        "uses",
        "Messages of legacy clients that use the server: calls, reads, prompts, completions, subscriptions, and answers \
         to the server",
    ),
    ("last_use_timestamp", "Unix time at which a client of the family last used the server; 0 where no use is known"),
    (
        "request_duration",
        "Time from the arrival of a request that goes upstream until its answer, or an error in its place, is handed to \
         the event stream",
    ),
    ("errors", "JSON-RPC errors that the proxy made in place of an answer"),
    ("messages_undelivered", "Messages that no client was there to take"),
    ("stream", "Bytes given to the connections of event streams, keep-alive comments included"),
    ("slow_consumers", "Sessions ended because their client had stopped reading"),
    ("panics", "Sessions ended by a bug of the proxy"),
    ("streams_resumed", "Streams that named their last event and got their session back"),
    ("streams_adopted", "Streams that came back without a word and got the one session that could be meant"),
    ("handshakes_made", "Handshakes made with the upstream for clients that came back without one"),
    ("upstream_head_duration", "Time from sending a request to the upstream to the head of its answer"),
    ("upstream_errors", "Exchanges with the upstream that failed, or were answered by 5xx"),
    ("upstream_sessions_lost", "Sessions that the upstream had lost"),
    (
        "upstream_sessions_revived",
        "Sessions opened at the upstream in place of lost ones, or for clients without a handshake",
    ),
    ("upstream_revivals_failed", "Attempts to open such a session that failed"),
    ("messages_replayed", "Messages that were turned away for want of a session and sent again in the next"),
    ("upstream_pings", "Pings to the upstream"),
    ("upstream_streams_resumed", "Streams of calls that broke and were asked for again"),
    ("modern_requests", "Requests of Streamable HTTP that clients made themselves, passed through or upgraded"),
    ("upgrades", "Clients of the legacy URL that were served Streamable HTTP on it, once a handshake or a day"),
    ("upgraded_sessions", "Sessions kept for such clients where the server keeps none"),
    ("passed_through", "Exchanges that are passed through now"),
    ("outbox", "Bytes of messages that wait for clients, all sessions together (--memory)"),
    ("inbox", "Bytes of posted messages that the upstream has not taken, all sessions together (--memory)"),
    ("traffic_log_records_lost", "Records that the traffic log could not take; any makes the verdict unknown"),
    ("traffic_log_failing", "1 while the traffic log cannot be written"),
    ("state_failing", "1 while the evidence cannot be written to the state directory"),
    (
        "tls_not_after_timestamp_seconds",
        "Unix time at which the certificate that clients are shown expires; 0 if it does not say",
    ),
    ("draining", "1 while the process drains"),
];

/// What the metric called `name` says of itself.
pub(super) fn help(name: &'static str) -> &'static str {
    HELP.iter().find(|(known, _)| *known == name).expect("every metric has its text; a start of the program shows it").1
}
