//! Who sent a request, and through which name it came.
//!
//! Addresses, host, scheme and prefix that a header claims are believed only from peers that the operator named:
//! anyone else could write anything there.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Version};
use ipnet::IpNet;

use super::{Config, guard};
use crate::auth::{self, Sender, Vouched};
use crate::session::Books;
use crate::traffic::{Client, Connection, printable};
use crate::upstream::Hop;

/// The networks whose word on the client is taken (`--trusted-proxy`).
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

/// One request's sender. Addresses stand here in full; the log writes them as it was told to.
#[derive(Debug)]
pub(super) struct Visitor {
    client: Client,
    sender: Sender,
    peer: IpAddr,
    /// Without the peer's address.
    connection: Connection,
    hop: Hop,
    /// What stands before our paths in the URL the client used.
    prefix: String,
}

impl Visitor {
    pub(super) fn of<B>(request: &Request<B>, peer: SocketAddr, config: &Config) -> Self {
        let headers = request.headers();
        let peer = peer.ip().to_canonical();
        let trusted = config.trusted.trusts(peer);
        let address = if trusted { client_address(headers, peer, &config.trusted) } else { peer };
        let claimed = |name: &str| headers.get(name).filter(|_| trusted).and_then(|value| value.to_str().ok());
        let principal = auth::principal(headers, config.identity_header.as_ref());
        // The header is the operator's word only where a proxy of his has set it: anybody else could write it too.
        let name = config.identity_header.as_ref().filter(|_| trusted).and_then(|name| headers.get(name));
        let vouched = Vouched { certificate: None, name: name.map(HeaderValue::as_bytes) };
        let sender = Sender::of(headers, &config.credential_headers, vouched, address);
        let text =
            |name| headers.get(name).map(|value: &HeaderValue| printable(&String::from_utf8_lossy(value.as_bytes())));
        let user_agent = text(header::USER_AGENT);
        let connection = Connection {
            user_agent: user_agent.clone(),
            peer_address: String::new(),
            auth_scheme: principal.scheme.clone(),
            path: printable(request.uri().path()),
            server_address: guard::asked_host(request).map(|host| printable(host.host())),
            origin: text(header::ORIGIN),
            protocol_version: protocol_version(request.version()),
            reconnect: false,
        };
        let prefix = claimed("x-forwarded-prefix").and_then(safe_prefix).unwrap_or_else(|| config.public_path.clone());
        let host = headers.get("x-forwarded-host").filter(|_| trusted).or_else(|| headers.get(header::HOST)).cloned();
        let proto = if claimed("x-forwarded-proto") == Some("https") { "https" } else { "http" };
        Visitor {
            client: Client { principal, info: None, user_agent, address },
            sender,
            peer,
            connection,
            hop: Hop { client: address, host, proto },
            prefix,
        }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Who sent it, as far as sessions have to know.
    pub(super) fn sender(&self) -> Sender {
        self.sender
    }

    /// The connection fields, with the peer's address as the log writes it.
    pub(super) fn connection(&self, books: &Books) -> Connection {
        Connection { peer_address: books.pseudonyms.address(self.peer), ..self.connection.clone() }
    }

    pub(super) fn hop(&self) -> &Hop {
        &self.hop
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The rightmost address in `X-Forwarded-For` that no trusted proxy has: those to its left are only claimed.
fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &TrustedProxies) -> IpAddr {
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        let Some(address) = forwarded_address(hop) else { break };
        client = address;
        if !trusted.trusts(address) {
            break;
        }
    }
    client
}

/// An address, with or without a port.
fn forwarded_address(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// A prefix of unreserved characters: it becomes part of the endpoint event, and clients resolve that in many ways.
fn safe_prefix(prefix: &str) -> Option<String> {
    let prefix = prefix.trim_end_matches('/');
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let safe =
        (prefix.is_empty() || prefix.starts_with('/')) && !prefix.starts_with("//") && prefix.bytes().all(unreserved);
    safe.then(|| prefix.to_owned())
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies(vec!["10.0.0.0/8".parse().expect("a network")])
    }

    fn address(forwarded_for: &str) -> String {
        let headers = HeaderMap::from_iter([(
            header::HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_str(forwarded_for).expect("a header"),
        )]);
        client_address(&headers, "10.0.0.1".parse().expect("an address"), &trusted()).to_string()
    }

    #[test]
    fn client_is_the_rightmost_address_that_is_not_trusted() {
        assert_eq!(address("6.6.6.6, 192.0.2.7, 10.1.1.1"), "192.0.2.7");
        assert_eq!(address("192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(address("192.0.2.7, garbage"), "10.0.0.1");
        assert_eq!(address("10.2.2.2"), "10.2.2.2");
    }

    #[test]
    fn prefix_is_taken_only_where_it_is_harmless() {
        assert_eq!(safe_prefix("/gw/"), Some("/gw".into()));
        assert_eq!(safe_prefix("/"), Some(String::new()));
        for bad in ["gw", "//evil.example", "/a b", "/a\"", "/a?b", "/a%0a", "https://evil.example"] {
            assert_eq!(safe_prefix(bad), None, "{bad}");
        }
    }
}
