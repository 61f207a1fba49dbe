//! Which of a client's headers go up, and what the proxy says about the client (SECURITY §3).
//!
//! Credentials and end-to-end headers of *this* request pass; what belongs to a connection, to the content that the
//! proxy frames anew, to the transport, or to a browser's view of the proxy stays here.

use std::net::IpAddr;
use std::sync::LazyLock;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::mcp;

/// Our pseudonym in `Via` (RFC 9110 §7.6.3), different for every process: another proxy of ours on the way is no loop.
static PSEUDONYM: LazyLock<String> = LazyLock::new(|| {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    format!("sse-sunset-{:08x}", u32::from_ne_bytes(bytes))
});

/// What we say of ourselves in `Via`.
static VIA: LazyLock<Option<HeaderValue>> = LazyLock::new(|| HeaderValue::try_from(format!("1.1 {}", *PSEUDONYM)).ok());

/// Whether a request went through this very process before.
#[must_use]
pub fn is_looping(headers: &HeaderMap) -> bool {
    let hops = headers.get_all(header::VIA).iter().filter_map(|value| value.to_str().ok());
    hops.flat_map(|hops| hops.split(',')).any(|hop| hop.split_whitespace().nth(1) == Some(PSEUDONYM.as_str()))
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What belongs to one connection (RFC 9110 §7.6.1), to both directions.
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What never goes up: what is framed anew, what names the proxy as target, what a browser says of the page that asks (the
/// proxy has judged that), and who the client is (the proxy says that itself).
static DROPPED: [HeaderName; 8] = [
    header::EXPECT,
    header::HOST,
    header::CONTENT_LENGTH,
    header::ORIGIN,
    header::REFERER,
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
];

/// Starts of names that never go up.
const DROPPED_PREFIXES: &[&str] =
    &["sec-", "x-forwarded-", "x-envoy-", "access-control-request-", "http2-settings", "sse-sunset-"];

/// What does not go up besides with a message that the proxy posts itself: content and negotiation (set anew), and cookies
/// (legacy clients that need them do not exist, jars shared by accident do).
static OF_THE_TRANSPORT: [HeaderName; 14] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::PRAGMA,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::COOKIE,
    HeaderName::from_static("priority"),
];

/// What the proxy knows of the client's side of the connection.
#[derive(Debug, Clone)]
pub struct Hop {
    /// The client's address, as far as trusted proxies tell.
    pub client: IpAddr,
    /// The host the client asked for.
    pub host: Option<HeaderValue>,
    /// `http` or `https`, as the client spoke.
    pub proto: &'static str,
}

impl Hop {
    /// The host as text.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_ref()?.to_str().ok()
    }
}

