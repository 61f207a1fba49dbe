//! JSON-RPC errors that the proxy makes itself.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::RequestId;

/// Error codes. The range -32000 to -32099 is the implementation's own (JSON-RPC 2.0 §5.1).
pub mod code {
    /// The text is not JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// The message is not a request this session can take.
    pub const INVALID_REQUEST: i64 = -32600;
    /// The method does not exist here.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters are not what the method takes.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The upstream failed in a way that says nothing about the request.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// The session is over or over a limit.
    pub const SESSION: i64 = -32000;
    /// The upstream does not accept the credential.
    pub const UNAUTHORIZED: i64 = -32001;
    /// The upstream cannot be reached.
    pub const UNAVAILABLE: i64 = -32002;
    /// HTTP+SSE is being switched off, or was.
    pub const SUNSET: i64 = -32010;
    /// The headers do not say what the body says (MCP 2026-07-28, basic §Error Codes).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// The client lacks a capability that the request needs (likewise).
    pub const MISSING_CAPABILITY: i64 = -32021;
    /// The server does not speak the version (likewise).
    pub const UNSUPPORTED_VERSION: i64 = -32022;
}

/// The `error` member of an answer made by the proxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RpcError {
    /// One of [`code`].
    pub code: i64,
    /// What happened and whose fault it was; shown to people.
    pub message: String,
    /// The same for programs; omitted when null.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

impl RpcError {
    /// An error whose `data.reason` says in one word what `message` says to people.
    #[must_use]
    pub fn new(code: i64, reason: &str, message: impl Into<String>) -> Self {
        RpcError { code, message: message.into(), data: serde_json::json!({ "reason": reason }) }
    }

    /// Adds a member to `data`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(members) = &mut self.data {
            members.insert(name.to_owned(), value.into());
        }
        self
    }
}

/// The whole answer, as the client or the server gets it.
#[must_use]
pub fn error_response(id: &RequestId, error: &RpcError) -> Bytes {
    #[derive(Serialize)]
    struct Answer<'a> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        error: &'a RpcError,
    }
    let id: &RawValue = serde_json::from_str(id.as_json()).expect("an id holds its JSON form");
    let answer = Answer { jsonrpc: "2.0", id, error };
    serde_json::to_vec(&answer).expect("strings and numbers always serialise").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_response_names_the_id_and_the_reason() {
        let error = RpcError::new(code::SESSION, "draining", "the proxy restarts").with("retry_after_s", 3);
        let answer = error_response(&RequestId::text("a\"b"), &error);
        let expected = r#"{"jsonrpc":"2.0","id":"a\"b","error":{"code":-32000,"message":"the proxy restarts","data":{"reason":"draining","retry_after_s":3}}}"#;
        assert_eq!(answer, expected);
    }
}
