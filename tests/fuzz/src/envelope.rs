//! The envelope: any bytes are read, ids are spliced and nothing else is, and the scanner never names another's id.

use bytes::Bytes;
use serde_json::Value;
use sse_sunset::mcp::{IdScanner, Message, MessageKind, RequestId, parse};

/// `data` is what a client posted.
pub fn envelope(data: &[u8]) {
    let scanned = scan(data.chunks(data.len().max(1)));
    assert_eq!(scan(data.chunks(1)), scanned, "the scanner depends on the split");
    let Ok(messages) = parse(&Bytes::copy_from_slice(data)) else { return };
    assert!(!messages.is_empty());
    for message in &messages {
        let text = message.bytes();
        assert!(data.windows(text.len()).any(|window| window == text), "the bytes are not those that came");
        assert_eq!(one(text).kind(), message.kind());
        ids_are_spliced(message);
        let _ = (message.doubled_subject(), message.params::<Value>(), message.result::<Value>());
        scanner_names_no_other_id(message);
    }
}

fn one(text: &Bytes) -> Message {
    let mut messages = parse(text).expect("it was well formed before");
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

/// The request id and the response id that the scanner finds.
fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Option<RequestId>, Option<RequestId>) {
    let mut scanner = IdScanner::default();
    pieces.for_each(|piece| scanner.feed(piece));
    (scanner.request_id(), scanner.response_id())
}

fn ids_are_spliced(message: &Message) {
    let ours = RequestId::text("ours\u{e9}\"\\");
    let spliced = one(&message.with_id(&ours));
    match (message.kind(), spliced.kind()) {
        (MessageKind::Request { id, method }, MessageKind::Request { id: new, method: same }) => {
            assert_eq!((new, same), (&ours, method));
            assert_eq!(one(&spliced.with_id(id)).kind(), message.kind(), "and back");
        }
        (MessageKind::Notification { method }, MessageKind::Request { id, method: same }) => {
            assert_eq!((id, same), (&ours, method));
        }
        (MessageKind::Response { is_error, .. }, MessageKind::Response { id, is_error: same }) => {
            assert_eq!((id.as_ref(), same), (Some(&ours), is_error));
        }
        (before, after) => panic!("{before:?} became {after:?}"),
    }
    same_without(&spliced, message, &["id"]);

    let renamed = message.with_request_id_param(&ours);
    if message.request_id_param().is_some() {
        let renamed = one(&renamed.expect("it names one"));
        assert_eq!(renamed.request_id_param().as_ref(), Some(&ours));
        assert_eq!(renamed.kind(), message.kind());
        same_without(&renamed, message, &["params", "requestId"]);
    }
}

/// Nothing but the member that `path` names has changed. What has no value, such as an id of 1e999, cannot be compared.
fn same_without(changed: &Message, message: &Message, path: &[&str]) {
    if let (Some(changed), Some(message)) = (without(changed, path), without(message, path)) {
        assert_eq!(changed, message, "something else changed");
    }
}

fn without(message: &Message, path: &[&str]) -> Option<Value> {
    let mut whole: Value = serde_json::from_slice(message.bytes()).ok()?;
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(&mut whole, |value, name| value.get_mut(name))?;
    parent.as_object_mut()?.remove(*last);
    Some(whole)
}

/// Wherever the text breaks off: an error under another's id would be a second answer to that one.
fn scanner_names_no_other_id(message: &Message) {
    let (request, response) = match message.kind() {
        MessageKind::Request { id, .. } => (Some(id), None),
        MessageKind::Notification { .. } => (None, None),
        MessageKind::Response { id, .. } => (None, id.as_ref()),
    };
    let text = message.bytes();
    let mut scanner = IdScanner::default();
    for (at, byte) in text.iter().enumerate() {
        scanner.feed(&[*byte]);
        for (found, has) in [(scanner.request_id(), request), (scanner.response_id(), response)] {
            assert!(found.is_none() || found.as_ref() == has, "{found:?} instead of {has:?} at {at}");
        }
    }
    // Keys spelled with escapes are not found.
    if !text.contains(&b'\\') {
        assert_eq!((scanner.request_id().as_ref(), scanner.response_id().as_ref()), (request, response));
    }
}
