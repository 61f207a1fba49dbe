//! What goes to a server of the session era (revisions 2025-03-26 to 2025-11-25), and what its refusals tell.
//!
//! Messages pass as they are; this adds what the transport wants beside them: the session id, the negotiated version,
//! and exact media types (TypeScript refuses `*/*`, Go answers 400).

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use super::transport::{ACCEPT_BOTH, Body, Content, EVENT_STREAM, IDENTITY, JSON};
use super::{Answer, Exchange};
use crate::mcp::{self, code};
use crate::sse::Decoder;

/// Longest refusal that is read to see what it means, in bytes.
const LONGEST_REFUSAL: usize = 64 << 10;

/// Whether a refusal comes from a server that speaks the modern era only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    None,
    /// A server of sessions may have meant its own: the server is to be asked.
    Weak,
    Certain,
}

/// What the requests of one session name.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Taken from the 2xx answer to `initialize`, and from nowhere else.
    pub(super) session_id: Option<HeaderValue>,
    /// The negotiated version, where requests have to name it.
    version: Option<HeaderValue>,
}

impl Names {
    /// Of a request in the session `id`.
    pub(super) fn of_session(id: HeaderValue) -> Self {
        Names { session_id: Some(id), version: None }
    }

    /// Notes the version that `initialize` settled. Requests name it from 2025-06-18 on; before, the header did not
    /// exist and some servers refuse it.
    pub(super) fn negotiated(&mut self, version: &str) {
        self.version = HeaderValue::from_str(version).ok().filter(|_| version >= mcp::VERSION_HEADER_SINCE);
    }

    fn headers(&self, client: &HeaderMap) -> HeaderMap {
        let mut headers = client.clone();
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        if let Some(session_id) = &self.session_id {
            headers.insert(mcp::SESSION_ID, session_id.clone());
        }
        if let Some(version) = &self.version {
            headers.insert(mcp::PROTOCOL_VERSION, version.clone());
        }
        headers
    }
}

/// A message; `client` are the headers of the client's own request.
pub(super) fn post(names: &Names, client: &HeaderMap, body: Bytes) -> Exchange {
    let mut headers = names.headers(client);
    headers.insert(header::ACCEPT, ACCEPT_BOTH);
    headers.insert(header::CONTENT_TYPE, JSON);
    Exchange { method: Method::POST, headers, body }
}

/// The GET stream, after `last_event_id` if it was open before.
pub(super) fn get(names: &Names, client: &HeaderMap, last_event_id: Option<&HeaderValue>) -> Exchange {
    let mut headers = names.headers(client);
    headers.insert(header::ACCEPT, EVENT_STREAM);
    if let Some(id) = last_event_id {
        headers.insert(mcp::LAST_EVENT_ID, id.clone());
    }
    Exchange { method: Method::GET, headers, body: Bytes::new() }
}

/// The end of the session (MCP 2025-03-26, transports §Session Management 5); `None` when the server holds none.
pub(super) fn delete(names: &Names, client: &HeaderMap) -> Option<Exchange> {
    names.session_id.as_ref()?;
    Some(Exchange { method: Method::DELETE, headers: names.headers(client), body: Bytes::new() })
}

/// The answer of a server that knows no such session.
pub(super) fn lost(why: &'static str) -> Answer {
    Answer {
        status: StatusCode::NOT_FOUND,
        headers: HeaderMap::new(),
        body: Content::Bytes(stream::iter([Ok(Bytes::from_static(why.as_bytes()))]).boxed()),
    }
}

/// An answer of one message.
pub(super) fn json(status: StatusCode, body: Bytes) -> Answer {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, JSON)]);
    Answer { status, headers, body: Content::Bytes(stream::iter([Ok(body)]).boxed()) }
}

