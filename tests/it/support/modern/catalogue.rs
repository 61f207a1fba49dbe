//! What the server offers: tools, prompts, resources.

use serde_json::{Value, json};

use super::Manner;

/// Tools with nothing special about their definitions.
const PLAIN: [&str; 28] = [
    "echo",
    "raw",
    "progress",
    "log",
    "wait",
    "wait-forever",
    "audio",
    "resource-link",
    "fail",
    "broken",
    "quit",
    "go-error",
    "future",
    "bare",
    "needs-sampling",
    "elicit",
    "elicit-url",
    "elicit-titled",
    "elicit-multi",
    "elicit-rounds",
    "state-only",
    "no-state",
    "sample",
    "sample-tools",
    "roots",
    "ask-three",
    "ask-and-tell",
    "expire",
];

/// Tools that no client of this transport may offer: their `x-mcp-header` is against the rules.
pub(crate) const INVALID: [&str; 6] = ["bad-empty", "bad-token", "bad-number", "bad-twin", "bad-items", "bad-composed"];

/// Where the parameters of a tool are that go into headers, and under which names.
pub(super) fn tool_headers(manner: &Manner, tool: &str) -> Vec<(&'static [&'static str], &'static str)> {
    match tool {
        "region" => {
            vec![(&["region"], manner.region_header), (&["page", "limit"], "Limit"), (&["dry"], "Dry-Run")]
        }
        _ => Vec::new(),
    }
}

pub(super) fn tools(manner: &Manner) -> Vec<Value> {
    let mut tools: Vec<Value> = PLAIN.iter().map(|name| tool(name, &json!({"text": {"type": "string"}}))).collect();
    tools[0]["title"] = json!("Echo");
    tools[0]["annotations"] = json!({"readOnlyHint": true});
    tools[0]["icons"] = json!([{"src": "https://example.com/echo.png"}]);
    tools.push(tool("écho", &json!({})));
    tools.push(tool(
        "region",
        &json!({
            "region": {"type": "string", "x-mcp-header": manner.region_header},
            "page": {"type": "object", "properties": {"limit": {"type": "integer", "x-mcp-header": "Limit"}}},
            "dry": {"type": "boolean", "x-mcp-header": "Dry-Run"},
        }),
    ));
    for (name, output) in [
        ("structured-object", json!({"type": "object", "properties": {"x": {"type": "integer"}}})),
        ("structured-array", json!({"type": "array", "items": {"type": "integer"}})),
        ("structured-scalar", json!({"type": "string"})),
    ] {
        let mut tool = tool(name, &json!({}));
        tool["outputSchema"] = output;
        tools.push(tool);
    }
    tools.extend(INVALID.map(invalid));
    tools
}

fn tool(name: &str, properties: &Value) -> Value {
    json!({"name": name, "description": format!("does {name}"),
        "inputSchema": {"type": "object", "properties": properties}})
}

fn invalid(name: &str) -> Value {
    let header = |kind: &str, header: &str| json!({"type": kind, "x-mcp-header": header});
    let properties = match name {
        "bad-empty" => json!({"a": header("string", "")}),
        "bad-token" => json!({"a": header("string", "two words")}),
        "bad-number" => json!({"a": header("number", "A")}),
        "bad-twin" => json!({"a": header("string", "Same"), "b": header("string", "sAME")}),
        "bad-items" => json!({"a": {"type": "array", "items": header("string", "A")}}),
        _ => json!({"a": {"anyOf": [header("string", "A"), {"type": "null"}]}}),
    };
    tool(name, &properties)
}

pub(super) fn prompts() -> Value {
    json!([
        {"name": "greet", "title": "Greet", "arguments": [{"name": "who", "title": "Who"}]},
        {"name": "ask", "description": "asks for input"},
        {"name": "grüße"},
    ])
}

/// What can be read, and changes.
pub(crate) const RESOURCE: &str = "file:///r1.txt";

pub(super) fn resources() -> Value {
    json!([
        {"name": "r1", "uri": RESOURCE, "mimeType": "text/plain", "title": "The first"},
        {"name": "ask", "uri": "ask:///name"},
        {"name": "ü", "uri": "file:///ü.txt"},
    ])
}

pub(super) fn templates() -> Value {
    json!([{"name": "files", "uriTemplate": "file:///{path}", "title": "Files"}])
}
