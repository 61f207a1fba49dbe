//! The records, field by field as EVIDENCE fixes them.
//!
//! Names follow OpenTelemetry's semantic conventions where those have one. What is not known is left out. Nothing
//! here holds a credential, a session id of either side, arguments or results.

use serde::{Deserialize, Serialize};

use super::identity::ClientInfo;
use super::phase::Phase;

/// How far a session went, by what it did (EVIDENCE, Engagement).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engagement {
    /// Nothing posted.
    Connect,
    /// `initialize` only.
    Handshake,
    /// Lists, `ping`, `logging/setLevel`.
    Discovery,
    /// Calls, reads, prompts, completions, subscriptions, or an answer to a server's request.
    Use,
}

impl Engagement {
    /// What a request of `method` shows. Methods that no list names are discovery: they show a client at work, not use.
    #[must_use]
    pub fn of_method(method: &str) -> Self {
        match method {
            "tools/call" | "resources/read" | "resources/subscribe" | "prompts/get" | "completion/complete" => {
                Engagement::Use
            }
            "initialize" | "server/discover" => Engagement::Handshake,
            _ => Engagement::Discovery,
        }
    }
}

/// One record of the log.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// `proxy.start`
    Start(Start),
    /// `proxy.stop`
    Stop(Stop),
    /// `proxy.heartbeat`
    Heartbeat(Heartbeat),
    /// `legacy.connect`
    Connect(Connect),
    /// `legacy.identify`
    Identify(Identify),
    /// `legacy.use`
    Use(Use),
    /// `legacy.end`
    End(End),
    /// `legacy.refused`
    Refused(Refused),
    /// `legacy.upgrade`
    Upgrade(Upgrade),
    /// `modern.seen`
    Modern(Modern),
    /// `canary.seen`
    Canary(Canary),
    /// `sunset.phase`
    Phase(Phase),
    /// `fleet.refused`
    FleetRefused(FleetRefused),
}

impl Record {
    /// The `event.name`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Record::Start(_) => "proxy.start",
            Record::Stop(_) => "proxy.stop",
            Record::Heartbeat(_) => "proxy.heartbeat",
            Record::Connect(_) => "legacy.connect",
            Record::Identify(_) => "legacy.identify",
            Record::Use(_) => "legacy.use",
            Record::End(_) => "legacy.end",
            Record::Refused(_) => "legacy.refused",
            Record::Upgrade(_) => "legacy.upgrade",
            Record::Modern(_) => "modern.seen",
            Record::Canary(_) => "canary.seen",
            Record::Phase(_) => "sunset.phase",
            Record::FleetRefused(_) => "fleet.refused",
        }
    }
}

/// The process has started.
#[derive(Debug, Clone, Serialize)]
pub struct Start {
    /// The program's version.
    #[serde(rename = "service.version")]
    pub version: &'static str,
    /// Changes when the configuration does.
    #[serde(rename = "config.hash")]
    pub config_hash: String,
    /// Scheme, host and port of the upstream; its path and query may hold secrets.
    #[serde(rename = "upstream.origin")]
    pub upstream_origin: String,
    /// What is passed through, and so counted by [`Modern`]: `off`, `mcp`, `all`.
    #[serde(rename = "passthrough")]
    pub passthrough: &'static str,
}

/// The process ends in order.
#[derive(Debug, Clone, Serialize)]
pub struct Stop {
    /// Seconds since `proxy.start`.
    #[serde(rename = "uptime_s")]
    pub uptime_s: u64,
    /// Records lost since `proxy.start`.
    #[serde(rename = "log.lost")]
    pub lost: u64,
    /// What happened since `proxy.start`.
    #[serde(flatten)]
    pub survival: Survival,
}

