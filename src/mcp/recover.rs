//! Finds the id of a message that cannot be read: too large, or not JSON.
//!
//! Why: an HTTP error on POST ends the Python client's writer for ever, so wherever an id can be found, the refusal
//! is a JSON-RPC error under that id (WIRE, POST 1). Python may put the id last, so the whole text is walked, in
//! pieces, in constant memory. It is a best effort on broken text: what it finds is used for an error message only.

use serde_json::value::RawValue;

use super::RequestId;

/// Longest top-level key that matters (`method`), in bytes.
const LONGEST_KEY: usize = 6;

/// Walks a message and remembers its top-level `id` and whether it is a request or a response.
#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "two are the lexer's state, two are what was seen; none excludes another"
)]
pub struct IdScanner {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// At depth 1: what the next string is.
    expects_key: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    place: Place,
    id: Option<RequestId>,
    is_request: bool,
    is_response: bool,
}

/// What the scanner collects at depth 1.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Elsewhere,
    Key,
    IdValue,
}

impl IdScanner {
    /// Walks the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            if self.in_string {
                self.string_byte(byte);
            } else {
                self.structure_byte(byte);
            }
        }
    }

    /// The id, if the text is a request.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        if self.is_request && !self.is_response { self.found() } else { None }
    }

    /// The id, if the text is a response.
    #[must_use]
    pub fn response_id(&self) -> Option<RequestId> {
        if self.is_response && !self.is_request { self.found() } else { None }
    }

    /// The id, or the one that the text breaks off after. A number that the text breaks off in could be another's id: the
    /// next byte might be a digit.
    fn found(&self) -> Option<RequestId> {
        let is_whole =
            || self.place == Place::IdValue && matches!(self.value.last(), Some(b'"' | b' ' | b'\t' | b'\n' | b'\r'));
        self.id.clone().or_else(|| is_whole().then(|| read_id(&self.value)).flatten())
    }

    fn string_byte(&mut self, byte: u8) {
        let ends = byte == b'"' && !self.escaped;
        self.escaped = byte == b'\\' && !self.escaped;
        match self.place {
            Place::Key if ends => {
                match self.key.as_slice() {
                    b"method" => self.is_request = true,
                    b"result" | b"error" => self.is_response = true,
                    _ => {}
                }
                self.place = Place::Elsewhere;
            }
            Place::Key if self.key.len() <= LONGEST_KEY => self.key.push(byte),
            Place::IdValue => self.collect(byte),
            _ => {}
        }
        self.in_string = !ends;
    }

    fn structure_byte(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                self.escaped = false;
                if self.depth == 1 && self.expects_key {
                    self.expects_key = false;
                    self.key.clear();
                    self.place = Place::Key;
                } else {
                    self.collect(byte);
                }
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.expects_key = self.depth == 1 && byte == b'{';
                self.collect(byte);
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.take_value();
                }
                self.depth = self.depth.saturating_sub(1);
                self.collect(byte);
            }
            b',' if self.depth == 1 => {
                self.take_value();
                self.expects_key = true;
            }
            b':' if self.depth == 1 && self.key == b"id" && self.place == Place::Elsewhere => {
                self.place = Place::IdValue;
                self.value.clear();
            }
            _ => self.collect(byte),
        }
    }

    fn collect(&mut self, byte: u8) {
        // White space in front would take the room, and a number that is cut is another.
        let is_before = self.value.is_empty() && byte.is_ascii_whitespace();
        if self.place == Place::IdValue && !is_before && self.value.len() <= RequestId::MAX_LEN {
            self.value.push(byte);
        }
    }

    fn take_value(&mut self) {
        if std::mem::take(&mut self.place) == Place::IdValue {
            self.key.clear();
            self.id = read_id(&self.value);
        }
    }
}

fn read_id(value: &[u8]) -> Option<RequestId> {
    let raw: Option<&RawValue> = serde_json::from_slice(value).ok();
    raw.and_then(RequestId::from_raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &[u8], step: usize) -> IdScanner {
        let mut scanner = IdScanner::default();
        text.chunks(step.max(1)).for_each(|chunk| scanner.feed(chunk));
        scanner
    }

    fn request_id(text: &str) -> Option<String> {
        scan(text.as_bytes(), 1).request_id().map(|id| id.as_json().to_owned())
    }

    #[test]
    fn id_is_found_first_and_last() {
        assert_eq!(request_id(r#"{"jsonrpc":"2.0","id":0,"method":"m","params":{"id":9"#).as_deref(), Some("0"));
        let last = r#"{"method":"m","params":{"x":"}\",{","id":9,"y":["a",{"id":8}]},"jsonrpc":"2.0", "id" : "q\"1" }"#;
        assert_eq!(request_id(last).as_deref(), Some(r#""q\"1""#));
    }

    #[test]
    fn id_of_a_response_is_no_request_id() {
        let text = br#"{"jsonrpc":"2.0","id":"s1","result":{"method":"x"}}"#;
        assert_eq!(scan(text, 3).request_id(), None);
        assert_eq!(scan(text, 3).response_id(), Some(RequestId::text("s1")));
    }

    #[test]
    fn id_that_the_text_breaks_off_in_is_none() {
        assert_eq!(request_id(r#"{"method":"m","id":12"#), None);
        assert_eq!(request_id(r#"{"method":"m","id":"a"#), None);
        assert_eq!(request_id(r#"{"method":"m","id":"a""#).as_deref(), Some(r#""a""#));
        assert_eq!(request_id(r#"{"method":"m","id":12 "#).as_deref(), Some("12"));
        assert_eq!(request_id(r#"{"method":"m","id":12,"#).as_deref(), Some("12"));
    }

    #[test]
    fn id_behind_a_lot_of_space_is_whole() {
        let spaced = |space: usize| format!(r#"{{"method":"m","id":{}123456}}"#, " ".repeat(space));
        assert_eq!(request_id(&spaced(RequestId::MAX_LEN - 2)).as_deref(), Some("123456"));
        assert_eq!(request_id(&spaced(RequestId::MAX_LEN * 2)).as_deref(), Some("123456"));
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing() {
        for text in
            ["", "garbage", "[]", r#"{"method":"m"}"#, r#"{"method":"m","id":null}"#, r#"{"method":"m","id":{"id":1}}"#]
        {
            assert_eq!(request_id(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn scan_never_panics_and_splits_do_not_matter(text in r#"[{}\[\]":, \\a-mid0-9]{0,80}"#, step in 1_usize..7) {
            let text = format!(r#"{{"method":"m","id":5,"x":{text}"#);
            prop_assert_eq!(scan(text.as_bytes(), step).request_id(), scan(text.as_bytes(), 1000).request_id());
        }

        #[test]
        fn scan_agrees_with_the_parser(pad in "[a-z\"\\\\{}\\[\\],:é]{0,20}", id in any::<i32>(), last in any::<bool>()) {
            let pad = serde_json::json!({ "pad": pad, "id": "inner" });
            let text = if last {
                format!(r#"{{"params":{pad},"method":"m","id":{id}}}"#)
            } else {
                format!(r#"{{"id":{id},"method":"m","params":{pad}}}"#)
            };
            prop_assert_eq!(request_id(&text), Some(id.to_string()));
        }
    }
}
