//! `POST /messages`: reads one message and hands it to its session.
//!
//! HTTP errors only where no live session or no id can be found: a 4xx or 5xx ends the Python client's writer for ever.
//! Everything else is a 202 and a JSON-RPC error on the stream (WIRE, POST 1).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::reply::{Refused, accepted, accepted_at_last};
use super::visitor::Visitor;
use super::{Answered, Config, Shared, oauth};
use crate::mcp::{self, IdScanner, Message, MessageKind, RpcError, code};
use crate::session::{Hold, Payload, SessionId, Verdict};
use crate::upstream::forwarded_headers;

/// How much of a body over the limit is read in search of an id, as a multiple of the limit.
const DRAIN_FACTOR: usize = 4;

/// Longest silence within a body: what was read of it is held for so long.
const STALL: Duration = Duration::from_secs(5);

/// A body, as far as it was read.
enum Text {
    Whole(Bytes),
    /// It is not taken, and this is what the client is told if it can be told by HTTP only.
    Refused {
        scanner: IdScanner,
        refused: Refused,
        /// Whether it was read to its end, so that the connection can go on.
        to_its_end: bool,
    },
}

pub(super) async fn deliver(shared: &Shared, visitor: &Visitor, request: Request<Incoming>) -> Answered {
    let id = session_id(request.uri().query()).map_err(Refused::SessionId)?;
    let sender = visitor.sender();
    // Before anything else that could tell it from a session that is not there.
    if !shared.sessions.has_for(id, &sender) {
        return Err(Refused::UnknownSession);
    }
    let id = id.to_owned();
    check_media_type(request.headers())?;
    let (head, body) = request.into_parts();
    let mut goes_on = true;
    let mut hold = shared.sessions.hold();
    let payloads = match Reader::new(body, &shared.config, &mut hold).read().await? {
        Text::Whole(text) => payloads(&text)?,
        Text::Refused { scanner, refused, to_its_end } => {
            goes_on = to_its_end;
            vec![unreadable(&scanner, error_for(&refused)).ok_or(refused)?]
        }
    };
    let headers = forwarded_headers(&head.headers, visitor.hop());
    match shared.sessions.deliver(&id, payloads, headers, sender, hold).await {
        Verdict::Accepted => {
            oauth::accepted(shared, &id);
            Ok(if goes_on { accepted() } else { accepted_at_last() })
        }
        Verdict::Rejected(rejection) => Err(oauth::refusal(shared, visitor, &head.headers, &id, rejection).await),
        Verdict::Busy => Err(Refused::Busy),
        Verdict::Gone => Err(Refused::UnknownSession),
    }
}

/// A body that is of use only if it can be taken whole.
pub(super) async fn whole(body: Incoming, config: &Config, hold: &mut Hold) -> Result<Bytes, Refused> {
    match Reader::new(body, config, hold).read().await? {
        Text::Whole(text) => Ok(text),
        Text::Refused { refused, .. } => Err(refused),
    }
}

/// The one session id in the query. There is no fallback: a missing id never means "the only session there is".
///
/// # Errors
/// When there is none, more than one, or one that cannot be ours, in words for whoever sent it.
pub fn session_id(query: Option<&str>) -> Result<&str, &'static str> {
    let named = |pair: &'static str| move |part: &&str| part.split_once('=').is_some_and(|(name, _)| name == pair);
    let parts: Vec<&str> = query.unwrap_or_default().split('&').collect();
    let ids: Vec<&str> = ["sessionId", "session_id"]
        .into_iter()
        .flat_map(|name| parts.iter().copied().filter(named(name)))
        .filter_map(|part| part.split_once('=').map(|(_, id)| id))
        .collect();
    match ids.as_slice() {
        [] | [""] => Err("the URL names no sessionId"),
        [id] if id.len() > SessionId::MAX_LEN => Err("the sessionId is too long"),
        [id] => Ok(id),
        _ => Err("the URL names more than one sessionId"),
    }
}

/// A page can send `text/plain` across origins without asking (CVE-2026-33252); JSON it cannot.
pub(super) fn check_media_type(headers: &HeaderMap) -> Result<(), Refused> {
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

/// Reads a body within its limits of size and time.
struct Reader<'a> {
    body: Incoming,
    /// The memory that is left.
    hold: &'a mut Hold,
    max: usize,
    time: Duration,
    until: Instant,
    /// Bytes read.
    taken: usize,
}

