//! What a server of 2026-07-28 rejects, in the words of the specification: transports/streamable-http §Server Validation,
//! basic/index §_meta, versioning §Protocol Version Negotiation. And what it shall ignore, but no proxy of ours may send.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, Response};
use serde_json::{Value, json};

use super::catalogue::tool_headers;
use super::out::error;
use super::wire::{Body, json as answer_json};
use super::{Manner, Seen, Shared};
use crate::support::schema::{self, MODERN};

/// Requests of older revisions, and what only servers send: nobody has a reason to try them.
const GONE: [&str; 6] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "roots/list"];

/// Why a request is turned down.
struct Fault {
    status: u16,
    code: i64,
    reason: String,
    data: Option<Value>,
}

impl Fault {
    fn new(status: u16, code: i64, reason: impl Into<String>) -> Self {
        Fault { status, code, reason: reason.into(), data: None }
    }

    fn header(reason: impl Into<String>) -> Self {
        Self::new(400, -32020, reason)
    }

    fn params(reason: impl Into<String>) -> Self {
        Self::new(400, -32602, reason)
    }
}

/// The refusal of a request that should not have been sent as it is; it is noted.
pub(super) fn refuse(shared: &Shared, manner: &Manner, seen: &Seen) -> Option<Response<Body>> {
    for reason in forbidden(seen) {
        shared.refuse(0, reason);
    }
    let fault = [method, transport, message, version, standard_headers, envelope, unknown_method]
        .into_iter()
        .find_map(|check| check(manner, seen))
        .or_else(|| param_headers(manner, seen))?;
    // Whoever relays a method that nobody knows cannot know it either.
    if fault.code != -32601 || GONE.contains(&seen.rpc()) || seen.rpc().starts_with("notifications/") {
        shared.refuse(fault.code, format!("{}: {} in {}", fault.reason, seen.rpc(), seen.raw));
    }
    let body = error(&seen.body["id"], fault.code, &fault.reason, fault.data);
    let mut answer = answer_json(fault.status, &body);
    if fault.status == 405 {
        answer.headers_mut().insert("allow", "POST".parse().expect("a header"));
    }
    Some(answer)
}

/// What servers shall ignore, or cannot see the harm of, and our requests never have.
fn forbidden(seen: &Seen) -> Vec<String> {
    let names = ["mcp-session-id", "last-event-id", "origin", "referer", "cookie"];
    let mut reasons: Vec<String> = names
        .into_iter()
        .filter(|name| seen.headers.contains_key(*name))
        .map(|name| format!("{name} on a request of {MODERN}"))
        .collect();
    if seen.header("accept-encoding") != Some("identity") {
        reasons.push(format!("accept-encoding is {:?}", seen.header("accept-encoding")));
    }
    for name in ["mcp-protocol-version", "mcp-method", "mcp-name", "content-type", "accept", "authorization"] {
        if seen.headers.get_all(name).iter().count() > 1 {
            reasons.push(format!("{name} is doubled"));
        }
    }
    reasons
}

fn method(_: &Manner, seen: &Seen) -> Option<Fault> {
    (seen.method != Method::POST).then(|| Fault::new(405, -32000, "Method not allowed."))
}

fn transport(_: &Manner, seen: &Seen) -> Option<Fault> {
    if seen.header("content-type") != Some("application/json") {
        return Some(Fault::new(415, -32000, "Content-Type must be application/json"));
    }
    (seen.header("accept") != Some("application/json, text/event-stream"))
        .then(|| Fault::new(406, -32000, "Accept must list application/json and text/event-stream"))
}

fn message(_: &Manner, seen: &Seen) -> Option<Fault> {
    match &seen.body {
        Value::Object(message) if message.contains_key("method") => None,
        Value::Object(_) => Some(Fault::new(400, -32600, "JSON-RPC responses cannot be posted to this endpoint")),
        Value::Array(_) => Some(Fault::new(400, -32600, "batches are not supported")),
        _ => Some(Fault::new(400, -32700, "Parse error")),
    }
}

