//! What the server does when it is asked.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::catalogue::{self, RESOURCE};
use super::input::{self, Next};
use super::out::{LEVELS, Out};
use super::{Manner, Seen, Shared};
use crate::support::schema::MODERN;

/// Runs one request and says what is to be said about it.
pub(super) async fn run(shared: &Arc<Shared>, manner: &Manner, seen: &Seen, out: Out) {
    let params = seen.params();
    match seen.rpc() {
        "server/discover" => {
            let result = json!({"supportedVersions": [MODERN], "capabilities": manner.capabilities,
                "instructions": "be kind"});
            out.complete(result).await;
        }
        "tools/list" => {
            let tools = catalogue::tools(manner);
            let begun: usize = params["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
            let page: Vec<&Value> = tools.iter().skip(begun).take(manner.tools_per_page).collect();
            let mut result = json!({"tools": page});
            let next = begun + page.len();
            if next < tools.len() {
                result["nextCursor"] = json!(next.to_string());
            }
            out.complete(result).await;
        }
        "prompts/list" => out.complete(json!({"prompts": catalogue::prompts()})).await,
        "resources/list" if params["cursor"] == "page-2" => out.complete(json!({"resources": []})).await,
        "resources/list" => {
            out.complete(json!({"resources": catalogue::resources(), "nextCursor": "page-2"})).await;
        }
        "resources/templates/list" => {
            out.complete(json!({"resourceTemplates": catalogue::templates()})).await;
        }
        "resources/read" => read(shared, seen, out).await,
        "prompts/get" => prompt(shared, seen, out).await,
        "completion/complete" => {
            let value = params["argument"]["value"].as_str().unwrap_or_default();
            out.complete(json!({"completion": {"values": [format!("{value}!")], "total": 1, "hasMore": false}})).await;
        }
        _ => call(shared, seen, out).await,
    }
}

async fn read(shared: &Arc<Shared>, seen: &Seen, out: Out) {
    let uri = seen.params()["uri"].as_str().unwrap_or_default();
    let contents = |text: &str| json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]});
    match uri {
        RESOURCE | "file:///ü.txt" => out.complete(contents("content of it")).await,
        "ask:///name" => with_input(shared, seen, out, "elicit", |gathered| contents(&gathered.to_string())).await,
        "blob:///b" => out.complete(json!({"contents": [{"uri": uri, "blob": "AAEC"}]})).await,
        _ => {
            let data = json!({"uri": uri});
            out.error(-32602, &format!("Resource not found: {uri}"), Some(data)).await;
        }
    }
}

async fn prompt(shared: &Arc<Shared>, seen: &Seen, out: Out) {
    let message = |text: &str| {
        json!({"messages": [
            {"role": "user", "content": {"type": "text", "text": text}},
            {"role": "user", "content": {"type": "audio", "data": "AAEC", "mimeType": "audio/wav"}},
            {"role": "user", "content": {"type": "resource_link", "name": "r1", "uri": RESOURCE}},
        ]})
    };
    match seen.params()["name"].as_str().unwrap_or_default() {
        "ask" => with_input(shared, seen, out, "elicit", |gathered| message(&gathered.to_string())).await,
        "sample" => with_input(shared, seen, out, "sample", |gathered| message(&gathered.to_string())).await,
        "greet" | "grüße" => {
            let who = seen.params()["arguments"]["who"].as_str().unwrap_or("you");
            out.complete(message(&format!("hello {who}"))).await;
        }
        other => out.error(-32602, &format!("unknown prompt {other}"), None).await,
    }
}

/// A conversation about input, up to the result that `make` makes of the answers.
async fn with_input(shared: &Arc<Shared>, seen: &Seen, out: Out, tool: &str, make: impl Fn(&Value) -> Value) {
    let round = match input::round(shared, seen) {
        Ok(round) => round,
        Err(reason) => return out.error(-32602, &reason, None).await,
    };
    if tool == "ask-and-tell" {
        out.progress(round.number + 1, 2).await;
        out.log("info", &format!("round {}", round.number)).await;
    }
    if tool == "expire" && round.number == 1 {
        return out.error(-32602, "Invalid or expired requestState", None).await;
    }
    let result = match input::next(tool, &seen.params()["arguments"], &round) {
        Next::Done(_) if seen.rpc() != "tools/call" => return out.complete(make(&Value::from(round.gathered))).await,
        Next::Done(result) => return out.complete(result).await,
        Next::Ask(requests) => input::ask(shared, seen, round, Some(requests), tool != "no-state"),
        Next::Again => input::ask(shared, seen, round, None, true),
    };
    out.input_required(result).await;
}

