//! Results and notifications of the server, for a client of an older revision.

use std::borrow::Cow;
use std::collections::HashSet;

use super::content::{Place, block};
use super::json::{RESERVED, change_items, change_member, changed, says, string, strip_meta};
use super::questions::{InputRequest, InputRequired};
use super::{Profile, Version, tools};
use crate::mcp::{Array, Object, RpcError, code};

/// The members that only a 2026-07-28 client is told.
const ONLY_MODERN: [&str; 5] = ["resultType", "ttlMs", "cacheScope", "inputRequests", "requestState"];

/// The complete result of `method`, as the client of `profile` can read it.
///
/// # Errors
/// When it is no object or of a `resultType` that this proxy does not know: nobody could say what it means.
pub fn result<'a>(method: &str, result: &'a str, profile: &Profile) -> Result<Cow<'a, str>, RpcError> {
    let unknown = |message: String| RpcError::new(code::INTERNAL_ERROR, "upstream_error", message);
    let Some(mut object) = Object::of(result) else {
        return Err(unknown("upstream answered with a result that is no JSON object".to_owned()));
    };
    // A server of an older revision leaves it out (MCP 2026-07-28, schema: Result.resultType).
    let kind = object.get("resultType").filter(|text| *text != "null");
    if let Some(kind) = kind.filter(|kind| string(kind).is_none_or(|kind| kind != "complete")) {
        return Err(unknown(format!(
            "upstream answered {method} with a result of type {}, which cannot be put to this client; \
             expected \"complete\"",
            kind.chars().take(40).collect::<String>()
        )));
    }
    for name in ONLY_MODERN {
        object.remove(name);
    }
    strip_meta(&mut object, is_servers_own);
    let version = profile.version();
    match method {
        "tools/list" => change_items(&mut object, "tools", |_, json| tools::tool(json, version)),
        "tools/call" => call_result(&mut object, version),
        "prompts/get" => change_items(&mut object, "messages", |at, json| {
            let mut message = Object::of(json)?;
            change_member(&mut message, "content", |content| block(content, version, Place::Result, at));
            changed(message)
        }),
        // Lists of prompts and resources, contents and completions: the same in all revisions but for new members.
        _ => {}
    }
    Ok(object.finish())
}

fn call_result(result: &mut Object<'_>, version: Version) {
    change_items(result, "content", |at, json| block(json, version, Place::Result, at));
    let Some(structured) = result.get("structuredContent") else { return };
    if version < Version::V2025_06_18 {
        let says_nothing = match result.get("content").map(Array::of) {
            Some(Some(content)) => content.items().next().is_none(),
            Some(None) | None => true,
        };
        if says_nothing {
            result.set("content", tools::as_text(structured));
        }
        result.remove("structuredContent");
    } else if structured == "null" && result.get("isError") == Some("true") {
        // "None" in the words of some serialiser. Wrapped it would be checked against the schema, and the client
        // would report that instead of the error.
        result.remove("structuredContent");
    } else if let Some(wrapped) = tools::structured(structured) {
        result.set("structuredContent", wrapped);
    }
}

/// What the server asks for before it goes on; `None` when `result` asks for nothing.
#[must_use]
pub fn input_required(result: &str) -> Option<InputRequired> {
    let result = Object::of(result)?;
    if !says(&result, "resultType", "input_required") {
        return None;
    }
    let asked = result.get("inputRequests").and_then(Object::of);
    let entries: Vec<_> = asked.iter().flat_map(Object::members).collect();
    // Of a key that stands there twice the last counts, as everywhere.
    let mut seen = HashSet::new();
    let last = entries.into_iter().rev().filter(|(key, _)| seen.insert(*key));
    let mut requests: Vec<InputRequest> = last.map(|(key, request)| InputRequest::of(key, request)).collect();
    requests.reverse();
    let state = result.get("requestState").filter(|text| *text != "null").map(str::to_owned);
    Some(InputRequired { requests, state })
}

/// A notification of the server, whole, without what a subscription or a modern server marked it with.
#[must_use]
pub fn notification(message: &str) -> Cow<'_, str> {
    // Almost none carries a mark, and some are large.
    if !message.contains(RESERVED) && !message.contains('\\') {
        return Cow::Borrowed(message);
    }
    let Some(mut object) = Object::of(message) else { return Cow::Borrowed(message) };
    change_member(&mut object, "params", |params| {
        let mut params = Object::of(params)?;
        strip_meta(&mut params, is_servers_own);
        changed(params)
    });
    object.finish()
}

fn is_servers_own(name: &str) -> bool {
    matches!(name.strip_prefix(RESERVED), Some("serverInfo" | "subscriptionId"))
}