fn version(_: &Manner, seen: &Seen) -> Option<Fault> {
    let Some(header) = seen.header("mcp-protocol-version") else {
        return Some(Fault::header("MCP-Protocol-Version is missing"));
    };
    let body = seen.meta("protocolVersion");
    if body.is_null() {
        return Some(Fault::params("Invalid params: request requires protocolVersion in request _meta"));
    }
    if body != header {
        return Some(Fault::header(format!("MCP-Protocol-Version is {header}, _meta says {body}")));
    }
    (header != MODERN).then(|| {
        let data = json!({"supported": [MODERN], "requested": header});
        Fault { data: Some(data), ..Fault::new(400, -32022, format!("Unsupported protocol version: {header}")) }
    })
}

/// `Mcp-Method` of all requests, `Mcp-Name` of those that name something.
fn standard_headers(manner: &Manner, seen: &Seen) -> Option<Fault> {
    if seen.header("mcp-method") != Some(seen.rpc()) {
        return Some(Fault::header(format!("Mcp-Method is {:?}", seen.header("mcp-method"))));
    }
    let source = match seen.rpc() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return None,
    };
    let wanted = seen.params()[source].as_str().unwrap_or_default();
    let Some(value) = seen.headers.get("mcp-name") else { return Some(Fault::header("Mcp-Name is missing")) };
    let got = if manner.raw_names { value.as_bytes().to_vec() } else { decoded(value.as_bytes()).unwrap_or_default() };
    (got != wanted.as_bytes()).then(|| Fault::header(format!("Mcp-Name is {value:?}, the body says {wanted:?}")))
}

/// A header's value, out of its sentinel; `None` where it has characters that no value may have.
fn decoded(value: &[u8]) -> Option<Vec<u8>> {
    if let Some(inside) = value.strip_prefix(b"=?base64?").and_then(|value| value.strip_suffix(b"?=")) {
        return BASE64_STANDARD.decode(inside).ok();
    }
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')).then(|| value.to_vec())
}

/// The whole message, as the schema has it.
fn envelope(_: &Manner, seen: &Seen) -> Option<Fault> {
    for name in ["protocolVersion", "clientCapabilities"] {
        if seen.meta(name).is_null() {
            return Some(Fault::params(format!("Invalid params: request requires {name} in request _meta")));
        }
    }
    // Optional in the schema, but whoever knows its client shall say so.
    if !seen.meta("clientInfo").is_object() {
        return Some(Fault::params("_meta has no clientInfo"));
    }
    seen.body.get("id")?;
    let Some(definition) = schema::modern_request(seen.rpc()) else {
        return schema::faults(MODERN, "JSONRPCRequest", &seen.body).pop().map(Fault::params);
    };
    // Gone with the tasks of 2025-11-25.
    if seen.params().get("task").is_some() {
        return Some(Fault::params("params.task"));
    }
    schema::faults(MODERN, definition, &seen.body).pop().map(Fault::params)
}

fn unknown_method(_: &Manner, seen: &Seen) -> Option<Fault> {
    schema::modern_request(seen.rpc()).is_none().then(|| Fault::new(404, -32601, "Method not found"))
}

/// `Mcp-Param-*`: exactly those that the tool wants and the call has values for.
fn param_headers(manner: &Manner, seen: &Seen) -> Option<Fault> {
    let sent = |name: &str| seen.headers.get(format!("mcp-param-{name}"));
    let mut known = Vec::new();
    let name = seen.params()["name"].as_str().filter(|_| seen.rpc() == "tools/call").unwrap_or_default();
    for (path, header) in tool_headers(manner, name) {
        let numbers = |got: Option<&[u8]>, wanted: &Value| {
            let got = std::str::from_utf8(got?).ok()?.parse::<f64>().ok()?;
            Some((got - wanted.as_f64()?).abs() < f64::EPSILON)
        };
        let value = path.iter().fold(&seen.params()["arguments"], |value, step| &value[*step]);
        let wanted = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let got = sent(header).map(|value| decoded(value.as_bytes()).unwrap_or_default());
        // Numbers are compared as such: `42.0` is `42`.
        let is_same =
            numbers(got.as_deref(), value).unwrap_or_else(|| got.as_deref() == wanted.as_ref().map(String::as_bytes));
        if !is_same {
            return Some(Fault::header(format!("Mcp-Param-{header} is {:?}, the body says {value}", sent(header))));
        }
        known.push(format!("mcp-param-{}", header.to_ascii_lowercase()));
    }
    let strange = |name: &&str| name.starts_with("mcp-param-") && !known.iter().any(|known| known == name);
    seen.headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(strange)
        .map(|name| Fault::header(format!("{name} is unknown")))
}
