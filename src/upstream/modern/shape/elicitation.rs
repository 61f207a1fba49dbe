//! `elicitation/create`, for clients that have it: forms since 2025-06-18, links since 2025-11-25.

use super::json::{changed, quoted, says, string};
use super::questions::{CannotAsk, undeclared};
use super::{Profile, Version};
use crate::mcp::{Array, Object};

/// Puts the `params` of a question to a person in the words of the client's revision.
pub(super) fn elicitation(params: &mut Object<'_>, profile: &Profile, fresh_id: &str) -> Result<(), CannotAsk> {
    match params.get("mode").map(|mode| string(mode).unwrap_or_default()).as_deref() {
        None | Some("form") => form(params, profile),
        Some("url") if profile.can.elicitation_url => {
            // 2026-07-28 took it away again; an old client wants one, although it will never hear of its completion.
            params.set("elicitationId", quoted(fresh_id));
            Ok(())
        }
        Some("url") => Err(undeclared("elicitation by URL")),
        Some(_) => Err(CannotAsk("the server asked for an elicitation of an unknown mode".to_owned())),
    }
}

fn form(params: &mut Object<'_>, profile: &Profile) -> Result<(), CannotAsk> {
    if !profile.can.elicitation_form {
        return Err(undeclared("elicitation by form"));
    }
    if profile.version() >= Version::V2025_11_25 {
        return Ok(());
    }
    // It came with 2025-11-25, where leaving it out means the same.
    params.remove("mode");
    let Some(mut schema) = params.get("requestedSchema").and_then(Object::of) else { return Ok(()) };
    if let Some(mut fields) = schema.get("properties").and_then(Object::of) {
        let is_list = |field: &str| Object::of(field).is_some_and(|field| says(&field, "type", "array"));
        if fields.members().any(|(_, field)| is_list(field)) {
            return Err(CannotAsk(format!(
                "the server asked to choose several of a list, which clients of {} cannot show",
                profile.version()
            )));
        }
        fields.replace(|_, field| choice(Object::of(field)?));
        if let Some(fields) = changed(fields) {
            schema.set("properties", fields);
        }
    }
    if let Some(schema) = changed(schema) {
        params.set("requestedSchema", schema);
    }
    Ok(())
}

/// A choice with titles: `oneOf` of 2025-11-25 as `enum` and `enumNames` of before. `None` when it is no such choice.
fn choice(mut field: Object<'_>) -> Option<String> {
    let options = Array::of(field.get("oneOf")?)?;
    let options: Option<Vec<(&str, &str)>> = options
        .items()
        .map(|option| {
            let option = Object::of(option)?;
            let text = |name: &str| option.get(name).filter(|json| string(json).is_some());
            let value = text("const")?;
            Some((value, text("title").unwrap_or(value)))
        })
        .collect();
    let (values, titles): (Vec<&str>, Vec<&str>) = options?.into_iter().unzip();
    field.remove("oneOf");
    field.set("enum", format!("[{}]", values.join(",")));
    field.set("enumNames", format!("[{}]", titles.join(",")));
    changed(field)
}
