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

use super::reply::{Refused, accepted, last};
use super::visitor::Visitor;
use super::{Answered, Config, Shared, foreign, oauth};
use crate::auth::Sender;
use crate::mcp::{self, IdScanner, Malformed, Message, MessageKind, RequestId, RpcError, code};
use crate::session::{Hold, Payload, SessionId, Verdict};
use crate::upstream::{Hop, forwarded_headers};

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

/// What came of a body.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// All of it.
    Whole(Bytes),
    /// The id of a request, which is owed an error.
    Request(RequestId, RpcError),
    /// The id of an answer to a server's request: the server is owed an error.
    Response(RequestId, RpcError),
}

/// A POST at the replica that owns its session, but for its content.
#[derive(Debug)]
pub(super) struct Posted<'a> {
    /// The session.
    pub(super) id: &'a str,
    /// As the client sent them.
    pub(super) headers: &'a HeaderMap,
    /// The client's side of its connection.
    pub(super) hop: &'a Hop,
    /// Who posted it.
    pub(super) sender: Sender,
    /// The memory it takes.
    pub(super) hold: Hold,
    /// How long it may wait for the upstream's word.
    pub(super) patience: Duration,
    /// By when it has to be answered in any case.
    pub(super) latest: Option<Instant>,
}

pub(super) async fn deliver(shared: &Shared, visitor: &Visitor, request: Request<Incoming>) -> Answered {
    let id = session_id(request.uri().query()).map_err(Refused::SessionId)?;
    let sender = visitor.sender();
    // Before anything else that could tell it from a session that is not there.
    let owner = match shared.sessions.admits(id, &sender) {
        Some(true) => None,
        Some(false) => return Err(Refused::UnknownSession),
        None => Some(foreign::owner(shared, id).ok_or(Refused::UnknownSession)?),
    };
    let id = id.to_owned();
    check_media_type(request.headers())?;
    let (head, body) = request.into_parts();
    let mut hold = shared.sessions.hold();
    let (content, goes_on) = match Reader::new(body, &shared.config, &mut hold).read().await? {
        Text::Whole(text) => (Content::Whole(text), true),
        Text::Refused { scanner, refused, to_its_end } => {
            (unreadable(&scanner, error_for(&refused)).ok_or(refused)?, to_its_end)
        }
    };
    let answer = if let Some(owner) = owner {
        // Nobody else is bothered with what is none.
        content.check()?;
        Box::pin(foreign::ask(shared, owner, id, visitor, head.headers, content)).await?
    } else {
        let patience = shared.sessions.patience();
        let (headers, hop) = (&head.headers, visitor.hop());
        let posted = Posted { id: &id, headers, hop, sender, hold, patience, latest: None };
        judge(shared, posted, content.payloads()?).await?
    };
    Ok(if goes_on { answer } else { last(answer) })
}

/// What becomes of a POST: of a client's here, or of one at another replica.
pub(super) async fn judge(shared: &Shared, posted: Posted<'_>, payloads: Vec<Payload>) -> Answered {
    let Posted { id, headers, hop, sender, hold, patience, latest } = posted;
    let up = forwarded_headers(headers, hop);
    match shared.sessions.deliver_within(patience, id, payloads, up, sender, hold).await {
        Verdict::Accepted => {
            oauth::accepted(shared, id);
            Ok(accepted())
        }
        Verdict::Rejected(rejection) => {
            Err(Box::pin(oauth::refusal(shared, hop, headers, id, rejection, latest)).await)
        }
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
    let pairs = query.unwrap_or_default().split('&').filter_map(|part| part.split_once('='));
    let mut ids = pairs.filter(|(name, _)| matches!(*name, "sessionId" | "session_id")).map(|(_, id)| id);
    match (ids.next(), ids.next()) {
        (None | Some(""), None) => Err("the URL names no sessionId"),
        (Some(id), None) if id.len() > SessionId::MAX_LEN => Err("the sessionId is too long"),
        (Some(id), None) => Ok(id),
        (_, Some(_)) => Err("the URL names more than one sessionId"),
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

impl Content {
    /// What the session gets of it.
    pub(super) fn payloads(self) -> Result<Vec<Payload>, Refused> {
        let text = match self {
            Content::Whole(text) => text,
            Content::Request(id, error) => return Ok(vec![Payload::UnreadableRequest(id, error)]),
            Content::Response(id, error) => return Ok(vec![Payload::UnreadableResponse(id, error)]),
        };
        match mcp::parse(&text) {
            Ok(messages) => Ok(messages.into_iter().map(payload).collect()),
            Err(malformed) => salvaged(&text, &malformed)?.payloads(),
        }
    }

    /// Whether the session gets anything of it.
    fn check(&self) -> Result<(), Refused> {
        match self {
            Content::Whole(text) => match mcp::parse(text) {
                Ok(_) => Ok(()),
                Err(malformed) => salvaged(text, &malformed).map(|_| ()),
            },
            Content::Request(..) | Content::Response(..) => Ok(()),
        }
    }

    /// The same in memory that is taken from `hold`; where there is none, what can be told without.
    pub(super) fn held(self, hold: &mut Hold) -> Result<Self, Refused> {
        match self {
            Content::Whole(text) if !hold.grow(text.len()) => {
                let mut scanner = IdScanner::default();
                scanner.feed(&text);
                unreadable(&scanner, error_for(&Refused::Memory)).ok_or(Refused::Memory)
            }
            content => Ok(content),
        }
    }
}

/// What there is in a text that is no message.
fn salvaged(text: &Bytes, malformed: &Malformed) -> Result<Content, Refused> {
    let mut scanner = IdScanner::default();
    scanner.feed(text);
    let error = RpcError::new(code::PARSE_ERROR, "malformed_message", malformed.to_string());
    unreadable(&scanner, error).ok_or_else(|| Refused::Malformed(malformed.to_string()))
}

fn payload(message: Message) -> Payload {
    let MessageKind::Request { id, .. } = message.kind() else { return Payload::Message(message) };
    let Some(key) = message.doubled_subject() else { return Payload::Message(message) };
    let text = format!("params names {key:?} twice; a checker and the server could each take another");
    Payload::UnreadableRequest(id.clone(), RpcError::new(code::INVALID_PARAMS, "duplicate_key", text))
}

fn unreadable(scanner: &IdScanner, error: RpcError) -> Option<Content> {
    match (scanner.request_id(), scanner.response_id()) {
        (Some(id), _) => Some(Content::Request(id, error)),
        (_, Some(id)) => Some(Content::Response(id, error)),
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
