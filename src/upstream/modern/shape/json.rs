//! Small things that every part of the translation does with JSON texts.

use std::borrow::Cow;

use crate::mcp::{Array, Object};

/// What starts the names that the protocol keeps for itself in `_meta` (MCP 2026-07-28, basic §_meta).
pub(super) const RESERVED: &str = "io.modelcontextprotocol/";

/// What a JSON string says; `None` when `json` is none, or half a surrogate pair makes it say nothing.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside))
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether `json`, which is the text of one JSON value, is an object.
pub(super) fn is_object(json: &str) -> bool {
    json.starts_with('{')
}

/// Whether the member `name` of an object says `expected`.
pub(super) fn says(object: &Object<'_>, name: &str, expected: &str) -> bool {
    object.get(name).and_then(string).is_some_and(|text| text == expected)
}

/// Gives each item of the array `name` to `change`, which returns what to put in its place, if anything.
pub(super) fn change_items(object: &mut Object<'_>, name: &str, change: impl Fn(usize, &str) -> Option<String>) {
    let Some(mut array) = object.get(name).and_then(Array::of) else { return };
    let changes: Vec<_> = array.items().enumerate().filter_map(|(at, item)| Some((at, change(at, item)?))).collect();
    for (at, changed) in changes {
        array.set(at, changed);
    }
    if array.is_changed() {
        object.set(name, array.finish());
    }
}

/// Gives the member `name` to `change`, which returns what to put in its place, if anything.
pub(super) fn change_member(object: &mut Object<'_>, name: &str, change: impl Fn(&str) -> Option<String>) {
    if let Some(changed) = object.get(name).and_then(change) {
        object.set(name, changed);
    }
}

/// Takes names out of `_meta`, and `_meta` itself when nothing is left in it.
pub(super) fn strip_meta(object: &mut Object<'_>, is_stripped: impl Fn(&str) -> bool) {
    let Some(text) = object.get("_meta") else { return };
    let Some(mut meta) = Object::of(text) else {
        // Not allowed in any revision, and some serialisers write it for "none".
        if text == "null" {
            object.remove("_meta");
        }
        return;
    };
    let mut is_empty = true;
    meta.retain(|name, _| {
        let is_kept = !is_stripped(name);
        is_empty &= !is_kept;
        is_kept
    });
    if !meta.is_changed() {
        return;
    }
    if is_empty {
        object.remove("_meta");
    } else {
        object.set("_meta", meta.finish());
    }
}

/// The changed text, if it was changed.
pub(super) fn changed(object: Object<'_>) -> Option<String> {
    object.is_changed().then(|| object.finish().into_owned())
}