/// What sessions went through since `proxy.start`, and what was done about it.
#[derive(Debug, Clone, Serialize)]
pub struct Survival {
    /// Streams that named their last event and got their session back.
    #[serde(rename = "streams.resumed")]
    pub streams_resumed: u64,
    /// Streams that came back without a word and got the one session that could be meant.
    #[serde(rename = "streams.adopted")]
    pub streams_adopted: u64,
    /// Handshakes made for clients that came back without one.
    #[serde(rename = "handshakes.made")]
    pub handshakes_made: u64,
    /// Sessions that the upstream had lost.
    #[serde(rename = "upstream.sessions.lost")]
    pub upstream_sessions_lost: u64,
    /// Sessions opened upstream in their place, or for clients without a handshake.
    #[serde(rename = "upstream.sessions.revived")]
    pub upstream_sessions_revived: u64,
    /// Attempts at that which failed.
    #[serde(rename = "upstream.revivals.failed")]
    pub revivals_failed: u64,
    /// Requests that were turned away for want of a session and sent again in the next.
    #[serde(rename = "messages.replayed")]
    pub messages_replayed: u64,
    /// Streams of calls that broke and were asked for again.
    #[serde(rename = "upstream.streams.resumed")]
    pub upstream_streams_resumed: u64,
    /// Exchanges with the upstream that failed, or were answered by 5xx.
    #[serde(rename = "upstream.failures")]
    pub upstream_failures: u64,
    /// Errors made by the proxy.
    #[serde(rename = "errors")]
    pub errors: u64,
    /// Messages that no client was there to take.
    #[serde(rename = "undelivered")]
    pub undelivered: u64,
    /// Clients that had stopped reading.
    #[serde(rename = "slow_consumers")]
    pub slow_consumers: u64,
    /// Sessions ended by a bug of the proxy.
    #[serde(rename = "panics")]
    pub panics: u64,
}

/// The process lives.
#[derive(Debug, Clone, Serialize)]
pub struct Heartbeat {
    /// Sessions open now.
    #[serde(rename = "sessions.active")]
    pub active: i64,
    /// Those of them that wait for their client to come back.
    #[serde(rename = "sessions.lingering")]
    pub lingering: i64,
    /// Sessions opened since start.
    #[serde(rename = "sessions.opened")]
    pub opened: u64,
    /// Requests of clients since start.
    #[serde(rename = "requests")]
    pub requests: u64,
    /// Use-level messages since start.
    #[serde(rename = "uses")]
    pub uses: u64,
    /// Attempts turned away since start.
    #[serde(rename = "refused")]
    pub refused: u64,
    /// Records lost since start.
    #[serde(rename = "log.lost")]
    pub lost: u64,
    /// By how much the wall clock was set since the last heartbeat, in seconds; 0 when it was not.
    #[serde(rename = "clock.step_s")]
    pub clock_step_s: f64,
    /// As in [`Start`], which a piece of a log may lack: none seen must be told from not looked for.
    #[serde(rename = "passthrough")]
    pub passthrough: &'static str,
    /// Other replicas that are there, as `service.instance.id/boot.id`: a log that nobody gives to the report is missed.
    #[serde(rename = "fleet.boots", skip_serializing_if = "Vec::is_empty")]
    pub fleet_boots: Vec<String>,
    /// What happened since start.
    #[serde(flatten)]
    pub survival: Survival,
}

/// What every `legacy.*` record says of its client, so that any piece of the log stands alone.
#[derive(Debug, Clone, Serialize)]
pub struct Client {
    /// A short label for the session. Not the session id: whoever has that can post into the session.
    #[serde(rename = "legacy.session")]
    pub session: String,
    /// Who it is, see `identity`.
    #[serde(rename = "identity")]
    pub identity: String,
    /// Where that was taken from.
    #[serde(rename = "identity.source")]
    pub source: &'static str,
    /// The credential is an opaque token: it names nobody, and tomorrow's will differ.
    #[serde(rename = "identity.weak", skip_serializing_if = "std::ops::Not::not")]
    pub weak: bool,
    /// Of the closed list of families.
    #[serde(rename = "client.family")]
    pub family: &'static str,
    /// The client's address as far as trusted proxies tell; a pseudonym unless chosen otherwise.
    #[serde(rename = "client.address")]
    pub address: String,
    /// `client_id` or `azp` of its token, plain, because the operator must know whom to contact.
    #[serde(rename = "auth.client_id", skip_serializing_if = "Option::is_none")]
    pub auth_client_id: Option<String>,
}

