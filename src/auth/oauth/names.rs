//! Under which URL clients know the proxy.
//!
//! Promise: the operator says it; where nobody did, only clients that come to this machine's own address by one of its own
//! names have one for us, and each is told that which it uses, because it compares (TypeScript from 1.13, Python from 1.27).
//! The trap: a proxy on loopback may have something in front of it, which by default names us and not itself (nginx). Where
//! an option shows that there is, no name is guessed: it would send people to their own machines.

use std::net::SocketAddr;

use http::uri::Authority;

use super::Config;
use super::places::Places;
use crate::upstream::Url;

/// The names of a machine for itself, the one first that is used where a request names none.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// The places under each name.
#[derive(Debug)]
pub(super) struct Names {
    /// Empty where clients may come under names that are not known.
    known: Vec<(String, Places)>,
}

impl Names {
    /// Those of a proxy that listens on `address`, before `upstream`.
    pub(super) fn new(config: &Config, address: SocketAddr, upstream: &Url) -> Self {
        let scheme = if config.is_tls { "https" } else { "http" };
        let bases: Vec<Url> = match &config.public {
            Some(public) => vec![public.clone()],
            None if config.is_direct && address.ip().is_loopback() => {
                let names = LOOPBACK.iter().map(|name| format!("{scheme}://{name}:{}", address.port()));
                names.filter_map(|base| Url::parse(&base).ok()).collect()
            }
            None => Vec::new(),
        };
        let named = |base: Url| {
            let places = Places::new(&base, &config.public_path, &config.sse_path, upstream, config.metadata_at);
            (base.host_str().unwrap_or_default().to_owned(), places)
        };
        Names { known: bases.into_iter().map(named).collect() }
    }

    /// The places for a client that asked for `host`, which may have a port.
    pub(super) fn of(&self, host: Option<&str>) -> Option<&Places> {
        let name = host.and_then(|host| host.parse::<Authority>().ok()).map(|host| host.host().to_ascii_lowercase());
        let named = name.and_then(|name| self.known.iter().find(|(known, _)| *known == name));
        named.or_else(|| self.known.first()).map(|(_, places)| places)
    }

    /// The places under any of the names: their paths are the same.
    pub(super) fn any(&self) -> Option<&Places> {
        self.of(None)
    }

    /// The origins that lead here.
    pub(super) fn origins(&self) -> Vec<String> {
        self.known.iter().map(|(_, places)| places.origin.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(config: &Config, address: &str) -> Names {
        let upstream = Url::parse("http://127.0.0.1:3001/mcp").expect("a URL");
        Names::new(config, address.parse().expect("an address"), &upstream)
    }

    fn config(public: Option<&str>, is_direct: bool) -> Config {
        let public = public.map(|url| Url::parse(url).expect("a URL"));
        Config { public, is_direct, sse_path: "/sse".into(), public_path: "/gw".into(), ..Config::default() }
    }

    fn stream(names: &Names, host: Option<&str>) -> Option<String> {
        names.of(host).map(|places| places.stream.clone())
    }

    #[test]
    fn public_url_is_the_name_whatever_a_request_says_and_the_path_is_the_operators() {
        let names = names(&config(Some("https://mcp.example.com/other"), true), "127.0.0.1:8080");
        for host in [None, Some("localhost"), Some("evil.example")] {
            assert_eq!(stream(&names, host).as_deref(), Some("https://mcp.example.com/gw/sse"));
        }
        assert_eq!(names.origins(), ["https://mcp.example.com"]);
    }

    #[test]
    fn client_of_this_machine_has_the_name_that_it_uses() {
        for address in ["127.0.0.1:8080", "[::1]:8080"] {
            let names = names(&config(None, true), address);
            for (host, base) in [
                (Some("localhost:8080"), "http://localhost:8080"),
                (Some("LocalHost"), "http://localhost:8080"),
                (Some("[::1]:8080"), "http://[::1]:8080"),
                (Some("127.0.0.1:9"), "http://127.0.0.1:8080"),
                (Some("evil.example"), "http://127.0.0.1:8080"),
                (None, "http://127.0.0.1:8080"),
            ] {
                assert_eq!(stream(&names, host), Some(format!("{base}/gw/sse")), "{host:?}");
            }
        }
    }

    #[test]
    fn no_name_is_guessed_where_something_stands_in_front_or_others_come() {
        assert!(names(&config(None, false), "127.0.0.1:8080").any().is_none());
        assert!(names(&config(None, true), "192.0.2.1:8080").any().is_none());
    }
}
