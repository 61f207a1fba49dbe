//! Reads answers strictly, as no client does: whatever is left over or cut off is a fault.
//!
//! The trap: whether an answer to `HEAD` has a body cannot be seen in the answer, and which requests the proxy saw in
//! what was written is its own judgement. So a missing body is allowed where `HEAD` was written anywhere.

use sse_sunset::mcp::{self, MessageKind};
use sse_sunset::sse::Decoder;

/// One answer.
struct Answer<'a> {
    /// The body of a stream.
    events: Option<Vec<u8>>,
    /// What follows the answer; none if only the end of the connection ends it.
    after: Option<&'a [u8]>,
}

/// Reads all answers of a connection; `written` is what was asked, in upper case. Whether the last is still under way.
pub(super) fn check(came: &[u8], written: &[u8]) -> bool {
    let asks_heads = written.windows(4).any(|window| window == b"HEAD");
    let mut rest = came;
    while !rest.is_empty() {
        let answer = read_answer(rest, asks_heads);
        if let Some(events) = answer.events {
            check_events(&events);
        }
        let Some(after) = answer.after else { return true };
        rest = after;
    }
    false
}

/// Reads the stream of the ordinary client.
pub(super) fn check_stream(came: &[u8]) {
    let Answer { events: Some(events), after: None } = read_answer(came, false) else {
        panic!("no stream, or an ended one: {}", came.escape_ascii());
    };
    check_events(&events);
}

/// The session id in the endpoint event, once it is there.
pub(super) fn session_id(came: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(came);
    let (_, id) = text.split_once("/messages?sessionId=")?;
    id.split_once("\n\n").map(|(id, _)| id.to_owned())
}

fn read_answer(came: &[u8], asks_heads: bool) -> Answer<'_> {
    let fault = || format!("in {}", came.escape_ascii());
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(came).unwrap_or_else(|error| panic!("{error} {}", fault()));
    let httparse::Status::Complete(length) = parsed else { panic!("half a head {}", fault()) };
    let field = |name: &str| {
        let mut values = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        let value = values.next().map(|field| std::str::from_utf8(field.value).expect("plain text"));
        assert!(values.next().is_none(), "{name} stands there twice {}", fault());
        value
    };
    let (status, body) = (head.code.expect("a status"), &came[length..]);
    let whole = |after| Answer { events: None, after: Some(after) };
    if matches!(status, 100 | 204) {
        return whole(body);
    }
    match (field("content-length"), field("transfer-encoding")) {
        (Some(length), None) => {
            let length: usize = length.parse().expect("a length");
            match body.get(length..) {
                _ if asks_heads && (body.is_empty() || body.starts_with(b"HTTP/1.")) => whole(body),
                Some(after) => whole(after),
                None => panic!("half a body {}", fault()),
            }
        }
        (None, Some("chunked")) => {
            assert_eq!(field("content-type"), Some("text/event-stream"), "{}", fault());
            let (events, after) = dechunked(body);
            Answer { events: Some(events), after }
        }
        // HTTP/1.0, and HEAD.
        (None, None) if field("content-type") == Some("text/event-stream") => {
            Answer { events: Some(body.to_vec()), after: None }
        }
        other => panic!("framed by {other:?} {}", fault()),
    }
}

/// The plain body, and what follows its last chunk.
fn dechunked(mut body: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut plain = Vec::new();
    while !body.is_empty() {
        let size = httparse::parse_chunk_size(body).unwrap_or_else(|_| panic!("no chunk: {}", body.escape_ascii()));
        let httparse::Status::Complete((at, size)) = size else { panic!("half a size: {}", body.escape_ascii()) };
        let end = at + usize::try_from(size).expect("a small chunk");
        plain.extend_from_slice(&body[at..end]);
        assert_eq!(body.get(end..end + 2), Some(&b"\r\n"[..]), "a chunk ends: {}", body.escape_ascii());
        body = &body[end + 2..];
        if size == 0 {
            return (plain, Some(body));
        }
    }
    (plain, None)
}

/// First the endpoint, then messages that a client can read.
fn check_events(body: &[u8]) {
    let mut decoder = Decoder::new(1 << 20);
    decoder.feed(body);
    let mut is_first = true;
    while let Some(event) = decoder.next_event().expect("small events") {
        if std::mem::take(&mut is_first) {
            assert_eq!(event.kind.as_deref(), Some(&b"endpoint"[..]));
            continue;
        }
        assert!(event.is_message(), "{event:?}");
        let messages = mcp::parse(&event.data).unwrap_or_else(|error| panic!("{error}: {event:?}"));
        let [message] = messages.as_slice() else { panic!("a batch: {event:?}") };
        let names_nothing = matches!(message.kind(), MessageKind::Response { id: None, .. });
        assert!(!names_nothing, "an answer to nothing: {event:?}");
    }
}