/// The connection fields (EVIDENCE: C), beside those of [`Client`].
#[derive(Debug, Clone, Serialize)]
pub struct Connection {
    /// Verbatim, capped, control characters escaped.
    #[serde(rename = "user_agent.original", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The peer of the TCP connection, in the form of `client.address`.
    #[serde(rename = "network.peer.address")]
    pub peer_address: String,
    /// The authentication scheme, in lower case.
    #[serde(rename = "auth.scheme", skip_serializing_if = "Option::is_none")]
    pub auth_scheme: Option<String>,
    /// The path, without its query.
    #[serde(rename = "url.path")]
    pub path: String,
    /// The host that the client asked for.
    #[serde(rename = "server.address", skip_serializing_if = "Option::is_none")]
    pub server_address: Option<String>,
    /// The `Origin` header.
    #[serde(rename = "http.request.header.origin", skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// `1.1`
    #[serde(rename = "network.protocol.version")]
    pub protocol_version: &'static str,
    /// Whether the client came back to a session it had.
    #[serde(rename = "legacy.reconnect")]
    pub reconnect: bool,
}

/// A legacy client opened a stream; nothing went upstream yet.
#[derive(Debug, Clone, Serialize)]
pub struct Connect {
    /// Who.
    #[serde(flatten)]
    pub client: Client,
    /// From where.
    #[serde(flatten)]
    pub connection: Connection,
}

/// A legacy client sent `initialize`.
#[derive(Debug, Clone, Serialize)]
pub struct Identify {
    /// Who, now with what it said of itself.
    #[serde(flatten)]
    pub client: Client,
    /// `clientInfo.name` without the bridge.
    #[serde(rename = "mcp.client.name")]
    pub name: String,
    /// `clientInfo.version`
    #[serde(rename = "mcp.client.version")]
    pub version: String,
    /// The bridge, if the name shows one.
    #[serde(rename = "mcp.client.bridge", skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The version the client asked for.
    #[serde(rename = "mcp.protocol.version")]
    pub protocol_version: String,
}

impl Identify {
    /// The record for a client that named itself.
    #[must_use]
    pub fn new(client: Client, info: &ClientInfo, protocol_version: String) -> Self {
        let ClientInfo { name, version, bridge } = info.clone();
        Identify { client, name, version, bridge, protocol_version }
    }
}

/// A legacy client used the server.
#[derive(Debug, Clone, Serialize)]
pub struct Use {
    /// Who.
    #[serde(flatten)]
    pub client: Client,
    /// The method that made this record.
    #[serde(rename = "mcp.method.name")]
    pub method: String,
    /// Uses since the last such record of the session, this one included.
    #[serde(rename = "legacy.uses")]
    pub uses: u64,
}

/// A session is over.
#[derive(Debug, Clone, Serialize)]
pub struct End {
    /// Who.
    #[serde(flatten)]
    pub client: Client,
    /// How long it lasted, in seconds.
    #[serde(rename = "session.duration_s")]
    pub duration_s: f64,
    /// What ended it.
    #[serde(rename = "session.end.reason")]
    pub reason: &'static str,
    /// How far it went.
    #[serde(rename = "legacy.engagement")]
    pub engagement: Engagement,
    /// Requests it sent.
    #[serde(rename = "legacy.requests")]
    pub requests: u64,
    /// Use-level messages it sent.
    #[serde(rename = "legacy.uses")]
    pub uses: u64,
    /// JSON-RPC errors the proxy made for it.
    #[serde(rename = "legacy.errors")]
    pub errors: u64,
    /// How often it came back.
    #[serde(rename = "legacy.reconnects")]
    pub reconnects: u64,
    /// Messages owed to it that could not be delivered.
    #[serde(rename = "legacy.undelivered")]
    pub undelivered: u64,
    /// Bytes of the event stream.
    #[serde(rename = "legacy.bytes_out")]
    pub bytes_out: u64,
    /// When it last used the server.
    #[serde(rename = "legacy.last_use", skip_serializing_if = "Option::is_none")]
    pub last_use: Option<String>,
}

