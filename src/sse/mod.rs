//! Event streams (`text/event-stream`), read from any server and written for every legacy client.
//!
//! Reading is lenient, because servers differ in everything the format leaves open. Writing is one fixed
//! shape, because every deviation from it breaks some deployed client (WIRE rules are cited in `encoder`).

mod decoder;
mod encoder;

pub use decoder::{Decoder, Event, EventTooLarge};
pub use encoder::{KEEP_ALIVE, endpoint_event, message_event, passing_event};
