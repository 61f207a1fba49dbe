//! Messages that the proxy makes itself.

use bytes::Bytes;

use super::RequestId;

/// `text` as JSON has it.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A request; `params` is the text of an object.
#[must_use]
pub fn request(id: &RequestId, method: &str, params: &str) -> Bytes {
    let (id, method) = (id.as_json(), quoted(method));
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#))
}

/// An answer; `result` is the text of an object.
#[must_use]
pub fn result_response(id: &RequestId, result: &str) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.as_json()))
}

/// Says that nobody waits for the answer to `id` any more, because of `reason`.
#[must_use]
pub fn cancelled(id: &RequestId, reason: &str) -> Bytes {
    let (id, reason) = (id.as_json(), quoted(reason));
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":{reason}}}}}"#
    ))
}

/// A log message of the level `warning` (MCP 2024-11-05, logging §Log Message Notifications).
#[must_use]
pub fn warning(text: &str) -> Bytes {
    let text = quoted(text);
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"warning","logger":"sse-sunset","data":{text}}}}}"#
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{MessageKind, parse};
    use super::*;

    #[test]
    fn messages_are_what_they_are_called() {
        let id = RequestId::text("a\"b");
        let one = |bytes: Bytes| parse(&bytes).expect("a message").remove(0);
        let asked = one(request(&id, "m\n", "{}"));
        assert_eq!(asked.kind(), &MessageKind::Request { id: id.clone(), method: "m\n".into() });
        let answered = one(result_response(&id, r#"{"x":1}"#));
        assert_eq!(answered.kind(), &MessageKind::Response { id: Some(id.clone()), is_error: false });
        assert_eq!(answered.result_text(), Some(r#"{"x":1}"#));
        assert_eq!(
            one(warning("it \"ends\"")).kind(),
            &MessageKind::Notification { method: "notifications/message".into() }
        );
        assert_eq!(one(cancelled(&id, "gone")).request_id_param(), Some(id));
    }
}