/// The headers that go up with a client's message, which the proxy posts itself, under a transport of its own.
#[must_use]
pub fn forwarded_headers(request: &HeaderMap, hop: &Hop) -> HeaderMap {
    let named = named_by_connection(request);
    let passes = |name: &HeaderName| {
        !stays(name) && !OF_THE_TRANSPORT.contains(name) && !mcp::is_protocol_header(name) && !is_named(&named, name)
    };
    let mut headers = HeaderMap::with_capacity(request.keys_len() + 4);
    for (name, value) in request {
        if passes(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    introduce(&mut headers, hop);
    headers
}

/// Makes the headers of a client's own request those that go up with it, but for `Host`: the server must not notice the
/// proxy, so whatever belongs to the exchange passes.
pub fn passed_up(request: &mut HeaderMap, hop: &Hop) {
    let named = named_by_connection(request);
    take_out(request, |name| stays(name) || is_named(&named, name));
    introduce(request, hop);
}

/// Whether a header never goes up.
fn stays(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
        || DROPPED.contains(name)
        || DROPPED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
        || name.as_str().contains('_')
}

fn take_out(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let going: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in going {
        headers.remove(name);
    }
}

/// Takes out of an answer what belongs to the upstream's connection, and what it says of other origins and ways, which are
/// the proxy's to tell.
pub fn passed_on(answer: &mut HeaderMap) {
    let named = named_by_connection(answer);
    take_out(answer, |name| {
        HOP_BY_HOP.contains(name)
            || *name == header::ALT_SVC
            || name.as_str().starts_with("access-control-")
            || is_named(&named, name)
    });
}

/// What `Connection` names. As bytes: one that is no text must not hide the names beside it.
fn named_by_connection(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let values =
        headers.get_all(header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.map(|name| name.trim_ascii().to_ascii_lowercase()).collect()
}

fn is_named(named: &[Vec<u8>], name: &HeaderName) -> bool {
    named.iter().any(|named| named == name.as_str().as_bytes())
}

/// Says who the client is, and that the proxy is on the way.
fn introduce(headers: &mut HeaderMap, hop: &Hop) {
    let client = hop.client.to_canonical().to_string();
    insert(headers, header::FORWARDED, forwarded(&client, hop).into());
    insert(headers, X_FORWARDED_FOR, client.into());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(hop.proto));
    if let Some(host) = &hop.host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if let Some(via) = &*VIA {
        headers.append(header::VIA, via.clone());
    }
}

/// RFC 7239 §4; IPv6 addresses are bracketed and quoted (§6).
fn forwarded(client: &str, hop: &Hop) -> String {
    let (before, after) = if hop.client.to_canonical().is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    match hop.host().filter(|host| !host.contains(['"', '\\'])) {
        Some(host) => ["for=", before, client, after, ";host=\"", host, "\";proto=", hop.proto].concat(),
        None => ["for=", before, client, after, ";proto=", hop.proto].concat(),
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: Bytes) {
    if let Ok(value) = HeaderValue::from_maybe_shared(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut request = HeaderMap::new();
        for (name, value) in headers {
            request.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let hop = Hop {
            client: "2001:db8::1".parse().expect("an address"),
            host: Some(HeaderValue::from_static("mcp.example.com")),
            proto: "https",
        };
        forwarded_headers(&request, &hop)
    }

    #[test]
    fn credentials_and_end_to_end_headers_pass() {
        let sent = forward(&[
            ("authorization", "Bearer x"),
            ("x-api-key", "k"),
            ("user-agent", "node"),
            ("x-a", "1"),
            ("x-a", "2"),
        ]);
        assert_eq!(sent["authorization"], "Bearer x");
        assert_eq!(sent["x-api-key"], "k");
        assert_eq!(sent["user-agent"], "node");
        assert_eq!(sent.get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn connection_transport_and_browser_headers_stay() {
        let sent = forward(&[
            ("connection", "keep-alive, X-Named"),
            ("x-named", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("host", "a"),
            ("accept", "*/*"),
            ("content-type", "text/plain"),
            ("content-length", "1"),
            ("mcp-session-id", "stolen"),
            ("mcp-protocol-version", "2024-11-05"),
            ("mcp-method", "m"),
            ("mcp-param-x", "1"),
            ("last-event-id", "1"),
            ("origin", "https://a"),
            ("referer", "https://a"),
            ("cookie", "a=b"),
            ("sec-fetch-mode", "cors"),
            ("x_under", "1"),
            ("proxy-authorization", "Basic x"),
        ]);
        let mut names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
    }

    #[test]
    fn name_beside_bytes_that_are_no_text_is_still_named_by_connection() {
        let named = HeaderValue::from_bytes(b"x-named, \xe9").expect("obs-text");
        let request = HeaderMap::from_iter([
            (header::CONNECTION, named),
            (HeaderName::from_static("x-named"), HeaderValue::from_static("1")),
        ]);
        let hop = Hop { client: "192.0.2.7".parse().expect("an address"), host: None, proto: "http" };
        assert!(!forwarded_headers(&request, &hop).contains_key("x-named"));
    }

    #[test]
    fn request_that_came_through_this_process_is_a_loop_and_others_are_not() {
        let sent = forward(&[]);
        assert!(is_looping(&sent));
        let others = HeaderMap::from_iter([(header::VIA, HeaderValue::from_static("1.1 sse-sunset-0, 1.1 nginx"))]);
        assert!(!is_looping(&others));
        let mut after = others;
        after.append(header::VIA, sent[header::VIA].clone());
        assert!(is_looping(&after));
    }

    #[test]
    fn forwarding_headers_are_ours_alone() {
        let sent = forward(&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6"), ("x-real-ip", "6.6.6.6")]);
        assert_eq!(sent["x-forwarded-for"], "2001:db8::1");
        assert_eq!(sent["forwarded"], "for=\"[2001:db8::1]\";host=\"mcp.example.com\";proto=https");
        assert!(!sent.contains_key("x-real-ip"));
    }
}
