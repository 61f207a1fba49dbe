//! Event streams (`text/event-stream`), read from any server and written for every legacy client.
//!
//! Reading is lenient, because servers differ in everything the format leaves open. Writing is one fixed
//! shape, because every deviation from it breaks some deployed client (WIRE rules are cited in `encoder`).

mod decoder;
mod encoder;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

pub use decoder::{Decoder, Event, EventTooLarge};
pub use encoder::{KEEP_ALIVE, endpoint_event, message_event, passing_event};

/// Whether these headers are those of an event stream, whatever parameters its media type has.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().split(|byte| *byte == b';').next());
    media.is_some_and(|media| media.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}
