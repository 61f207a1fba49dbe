//! Which hosts and origins may ask (SECURITY §4).
//!
//! Why: a page in a browser can make a name of its own resolve to a loopback address and then speak to whatever listens
//! there. The `Host` it sends gives it away, and so does its `Origin`.

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Request, Uri, Version};

use super::reply::Refused;

/// The names that a proxy on a loopback address answers to.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// A host that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHost {
    /// Every host; the operator wrote `*`.
    Any,
    /// This name on any port.
    Name(String),
    /// This name on this port.
    NameAndPort(String, u16),
}

/// The allow-lists.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    hosts: Vec<AllowedHost>,
    origins: Vec<String>,
}

impl AllowedHost {
    /// Reads `*`, `name` or `name:port`; `None` when it is none of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(AllowedHost::Any);
        }
        let authority: Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
        let name = authority.host().to_ascii_lowercase();
        Some(match authority.port_u16() {
            Some(port) => AllowedHost::NameAndPort(name, port),
            None => AllowedHost::Name(name),
        })
    }

    fn allows(&self, name: &str, port: Option<u16>) -> bool {
        match self {
            AllowedHost::Any => true,
            AllowedHost::Name(allowed) => allowed.eq_ignore_ascii_case(name),
            AllowedHost::NameAndPort(allowed, on) => allowed.eq_ignore_ascii_case(name) && port == Some(*on),
        }
    }
}

impl Guard {
    /// Allows `hosts` and `origins`; with `loopback` also the names of this machine itself.
    #[must_use]
    pub fn new(mut hosts: Vec<AllowedHost>, origins: Vec<String>, loopback: bool) -> Self {
        if loopback {
            hosts.extend(LOOPBACK.iter().map(|name| AllowedHost::Name((*name).to_owned())));
        }
        Guard { hosts, origins }
    }

    /// Whether the request names a host and an origin that may ask.
    #[must_use]
    pub fn admits<B>(&self, request: &Request<B>) -> bool {
        self.admit(request).is_ok()
    }

    /// Lets the request pass, or says why not. Without an `Origin` it does not come from a page.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        self.admit_host(request)?;
        if !request.headers().contains_key(header::ORIGIN) || self.allowed_origin(request).is_some() {
            return Ok(());
        }
        Err(Refused::Origin)
    }

    /// The same for what pages of every origin may read.
    pub(super) fn admit_host<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let host = asked_host(request).ok_or(Refused::Host)?;
        let (name, port) = (host.host(), host.port_u16());
        if self.hosts.iter().any(|allowed| allowed.allows(name, port)) { Ok(()) } else { Err(Refused::Host) }
    }

    /// The request's `Origin`, if its pages may ask.
    pub(super) fn allowed_origin<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let origin = one(request.headers(), &header::ORIGIN).ok().flatten()?;
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }
}

/// The one host that the request names. A doubled `Host`, and one that differs from the target's, are refused: two
/// servers on the way could read them differently (RFC 9112 §3.2). In HTTP/2 the target names it (`:authority`), and `Host`
/// need not be there (RFC 9113 §8.3.1).
pub(super) fn asked_host<B>(request: &Request<B>) -> Option<Authority> {
    named_host(one(request.headers(), &header::HOST).ok()?, request.uri(), request.version())
}

/// The same of a request with this one `Host`, or none.
pub(super) fn named_host(host: Option<&HeaderValue>, target: &Uri, version: Version) -> Option<Authority> {
    let target = target.authority();
    let host = match (host, target) {
        (Some(host), _) => Authority::try_from(host.as_bytes()).ok()?,
        (None, Some(target)) if version == Version::HTTP_2 => target.clone(),
        (None, _) => return None,
    };
    let is_plain = !host.as_str().contains('@') && has_valid_port(&host);
    (is_plain && target.is_none_or(|target| *target == host)).then_some(host)
}

/// `http` takes other things for a port too, such as `:`, `:+80` and `:99999`.
fn has_valid_port(host: &Authority) -> bool {
    match host.as_str().get(host.host().len()..) {
        Some("") => true,
        Some(port) => host.port_u16().is_some() && port.bytes().skip(1).all(|byte| byte.is_ascii_digit()),
        None => false,
    }
}

/// The one value of a header, if it has any.
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> Result<(), Refused> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.admit(&request.body(()).expect("a request"))
    }

    #[test]
    fn loopback_names_pass_on_any_port_and_others_do_not() {
        let guard = Guard::new(Vec::new(), Vec::new(), true);
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:9"] {
            assert_eq!(admit(&guard, "/sse", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "user@localhost",
            "",
            "localhost:",
            "localhost:99999",
            "localhost:+80",
            "localhost:80:80",
            "localhost:80a",
            "[::1]x",
            "localhost, evil.example",
            "localhost/",
            "localhost ",
        ] {
            assert_eq!(admit(&guard, "/sse", &[("host", host)]), Err(Refused::Host), "{host}");
        }
        assert_eq!(admit(&guard, "/sse", &[]), Err(Refused::Host));
    }

    #[test]
    fn doubled_or_contradicted_host_is_refused() {
        let guard = Guard::new(vec![AllowedHost::Any], Vec::new(), false);
        assert_eq!(admit(&guard, "/sse", &[("host", "a"), ("host", "a")]), Err(Refused::Host));
        assert_eq!(admit(&guard, "http://b/sse", &[("host", "a")]), Err(Refused::Host));
        assert_eq!(admit(&guard, "http://a/sse", &[("host", "a")]), Ok(()));
    }

    #[test]
    fn host_of_http2_is_that_of_its_target() {
        let asked = |version, uri: &str, host: Option<&str>| {
            let mut request = Request::builder().version(version).uri(uri);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            asked_host(&request.body(()).expect("a request")).map(|host| host.to_string())
        };
        assert_eq!(asked(Version::HTTP_2, "https://a:8443/sse", None).as_deref(), Some("a:8443"));
        assert_eq!(asked(Version::HTTP_2, "https://a/sse", Some("a")).as_deref(), Some("a"));
        assert_eq!(asked(Version::HTTP_2, "https://a/sse", Some("b")), None);
        assert_eq!(asked(Version::HTTP_2, "https://user@a/sse", None), None);
        assert_eq!(asked(Version::HTTP_2, "/sse", None), None);
        assert_eq!(asked(Version::HTTP_11, "http://a/sse", None), None);
    }

    #[test]
    fn host_with_a_port_is_allowed_on_that_port_only() {
        let guard = Guard::new(vec![AllowedHost::parse("mcp.example.com:8443").expect("a host")], Vec::new(), false);
        assert_eq!(admit(&guard, "/sse", &[("host", "mcp.example.com:8443")]), Ok(()));
        assert_eq!(admit(&guard, "/sse", &[("host", "mcp.example.com")]), Err(Refused::Host));
    }

    #[test]
    fn origin_is_refused_unless_listed_and_null_always() {
        let guard = Guard::new(vec![AllowedHost::Any], vec!["https://app.example.com".into()], false);
        let with = |origin| admit(&guard, "/sse", &[("host", "a"), ("origin", origin)]);
        assert_eq!(with("https://app.example.com"), Ok(()));
        for origin in ["null", "https://evil.example", "https://app.example.com.evil.example", "http://app.example.com"]
        {
            assert_eq!(with(origin), Err(Refused::Origin), "{origin}");
        }
    }
}