/// A legacy client was turned away.
#[derive(Debug, Clone, Serialize)]
pub struct Refused {
    /// Who.
    #[serde(flatten)]
    pub client: Client,
    /// From where.
    #[serde(flatten)]
    pub connection: Connection,
    /// Why: `limit`, `origin`, `host`, …, or the phase that refuses: `freeze`, `brownout`, `tombstone`, `gone`.
    #[serde(rename = "legacy.refused.reason")]
    pub reason: &'static str,
    /// The HTTP status it got.
    #[serde(rename = "http.response.status_code")]
    pub status: u16,
    /// Whether it would have been refused, but was not.
    #[serde(rename = "legacy.refused.dry_run")]
    pub dry_run: bool,
}

/// A client that was configured with the legacy URL was served as Streamable HTTP on it: it moved by itself.
#[derive(Debug, Clone, Serialize)]
pub struct Upgrade {
    /// Who.
    #[serde(flatten)]
    pub client: Client,
    /// From where.
    #[serde(flatten)]
    pub connection: Connection,
}

/// The first request of an identity on a day (UTC) on the MCP path that is passed through.
#[derive(Debug, Clone, Serialize)]
pub struct Modern {
    /// Who, named as in the records of legacy sessions, so that both are seen to be the same.
    #[serde(rename = "identity")]
    pub identity: String,
    /// Where that was taken from.
    #[serde(rename = "identity.source")]
    pub source: &'static str,
    /// The credential is an opaque token: it names nobody, and tomorrow's will differ.
    #[serde(rename = "identity.weak", skip_serializing_if = "std::ops::Not::not")]
    pub weak: bool,
    /// Of the closed list of families.
    #[serde(rename = "client.family")]
    pub family: &'static str,
    /// The client's address as far as trusted proxies tell; a pseudonym unless chosen otherwise.
    #[serde(rename = "client.address")]
    pub address: String,
    /// `client_id` or `azp` of its token.
    #[serde(rename = "auth.client_id", skip_serializing_if = "Option::is_none")]
    pub auth_client_id: Option<String>,
    /// Verbatim, capped, control characters escaped.
    #[serde(rename = "user_agent.original", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// A probe with a valid signature went the whole way: GET, endpoint, `initialize`, `ping`, and left.
#[derive(Debug, Clone, Serialize)]
pub struct Canary {
    /// From the endpoint event to the answer to `initialize`, in milliseconds: once along the public path, and the upstream.
    #[serde(rename = "canary.handshake_ms")]
    pub handshake_ms: f64,
    /// From the arrival of `ping` to its answer, in milliseconds: the upstream alone.
    #[serde(rename = "canary.ping_ms")]
    pub ping_ms: f64,
    /// The path that it asked for.
    #[serde(rename = "url.path")]
    pub path: String,
    /// The host that it asked for: the name that was probed.
    #[serde(rename = "server.address", skip_serializing_if = "Option::is_none")]
    pub server_address: Option<String>,
}

/// Ids or envelopes were refused that no replica of the fleet had sealed for it: somebody tries, or keys differ.
#[derive(Debug, Clone, Serialize)]
pub struct FleetRefused {
    /// Why.
    #[serde(rename = "reason")]
    pub reason: &'static str,
    /// How many since the last such record.
    #[serde(rename = "count")]
    pub count: u64,
}
