//! Errors, in the codes of the old revisions, and what a call ends with when the server's questions were not answered.

use std::borrow::Cow;

use super::json::string;
use crate::mcp::{Object, RpcError, code};

/// Resource not found, in all revisions before 2026-07-28 (resources §Error Handling). The number that the proxy says
/// "upstream unavailable" with; here it is the server's word.
const RESOURCE_NOT_FOUND: i64 = -32002;
/// The codes of 2026-07-28 that speak of its transport: headers, capabilities, version. What they complain about is the
/// proxy's doing, not the client's.
const OF_THE_TRANSPORT: [i64; 3] = [code::HEADER_MISMATCH, code::MISSING_CAPABILITY, code::UNSUPPORTED_VERSION];

/// The `error` object of an answer to `method`, for a client of any old revision.
///
/// One that is no error object becomes one: a client that cannot read its answer waits for ever.
#[must_use]
pub fn error<'a>(method: &str, error: &'a str) -> Cow<'a, str> {
    let Some(mut object) = Object::of(error) else {
        let no_error = RpcError::new(code::INTERNAL_ERROR, "upstream_error", "upstream sent an error without a text");
        return Cow::Owned(serde_json::to_string(&no_error).expect("an error of ours is JSON"));
    };
    let said = object.get("message").and_then(string);
    let code = object.get("code").and_then(|text| text.parse::<i64>().ok());
    let is_missing = method == "resources/read"
        && code == Some(code::INVALID_PARAMS)
        && (names_resource(&object)
            || said.as_ref().is_some_and(|text| text.to_ascii_lowercase().contains("not found")));
    match code {
        Some(_) if is_missing => object.set("code", RESOURCE_NOT_FOUND.to_string()),
        Some(code) if !OF_THE_TRANSPORT.contains(&code) => {}
        _ => object.set("code", code::INTERNAL_ERROR.to_string()),
    }
    if said.is_none() {
        object.set("message", "\"upstream sent an error without a text\"");
    }
    object.finish()
}

/// TypeScript, Python and Go name the resource that is not there.
fn names_resource(error: &Object<'_>) -> bool {
    error.get("data").and_then(Object::of).is_some_and(|data| data.get("uri").is_some())
}

/// What the client gets for a call that the server could not be given the input for.
#[derive(Debug, Clone, PartialEq)]
pub enum Failed {
    /// A result that says it failed: the model reads it and can do something else.
    Result(String),
    /// An error; results of this method cannot say that they failed.
    Error(RpcError),
}

/// Ends a call of `method` with `text`, which is worded for people.
#[must_use]
pub fn failed_call(method: &str, text: &str) -> Failed {
    if method != "tools/call" {
        return Failed::Error(RpcError::new(code::INTERNAL_ERROR, "input_required", text));
    }
    let result = serde_json::json!({ "content": [{ "type": "text", "text": text }], "isError": true });
    Failed::Result(result.to_string())
}