impl<'a> Reader<'a> {
    fn new(body: Incoming, config: &Config, hold: &'a mut Hold) -> Self {
        let until = Instant::now() + config.body_time;
        Reader { body, hold, max: config.max_body, time: config.body_time, until, taken: 0 }
    }

    async fn read(mut self) -> Result<Text, Refused> {
        let mut held = BytesMut::new();
        loop {
            match self.next().await {
                Ok(None) => return Ok(Text::Whole(held.freeze())),
                Ok(Some(data)) if self.taken <= self.max && self.hold.grow(data.len()) => held.extend_from_slice(&data),
                Ok(Some(data)) => {
                    let refused = if self.taken > self.max { Refused::TooLarge(self.max) } else { Refused::Memory };
                    let mut scanner = IdScanner::default();
                    scanner.feed(&held);
                    scanner.feed(&data);
                    drop((held, data));
                    self.hold.release();
                    return self.drain(scanner, refused).await;
                }
                Err(refused) => {
                    let mut scanner = IdScanner::default();
                    scanner.feed(&held);
                    return break_off(scanner, refused);
                }
            }
        }
    }

    /// A body that is not taken is read on, without being kept, up to four times the limit in search of its id.
    async fn drain(mut self, mut scanner: IdScanner, refused: Refused) -> Result<Text, Refused> {
        while self.taken <= self.max.saturating_mul(DRAIN_FACTOR) {
            match self.next().await {
                Ok(None) => return Ok(Text::Refused { scanner, refused, to_its_end: true }),
                Ok(Some(data)) => scanner.feed(&data),
                Err(slow_or_broken) => return break_off(scanner, slow_or_broken),
            }
        }
        Ok(Text::Refused { scanner, refused, to_its_end: false })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        loop {
            let stalled = Instant::now() + STALL;
            match timeout_at(self.until.min(stalled), self.body.frame()).await {
                Err(_) if stalled < self.until => return Err(Refused::Stalled(STALL)),
                Err(_) => return Err(Refused::Slow(self.time)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Refused::Incomplete),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.taken += data.len();
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The body will not come to its end.
fn break_off(scanner: IdScanner, refused: Refused) -> Result<Text, Refused> {
    match refused {
        Refused::Slow(_) | Refused::Stalled(_) => Ok(Text::Refused { scanner, refused, to_its_end: false }),
        // The client is gone.
        refused => Err(refused),
    }
}

/// The same as `refused`, for a message whose id was found.
fn error_for(refused: &Refused) -> RpcError {
    match refused {
        Refused::TooLarge(limit) => {
            RpcError::new(code::INVALID_REQUEST, "message_too_large", refused.text()).with("limit_bytes", *limit)
        }
        Refused::Memory => RpcError::new(code::SESSION, "proxy_memory", refused.text()).with("retry_after", "1"),
        _ => RpcError::new(code::INVALID_REQUEST, "message_too_slow", refused.text()),
    }
}

fn payloads(text: &Bytes) -> Result<Vec<Payload>, Refused> {
    match mcp::parse(text) {
        Ok(messages) => Ok(messages.into_iter().map(payload).collect()),
        Err(malformed) => {
            let mut scanner = IdScanner::default();
            scanner.feed(text);
            let error = RpcError::new(code::PARSE_ERROR, "malformed_message", malformed.to_string());
            Ok(vec![unreadable(&scanner, error).ok_or(Refused::Malformed(malformed.to_string()))?])
        }
    }
}

fn payload(message: Message) -> Payload {
    let MessageKind::Request { id, .. } = message.kind() else { return Payload::Message(message) };
    let Some(key) = message.doubled_subject() else { return Payload::Message(message) };
    let text = format!("params names {key:?} twice; a checker and the server could each take another");
    Payload::UnreadableRequest(id.clone(), RpcError::new(code::INVALID_PARAMS, "duplicate_key", text))
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
            assert!(session_id(query).is_err(), "{query:?}");
        }
        assert_eq!(session_id(Some(&format!("sessionId={}", "a".repeat(129)))), Err("the sessionId is too long"));
    }
}
