//! Who sent a request, and through which name it came.
//!
//! Addresses, host, scheme and prefix that a header claims are believed only from peers that the operator named:
//! anyone else could write anything there.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri, Version};

use super::forwarded::{self, Claim};
use super::{Config, guard};
use crate::auth::{self, Sender, Vouched};
use crate::net::Peer;
use crate::session::Books;
use crate::traffic::{Client, Connection, printable};
use crate::upstream::Hop;

/// Who sent a request, and how it came: all that has to be known to pass it through, which is not to cost more than that.
#[derive(Debug)]
pub(super) struct Who {
    client: Client,
    hop: Hop,
}

/// Who a client is by the word of somebody who is trusted: what [`Vouched`] is, to be kept and handed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Voucher {
    /// SHA-256 of the public key of the certificate that the client showed.
    pub(super) certificate: Option<[u8; 32]>,
    /// The name that a trusted proxy gave it.
    pub(super) name: Option<HeaderValue>,
}

impl Voucher {
    pub(super) fn vouched(&self) -> Vouched<'_> {
        Vouched { certificate: self.certificate.as_ref(), name: self.name.as_ref().map(HeaderValue::as_bytes) }
    }
}

/// One request's sender. Addresses stand here in full; the log writes them as it was told to.
#[derive(Debug)]
pub(super) struct Visitor {
    who: Who,
    sender: Sender,
    voucher: Voucher,
    peer: IpAddr,
    asked: Asked,
    /// What stands before our paths in the URL the client used.
    prefix: String,
}

/// What was asked for, as it came: most requests leave nothing of it in the log, so it is put into words for those that do.
#[derive(Debug)]
struct Asked {
    target: Uri,
    /// The one `Host`, and whether there were more.
    host: Result<Option<HeaderValue>, ()>,
    origin: Option<HeaderValue>,
    version: Version,
}

impl Who {
    pub(super) fn of<B>(request: &Request<B>, peer: &Peer, config: &Config) -> Self {
        let headers = request.headers();
        let (nearest, trusted) = nearest(peer, config);
        let claim = if trusted { forwarded::read(headers, nearest, &config.trusted) } else { Claim::none(nearest) };
        let mut principal = auth::principal(headers, config.identity_header.as_ref());
        // A trusted proxy shows its own certificate, not its client's.
        let certificate = peer.certificate.as_ref().filter(|_| !trusted);
        principal.certificate = certificate.and_then(|shown| shown.subject.as_deref()).map(printable);
        let host = claim.host.or_else(|| headers.get(header::HOST).cloned()).or_else(|| {
            // In HTTP/2 it is part of the target.
            HeaderValue::from_str(request.uri().authority()?.as_str()).ok()
        });
        let proto = if claim.is_https.unwrap_or(peer.tls) { "https" } else { "http" };
        let user_agent = text(headers, header::USER_AGENT);
        Who {
            client: Client { principal, info: None, user_agent, address: claim.client },
            hop: Hop { client: claim.client, host, proto },
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn hop(&self) -> &Hop {
        &self.hop
    }
}

/// The nearest that is known of the client's side, and whether its word is taken.
fn nearest(peer: &Peer, config: &Config) -> (IpAddr, bool) {
    let nearest = peer.client.ip().to_canonical();
    (nearest, !peer.is_unnamed && config.trusted.trusts(nearest))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(shown)
}

fn shown(value: &HeaderValue) -> String {
    printable(&String::from_utf8_lossy(value.as_bytes()))
}

impl Visitor {
    pub(super) fn of<B>(who: Who, request: &Request<B>, peer: &Peer, config: &Config) -> Self {
        let headers = request.headers();
        let (_, trusted) = nearest(peer, config);
        let certificate = peer.certificate.as_ref().filter(|_| !trusted);
        // The header is the operator's word only where a proxy of his has set it: anybody else could write it too.
        let name = config.identity_header.as_ref().filter(|_| trusted).and_then(|name| auth::named_in(headers, name));
        let voucher = Voucher { certificate: certificate.map(|shown| shown.key), name: name.cloned() };
        let sender = Sender::of(headers, &config.credential_headers, voucher.vouched(), who.client.address);
        let asked = Asked {
            target: request.uri().clone(),
            host: guard::one(headers, &header::HOST).map(Option::<&_>::cloned),
            origin: headers.get(header::ORIGIN).cloned(),
            version: request.version(),
        };
        let prefix = headers.get("x-forwarded-prefix").filter(|_| trusted).and_then(|value| value.to_str().ok());
        let prefix = prefix.and_then(safe_prefix).unwrap_or_else(|| config.public_path.clone());
        Visitor { who, sender, voucher, peer: peer.address.ip().to_canonical(), asked, prefix }
    }

    pub(super) fn who(&self) -> &Who {
        &self.who
    }

    pub(super) fn client(&self) -> Client {
        self.who.client.clone()
    }

    /// Who sent it, as far as sessions have to know.
    pub(super) fn sender(&self) -> Sender {
        self.sender
    }

    /// Whose word that rests on.
    pub(super) fn voucher(&self) -> &Voucher {
        &self.voucher
    }

    /// The connection fields, with the peer's address as the log writes it.
    pub(super) fn connection(&self, books: &Books) -> Connection {
        let Asked { target, host, origin, version } = &self.asked;
        let host = host.as_ref().ok().and_then(|host| guard::named_host(host.as_ref(), target, *version));
        Connection {
            user_agent: self.who.client.user_agent.clone(),
            peer_address: books.pseudonyms.address(self.peer),
            auth_scheme: self.who.client.principal.scheme.clone(),
            path: printable(target.path()),
            server_address: host.map(|host| printable(host.host())),
            origin: origin.as_ref().map(shown),
            protocol_version: protocol_version(*version),
            reconnect: false,
        }
    }

    pub(super) fn hop(&self) -> &Hop {
        &self.who.hop
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
