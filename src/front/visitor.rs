//! Who sent a request, and through which name it came.
//!
//! Addresses, host, scheme and prefix that a header claims are believed only from peers that the operator named:
//! anyone else could write anything there.

use std::net::IpAddr;

use http::header::{self, HeaderValue};
use http::{Request, Version};

use super::forwarded::{self, Claim};
use super::{Config, guard};
use crate::auth::{self, Sender, Vouched};
use crate::net::Peer;
use crate::session::Books;
use crate::traffic::{Client, Connection, printable};
use crate::upstream::Hop;

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
    pub(super) fn of<B>(request: &Request<B>, peer: &Peer, config: &Config) -> Self {
        let headers = request.headers();
        let nearest = peer.client.ip().to_canonical();
        let trusted = !peer.is_unnamed && config.trusted.trusts(nearest);
        let claim = if trusted { forwarded::read(headers, nearest, &config.trusted) } else { Claim::none(nearest) };
        let mut principal = auth::principal(headers, config.identity_header.as_ref());
        // A trusted proxy shows its own certificate, not its client's.
        let certificate = peer.certificate.as_ref().filter(|_| !trusted);
        principal.certificate = certificate.and_then(|shown| shown.subject.as_deref()).map(printable);
        // The header is the operator's word only where a proxy of his has set it: anybody else could write it too.
        let name = config.identity_header.as_ref().filter(|_| trusted).and_then(|name| headers.get(name));
        let vouched =
            Vouched { certificate: certificate.map(|shown| &shown.key), name: name.map(HeaderValue::as_bytes) };
        let sender = Sender::of(headers, &config.credential_headers, vouched, claim.client);
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
        let prefix = headers.get("x-forwarded-prefix").filter(|_| trusted).and_then(|value| value.to_str().ok());
        let prefix = prefix.and_then(safe_prefix).unwrap_or_else(|| config.public_path.clone());
        let host = claim.host.or_else(|| headers.get(header::HOST).cloned()).or_else(|| {
            // In HTTP/2 it is part of the target.
            HeaderValue::from_str(request.uri().authority()?.as_str()).ok()
        });
        let proto = if claim.is_https.unwrap_or(peer.tls) { "https" } else { "http" };
        Visitor {
            client: Client { principal, info: None, user_agent, address: claim.client },
            sender,
            peer: peer.address.ip().to_canonical(),
            connection,
            hop: Hop { client: claim.client, host, proto },
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

    #[test]
    fn prefix_is_taken_only_where_it_is_harmless() {
        assert_eq!(safe_prefix("/gw/"), Some("/gw".into()));
        assert_eq!(safe_prefix("/"), Some(String::new()));
        for bad in ["gw", "//evil.example", "/a b", "/a\"", "/a?b", "/a%0a", "https://evil.example"] {
            assert_eq!(safe_prefix(bad), None, "{bad}");
        }
    }
}
