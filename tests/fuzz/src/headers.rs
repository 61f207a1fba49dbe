//! Which headers go up: nothing of the connection, the transport or a browser, and everything else as it came.

use http::{HeaderMap, HeaderName, HeaderValue};
use sse_sunset::upstream::{Hop, forwarded_headers, is_looping};

/// What never passes. Written down apart from the code under test, so that neither list can lose a name unnoticed.
const NEVER: &str = "connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer \
                     transfer-encoding upgrade expect host accept accept-encoding content-encoding content-length \
                     content-type cache-control pragma range if-match if-none-match if-modified-since \
                     if-unmodified-since if-range origin referer cookie x-real-ip x-client-ip \
                     last-event-id mcp-session-id mcp-protocol-version mcp-method mcp-name";
/// And what starts like this.
const NEVER_STARTS: [&str; 7] =
    ["sec-", "x-envoy-", "access-control-request-", "mcp-", "x-forwarded-", "http2-settings", "priority"];
/// What the proxy says itself.
const OURS: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];

/// `data` is the fields of a request's head, one a line.
pub fn headers(data: &[u8]) {
    let request = fields(data);
    let host = request.get("host").cloned();
    let hop = Hop { client: "2001:db8::1".parse().expect("an address"), host: host.clone(), proto: "https" };
    let sent = forwarded_headers(&request, &hop);

    let only = |name: &str| {
        let mut values = sent.get_all(name).iter();
        let first = values.next().cloned();
        assert!(values.next().is_none(), "{name} stands there twice");
        first
    };
    assert_eq!(only("x-forwarded-for").expect("an address"), "2001:db8::1");
    assert_eq!(only("x-forwarded-proto").expect("a scheme"), "https");
    assert_eq!(only("x-forwarded-host"), host);
    let forwarded = only("forwarded").expect("it is always said");
    assert!(
        forwarded.as_bytes().starts_with(b"for=\"[2001:db8::1]\";") && forwarded.as_bytes().ends_with(b"proto=https")
    );
    assert!(is_looping(&sent), "the next time round it is a loop");

    for name in sent.keys().map(HeaderName::as_str).filter(|name| !OURS.contains(name) && *name != "via") {
        assert!(passes(name, &request), "{name} went up");
    }
    for name in request.keys().filter(|name| *name != "via" && passes(name.as_str(), &request)) {
        assert!(sent.get_all(name).iter().eq(request.get_all(name)), "{name} did not go up as it came");
    }
    let hops: Vec<&HeaderValue> = sent.get_all("via").iter().collect();
    let before = if passes("via", &request) { request.get_all("via").iter().collect() } else { Vec::new() };
    assert_eq!(hops[..hops.len() - 1], before, "Via is added to");
}

fn passes(name: &str, request: &HeaderMap) -> bool {
    let is_named = |connection: &HeaderValue| {
        let text = String::from_utf8_lossy(connection.as_bytes()).to_lowercase();
        text.split(',').any(|named| named.trim() == name)
    };
    !NEVER.split_whitespace().chain(OURS).any(|never| never == name)
        && !NEVER_STARTS.iter().any(|start| name.starts_with(start))
        && !name.contains('_')
        && !request.get_all("connection").iter().any(is_named)
}

/// What is no field is left out, as if it had not come.
fn fields(data: &[u8]) -> HeaderMap {
    let field = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        Some((name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in data.split(|byte| *byte == b'\n').filter_map(field) {
        headers.append(name, value);
    }
    headers
}
