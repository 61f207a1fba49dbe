//! `POST /messages`: reads one message and hands it to its session.
//!
//! HTTP errors only where no live session or no id can be found: a 4xx or 5xx ends the Python client's writer for ever.
//! Everything else is a 202 and a JSON-RPC error on the stream (WIRE, POST 1).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::reply::{Refused, accepted};
use super::visitor::Visitor;
use super::{Answered, Shared};
use crate::mcp::{self, IdScanner, RpcError, code};
use crate::session::{Credential, Payload, SessionId, Verdict};
use crate::upstream::forwarded_headers;

/// How much of a body over the limit is read in search of an id, as a multiple of the limit.
const DRAIN_FACTOR: usize = 4;

/// A body, as far as it was read.
enum Text {
    Whole(Bytes),
    TooLarge(IdScanner),
}

pub(super) async fn deliver(shared: &Shared, visitor: &Visitor, request: Request<Incoming>) -> Answered {
    let id = session_id(request.uri().query())?;
    let session = shared.sessions.find(id).ok_or(Refused::UnknownSession)?;
    check_media_type(request.headers())?;
    let (head, body) = request.into_parts();
    let max = shared.config.max_body;
    let payloads = match read(body, max).await? {
        Text::Whole(text) => payloads(&text)?,
        Text::TooLarge(scanner) => {
            let text = format!("the message is larger than {max} bytes, the limit of this proxy");
            let error = RpcError::new(code::INVALID_REQUEST, "message_too_large", text).with("limit_bytes", max);
            vec![unreadable(&scanner, error).ok_or(Refused::TooLarge(max))?]
        }
    };
    let credential = Credential::of(&head.headers);
    let headers = forwarded_headers(&head.headers, visitor.hop());
    match session.deliver(payloads, headers, credential).await {
        Verdict::Accepted => Ok(accepted()),
        Verdict::Rejected(rejection) => Err(Refused::Credential(rejection)),
        Verdict::Busy => Err(Refused::Busy),
        Verdict::Gone => Err(Refused::UnknownSession),
    }
}

/// The one session id in the query. There is no fallback: a missing id never means "the only session there is".
fn session_id(query: Option<&str>) -> Result<&str, Refused> {
    let named = |pair: &'static str| move |part: &&str| part.split_once('=').is_some_and(|(name, _)| name == pair);
    let parts: Vec<&str> = query.unwrap_or_default().split('&').collect();
    let ids: Vec<&str> = ["sessionId", "session_id"]
        .into_iter()
        .flat_map(|name| parts.iter().copied().filter(named(name)))
        .filter_map(|part| part.split_once('=').map(|(_, id)| id))
        .collect();
    match ids.as_slice() {
        [] | [""] => Err(Refused::SessionId("the URL names no sessionId")),
        [id] if id.len() > SessionId::MAX_LEN => Err(Refused::SessionId("the sessionId is too long")),
        [id] => Ok(id),
        _ => Err(Refused::SessionId("the URL names more than one sessionId")),
    }
}

/// A page can send `text/plain` across origins without asking (CVE-2026-33252); JSON it cannot.
fn check_media_type(headers: &HeaderMap) -> Result<(), Refused> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Refused::MediaType("the Content-Type is not application/json"));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => Err(Refused::MediaType("the body is encoded")),
        _ => Ok(()),
    }
}

/// Reads the body; one over the limit is read on, without being kept, up to four times the limit in search of its id.
async fn read(mut body: Incoming, max: usize) -> Result<Text, Refused> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refused::Incomplete)?.into_data() else { continue };
        if held.len() + data.len() > max {
            let mut scanner = IdScanner::default();
            scanner.feed(&held);
            scanner.feed(&data);
            return drain(body, scanner, held.len() + data.len(), max).await;
        }
        held.extend_from_slice(&data);
    }
    Ok(Text::Whole(held.freeze()))
}

async fn drain(mut body: Incoming, mut scanner: IdScanner, mut taken: usize, max: usize) -> Result<Text, Refused> {
    loop {
        if taken > max.saturating_mul(DRAIN_FACTOR) {
            return Err(Refused::TooLarge(max));
        }
        let Some(frame) = body.frame().await else { return Ok(Text::TooLarge(scanner)) };
        let Ok(data) = frame.map_err(|_| Refused::Incomplete)?.into_data() else { continue };
        taken += data.len();
        scanner.feed(&data);
    }
}

fn payloads(text: &Bytes) -> Result<Vec<Payload>, Refused> {
    match mcp::parse(text) {
        Ok(messages) => Ok(messages.into_iter().map(Payload::Message).collect()),
        Err(malformed) => {
            let mut scanner = IdScanner::default();
            scanner.feed(text);
            let error = RpcError::new(code::PARSE_ERROR, "malformed_message", malformed.to_string());
            Ok(vec![unreadable(&scanner, error).ok_or(Refused::Malformed(malformed.to_string()))?])
        }
    }
}

fn unreadable(scanner: &IdScanner, error: RpcError) -> Option<Payload> {
    match (scanner.request_id(), scanner.response_id()) {
        (Some(id), _) => Some(Payload::UnreadableRequest(id, error)),
        (_, Some(id)) => Some(Payload::UnreadableResponse(id, error)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_is_named_exactly_once_under_either_name() {
        assert_eq!(session_id(Some("sessionId=a")), Ok("a"));
        assert_eq!(session_id(Some("x=1&session_id=b&y")), Ok("b"));
        for query in [
            None,
            Some(""),
            Some("sessionId="),
            Some("sessionid=a"),
            Some("sessionId=a&sessionId=a"),
            Some("sessionId=a&session_id=b"),
        ] {
            assert!(matches!(session_id(query), Err(Refused::SessionId(_))), "{query:?}");
        }
        assert!(matches!(session_id(Some(&format!("sessionId={}", "a".repeat(129)))), Err(Refused::SessionId(_))));
    }
}
