//! Which hosts and origins may ask (SECURITY §4).
//!
//! Why: a page in a browser can make a name of its own resolve to a loopback address and then read whatever listens there.
//! It cannot do so with an IP address, nor with `localhost`, which browsers take for this machine whatever anyone says.
//!
//! Where the operator binds another address, balancers and scrapers come by names that nobody can list, and the network
//! in front has to be trusted; the banner says so.

use std::net::IpAddr;

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Request};

use super::answer::Refused;

/// Which hosts may be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    is_loopback: bool,
}

impl Guard {
    pub(super) fn new(listening: IpAddr) -> Self {
        Guard { is_loopback: listening.to_canonical().is_loopback() }
    }

    /// Lets the request pass, or says why not. One of HTTP/1.0 without a host is no browser's.
    pub(super) fn admit<B>(self, request: &Request<B>) -> Result<(), Refused> {
        let Some(host) = named_host(request)? else { return Ok(()) };
        if self.is_loopback && !is_local(host.host()) { Err(Refused::Host) } else { Ok(()) }
    }
}

/// The one host that the request names.
fn named_host<B>(request: &Request<B>) -> Result<Option<Authority>, Refused> {
    let target = request.uri().authority();
    let host = match one(request.headers(), &header::HOST)? {
        Some(host) => Some(Authority::try_from(host.as_bytes()).map_err(|_| Refused::UnclearHost)?),
        None => None,
    };
    match (host, target) {
        (Some(host), Some(target)) if host != *target => Err(Refused::UnclearHost),
        (host, target) => Ok(host.or_else(|| target.cloned())),
    }
}

fn is_local(host: &str) -> bool {
    let name = host.to_ascii_lowercase();
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    // RFC 6761 §6.3: localhost and everything below it is this machine.
    literal.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

/// Turns pages of other sites away that want to change something. Without an `Origin` it is no page.
pub(super) fn own_origin<B>(request: &Request<B>) -> Result<(), Refused> {
    let Some(origin) = one(request.headers(), &header::ORIGIN).map_err(|_| Refused::Origin)? else { return Ok(()) };
    let host = named_host(request)?;
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        // TLS may end in front of this listener, which never sees it.
        (Some(("http" | "https", site)), Some(host)) if host.as_str().eq_ignore_ascii_case(site) => Ok(()),
        _ => Err(Refused::Origin),
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a HeaderValue>, Refused> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Refused::UnclearHost) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    fn admit(listening: &str, uri: &str, headers: &[(&str, &str)]) -> Result<(), Refused> {
        Guard::new(listening.parse().expect("an address")).admit(&request(uri, headers))
    }

    #[test]
    fn on_loopback_only_addresses_and_localhost_are_answered() {
        for host in ["127.0.0.1:9090", "localhost:9090", "LOCALHOST", "[::1]:9090", "10.0.0.7", "admin.localhost:1"] {
            for listening in ["127.0.0.1", "::1", "127.0.0.2", "::ffff:127.0.0.1"] {
                assert_eq!(admit(listening, "/", &[("host", host)]), Ok(()), "{listening} {host}");
            }
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9090", "notlocalhost", "0x7f.1"]
        {
            assert_eq!(admit("127.0.0.1", "/", &[("host", host)]), Err(Refused::Host), "{host}");
            assert_eq!(admit("0.0.0.0", "/", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(admit("127.0.0.1", "/", &[]), Ok(()));
    }

    #[test]
    fn doubled_or_contradicted_host_is_refused() {
        let doubled = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(admit("127.0.0.1", "/", &doubled), Err(Refused::UnclearHost));
        assert_eq!(admit("127.0.0.1", "http://evil.example/", &[("host", "localhost")]), Err(Refused::UnclearHost));
        assert_eq!(admit("127.0.0.1", "http://evil.example/", &[]), Err(Refused::Host));
    }

    #[test]
    fn origin_must_be_the_page_of_this_listener() {
        let of = |origin| own_origin(&request("/reopen", &[("host", "localhost:9090"), ("origin", origin)]));
        assert_eq!(of("http://localhost:9090"), Ok(()));
        for origin in ["null", "http://localhost:9091", "http://localhost", "http://evil.example", "localhost:9090"] {
            assert_eq!(of(origin), Err(Refused::Origin), "{origin}");
        }
        assert_eq!(own_origin(&request("/reopen", &[("host", "localhost")])), Ok(()));
    }
}
