//! Writes the one event shape that every deployed legacy client reads.
//!
//! Exactly an id, `event: message`, one `data:` line, LF (WIRE, Stream 3). Unknown events, `retry:` and empty events
//! kill Java, Go and old Python clients, so there is no way to write them here.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr2_iter;

/// The keep-alive comment. It has **no** blank line: in Java 0.11.3 to 2.0.1 a blank line leaks one unit of demand until
/// the client stops reading, and httpx-sse and Ktor dispatch an empty event for it (WIRE, Stream 4).
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": k\n");

const ID: &[u8] = b"id: ";
const BEFORE: &[u8] = b"event: message\ndata: ";
const AFTER: &[u8] = b"\n\n";

/// The event that tells the client where to POST. `path` is ours: path-absolute, unreserved characters only.
#[must_use]
pub fn endpoint_event(path: &str) -> Bytes {
    debug_assert!(!path.contains(['\r', '\n']), "the endpoint is built here, from checked parts");
    Bytes::from(format!("event: endpoint\ndata: {path}\n\n"))
}

/// One JSON message as an event under `id`, which is ours: one line of plain characters.
///
/// The message's bytes are the upstream's own, save for what would break the line: line ends between tokens become spaces, and
/// U+0085, U+2028, U+2029, at which httpx-sse 0.4.0 and Java end a line, become JSON escapes. `json` must be valid JSON:
/// then line ends stand only between tokens, and these three characters only inside strings.
#[must_use]
pub fn message_event(id: &str, json: &[u8]) -> Bytes {
    debug_assert!(!id.contains(['\r', '\n', '\0']), "ids are made here");
    let mut event = BytesMut::with_capacity(ID.len() + id.len() + 1 + BEFORE.len() + json.len() + AFTER.len());
    event.put_slice(ID);
    event.put_slice(id.as_bytes());
    event.put_u8(b'\n');
    put_message(&mut event, json);
    event.freeze()
}

/// The same without an id, for streams that nobody can resume.
#[must_use]
pub fn passing_event(json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(BEFORE.len() + json.len() + AFTER.len());
    put_message(&mut event, json);
    event.freeze()
}

fn put_message(event: &mut BytesMut, json: &[u8]) {
    event.put_slice(BEFORE);
    let mut written = 0;
    for at in suspects(json) {
        let (replacement, taken): (&[u8], usize) = match json.get(at..).unwrap_or_default() {
            [b'\n' | b'\r', ..] => (b" ", 1),
            [0xC2, 0x85, ..] => (b"\\u0085", 2),
            [0xE2, 0x80, 0xA8, ..] => (b"\\u2028", 3),
            [0xE2, 0x80, 0xA9, ..] => (b"\\u2029", 3),
            _ => continue,
        };
        event.put_slice(json.get(written..at).unwrap_or_default());
        event.put_slice(replacement);
        written = at + taken;
    }
    event.put_slice(json.get(written..).unwrap_or_default());
    event.put_slice(AFTER);
}

/// Where bytes stand that may have to be replaced, in order. Two searches side by side, so that neither is repeated.
fn suspects(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut line_ends = memchr2_iter(b'\n', b'\r', bytes).peekable();
    let mut leads = memchr2_iter(0xC2, 0xE2, bytes).peekable();
    std::iter::from_fn(move || match (line_ends.peek(), leads.peek()) {
        (Some(end), Some(lead)) if end < lead => line_ends.next(),
        (_, Some(_)) => leads.next(),
        (_, None) => line_ends.next(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sse::Decoder;

    fn text(event: &Bytes) -> &str {
        std::str::from_utf8(event).expect("utf-8")
    }

    #[test]
    fn message_bytes_pass_unchanged() {
        assert_eq!(text(&message_event("s-1", b"{\"a\": 1}")), "id: s-1\nevent: message\ndata: {\"a\": 1}\n\n");
    }

    #[test]
    fn line_ends_between_tokens_become_spaces() {
        assert_eq!(text(&message_event("s-2", b"{\r\n\"a\":\n1}")), "id: s-2\nevent: message\ndata: {  \"a\": 1}\n\n");
    }

    #[test]
    fn unicode_line_ends_become_escapes_and_neighbours_stay() {
        let event = message_event("1", "{\"a\":\"\u{85}\u{2028}\u{2029}é€\u{2027}\"}".as_bytes());
        assert_eq!(text(&event), "id: 1\nevent: message\ndata: {\"a\":\"\\u0085\\u2028\\u2029é€\u{2027}\"}\n\n");
    }

    #[test]
    fn endpoint_is_one_event() {
        assert_eq!(text(&endpoint_event("/messages?sessionId=x")), "event: endpoint\ndata: /messages?sessionId=x\n\n");
    }

    proptest! {
        #[test]
        fn messages_come_back_as_the_same_json(value in "[a-z\u{80}-\u{a0}\u{2020}-\u{2030}\n\"\\\\]{0,60}", pretty in any::<bool>()) {
            let value = serde_json::json!({ "text": value, "n": 1 });
            let json = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.expect("json");
            let mut decoder = Decoder::new(1 << 20);
            decoder.feed(&message_event("key-7", &json));
            let event = decoder.next_event().expect("small").expect("one event");
            prop_assert!(!event.data.contains(&b'\n') && !event.data.contains(&b'\r'));
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&event.data).expect("json"), value);
            prop_assert_eq!(decoder.next_event(), Ok(None));
            prop_assert_eq!(decoder.last_id().map(AsRef::as_ref), Some(&b"key-7"[..]));
        }
    }
}
