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
    /// Whether it may be given several times (separated by commas in the environment).
    pub many: bool,
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
    OptionSpec { name, value_name, default, many: false, heading, help }
}

const fn many(heading: &'static str, name: &'static str, value_name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, value_name, default: None, many: true, heading, help }
}

const MAIN: &str = "Main";
const NAMES: &str = "Names and trust";
const EVIDENCE: &str = "Evidence";
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
        "config",
        "FILE",
        None,
        "TOML file with any of these options, by the same names; flags and environment win",
    ),
    option(MAIN, "sse-path", "PATH", Some("/sse"), "Path of the legacy event stream"),
    option(MAIN, "messages-path", "PATH", Some("/messages"), "Path that legacy clients post to"),
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
    many(NAMES, "trusted-proxy", "CIDR", "Network whose X-Forwarded-For, -Host, -Proto and -Prefix are believed"),
    option(
        NAMES,
        "identity-header",
        "NAME",
        None,
        "Header set by something you trust that names the client; the strongest identity in the log",
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
        "Directory for what must outlive a restart: the key of the pseudonyms in the log",
    ),
    option(
        EVIDENCE,
        "client-address",
        "FORM",
        Some("hmac"),
        "How client addresses stand in the log: hmac (a pseudonym) or full",
    ),
    option(EVIDENCE, "instance", "NAME", None, "Name of this replica in the log; the host name by default"),
    option(
        LIMITS,
        "max-sessions",
        "COUNT",
        Some("10000"),
        "Legacy sessions open at once; more get an error on initialize",
    ),
    option(
        LIMITS,
        "max-in-flight",
        "COUNT",
        Some("64"),
        "Requests of one session with the server at once; as many more wait",
    ),
    option(LIMITS, "max-body", "BYTES", Some("4MiB"), "Largest message a client may post"),
    option(LIMITS, "keep-alive", "DURATION", Some("15s"), "Silence on a stream after which a comment keeps it alive"),
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
