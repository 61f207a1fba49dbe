//! The table of options of `serve`: one place for names, defaults and help.

/// What environment variables of ours start with.
pub const PREFIX: &str = "SSE_SUNSET_";

/// One option: a flag `--name`, a variable `SSE_SUNSET_NAME`, a key `name` of the file.
#[derive(Debug)]
pub struct OptionSpec {
    /// The name.
    pub name: &'static str,
    /// What the value is called in the help.
    pub value_name: &'static str,
    /// The value if none is given; options without one are optional, save `upstream`.
    pub default: Option<&'static str>,
    /// What separates its values in one text, if it may have several; flags may also be repeated.
    pub separator: Option<char>,
    /// Whether it stands for itself: without a value it is `true`.
    pub is_switch: bool,
    /// Whether a value may be a credential, which no message may quote.
    pub is_secret: bool,
    /// The heading it stands under.
    pub heading: &'static str,
    /// What it does.
    pub help: &'static str,
}

impl OptionSpec {
    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

pub(super) fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| option.name == name)
}

const fn option(
    heading: &'static str,
    name: &'static str,
    value_name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> OptionSpec {
    OptionSpec { name, value_name, default, separator: None, is_switch: false, is_secret: false, heading, help }
}

const fn switch(heading: &'static str, name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { is_switch: true, ..option(heading, name, "BOOL", Some("false"), help) }
}

const fn many(heading: &'static str, name: &'static str, value_name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { separator: Some(','), ..option(heading, name, value_name, None, help) }
}

const MAIN: &str = "Main";
const UPSTREAM: &str = "The way to the upgraded server";
const NAMES: &str = "Names and trust";
const OAUTH: &str = "Logging in (OAuth)";
const TLS: &str = "TLS for clients";
const FLEET: &str = "Many replicas";
const EVIDENCE: &str = "Evidence";
const SUNSET: &str = "Switching off";
const LIMITS: &str = "Limits and times";
const DIAGNOSTICS: &str = "Diagnostics";

/// All options of `serve`, in the order of the help.
pub static OPTIONS: &[OptionSpec] = &[
    option(
        MAIN,
        "upstream",
        "URL",
        None,
        "MCP endpoint of the upgraded server (Streamable HTTP), for example http://127.0.0.1:3001/mcp",
    ),
    option(
        MAIN,
        "listen",
        "ADDR",
        Some("127.0.0.1:8080"),
        "Address to listen on; port 0 takes a free one and prints it",
    ),
    option(
        MAIN,
        "admin",
        "ADDR",
        Some("127.0.0.1:9090"),
        "Address for operators: /readyz, /metrics, /status and a page; port 0 takes a free one and prints it, off has none",
    ),
    option(
        MAIN,
        "config",
        "FILE",
        None,
        "TOML file with any of these options, by the same names; flags and environment win",
    ),
    option(MAIN, "sse-path", "PATH", Some("/sse"), "Path of the legacy event stream"),
    option(MAIN, "messages-path", "PATH", Some("/messages"), "Path that legacy clients post to"),
    option(
        MAIN,
        "passthrough",
        "WHAT",
        Some("off"),
        "What is passed through to the server as it is: off, mcp (the path of --upstream), or all (every path that is not \
         ours)",
    ),
    switch(
        MAIN,
        "no-upgrade",
        "Answer 405 to clients that try Streamable HTTP on --sse-path, instead of serving it to them",
    ),
    OptionSpec {
        name: "upstream-header",
        value_name: "NAME: VALUE",
        default: None,
        // Values may hold commas.
        separator: Some('\n'),
        is_switch: false,
        is_secret: true,
        heading: UPSTREAM,
        help: "Header to send with every request, instead of the client's own of that name; NAME: @FILE reads the value \
               from a file. In the environment, one a line",
    },
    option(
        UPSTREAM,
        "upstream-host",
        "HOST",
        None,
        "Host header to send, for servers that answer to certain names only; by default that of --upstream",
    ),
    option(
        UPSTREAM,
        "upstream-ca",
        "FILE",
        None,
        "Certificates (PEM) of authorities that may vouch for the server, besides those of the system",
    ),
    option(UPSTREAM, "upstream-client-cert", "FILE", None, "Certificate chain (PEM) to show to the server"),
    option(UPSTREAM, "upstream-client-key", "FILE", None, "Its private key (PEM)"),
    option(
        UPSTREAM,
        "upstream-http",
        "VERSION",
        Some("1.1"),
        "1.1, or 2 for servers that speak nothing else: all streams then share a connection, and servers allow about \
         100 on it",
    ),
    option(
        UPSTREAM,
        "era",
        "ERA",
        Some("auto"),
        "How the server is spoken to: session (revisions 2025-03-26 to 2025-11-25), modern (2026-07-28), or auto, which \
         finds out and follows a server that changes",
    ),
    option(
        UPSTREAM,
        "prefer",
        "ERA",
        Some("session"),
        "Era to speak with a server that holds sessions and knows both: session or modern. Tools that push requests need \
         the one, tools that return input_required may need the other",
    ),
    option(UPSTREAM, "connect-timeout", "DURATION", Some("5s"), "Time for making a connection to the server"),
    option(
        UPSTREAM,
        "call-timeout",
        "DURATION",
        Some("10m"),
        "Silence of the server after which a call is given up with an error",
    ),
    option(
        UPSTREAM,
        "upstream-ping",
        "DURATION",
        Some("90s"),
        "Silence of a client after which its session is pinged, so that the server keeps it",
    ),
    option(
        NAMES,
        "public-url",
        "URL",
        None,
        "URL that clients know the proxy under, without --sse-path; its host and origin are allowed",
    ),
    option(
        NAMES,
        "public-path",
        "PATH",
        None,
        "Prefix that an outer proxy strips, put before the endpoint that clients are told",
    ),
    many(
        NAMES,
        "allowed-host",
        "HOST",
        "Host header to answer to, as host, host:port or *; needed (or --public-url) unless listening on loopback",
    ),
    many(NAMES, "allowed-origin", "ORIGIN", "Origin whose pages may use the proxy; none by default"),
    many(NAMES, "allowed-header", "NAME", "Header that such pages may send besides those that clients are known to"),
    many(
        NAMES,
        "trusted-proxy",
        "CIDR",
        "Network whose X-Forwarded-For, -Host, -Proto and -Prefix, or Forwarded, are believed",
    ),
    option(
        NAMES,
        "proxy-protocol",
        "VERSION",
        Some("off"),
        "v2 where connections of --trusted-proxy begin with a header of the PROXY protocol, version 2, or off",
    ),
    option(
        NAMES,
        "identity-header",
        "NAME",
        None,
        "Header set by something you trust that names the client; the strongest identity in the log, and what sessions are \
         bound to where a --trusted-proxy sets it",
    ),
    many(
        NAMES,
        "credential-header",
        "NAME",
        "Header that carries a credential besides Authorization, X-API-Key and Api-Key; a session is bound to what they name",
    ),
    option(
        NAMES,
        "opaque-rotation",
        "RULE",
        Some("guarded"),
        "Whether a client may go on in its session under another credential that is no JWT: guarded (from its own address, or \
         within 10 minutes after the server turned the last one down), deny, or allow",
    ),
    option(
        NAMES,
        "admin-token-file",
        "FILE",
        None,
        "File with the token (16 characters or more) that changes on the admin address need; without it nothing can be \
         changed there",
    ),
    option(
        TLS,
        "tls-cert",
        "FILE",
        None,
        "Certificate chain (PEM); with it clients are spoken to in TLS, in HTTP/2 if they wish. Read again when it changes \
         and on SIGHUP",
    ),
    option(TLS, "tls-key", "FILE", None, "Its private key (PEM)"),
    option(
        TLS,
        "tls-client-ca",
        "FILE",
        None,
        "Certificates (PEM) of authorities that vouch for clients; clients are then asked for one of theirs",
    ),
    option(
        TLS,
        "tls-client-auth",
        "FORM",
        None,
        "required (the default with --tls-client-ca), or optional for clients that have no certificate",
    ),
    option(
        OAUTH,
        "oauth-resource",
        "MODE",
        Some("auto"),
        "What clients ask tokens for, where the server publishes metadata (RFC 9728): exact, the public URL; upstream, what \
         the server says; facade, the public URL, turned into the server's on its way to the authorization server, for \
         servers that take their own URL only; auto, exact unless the server names the public URL itself; none, no part \
         of OAuth",
    ),
    option(
        OAUTH,
        "oauth-probe",
        "WHEN",
        Some("auto"),
        "Whether the server is asked (by a ping) before a stream opens, so that clients are told 401 at once: auto, where it \
         was seen to want a credential; always; off",
    ),
    option(
        OAUTH,
        "oauth-metadata-at",
        "PLACE",
        Some("well-known"),
        "Where clients are sent for the metadata: well-known, /.well-known on the public host; sse-path, below --sse-path, \
         where /.well-known does not lead here; query, --sse-path with a query, where nothing else does",
    ),
    many(
        OAUTH,
        "oauth-host",
        "HOST",
        "Further host that may be asked for the server's metadata; by default its own and its authorization server. What \
         has the public host is asked at the server, unless that host is named",
    ),
    OptionSpec {
        is_secret: true,
        ..option(
            FLEET,
            "fleet",
            "URL",
            None,
            "Redis (or Valkey) through which replicas reach each other, as redis://[USER:PASSWORD@]HOST[:PORT], rediss:// with \
             TLS: any balancer may then send any message to any of them",
        )
    },
    option(
        FLEET,
        "fleet-key-file",
        "FILE",
        None,
        "File with the key that all replicas share: 64 hexadecimal digits (openssl rand -hex 32). For another one put it into \
         the line before; both hold, and the file is read again when it changes",
    ),
    OptionSpec {
        is_secret: true,
        ..many(
            FLEET,
            "fleet-key",
            "KEY",
            "The key itself, or two of them; better as SSE_SUNSET_FLEET_KEY than as a flag",
        )
    },
    option(
        FLEET,
        "fleet-name",
        "NAME",
        Some("sse-sunset"),
        "Name of the fleet: fleets of other names may share the Redis",
    ),
    option(
        FLEET,
        "fleet-ca-file",
        "FILE",
        None,
        "Certificates (PEM) of authorities that vouch for Redis, in place of those of the system",
    ),
    option(
        EVIDENCE,
        "traffic-log",
        "PATH",
        Some("-"),
        "Legacy-traffic log, JSON lines; - is standard output. Reopened on SIGHUP and after a rename",
    ),
    option(
        EVIDENCE,
        "state-dir",
        "DIR",
        None,
        "Directory for what must outlive a restart: the evidence, what was set by hand, and the key of the pseudonyms in the log",
    ),
    option(
        EVIDENCE,
        "client-address",
        "FORM",
        Some("hmac"),
        "How client addresses stand in the log: hmac (a pseudonym) or full",
    ),
    option(
        EVIDENCE,
        "probe-key-file",
        "FILE",
        None,
        "Key shared with sse-sunset canary and check, at least 16 bytes (mode 0600): what they sign counts as no client",
    ),
    option(EVIDENCE, "instance", "NAME", None, "Name of this replica in the log; the host name by default"),
    option(
        SUNSET,
        "announce",
        "DATE",
        None,
        "From when answers say that HTTP+SSE ends. A date is one of UTC (2026-12-01), a time with its zone (2026-12-01T09:00:00Z), \
         or for rehearsals a time from the start on (+2m)",
    ),
    option(
        SUNSET,
        "freeze",
        "DATE",
        None,
        "From when only those are served who were seen before; needs --state-dir or --fleet",
    ),
    many(
        SUNSET,
        "brownout",
        "WINDOWS",
        "When everybody is refused for a while: START/DURATION or START/END; or ladder, six windows (5m, 5m, 1h, 2h, 4h, 24h) \
         spread until --tombstone",
    ),
    option(SUNSET, "tombstone", "DATE", None, "From when every session is refused, with a word about where to go"),
    option(SUNSET, "gone", "DATE", None, "From when the paths of HTTP+SSE answer 410"),
    option(SUNSET, "deprecation", "DATE", None, "Date of the header Deprecation; by default that of --announce"),
    option(SUNSET, "sunset", "DATE", None, "Date of the header Sunset; by default that of --tombstone, else of --gone"),
    option(
        SUNSET,
        "new-url",
        "URL",
        None,
        "Where Streamable HTTP is spoken, which clients are told; with --passthrough by default its path below --public-url",
    ),
    option(SUNSET, "info-url", "URL", None, "Page that tells people more"),
    option(
        SUNSET,
        "refuse-with",
        "FORM",
        Some("jsonrpc"),
        "How brownouts and the tombstone refuse: jsonrpc, an error on initialize, which most clients show; or http, 503 with \
         Retry-After",
    ),
    option(
        SUNSET,
        "share",
        "PERCENT",
        Some("100%"),
        "Part of the clients, always the same ones, that brownouts and the tombstone refuse",
    ),
    switch(SUNSET, "end-running", "Let brownouts and the tombstone end sessions that are running"),
    switch(
        SUNSET,
        "notify",
        "Send each session a warning (notifications/message) from --announce on, where the server has declared logging",
    ),
    option(
        SUNSET,
        "exempt",
        "FILE",
        None,
        "TOML file: who is refused by nothing before --gone, who answers for that, why, and until when",
    ),
    many(
        SUNSET,
        "force",
        "PHASES",
        "Phases that are entered although the guard would hold them back: brownout, tombstone, gone",
    ),
    option(
        SUNSET,
        "dry-run",
        "PHASE",
        None,
        "Phase whose refusals are written down and not carried out: freeze, brownout, tombstone or gone",
    ),
    option(
        LIMITS,
        "max-sessions",
        "COUNT",
        Some("10000"),
        "Legacy sessions open at once; more get an error on initialize",
    ),
    option(
        LIMITS,
        "max-sessions-per-principal",
        "COUNT",
        None,
        "Sessions open at once of one principal: a name in --identity-header, a JWT's subject, or a credential; no limit by \
         default",
    ),
    option(
        LIMITS,
        "max-sessions-per-address",
        "COUNT",
        None,
        "Sessions open at once from one address (IPv6: /64); behind a balancer only with --trusted-proxy",
    ),
    option(
        LIMITS,
        "max-connections",
        "COUNT",
        None,
        "Connections open at once, more are reset; by default what the limit of descriptors holds at three each, at most \
         20000",
    ),
    option(
        LIMITS,
        "max-connections-per-address",
        "COUNT",
        None,
        "Connections open at once from one address (IPv6: /64), those of --trusted-proxy left out; no limit by default",
    ),
    option(
        LIMITS,
        "max-in-flight",
        "COUNT",
        Some("64"),
        "Requests of one session with the server at once; others wait (--max-waiting)",
    ),
    option(LIMITS, "max-waiting", "COUNT", Some("64"), "Messages of one session that may wait for their turn"),
    option(LIMITS, "max-body", "BYTES", Some("4MiB"), "Largest message a client may post"),
    option(
        LIMITS,
        "max-message-to-client",
        "BYTES",
        None,
        "Larger messages to clients become errors (Python SDK 2.3 dies of more than 1MiB); no limit by default",
    ),
    option(
        LIMITS,
        "outbox",
        "BYTES",
        Some("1MiB"),
        "Events one session keeps for its client before the server has to wait",
    ),
    option(
        LIMITS,
        "memory",
        "BYTES",
        Some("512MiB"),
        "Bytes of messages that wait for all clients together, and as many for the server",
    ),
    option(
        LIMITS,
        "linger",
        "DURATION",
        Some("15s"),
        "How long a session waits for a client that lost its stream; 0s ends it at once",
    ),
    option(LIMITS, "keep-alive", "DURATION", Some("15s"), "Silence on a stream after which a comment keeps it alive"),
    many(
        LIMITS,
        "no-keep-alive",
        "USER-AGENT",
        "Start of the User-Agent of clients that bear no comments (Java SDK 0.11.0 to 0.11.2: Java-http-client/)",
    ),
    option(LIMITS, "stall", "DURATION", Some("60s"), "A client that takes nothing for this long is disconnected"),
    option(
        LIMITS,
        "probe-timeout",
        "DURATION",
        Some("60s"),
        "Time to post something, for streams that accept JSON too",
    ),
    option(LIMITS, "unused-timeout", "DURATION", Some("24h"), "Time to post something, for all other streams"),
    option(LIMITS, "first-byte-timeout", "DURATION", Some("10s"), "Time for the first byte of a new connection"),
    option(LIMITS, "tls-handshake-timeout", "DURATION", Some("10s"), "Time for the TLS handshake, from its first byte"),
    option(LIMITS, "header-timeout", "DURATION", Some("10s"), "Time for a request's headers, from their first byte"),
    option(LIMITS, "body-timeout", "DURATION", Some("30s"), "Time for a request's body"),
    option(
        LIMITS,
        "idle-timeout",
        "DURATION",
        Some("120s"),
        "Time between two requests on one connection; longer than a balancer in front keeps one",
    ),
    option(
        LIMITS,
        "drain",
        "DURATION",
        Some("25s"),
        "Time for an orderly shutdown on SIGTERM or SIGINT; a second signal ends at once",
    ),
    option(
        LIMITS,
        "drain-delay",
        "DURATION",
        Some("5s"),
        "Part of it in which everything is still served, while balancers notice",
    ),
    option(
        DIAGNOSTICS,
        "log-level",
        "FILTER",
        Some("info"),
        "Diagnostics on standard error: error, warn, info, debug, trace, or a filter by module",
    ),
    option(DIAGNOSTICS, "log-format", "FORMAT", Some("auto"), "human, json, or auto: human on a terminal"),
];
