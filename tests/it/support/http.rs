//! Answers as bytes, for scripts. Nothing is checked: whoever wants them wrong writes them wrong.

use bytes::Bytes;

use super::script::{Script, Step};

/// A whole answer with its length.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Step {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} Scripted\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if status != 204 {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    Step::Send(bytes.into())
}

/// A whole JSON document.
pub(crate) fn document(body: impl AsRef<[u8]>) -> Step {
    reply(200, &[("content-type", "application/json")], body)
}

/// Any text as it stands.
pub(crate) fn send(bytes: impl Into<Bytes>) -> Step {
    Step::Send(bytes.into())
}

/// The head of an event stream whose body comes in chunks.
pub(crate) fn stream_head() -> Step {
    send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// One chunk of such a body. The proxy sees chunks one by one, however they travel.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    Step::Send(framed.into())
}

/// The end of such a body.
pub(crate) fn last_chunk() -> Step {
    send("0\r\n\r\n")
}

/// A whole event stream with this body.
pub(crate) fn stream(body: impl AsRef<[u8]>) -> Script {
    vec![stream_head(), chunk(body), last_chunk()]
}

/// A message as an event.
pub(crate) fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}