async fn call(shared: &Arc<Shared>, seen: &Seen, out: Out) {
    let arguments = &seen.params()["arguments"];
    let text = |text: &Value| json!({"content": [{"type": "text", "text": text}]});
    match seen.params()["name"].as_str().unwrap_or_default() {
        "echo" | "region" | "écho" => out.complete(text(&arguments["text"].as_str().unwrap_or("").into())).await,
        "raw" => out.raw_result(&raw(arguments)).await,
        "progress" => {
            for progress in 1..=3 {
                out.comment().await;
                out.progress(progress, 3).await;
            }
            out.complete(json!({"content": []})).await;
        }
        "log" => {
            for level in LEVELS {
                out.log(level, level).await;
            }
            out.complete(json!({"content": []})).await;
        }
        "wait" => {
            // The head goes out with the first bytes.
            out.comment().await;
            let mut told = shared.told.subscribe();
            tokio::select! {
                () = async { told.wait_for(|told| *told).await.map(drop).expect("the server lives") } => {}
                () = out.closed() => return,
            }
            out.complete(text(&json!("told"))).await;
        }
        "wait-forever" => out.closed().await,
        "fail" => out.complete(json!({"content": [{"type": "text", "text": "failed"}], "isError": true})).await,
        "broken" => out.error(-32603, "it broke", Some(json!({"why": "it did"}))).await,
        "quit" => out.progress(1, 2).await,
        "go-error" => {
            out.progress(1, 2).await;
            out.bare_error(-32602, "late invalid").await;
        }
        "future" => out.result(&json!({"resultType": "perhaps", "content": []})).await,
        "odd-empty" => out.result(&json!({"resultType": "input_required"})).await,
        "odd-method" => odd(&out, json!({"x": {"method": "example/ask", "params": {}}})).await,
        "odd-request" => odd(&out, json!({"x": 1})).await,
        "odd-mode" => {
            let params = json!({"mode": "smell", "message": "?", "requestedSchema": {}});
            odd(&out, json!({"x": {"method": "elicitation/create", "params": params}})).await;
        }
        "odd-push" => {
            let mut request = input::sampling();
            request["jsonrpc"] = json!("2.0");
            request["id"] = json!(0);
            out.raw(&request).await;
            out.complete(text(&json!("pushed"))).await;
        }
        "odd-stray" => {
            out.raw(&json!({"jsonrpc": "2.0", "id": "nobody's", "result": {"resultType": "complete"}})).await;
            out.complete(text(&json!("mine"))).await;
        }
        "odd-twice" => {
            out.complete(text(&json!("first"))).await;
            out.complete(text(&json!("second"))).await;
            out.progress(4, 5).await;
        }
        "flood" => {
            for progress in 1..=FLOOD {
                out.raw(&flooding(&seen.params()["_meta"]["progressToken"], progress)).await;
                shared.state().flooded += 1;
                shared.changed();
            }
            out.complete(text(&json!("all of it"))).await;
        }
        "odd-many" => {
            let many: serde_json::Map<String, Value> =
                (0..500).map(|n| (n.to_string(), input::elicitation("who?"))).collect();
            odd(&out, Value::from(many)).await;
        }
        "bare" => out.result(&json!({"content": [{"type": "text", "text": "older"}]})).await,
        "needs-sampling" if seen.meta("clientCapabilities").get("sampling").is_none() => {
            let data = json!({"requiredCapabilities": {"sampling": {}}});
            out.error(-32021, "Missing required client capability", Some(data)).await;
        }
        "needs-sampling" => out.complete(text(&json!("it has it"))).await,
        name if name.starts_with("structured-") || ["audio", "resource-link"].contains(&name) => {
            out.complete(shaped(name)).await;
        }
        name @ ("elicit" | "elicit-url" | "elicit-titled" | "elicit-multi" | "elicit-rounds" | "state-only"
        | "no-state" | "sample" | "sample-tools" | "roots" | "ask-three" | "ask-and-tell" | "expire") => {
            with_input(shared, seen, out, name, Value::clone).await;
        }
        other => out.error(-32602, &format!("unknown tool {other}"), None).await,
    }
}

/// Messages of 64 KiB that `flood` sends.
pub(crate) const FLOOD: usize = 500;

fn flooding(token: &Value, progress: usize) -> Value {
    let params = json!({"progressToken": token, "progress": progress, "message": "x".repeat(64 << 10)});
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
}

/// Asks for what no server should ask for, past the check.
async fn odd(out: &Out, requests: Value) {
    out.result(&json!({"resultType": "input_required", "inputRequests": requests})).await;
}

/// A result with fields and bytes of its own, for those who must not touch them.
fn raw(arguments: &Value) -> String {
    let extra: Box<RawValue> = serde_json::from_str(arguments["json"].as_str().unwrap_or("null")).expect("JSON");
    format!(r#"{{"x" : {extra}, "resultType":"complete","content":[ ],"ttlMs" : 5}}"#)
}

/// Results that not every client can read.
fn shaped(name: &str) -> Value {
    match name {
        "audio" => json!({"content": [{"type": "text", "text": "listen"},
            {"type": "audio", "data": "AAEC", "mimeType": "audio/wav"}]}),
        "resource-link" => json!({"content": [{"type": "resource_link", "name": "r1", "uri": RESOURCE,
            "description": "the first", "mimeType": "text/plain"}]}),
        "structured-object" => {
            json!({"content": [{"type": "text", "text": "{\"x\":1}"}], "structuredContent": {"x": 1}})
        }
        "structured-array" => json!({"content": [], "structuredContent": [1, 2]}),
        _ => json!({"content": [], "structuredContent": "a text"}),
    }
}
