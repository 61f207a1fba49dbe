//! The headers of a request to a modern server, which repeat what its body says.
//!
//! Gateways route by them and servers refuse a request whose headers and body differ (-32020). A value that no header can
//! carry goes in base64 (MCP 2026-07-28, transports/streamable-http §Value Encoding). The trap: go-sdk compares
//! `Mcp-Name` without decoding it, so a name refused in base64 is worth one attempt as it is ([`raw_value`]).

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::mcp;
use crate::upstream::Exchange;
use crate::upstream::transport::{ACCEPT_BOTH, IDENTITY, JSON};

/// Repeats `params.name` or `params.uri` of calls, prompts and reads.
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Both ends of a value in base64; case counts.
const ENCODED_START: &str = "=?base64?";
const ENCODED_END: &str = "?=";

/// `text` as the value of `Mcp-Name` or `Mcp-Param-*`: as it is where every server reads it back so, else in base64.
#[must_use]
pub(super) fn value(text: &str) -> HeaderValue {
    plain(text).unwrap_or_else(|| {
        let encoded = format!("{ENCODED_START}{}{ENCODED_END}", STANDARD.encode(text));
        HeaderValue::try_from(encoded).expect("base64 and its marks are visible ASCII")
    })
}

/// `text` as its own UTF-8 bytes, for servers that compare without decoding; `None` where a header would lose some of
/// it, or where [`value`] says the same.
#[must_use]
pub(super) fn raw_value(text: &str) -> Option<HeaderValue> {
    if plain(text).is_some() || is_trimmed_away(text) {
        return None;
    }
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

/// `Mcp-Method`; `None` when no header can carry it: for methods there is no encoding. No server has such a method.
pub(super) fn method(text: &str) -> Option<HeaderValue> {
    plain(text).filter(|method| !method.is_empty())
}

/// The POST of a request: the client's own headers and those of the transport, and nothing of an older era.
#[must_use]
pub(super) fn exchange(
    client: &HeaderMap,
    method: HeaderValue,
    name: Option<HeaderValue>,
    params: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> Exchange {
    let mut headers = HeaderMap::with_capacity(client.keys_len() + params.len() + 6);
    for (name, value) in client {
        // Neither a session nor a place in a stream exists in this era: mcp-go answers 400, others 404.
        if !mcp::is_protocol_header(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(header::ACCEPT, ACCEPT_BOTH);
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    headers.insert(mcp::PROTOCOL_VERSION, HeaderValue::from_static(mcp::MODERN_VERSION));
    headers.insert(mcp::METHOD, method);
    if let Some(name) = name {
        headers.insert(NAME, name);
    }
    for (name, value) in params {
        // Once each: rmcp and Python refuse a routing header that stands there twice.
        headers.insert(name.clone(), value.clone());
    }
    Exchange { method: Method::POST, headers, body }
}

/// `text`, if it can stand in a header as it is and is not taken for something encoded. Tabs are legal, but refused or
/// turned into spaces on the way often enough.
fn plain(text: &str) -> Option<HeaderValue> {
    let is_visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let looks_encoded = text.starts_with(ENCODED_START) && text.ends_with(ENCODED_END);
    if !is_visible || looks_encoded || is_trimmed_away(text) {
        return None;
    }
    HeaderValue::from_str(text).ok()
}

/// Whether a reader of the header would take off a part of it (RFC 9110 §5.5).
fn is_trimmed_away(text: &str) -> bool {
    text.starts_with([' ', '\t']) || text.ends_with([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server makes of a value (§Value Encoding).
    fn decoded(value: &HeaderValue) -> String {
        let text = value.to_str().expect("visible ASCII");
        match text.strip_prefix(ENCODED_START).and_then(|text| text.strip_suffix(ENCODED_END)) {
            Some(encoded) => String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("UTF-8"),
            None => text.to_owned(),
        }
    }

    #[test]
    fn value_is_encoded_as_the_table_of_the_specification_says() {
        for (text, expected) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("a b", "a b"),
            ("a\tb", "=?base64?YQli?="),
            ("a\u{7f}", "=?base64?YX8=?="),
            ("", ""),
            ("=?BASE64?x?=", "=?BASE64?x?="),
            ("=?base64?x", "=?base64?x"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn raw_value_is_given_only_where_it_differs_and_survives() {
        assert_eq!(raw_value("naïve").expect("legal").as_bytes(), "naïve".as_bytes());
        assert_eq!(raw_value("=?base64?x?=").expect("legal"), "=?base64?x?=");
        for text in ["plain", " é", "é ", "é\n", "é\0"] {
            assert_eq!(raw_value(text), None, "{text:?}");
        }
    }

    #[test]
    fn exchange_has_the_headers_of_the_era_and_none_of_another() {
        let client = HeaderMap::from_iter([
            (header::AUTHORIZATION, HeaderValue::from_static("Bearer x")),
            (header::ACCEPT, HeaderValue::from_static("*/*")),
            (mcp::SESSION_ID, HeaderValue::from_static("s")),
            (mcp::LAST_EVENT_ID, HeaderValue::from_static("7")),
            (mcp::PROTOCOL_VERSION, HeaderValue::from_static("2024-11-05")),
            (HeaderName::from_static("mcp-param-stray"), HeaderValue::from_static("1")),
        ]);
        let params = [(HeaderName::from_static("mcp-param-region"), value("eu"))];
        let exchange = exchange(
            &client,
            HeaderValue::from_static("tools/call"),
            Some(value("t")),
            &params,
            Bytes::from_static(b"{}"),
        );
        assert_eq!((exchange.method, &exchange.body[..]), (Method::POST, &b"{}"[..]));
        let mut sent: Vec<_> =
            exchange.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        sent.sort_unstable();
        let expected = [
            ("accept", "application/json, text/event-stream"),
            ("accept-encoding", "identity"),
            ("authorization", "Bearer x"),
            ("content-type", "application/json"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "t"),
            ("mcp-param-region", "eu"),
            ("mcp-protocol-version", "2026-07-28"),
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn method_that_no_header_carries_makes_no_exchange() {
        for method in ["", " tools/list", "tools/list\n", "tööls/list", "=?base64?dG9vbHM=?="] {
            assert!(super::method(method).is_none(), "{method:?}");
        }
    }

    proptest! {
        #[test]
        fn value_reads_back_as_the_text(text in any::<String>()) {
            prop_assert_eq!(decoded(&value(&text)), text);
        }

        #[test]
        fn value_reads_back_as_the_text_also_near_the_marks(text in "[ \t]?(=\\?base64\\?)?[a-zé?=]{0,6}(\\?=)?[ \n]?") {
            prop_assert_eq!(decoded(&value(&text)), text);
        }
    }
}
