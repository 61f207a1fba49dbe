//! What the server does with requests of older revisions, and what it says where it does not speak 2026-07-28
//! (UPSTREAMS B.2).

use http::{Method, Response};
use serde_json::{Value, json};

use super::out::error;
use super::wire::{Body, json as answer_json, whole};
use super::{Era, Legacy, Manner, Seen, Shared};
use crate::support::schema::{LEGACY, MODERN};

/// Answers a request that does not name 2026-07-28.
pub(super) fn answer(shared: &Shared, manner: &Manner, seen: &Seen) -> Response<Body> {
    let is_initialize = seen.rpc() == "initialize";
    if is_initialize && seen.headers.keys().any(|name| name.as_str().starts_with("mcp-")) {
        shared.refuse(0, format!("initialize with headers of a later message: {:?}", seen.headers));
    }
    match manner.legacy {
        Legacy::Stateless | Legacy::Stateful => return served(shared, manner, seen),
        Legacy::Strict if is_initialize => return served(shared, manner, seen),
        _ => {}
    }
    if seen.rpc() == "notifications/initialized" {
        // Dropped, as TypeScript does.
        return whole(202, "text/plain", "");
    }
    let requested = seen.params()["protocolVersion"].clone();
    let refusal = match manner.legacy {
        Legacy::Unsupported => {
            let data = json!({"supported": [MODERN], "requested": requested.as_str().unwrap_or_default()});
            (400, -32022, "Unsupported protocol version", Some(data))
        }
        Legacy::Unknown => (404, -32601, "Method not found", None),
        Legacy::HeaderMismatch => (400, -32020, "Header mismatch: MCP-Protocol-Version is missing", None),
        _ => (400, -32602, "Invalid params: request requires protocolVersion in request _meta", None),
    };
    let (status, code, message, data) = refusal;
    if !is_initialize {
        shared.refuse(code, format!("{message}: {}", seen.raw));
    }
    answer_json(status, &error(&seen.body["id"], code, message, data))
}

/// As much of a server of the session era as is needed to see that it was asked.
fn served(shared: &Shared, manner: &Manner, seen: &Seen) -> Response<Body> {
    let session = seen.header("mcp-session-id").map(str::to_owned);
    let is_initialize = seen.rpc() == "initialize";
    if manner.legacy == Legacy::Stateful && !is_initialize {
        let known = session.as_ref().is_some_and(|session| shared.state().sessions.contains(session));
        if !known {
            return answer_json(404, &error(&seen.body["id"], -32001, "Session not found", None));
        }
    }
    match seen.method {
        Method::POST => {}
        Method::DELETE => return whole(200, "text/plain", ""),
        _ => return whole(405, "text/plain", "no"),
    }
    if seen.body.get("id").is_none() || seen.body.get("method").is_none() {
        return whole(202, "text/plain", "");
    }
    let result = match seen.rpc() {
        "initialize" => {
            let requested = seen.params()["protocolVersion"].as_str().unwrap_or_default();
            let version = LEGACY.into_iter().find(|version| *version == requested).unwrap_or("2025-11-25");
            json!({"protocolVersion": version, "capabilities": {"tools": {"listChanged": true}},
                "serverInfo": {"name": "dual", "version": "1"}})
        }
        "tools/list" => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
        "tools/call" => {
            let text = seen.params()["arguments"]["text"].as_str().unwrap_or_default();
            json!({"content": [{"type": "text", "text": format!("session era: {text}")}]})
        }
        _ => json!({}),
    };
    let message: Value = json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result});
    let mut answer = answer_json(200, &message);
    if is_initialize && manner.legacy == Legacy::Stateful {
        let mut state = shared.state();
        let id = format!("session-{}", state.sessions.len());
        answer.headers_mut().insert("mcp-session-id", id.parse().expect("a header"));
        state.sessions.push(id);
    }
    answer
}

/// Answers a request of 2026-07-28 where that is not spoken.
pub(super) fn turn_down(era: Era, seen: &Seen) -> Response<Body> {
    if seen.method != Method::POST {
        return whole(405, "text/plain", "no");
    }
    let data = json!({"supported": LEGACY, "requested": MODERN});
    match era {
        Era::Unsupported => {
            answer_json(400, &error(&seen.body["id"], -32022, "Unsupported protocol version", Some(data)))
        }
        Era::Foreign => {
            answer_json(400, &error(&Value::Null, -32000, "Bad Request: Unsupported protocol version", None))
        }
        _ => whole(400, "text/plain", "no such service"),
    }
}
