//! Configuration: flags over environment over file, resolved into the parts' own configurations.
//!
//! Two stages: first every option is a text with its origin ([`Given`]), then [`resolve`] reads all of them and collects
//! every problem, so that an operator sees all mistakes at once.

mod fleet;
mod net;
mod oauth;
mod options;
mod reader;
mod sockets;
mod sunset;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use ring::digest;

pub use options::{OPTIONS, OptionSpec, PREFIX};
pub use sockets::stand_in;
pub use sunset::{date, new_url, resolve_sunset, share};
pub use units::{
    authorities, duration, host, interval, probe_key, upstream_header as header, upstream_url as probed_url,
};

use crate::auth::{self, CredentialHeaders};
use crate::front;
use crate::traffic::{AddressForm, Target};
use crate::upstream;
use crate::{admin, session};
use reader::Reader;

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, as JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// Everything `serve` needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What operators are served, if anything.
    pub admin: Option<admin::Config>,
    /// How clients are let in.
    pub net: crate::net::Config,
    /// The upgraded server.
    pub upstream: upstream::Config,
    /// How it is spoken to.
    pub era: upstream::EraOptions,
    /// Legacy sessions.
    pub session: session::Config,
    /// Their HTTP side.
    pub front: front::Config,
    /// How the process is one of several.
    pub fleet: Option<crate::fleet::Config>,
    /// How they log in.
    pub oauth: auth::oauth::Config,
    /// How HTTP+SSE is switched off.
    pub sunset: crate::sunset::Config,
    /// Where the traffic log goes.
    pub traffic_log: Target,
    /// What must outlive a restart is kept here.
    pub state_dir: Option<PathBuf>,
    /// How addresses stand in the traffic log.
    pub client_address: AddressForm,
    /// Names this replica.
    pub instance: String,
    /// The URL that clients know the proxy under, without our paths.
    pub public_url: Option<String>,
    /// How long the whole drain may take.
    pub drain: Duration,
    /// How long everything is still served first.
    pub drain_delay: Duration,
    /// Filter for diagnostics.
    pub log_level: String,
    /// Their form.
    pub log_format: LogFormat,
    /// Changes when any option does.
    pub hash: String,
}

/// Where a value came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File(PathBuf),
    /// A socket that was passed.
    Socket,
}

/// One option as it was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its values; more than one only for options that may be repeated.
    pub values: Vec<String>,
    /// Where they came from.
    pub origin: Origin,
}

/// All options that were given, by name.
pub type Raw = BTreeMap<&'static str, Given>;

/// One mistake in the configuration, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds the values of a TOML file for all options that flags and environment leave open. Unknown keys are problems.
pub fn read_file(path: &Path, raw: &mut Raw) -> Vec<Problem> {
    let file = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return vec![Problem(format!("cannot read {file}: {error}"))],
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        // Without the line itself, which error messages quote: it may hold a credential.
        Err(error) => {
            let line =
                error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.lines().count().max(1));
            return vec![Problem(format!("{file} is not TOML: line {line}: {}", error.message()))];
        }
    };
    let mut problems = Vec::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let Some(option) = OPTIONS.iter().find(|option| option.name == name && option.name != "config") else {
            problems.push(Problem(format!("{file}: unknown key {key:?}; see sse-sunset serve --help for the names")));
            continue;
        };
        let values = match value {
            toml::Value::String(text) => vec![text],
            toml::Value::Integer(number) => vec![number.to_string()],
            // Dates are values of their own there.
            toml::Value::Datetime(date) => vec![date.to_string()],
            toml::Value::Boolean(is_on) if option.is_switch => vec![is_on.to_string()],
            toml::Value::Array(items) if option.separator.is_some() && items.iter().all(toml::Value::is_str) => {
                items.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect()
            }
            _ => {
                let wanted = match option.separator {
                    Some(_) => "a string or an array of strings",
                    None if option.is_switch => "true or false",
                    None => "a string or a whole number",
                };
                problems.push(Problem(format!("{file}: {key} must be {wanted}")));
                continue;
            }
        };
        raw.entry(option.name).or_insert(Given { values, origin: Origin::File(path.to_owned()) });
    }
    problems
}

/// Variables with our prefix that name no option. Kubernetes sets some of that form for services called `sse-sunset` and
/// `sse-sunset-anything`; those are not ours.
#[must_use]
pub fn unknown_variables(variables: impl Iterator<Item = (String, String)>) -> Vec<Problem> {
    let known = |name: &str| OPTIONS.iter().any(|option| option.variable() == name);
    variables
        .filter(|(name, value)| name.starts_with(PREFIX) && !known(name) && !is_of_kubernetes(name, value))
        .map(|(name, _)| {
            Problem(format!("unknown environment variable {name}; see sse-sunset serve --help for the names"))
        })
        .collect()
}

