//! Content blocks: what a client's revision does not know would break its parser, so it becomes what it knows.
//!
//! The kinds of 2026-07-28 and since when old clients have them: `text`, `image` and `resource` always, `audio` since
//! 2025-03-26, `resource_link` since 2025-06-18. Any other is unknown to all of them. What the block said is kept as far
//! as another kind can say it: sound stays sound (as a blob), a link becomes its name and address, the rest its JSON.

use super::Version;
use super::json::{is_object, quoted, string};
use crate::mcp::Object;

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the result of a tool or a message of a prompt; embedded resources may stand there.
    Result,
    /// In a message for sampling, where they may not, but tools may be used.
    Sampling,
}

/// What a client of `version` gets in the place of a block; `None` when it can read it as it is. `index` tells blocks of
/// one message apart.
pub(super) fn block(json: &str, version: Version, place: Place, index: usize) -> Option<String> {
    let object = Object::of(json)?;
    let kind = object.get("type").and_then(string).unwrap_or_default();
    let text = match (kind.as_ref(), place) {
        ("text" | "image", _) | ("resource", Place::Result) | ("tool_use" | "tool_result", Place::Sampling) => {
            return None;
        }
        ("audio", _) if version >= Version::V2025_03_26 => return None,
        ("resource_link", Place::Result) if version >= Version::V2025_06_18 => return None,
        ("audio", Place::Result) => match sound(&object, index) {
            Some(resource) => return Some(resource),
            None => json.to_owned(),
        },
        ("audio", Place::Sampling) => silence(&object),
        ("resource_link", _) => link(&object).unwrap_or_else(|| json.to_owned()),
        _ => json.to_owned(),
    };
    Some(format!("{{\"type\":\"text\",\"text\":{}{}}}", quoted(&text), extras(&object)))
}

/// Audio as an embedded resource: it reaches the client whole. Its address is made up, and a URI because Python insists.
fn sound(audio: &Object<'_>, index: usize) -> Option<String> {
    let member = |name: &str| audio.get(name).filter(|text| string(text).is_some());
    let (data, mime_type) = (member("data")?, member("mimeType")?);
    let resource = format!("{{\"uri\":\"audio:content-{index}\",\"mimeType\":{mime_type},\"blob\":{data}}}");
    Some(format!("{{\"type\":\"resource\",\"resource\":{resource}{}}}", extras(audio)))
}

/// What stands for audio where nothing can carry it.
fn silence(audio: &Object<'_>) -> String {
    let mime_type = audio.get("mimeType").and_then(string).unwrap_or("of an unknown kind".into());
    format!("[audio, {mime_type}, left out: the protocol version of this client has none]")
}

fn link(link: &Object<'_>) -> Option<String> {
    let uri = link.get("uri").and_then(string)?;
    match link.get("name").and_then(string) {
        Some(name) => Some(format!("{name}: {uri}")),
        None => Some(uri.into_owned()),
    }
}

/// What every kind of block may carry beside what it says.
fn extras(block: &Object<'_>) -> String {
    let member = |name: &str| match block.get(name).filter(|text| is_object(text)) {
        Some(text) => format!(",\"{name}\":{text}"),
        None => String::new(),
    };
    member("annotations") + &member("_meta")
}
