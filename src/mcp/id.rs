//! Request ids: strings or numbers, 0 included, kept with their type.

use std::fmt;

use serde_json::value::RawValue;

/// A JSON-RPC request id in its JSON form, so that `1` and `"1"` differ and the answer carries what was asked.
///
/// Strings are brought to one spelling (`"\u0061"` is `"a"`), because servers re-encode what they echo.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Longest id, in bytes of its JSON form. Ids are remembered when messages are long gone.
    pub const MAX_LEN: usize = 256;

    /// Reads an id; `None` unless it is a string or a number (MCP forbids `null`) of at most [`RequestId::MAX_LEN`].
    #[must_use]
    pub fn from_raw(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        if text.len() > Self::MAX_LEN {
            return None;
        }
        match text.as_bytes().first()? {
            b'"' if text.contains('\\') => {
                let plain: String = serde_json::from_str(text).ok()?;
                Some(RequestId::text(&plain))
            }
            b'"' | b'-' | b'0'..=b'9' => Some(RequestId(text.into())),
            _ => None,
        }
    }

    /// An id of our own, as a string: mcp-go takes a number that collides with one of its own for its answer.
    #[must_use]
    pub fn text(plain: &str) -> Self {
        RequestId(super::quoted(plain).into())
    }

    /// The JSON form, to be written into a message.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(json: &str) -> Option<RequestId> {
        RequestId::from_raw(serde_json::from_str(json).expect("json"))
    }

    #[test]
    fn id_is_of_bounded_length() {
        assert!(id(&format!("\"{}\"", "x".repeat(RequestId::MAX_LEN - 2))).is_some());
        assert!(id(&format!("\"{}\"", "x".repeat(RequestId::MAX_LEN - 1))).is_none());
    }

    #[test]
    fn id_keeps_type_and_value() {
        assert_ne!(id("1"), id("\"1\""));
        assert_eq!(id("0").expect("a number").as_json(), "0");
        assert_eq!(id("\"8e49f52e-0\""), Some(RequestId::text("8e49f52e-0")));
    }

    #[test]
    fn id_spelled_with_escapes_is_the_same() {
        assert_eq!(id("\"\\u0061\\/\""), id("\"a/\""));
    }

    #[test]
    fn id_is_never_null_or_structured() {
        for json in ["null", "true", "{}", "[1]"] {
            assert_eq!(id(json), None, "{json}");
        }
    }
}