/// Whether Kubernetes sets such a variable for a service: `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT` and more behind it, `NAME_PORT`
/// with a URL, and `NAME_PORT_80_TCP` with what stands behind it. Somebody's `NAME_PORT=9000` is a mistake that has to be told.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    // From before the prefix's last character on: the service's own name may be all of it.
    let rest = name.get(PREFIX.len() - 1..).unwrap_or_default();
    let is_port = |rest: &str| {
        let digits = rest.trim_start_matches(|one: char| one.is_ascii_digit());
        digits.len() < rest.len() && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| digits.starts_with(protocol))
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
        || rest.split_once("_PORT_").is_some_and(|(_, rest)| is_port(rest))
}

/// Reads every option. `instance` names this machine, should no option do.
///
/// # Errors
/// All mistakes, `earlier` ones included.
pub fn resolve(raw: &Raw, earlier: Vec<Problem>, instance: &str) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(raw, earlier);
    let listen = reader.value("listen", units::socket_address);
    let admin = reader.admin();
    let upstream = reader.upstream();
    let era = upstream::EraOptions {
        era: reader.value("era", units::era_or_auto).unwrap_or_default(),
        prefer: reader.value("prefer", units::era).unwrap_or(upstream::Era::Session),
    };
    let net = reader.net();
    let public_url = reader.optional("public-url", units::public_url);
    let loopback = listen.is_some_and(|address| address.ip().is_loopback());
    let guard = reader.guard(public_url.as_ref(), loopback);
    let session = reader.session();
    let public_path = reader
        .optional("public-path", units::path)
        .or_else(|| public_url.as_ref().map(|url| url.path().trim_end_matches('/').to_owned()))
        .unwrap_or_default();
    let passthrough = reader.value("passthrough", units::passthrough).unwrap_or_default();
    let mcp_path = upstream.as_ref().map(|upstream| upstream.url.path().to_owned()).unwrap_or_default();
    let front = front::Config {
        sse_path: reader.value("sse-path", units::path).unwrap_or_default(),
        messages_path: reader.value("messages-path", units::path).unwrap_or_default(),
        public_path: public_path.trim_end_matches('/').to_owned(),
        max_body: reader.value("max-body", units::bytes).unwrap_or_default(),
        body_time: reader.interval("body-timeout"),
        guard,
        cors_headers: reader.many("allowed-header", units::header_name),
        no_keep_alive: reader.many("no-keep-alive", |text| Ok(text.to_owned())),
        trusted: net.trusted.clone(),
        identity_header: reader.optional("identity-header", units::header_name),
        credential_headers: CredentialHeaders::new(reader.many("credential-header", units::header_name)),
        probe_key: reader.optional("probe-key-file", units::probe_key),
        max_upgraded: front::UpgradeLimits {
            all: session.max_sessions,
            per_principal: session.max_per_principal,
            per_address: session.max_per_address,
        },
        keep_alive: session.keep_alive,
        upgrade: !reader.value("no-upgrade", units::switch).unwrap_or_default(),
        modern_url: modern_url(public_url.as_ref(), passthrough, &mcp_path),
        passthrough,
        mcp_path,
    };
    let oauth = reader.oauth(public_url.as_ref(), &front, loopback, net.tls.is_some());
    let sunset = reader.sunset(front.modern_url.clone(), Timestamp::now());
    let fleet = reader.fleet(sunset.fingerprint(), front.max_body);
    let drain = reader.value("drain", units::duration).unwrap_or_default();
    let drain_delay = reader.value("drain-delay", units::duration).unwrap_or_default();
    if drain_delay > drain {
        reader.problem("--drain-delay is longer than --drain, which is the time for the whole shutdown".to_owned());
    }
    if front.sse_path == front.messages_path {
        reader.problem("--sse-path and --messages-path must differ".to_owned());
    }
    let traffic_log = reader.value("traffic-log", units::target);
    let client_address = reader.value("client-address", units::address_form).unwrap_or(AddressForm::Hmac);
    let state_dir = reader.optional("state-dir", |text| Ok(PathBuf::from(text)));
    let instance = reader.optional("instance", |text| Ok(text.to_owned())).unwrap_or_else(|| instance.to_owned());
    let log_level = reader.value("log-level", |text| Ok(text.to_owned())).unwrap_or_default();
    let log_format = reader.value("log-format", units::log_format).unwrap_or(LogFormat::Auto);
    let problems = reader.into_problems();
    match (listen, upstream, traffic_log) {
        (Some(listen), Some(upstream), Some(traffic_log)) if problems.is_empty() => Ok(Config {
            listen,
            admin,
            net,
            upstream,
            era,
            session,
            front,
            fleet,
            oauth,
            sunset,
            traffic_log,
            state_dir,
            client_address,
            instance,
            public_url: public_url.map(|url| url.as_str().trim_end_matches('/').to_owned()),
            drain,
            drain_delay,
            log_level,
            log_format,
            hash: hash(raw),
        }),
        _ => Err(problems),
    }
}

/// Where Streamable HTTP is spoken, as clients know it, if the proxy serves it.
fn modern_url(public_url: Option<&Url>, passthrough: front::Through, mcp_path: &str) -> Option<String> {
    let base = public_url.filter(|_| passthrough != front::Through::Off)?.as_str();
    Some(format!("{}{mcp_path}", base.trim_end_matches('/')))
}

