//! The published schemas of the protocol's revisions, asked whether a message is one.
//!
//! The trap: almost everything in them is open, so a field too much is never an error. What must *not* be there has to
//! be looked for by name ([`leftovers`]).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The revision that modern servers speak.
pub(crate) const MODERN: &str = "2026-07-28";
/// The revisions that legacy clients may have negotiated.
pub(crate) const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Fields of the modern era that no legacy client is shown.
const MODERN_FIELDS: [&str; 5] = ["resultType", "ttlMs", "cacheScope", "inputRequests", "requestState"];

type Key = (&'static str, &'static str);

static VALIDATORS: LazyLock<Mutex<HashMap<Key, Arc<Validator>>>> = LazyLock::new(Mutex::default);

fn document(version: &str) -> Value {
    let text = match version {
        "2024-11-05" => include_str!("../../schema/2024-11-05.json"),
        "2025-03-26" => include_str!("../../schema/2025-03-26.json"),
        "2025-06-18" => include_str!("../../schema/2025-06-18.json"),
        "2025-11-25" => include_str!("../../schema/2025-11-25.json"),
        _ => include_str!("../../schema/2026-07-28.json"),
    };
    serde_json::from_str(text).expect("a schema")
}

fn validator(version: &'static str, definition: &'static str) -> Arc<Validator> {
    // A panic below is that of a test; the map stays whole.
    let mut all = VALIDATORS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let made = || {
        let mut schema = document(version);
        let section = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
        assert!(schema[section].get(definition).is_some(), "{version} has no {definition}");
        schema["allOf"] = json!([{"$ref": format!("#/{section}/{definition}")}]);
        Arc::new(jsonschema::validator_for(&schema).expect("a schema"))
    };
    Arc::clone(all.entry((version, definition)).or_insert_with(made))
}

/// Everything that keeps `value` from being a `definition` of `version`.
pub(crate) fn faults(version: &'static str, definition: &'static str, value: &Value) -> Vec<String> {
    let validator = validator(version, definition);
    let tell = |error: jsonschema::ValidationError<'_>| {
        format!("no {definition} of {version}: at {:?}: {error}", error.instance_path().to_string())
    };
    validator.iter_errors(value).map(tell).collect()
}

/// What a request of this method is called; `None` where the modern era has no such method.
pub(crate) fn modern_request(method: &str) -> Option<&'static str> {
    Some(match method {
        "server/discover" => "DiscoverRequest",
        "tools/list" => "ListToolsRequest",
        "tools/call" => "CallToolRequest",
        "prompts/list" => "ListPromptsRequest",
        "prompts/get" => "GetPromptRequest",
        "resources/list" => "ListResourcesRequest",
        "resources/templates/list" => "ListResourceTemplatesRequest",
        "resources/read" => "ReadResourceRequest",
        "completion/complete" => "CompleteRequest",
        "subscriptions/listen" => "SubscriptionsListenRequest",
        _ => return None,
    })
}

/// What the result of this method is called.
pub(crate) fn result(method: &str) -> &'static str {
    match method {
        "initialize" => "InitializeResult",
        "server/discover" => "DiscoverResult",
        "tools/list" => "ListToolsResult",
        "tools/call" => "CallToolResult",
        "prompts/list" => "ListPromptsResult",
        "prompts/get" => "GetPromptResult",
        "resources/list" => "ListResourcesResult",
        "resources/templates/list" => "ListResourceTemplatesResult",
        "resources/read" => "ReadResourceResult",
        "completion/complete" => "CompleteResult",
        "subscriptions/listen" => "SubscriptionsListenResult",
        _ => "EmptyResult",
    }
}

/// What a request or notification of a server is called.
fn from_server(method: &str) -> Option<&'static str> {
    Some(match method {
        "ping" => "PingRequest",
        "sampling/createMessage" => "CreateMessageRequest",
        "roots/list" => "ListRootsRequest",
        "elicitation/create" => "ElicitRequest",
        "notifications/progress" => "ProgressNotification",
        "notifications/message" => "LoggingMessageNotification",
        "notifications/cancelled" => "CancelledNotification",
        "notifications/tools/list_changed" => "ToolListChangedNotification",
        "notifications/prompts/list_changed" => "PromptListChangedNotification",
        "notifications/resources/list_changed" => "ResourceListChangedNotification",
        "notifications/resources/updated" => "ResourceUpdatedNotification",
        _ => return None,
    })
}

/// What is wrong with a message for a legacy client of `version`; `answered` is the method of the request it answers.
pub(crate) fn legacy_message(version: &'static str, message: &Value, answered: Option<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(method) = message["method"].as_str() {
        match from_server(method) {
            None => wrong.push(format!("{method} is nothing that a server of {version} sends")),
            // Revisions before 2025-06-18 have no elicitation; clients of theirs that declare it know that one.
            Some(definition @ "ElicitRequest") if version < "2025-06-18" => {
                wrong.extend(faults("2025-06-18", definition, message));
            }
            Some(definition) => wrong.extend(faults(version, definition, message)),
        }
        wrong.extend(leftovers(&message["params"]));
    } else if message.get("error").is_some() {
        let definition = if version < "2025-11-25" { "JSONRPCError" } else { "JSONRPCErrorResponse" };
        wrong.extend(faults(version, definition, message));
    } else {
        wrong.extend(faults(version, "JSONRPCMessage", message));
        match answered {
            None => wrong.push("answers no request of this client".to_owned()),
            Some(method) => wrong.extend(faults(version, result(method), &message["result"])),
        }
        wrong.extend(leftovers(&message["result"]));
    }
    wrong
}

/// Fields of the modern era in a result or in the params of a notification.
fn leftovers(object: &Value) -> Vec<String> {
    let mut left: Vec<String> = MODERN_FIELDS
        .iter()
        .filter(|name| object.get(**name).is_some())
        .map(|name| format!("{name} belongs to {MODERN}"))
        .collect();
    let meta = object.get("_meta").and_then(Value::as_object);
    let reserved = meta.into_iter().flatten().map(|(name, _)| name);
    left.extend(
        reserved.filter(|name| name.starts_with("io.modelcontextprotocol/")).map(|name| format!("_meta {name}")),
    );
    left
}
