//! `sampling/createMessage`: tools and lists of blocks came with 2025-11-25, and only some of its clients take them.

use std::borrow::Cow;

use super::content::{Place, block};
use super::json::{change_items, change_member, changed, says, string};
use super::questions::{CannotAsk, undeclared};
use super::{Profile, Version, tools};
use crate::mcp::{Array, Object};

/// Puts the `params` of a question to a model in the words of the client's revision.
pub(super) fn sampling(params: &mut Object<'_>, profile: &Profile) -> Result<(), CannotAsk> {
    let (version, can) = (profile.version(), profile.can);
    if !can.sampling {
        return Err(undeclared("sampling"));
    }
    if can.sampling_tools {
        change_items(params, "tools", |_, json| tools::tool(json, version));
    } else {
        let offers_tools = params.get("tools").and_then(Array::of).is_some_and(|tools| tools.items().next().is_some());
        if offers_tools {
            return Err(undeclared("sampling with tools"));
        }
        params.remove("tools");
        params.remove("toolChoice");
    }
    // Before 2025-11-25 every client that samples takes it; since then only who says so, and "none" is what it means to
    // leave it out.
    if version >= Version::V2025_11_25 && !can.sampling_context && !says(params, "includeContext", "none") {
        params.remove("includeContext");
    }
    let Some(mut messages) = params.get("messages").and_then(Array::of) else { return Ok(()) };
    let texts: Vec<&str> = messages.items().collect();
    for (at, text) in texts.into_iter().enumerate() {
        if let Some(message) = message(text, profile)? {
            messages.set(at, message);
        }
    }
    if messages.is_changed() {
        params.set("messages", messages.finish());
    }
    Ok(())
}

/// One message; `None` when the client can read it as it is.
fn message(json: &str, profile: &Profile) -> Result<Option<String>, CannotAsk> {
    let Some(mut message) = Object::of(json) else { return Ok(None) };
    let Some(content) = message.get("content") else { return Ok(None) };
    let version = profile.version();
    if let Some(blocks) = Array::of(content) {
        let items: Vec<&str> = blocks.items().collect();
        if profile.can.sampling_tools {
            change_items(&mut message, "content", |at, json| sampled(json, version, at));
        } else if let [only] = items.as_slice() {
            refuse_tool_use(only)?;
            message.set("content", sampled(only, version, 0).unwrap_or_else(|| (*only).to_owned()));
        } else {
            return Err(undeclared("sampling of messages with several parts"));
        }
    } else {
        if !profile.can.sampling_tools {
            refuse_tool_use(content)?;
        }
        change_member(&mut message, "content", |json| sampled(json, version, 0));
    }
    Ok(changed(message))
}

fn refuse_tool_use(block: &str) -> Result<(), CannotAsk> {
    let kind = Object::of(block).and_then(|block| block.get("type").and_then(string).map(Cow::into_owned));
    match kind.as_deref() {
        Some("tool_use" | "tool_result") => Err(undeclared("sampling with tools")),
        _ => Ok(()),
    }
}

/// A block of a message, and what stands in the result of a tool in it.
fn sampled(json: &str, version: Version, index: usize) -> Option<String> {
    let converted = block(json, version, Place::Sampling, index);
    if converted.is_some() {
        return converted;
    }
    let mut object = Object::of(json).filter(|object| says(object, "type", "tool_result"))?;
    change_items(&mut object, "content", |at, json| block(json, version, Place::Result, at));
    change_member(&mut object, "structuredContent", tools::structured);
    changed(object)
}
