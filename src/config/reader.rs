//! Reads the options one by one, each into what a part of the program wants, and collects what is wrong with them.

use std::time::Duration;

use super::{Origin, PREFIX, Problem, Raw, options, units};
use crate::front::{AllowedHost, Guard};
use crate::{admin, session, upstream};

/// Reads options one by one and collects what is wrong with them.
pub(super) struct Reader<'a> {
    raw: &'a Raw,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: &'a Raw, problems: Vec<Problem>) -> Self {
        Reader { raw, problems }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn problem(&mut self, text: String) {
        self.problems.push(Problem(text));
    }

    /// Whether the option was given at all.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.raw.contains_key(name)
    }

    pub(super) fn many<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(given) = self.raw.get(name) else { return Vec::new() };
        let mut values = Vec::new();
        for text in &given.values {
            match read(text) {
                Ok(value) => values.push(value),
                Err(problem) => {
                    let at = origin(name, &given.origin);
                    let is_secret = options::find(name).is_some_and(|option| option.is_secret);
                    // A URL may hold a password, and a key in its query.
                    let shown = if is_secret || text.contains(['@', '?']) {
                        "the value".to_owned()
                    } else {
                        format!("{text:?}")
                    };
                    self.problems.push(Problem(format!("{at}: {shown} {problem}")));
                }
            }
        }
        values
    }

    pub(super) fn optional<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.many(name, read).pop()
    }

    /// The option's value or its default; a problem where it has none.
    pub(super) fn value<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if self.raw.contains_key(name) {
            return self.optional(name, read);
        }
        let Some(default) = options::find(name).and_then(|option| option.default) else {
            self.problem(format!("--{name} is required; see sse-sunset serve --help"));
            return None;
        };
        Some(read(default).expect("defaults are valid; a test reads them all"))
    }

    pub(super) fn interval(&mut self, name: &'static str) -> Duration {
        self.value(name, units::interval).unwrap_or_default()
    }

    pub(super) fn admin(&mut self) -> Option<admin::Config> {
        let token = self.optional("admin-token-file", units::admin_token);
        let listen = self.value("admin", units::admin_address).flatten()?;
        Some(admin::Config { listen, token })
    }

    pub(super) fn session(&mut self) -> session::Config {
        let count = |reader: &mut Self, name| reader.value(name, units::count).unwrap_or_default();
        let memory = self.value("memory", units::bytes).unwrap_or_default();
        let outbox_bytes = self.value("outbox", units::bytes).unwrap_or_default();
        let max_body = self.value("max-body", units::bytes).unwrap_or_default();
        let least = upstream::MAX_MESSAGE.saturating_mul(2).max(outbox_bytes).max(max_body);
        if memory < least {
            self.problem(format!(
                "--memory must be {} MiB at least: messages of the server may have {} MiB, and --outbox and --max-body \
                 must fit in",
                least.div_ceil(1 << 20),
                upstream::MAX_MESSAGE >> 20
            ));
        }
        session::Config {
            max_sessions: count(self, "max-sessions"),
            max_per_principal: self.optional("max-sessions-per-principal", units::count),
            max_per_address: self.optional("max-sessions-per-address", units::count),
            max_in_flight: count(self, "max-in-flight"),
            max_waiting: count(self, "max-waiting"),
            outbox_bytes,
            memory,
            max_message_to_client: self.optional("max-message-to-client", units::bytes),
            keep_alive: self.interval("keep-alive"),
            stall: self.interval("stall"),
            probe: self.interval("probe-timeout"),
            unused: self.interval("unused-timeout"),
            linger: self.value("linger", units::duration).unwrap_or_default(),
            ping: self.interval("upstream-ping"),
            call_silence: self.interval("call-timeout"),
            opaque_rotation: self.value("opaque-rotation", units::opaque_rotation).unwrap_or_default(),
            ..session::Config::default()
        }
    }

    pub(super) fn upstream(&mut self) -> Option<upstream::Config> {
        let url = self.value("upstream", units::upstream_url);
        let host = self.optional("upstream-host", units::host);
        let version = self.value("upstream-http", units::http_version).unwrap_or_default();
        if host.is_some() && version == upstream::HttpVersion::Http2 {
            self.problem(
                "--upstream-host goes with HTTP/1.1 only: in HTTP/2 the name is part of the target".to_owned(),
            );
        }
        let authorities = self.optional("upstream-ca", |path| Ok((units::authorities(path)?, units::file(path)?)));
        let (authorities, authorities_pem) = authorities.unwrap_or_default();
        let (identity, identity_pem) = self.client_identity().unzip();
        let pem = upstream::Pem { authorities: authorities_pem, identity: identity_pem };
        Some(upstream::Config {
            headers: self.many("upstream-header", units::upstream_header),
            host,
            version,
            authorities,
            identity,
            pem,
            connect_timeout: self.interval("connect-timeout"),
            url: url?,
        })
    }

    fn client_identity(&mut self) -> Option<(reqwest::Identity, Vec<u8>)> {
        let cert = self.optional("upstream-client-cert", units::file);
        let key = self.optional("upstream-client-key", units::file);
        let named = |name| self.raw.contains_key(name);
        if named("upstream-client-cert") != named("upstream-client-key") {
            self.problem("--upstream-client-cert and --upstream-client-key go together".to_owned());
        }
        let pem = [cert?, b"\n".to_vec(), key?].concat();
        let identity = reqwest::Identity::from_pem(&pem).ok();
        if identity.is_none() {
            let text = "--upstream-client-cert and --upstream-client-key hold no certificate with its key in PEM form";
            self.problem(text.to_owned());
        }
        Some((identity?, pem))
    }

    pub(super) fn guard(&mut self, public_url: Option<&reqwest::Url>, loopback: bool) -> Guard {
        let mut hosts = self.many("allowed-host", |text| {
            AllowedHost::parse(text).ok_or_else(|| "is not a host, host:port or *".to_owned())
        });
        let mut origins = self.many("allowed-origin", units::origin);
        if let Some(url) = public_url {
            hosts.extend(url.host_str().map(|host| AllowedHost::Name(host.to_ascii_lowercase())));
            origins.push(url.origin().ascii_serialization());
        }
        if hosts.is_empty() && !loopback && self.raw.contains_key("listen") {
            self.problem(
                "--listen is not a loopback address, so --public-url or --allowed-host must say which host names clients \
                 may use (--allowed-host '*' allows all)"
                    .to_owned(),
            );
        }
        Guard::new(hosts, origins, loopback)
    }
}

/// Where a value was given, for messages.
pub(super) fn origin(name: &str, origin: &Origin) -> String {
    match origin {
        Origin::Flag => format!("--{name}"),
        Origin::Environment => format!("{PREFIX}{}", name.to_ascii_uppercase().replace('-', "_")),
        Origin::File(path) => format!("{}: {name}", path.display()),
        Origin::Socket => format!("the socket passed for --{name}"),
    }
}