/// A fingerprint of what was given, for the log: whether two starts had the same configuration.
fn hash(raw: &Raw) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for (name, given) in raw {
        for value in &given.values {
            context.update(format!("{name}\0{value}\0").as_bytes());
        }
    }
    let digest = context.finish();
    digest.as_ref().iter().take(6).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(options: &[(&'static str, &str)]) -> Raw {
        let mut raw = Raw::new();
        for (name, value) in options {
            let given = raw.entry(name).or_insert(Given { values: Vec::new(), origin: Origin::Flag });
            given.values.push((*value).to_owned());
        }
        raw
    }

    fn problems(options: &[(&'static str, &str)]) -> Vec<String> {
        let problems = resolve(&raw(options), Vec::new(), "here").expect_err("something is wrong");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_valid() {
        let config = resolve(&raw(&[("upstream", "http://127.0.0.1:3001/mcp")]), Vec::new(), "here").expect("valid");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.front.max_body, 4 << 20);
        assert_eq!(config.session.max_sessions, 10_000);
        assert_eq!(config.session.keep_alive, Duration::from_secs(15));
        assert_eq!(config.drain, Duration::from_secs(25));
        assert_eq!(config.instance, "here");
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_origin() {
        let mut raw = raw(&[("upstream", "ftp://x"), ("keep-alive", "15"), ("trusted-proxy", "10.0.0.0/99")]);
        raw.insert("drain", Given { values: vec!["soon".into()], origin: Origin::Environment });
        let problems: Vec<String> =
            resolve(&raw, Vec::new(), "here").expect_err("wrong").iter().map(ToString::to_string).collect();
        for expected in
            ["--upstream: \"ftp://x\"", "--keep-alive: \"15\"", "--trusted-proxy", "SSE_SUNSET_DRAIN: \"soon\""]
        {
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
        }
        assert!(problems.iter().any(|problem| problem.contains("needs a unit")), "{problems:#?}");
    }

    #[test]
    fn public_address_needs_to_know_its_names() {
        let upstream = ("upstream", "http://127.0.0.1:3001/mcp");
        let problems = problems(&[upstream, ("listen", "0.0.0.0:8080")]);
        assert!(problems.iter().any(|problem| problem.contains("--public-url or --allowed-host")), "{problems:#?}");
        let named = raw(&[upstream, ("listen", "0.0.0.0:8080"), ("public-url", "https://mcp.example.com/gw/")]);
        let config = resolve(&named, Vec::new(), "here").expect("valid");
        assert_eq!(config.front.public_path, "/gw");
    }

    #[test]
    fn file_gives_what_flags_leave_open_and_unknown_keys_are_problems() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sunset.toml");
        std::fs::write(
            &path,
            "upstream = \"http://file/mcp\"\nkeep_alive = \"20s\"\nmax-sessions = 5\nlingr = \"1s\"\n",
        )
        .expect("written");
        let mut raw = raw(&[("upstream", "http://flag/mcp")]);
        let problems = read_file(&path, &mut raw);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().contains("unknown key \"lingr\""), "{problems:?}");
        let config = resolve(&raw, Vec::new(), "here").expect("valid");
        assert_eq!(config.upstream.url.as_str(), "http://flag/mcp");
        assert_eq!(config.session.keep_alive, Duration::from_secs(20));
        assert_eq!(config.session.max_sessions, 5);
    }

    #[test]
    fn broken_file_is_told_by_its_line_and_without_its_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sunset.toml");
        std::fs::write(&path, "upstream = \"http://a/mcp\"\nupstream-header = \"Authorization: hunter2\n")
            .expect("written");
        let problem = read_file(&path, &mut Raw::new()).remove(0).to_string();
        assert!(problem.contains("line 2") && !problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn unknown_variables_are_problems_but_those_of_kubernetes_are_not_ours() {
        let variables = [
            ("SSE_SUNSET_UPSTREAM", "http://a/mcp"),
            ("SSE_SUNSET_LINGR", "15s"),
            ("SSE_SUNSET_PORT", "tcp://10.0.0.7:80"),
            ("SSE_SUNSET_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("SSE_SUNSET_SERVICE_HOST", "10.0.0.7"),
            ("SSE_SUNSET_ADMIN_PORT", "tcp://10.0.0.7:9090"),
            ("SSE_SUNSET_LISTEN_PORT", "9000"),
            ("SSE_SUNSET_LISTEN_PORT_NUMBER", "9000"),
            ("SSE_SUNSET_REDIS_PORT_6379_TCP_ADDR", "10.0.0.7"),
            ("SSE_SUNSET_ADMIN_SERVICE_PORT_HTTP", "9090"),
            ("PATH", "/bin"),
        ];
        let problems =
            unknown_variables(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        for (problem, name) in problems.iter().zip(["LINGR", "LISTEN_PORT;", "LISTEN_PORT_NUMBER"]) {
            assert!(problem.contains(&format!("SSE_SUNSET_{name}")), "{problem}");
        }
    }
}
