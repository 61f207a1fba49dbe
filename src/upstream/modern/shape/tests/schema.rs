//! The published schemas (tests/schema), asked whether they allow a message.
//!
//! Formats are not checked: the two drafts they are written in differ in that, and the proxy passes addresses as they are.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

pub(super) const MODERN: &str = "2026-07-28";

/// By revision and definition.
type Known = HashMap<(String, String), Arc<Validator>>;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// What the result of `method` is called in the schemas.
pub(super) fn result_of(method: &str) -> &'static str {
    match method {
        "tools/list" => "ListToolsResult",
        "tools/call" => "CallToolResult",
        "prompts/list" => "ListPromptsResult",
        "prompts/get" => "GetPromptResult",
        "resources/list" => "ListResourcesResult",
        "resources/templates/list" => "ListResourceTemplatesResult",
        "resources/read" => "ReadResourceResult",
        "completion/complete" => "CompleteResult",
        _ => "Result",
    }
}

/// What the `revision` has against `value` as a `definition`; empty when it is one.
pub(super) fn complaints(revision: &str, definition: &str, value: &Value) -> Vec<String> {
    let validator = validator(revision, definition);
    validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect()
}

#[track_caller]
pub(super) fn assert_valid(revision: &str, definition: &str, value: &Value) {
    let complaints = complaints(revision, definition, value);
    assert!(complaints.is_empty(), "{revision} {definition}: {complaints:#?}\n{value:#}");
}

fn validator(revision: &str, definition: &str) -> Arc<Validator> {
    let key = (revision.to_owned(), definition.to_owned());
    let mut known = KNOWN.lock().expect("no test panics while it holds the lock");
    Arc::clone(known.entry(key).or_insert_with(|| Arc::new(compiled(revision, definition))))
}

fn compiled(revision: &str, definition: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema").join(format!("{revision}.json"));
    let mut schema: Value = serde_json::from_str(&fs::read_to_string(path).expect("a schema")).expect("JSON");
    let definitions = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
    assert!(schema[definitions].get(definition).is_some(), "{revision} has no {definition}");
    schema["allOf"] = json!([{ "$ref": format!("#/{definitions}/{definition}") }]);
    jsonschema::options().should_validate_formats(false).build(&schema).expect("a schema")
}
