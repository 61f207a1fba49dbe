//! Who may ask: one host that is allowed, the same as in the target; one origin that is allowed, or none.
//!
//! The reading here is of plain text, by the list of what is allowed, and knows nothing of how URLs are made.

use http::{HeaderName, HeaderValue, Request};
use sse_sunset::front::{AllowedHost, Guard};

const APP: &[u8] = b"https://app.example.com";

/// `data` is a request's target, and in the lines behind it the fields of its head.
pub fn guard(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(request) = Request::get(lines.next().unwrap_or_default()).body(()) else { return };
    let (mut head, ()) = request.into_parts();
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            head.headers.append(name, value);
        }
    }
    let request = Request::from_parts(head, ());
    let hosts =
        vec![AllowedHost::Name("mcp.example.com".into()), AllowedHost::NameAndPort("other.example.com".into(), 8443)];
    let guard = Guard::new(hosts, vec![String::from_utf8_lossy(APP).into_owned()], true);
    assert_eq!(guard.admits(&request), may_ask(&request), "{request:?}");
}

fn may_ask(request: &Request<()>) -> bool {
    let all =
        |name: &str| -> Vec<&[u8]> { request.headers().get_all(name).iter().map(HeaderValue::as_bytes).collect() };
    let [host] = all("host")[..] else { return false };
    let host = host.to_ascii_lowercase();
    let is_same =
        request.uri().authority().is_none_or(|target| target.as_str().to_ascii_lowercase().as_bytes() == host);
    let origin_may = match all("origin")[..] {
        [] => true,
        [origin] => origin == APP,
        _ => false,
    };
    is_same && origin_may && is_allowed(&host)
}

fn is_allowed(host: &[u8]) -> bool {
    if host == b"other.example.com:8443" {
        return true;
    }
    ["mcp.example.com", "localhost", "127.0.0.1", "[::1]"].iter().any(|name| match host.strip_prefix(name.as_bytes()) {
        Some([]) => true,
        Some([b':', port @ ..]) => {
            let digits = str::from_utf8(port).unwrap_or_default();
            digits.bytes().all(|digit| digit.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
        _ => false,
    })
}
