//! Tools and their structured results.
//!
//! Since 2026-07-28 an `outputSchema` may be any schema and `structuredContent` any value; before, both are about objects,
//! and before 2025-06-18 neither exists. A client checks the one against the other, so both are changed alike, without
//! memory of which tool is which: content that is an object stays as it is, and any other value `x` becomes
//! `{"result": x}`. The schema that is told allows exactly what can come of that: the wrapped form, beside the plain one
//! where the server's schema allows objects at all.
//!
//! The trap is `$ref`: it counts from the root of the schema, which moves. `$defs` stay at the root; a schema that refers
//! to anything else within itself is left out, and the client then checks nothing, which is never wrong.

use serde_json::Value;

use super::Version;
use super::json::{change_member, changed, is_object, quoted, says, string};
use crate::mcp::{Array, Object};

/// A tool for a client of `version`; `None` when it can read it as it is.
pub(super) fn tool(json: &str, version: Version) -> Option<String> {
    let mut tool = Object::of(json)?;
    // It speaks of nothing but tasks, which are not translated; TypeScript refuses to call a tool that requires them.
    tool.remove("execution");
    change_member(&mut tool, "inputSchema", object_schema);
    if let Some(schema) = tool.get("outputSchema") {
        let is_old = version < Version::V2025_06_18;
        let of_objects = Object::of(schema).is_some_and(|schema| says(&schema, "type", "object"));
        match wrapped_schema(schema) {
            _ if is_old => tool.remove("outputSchema"),
            _ if of_objects => change_member(&mut tool, "outputSchema", object_schema),
            Some(wrapped) => tool.set("outputSchema", wrapped),
            None => tool.remove("outputSchema"),
        }
    }
    changed(tool)
}

/// `structuredContent` for a client that has it; `None` when it is an object already.
pub(super) fn structured(json: &str) -> Option<String> {
    (!is_object(json)).then(|| format!("{{\"result\":{json}}}"))
}

/// Brings an object schema to the form all old revisions have: the TypeScript client refuses the whole list for one
/// property that is described by `true`.
fn object_schema(json: &str) -> Option<String> {
    let mut schema = Object::of(json)?;
    if let Some(text) = schema.get("properties") {
        match Object::of(text) {
            Some(properties) => {
                if let Some(properties) = described_by_objects(properties) {
                    schema.set("properties", properties);
                }
            }
            None => schema.remove("properties"),
        }
    }
    let is_names = |text: &str| Array::of(text).is_some_and(|array| array.items().all(|item| item.starts_with('"')));
    if schema.get("required").is_some_and(|text| !is_names(text)) {
        schema.remove("required");
    }
    changed(schema)
}

/// `true` and `false` are schemas as well; these are the same as objects.
fn described_by_objects(mut properties: Object<'_>) -> Option<String> {
    properties.replace(|_, schema| match schema {
        schema if is_object(schema) => None,
        "false" => Some("{\"not\":{}}".to_owned()),
        _ => Some("{}".to_owned()),
    });
    changed(properties)
}

/// The object schema that stands for a schema of something else; `None` when there is no telling it so.
fn wrapped_schema(json: &str) -> Option<String> {
    // Read only to look for what refers to the root. What is too deep to be read is not told either.
    let value: Value = serde_json::from_str(json).ok()?;
    if !can_be_moved(&value) {
        return None;
    }
    let mut inner = Object::of(json)?;
    let mut outer = Object::of("{\"type\":\"object\"}")?;
    for name in ["$schema", "$defs", "definitions"] {
        if let Some(text) = inner.get(name) {
            outer.set(name, text);
            inner.remove(name);
        }
    }
    let inner = inner.finish();
    let wrapped = format!("{{\"result\":{inner}}}");
    if allows_objects(&value) {
        outer.set("anyOf", format!("[{inner},{{\"properties\":{wrapped},\"required\":[\"result\"]}}]"));
    } else {
        outer.set("properties", wrapped);
        outer.set("required", "[\"result\"]");
    }
    Some(outer.finish().into_owned())
}

/// Whether a schema says the same from another place: it has no address of its own, and refers to `$defs` only.
fn can_be_moved(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().all(|(name, value)| match (name.as_str(), value) {
            ("$id" | "id" | "$anchor" | "$dynamicAnchor" | "$recursiveAnchor", Value::String(_) | Value::Bool(_))
            | ("$dynamicRef" | "$recursiveRef", Value::String(_)) => false,
            ("$ref", Value::String(target)) => {
                !target.starts_with('#') || target.starts_with("#/$defs/") || target.starts_with("#/definitions/")
            }
            (_, value) => can_be_moved(value),
        }),
        Value::Array(items) => items.iter().all(can_be_moved),
        _ => true,
    }
}

fn allows_objects(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => true,
    }
}

/// `structuredContent` as text, for a client that knows only that.
pub(super) fn as_text(structured: &str) -> String {
    let text = string(structured).map_or_else(|| structured.to_owned(), std::borrow::Cow::into_owned);
    format!("[{{\"type\":\"text\",\"text\":{}}}]", quoted(&text))
}