/// Reads a 400 to see whether it comes from a server that speaks the modern era only. The answer is given back as it was.
pub(super) async fn read_refusal(answer: Answer, has_session: bool) -> (Answer, Evidence) {
    let Answer { status, headers, body } = answer;
    let Content::Bytes(mut body) = body else { return (Answer { status, headers, body }, Evidence::None) };
    let mut start = BytesMut::new();
    let mut fault = None;
    while start.len() <= LONGEST_REFUSAL {
        match body.next().await {
            Some(Ok(chunk)) => start.extend_from_slice(&chunk),
            Some(Err(error)) => {
                fault = Some(error);
                break;
            }
            None => break,
        }
    }
    let start = start.freeze();
    let evidence = evidence(&start, has_session);
    let whole: Body = match fault {
        Some(fault) => stream::iter([Ok(start), Err(fault)]).boxed(),
        None => stream::iter([Ok(start)]).chain(body).boxed(),
    };
    (Answer { status, headers, body: Content::Bytes(whole) }, evidence)
}

/// Whether an error is one that only a server of the modern era makes of a request of this era (UPSTREAMS B.2, and D.1,
/// runtime flips). So is one that misses what every request of that era has in `_meta`, which all such servers have to make (MCP
/// 2026-07-28, basic §_meta); with a session id, a server of sessions may mean its own.
fn evidence(refusal: &[u8], has_session: bool) -> Evidence {
    #[derive(Deserialize)]
    struct Refusal {
        error: Failure,
    }
    #[derive(Deserialize)]
    struct Failure {
        code: i64,
        #[serde(default)]
        message: String,
        #[serde(default)]
        data: serde_json::Value,
    }
    let Ok(Refusal { error }) = serde_json::from_slice::<Refusal>(refusal) else { return Evidence::None };
    let supported = error.data.get("supported").and_then(serde_json::Value::as_array);
    let names_modern =
        || supported.is_some_and(|versions| versions.iter().any(|version| version == mcp::MODERN_VERSION));
    let misses_meta = || error.message.contains("_meta") || error.message.contains("protocolVersion");
    match error.code {
        code::UNSUPPORTED_VERSION if names_modern() => Evidence::Certain,
        code::HEADER_MISMATCH => Evidence::Certain,
        code::INVALID_PARAMS if misses_meta() && has_session => Evidence::Weak,
        code::INVALID_PARAMS if misses_meta() => Evidence::Certain,
        _ => Evidence::None,
    }
}

/// Whether an answer is an event stream that begins as one of HTTP+SSE does (MCP 2024-11-05, transports §HTTP with SSE).
pub(super) async fn begins_with_endpoint(answer: Answer) -> Option<bool> {
    if !answer.status.is_success() || !answer.is_event_stream() {
        return Some(false);
    }
    let Content::Bytes(mut body) = answer.body else { return Some(false) };
    let mut decoder = Decoder::new(LONGEST_REFUSAL);
    while let Some(Ok(chunk)) = body.next().await {
        decoder.feed(&chunk);
        if let Ok(Some(event)) = decoder.next_event() {
            return Some(event.kind.as_deref() == Some(b"endpoint"));
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_modern_server_says_of_old_requests_is_evidence() {
        let certain = |text: &str, has_session| evidence(text.as_bytes(), has_session) == Evidence::Certain;
        let none = |text: &str| evidence(text.as_bytes(), false) == Evidence::None;
        let named = r#"{"id":1,"error":{"code":-32022,"message":"m","data":{"supported":["2026-07-28"]}}}"#;
        assert!(certain(named, true) && certain(named, false));
        assert!(none(r#"{"error":{"code":-32022,"message":"m","data":{"supported":["2025-11-25"]}}}"#));
        assert!(none(r#"{"error":{"code":-32022,"message":"m"}}"#));
        let missing = r#"{"error":{"code":-32602,"message":"request requires protocolVersion in request _meta"}}"#;
        assert!(certain(missing, false));
        assert_eq!(evidence(missing.as_bytes(), true), Evidence::Weak);
        assert!(none(r#"{"error":{"code":-32602,"message":"limit must be a number"}}"#));
        assert!(certain(r#"{"error":{"code":-32020,"message":"no Mcp-Method"}}"#, true));
        assert!(none("Bad Request"));
    }
}
