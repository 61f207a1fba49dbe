//! The encoder: a message comes back from the one event it becomes, and the event is of the one shape.

use serde_json::Value;
use serde_json::value::RawValue;
use sse_sunset::sse::{Decoder, message_event};

/// Characters at which some client ends a line.
const LINE_ENDS: [char; 5] = ['\r', '\n', '\u{85}', '\u{2028}', '\u{2029}'];

/// `data` is a message if it is JSON, else a text within one.
pub fn encoder(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) => comes_back(&text),
        Err(_) => comes_back(&serde_json::json!({ "jsonrpc": "2.0", "method": "m", "params": text }).to_string()),
    }
}

fn comes_back(json: &str) {
    let event = message_event("s-1", json.as_bytes());
    let lines: Vec<&str> = std::str::from_utf8(&event).expect("UTF-8 stays UTF-8").split('\n').collect();
    let [head @ .., data, "", ""] = lines.as_slice() else { panic!("no blank line at the end: {lines:?}") };
    assert_eq!(head, ["id: s-1", "event: message"], "other fields");
    let data = data.strip_prefix("data: ").expect("a data line");
    assert!(!data.contains(LINE_ENDS), "some client ends a line in {data:?}");
    assert_eq!(data, written_plainly(json));

    let mut decoder = Decoder::new(event.len());
    decoder.feed(&event);
    let back = decoder.next_event().expect("within the cap").expect("an event");
    assert!(back.is_message());
    assert_eq!(back.data, data);
    assert_eq!(decoder.next_event(), Ok(None), "one event");
    // `ok`: a text may be JSON and yet have no value, such as half of a surrogate pair.
    assert_eq!(serde_json::from_slice::<Value>(&back.data).ok(), serde_json::from_str::<Value>(json).ok());
}

/// The data line as it must be, character by character.
fn written_plainly(json: &str) -> String {
    let mut written = String::new();
    for character in json.chars() {
        match character {
            '\r' | '\n' => written.push(' '),
            '\u{85}' => written.push_str("\\u0085"),
            '\u{2028}' => written.push_str("\\u2028"),
            '\u{2029}' => written.push_str("\\u2029"),
            other => written.push(other),
        }
    }
    written
}
