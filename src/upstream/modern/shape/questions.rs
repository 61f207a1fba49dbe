//! What the server asks the client for, and the client's answers.
//!
//! A modern server asks inside a result (MCP 2026-07-28, basic/patterns/mrtr); an old client is sent a request. The trap:
//! servers ask whether or not the client said it can (Python does), and an old client that gets a request it has
//! no handler for answers with an error, which has no place in `inputResponses`. So it is refused here, in words.

use std::borrow::Cow;

use super::elicitation::elicitation;
use super::json::{RESERVED, is_object, string, strip_meta};
use super::sampling::sampling;
use super::{Profile, json};
use crate::mcp::{Array, Object};

/// An `input_required` result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRequired {
    /// What is asked, in the server's order. Empty when it only wants to be called again.
    pub requests: Vec<InputRequest>,
    /// `requestState` as it stands in the text, quotes and escapes included: it goes back byte for byte.
    pub state: Option<String>,
}

/// One entry of `inputRequests`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRequest {
    /// What the answer will be called in `inputResponses`.
    pub key: String,
    /// Empty when the entry is no request.
    pub method: String,
    /// The text of `params`; `{}` when there are none.
    pub params: String,
}

/// Why this client is not asked, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotAsk(pub(super) String);

/// Why an answer of the client cannot be passed on, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client answered {method} with {what}")]
pub struct BadAnswer {
    method: String,
    what: &'static str,
}

impl InputRequest {
    pub(super) fn of(key: &str, request: &str) -> Self {
        let request = Object::of(request);
        let member = |name: &str| request.as_ref().and_then(|request| request.get(name));
        InputRequest {
            key: key.to_owned(),
            method: member("method").and_then(string).unwrap_or_default().into_owned(),
            params: member("params").unwrap_or("{}").to_owned(),
        }
    }
}

/// The `params` of the request that the client of `profile` gets for an entry of `inputRequests`.
///
/// `fresh_id` names an elicitation by URL, where 2025-11-25 wants a name; it must not have been used in this session.
///
/// # Errors
/// When this client cannot answer: it did not say that it can, or has no words for what is asked.
pub fn request_to_client<'a>(
    method: &str,
    params: &'a str,
    profile: &Profile,
    fresh_id: &str,
) -> Result<Cow<'a, str>, CannotAsk> {
    let Some(mut object) = Object::of(params) else {
        return Err(CannotAsk(format!("the server asked for {} without proper parameters", named(method))));
    };
    // What is reserved speaks of the modern protocol, and progress has no way up; an old server never asks for tasks
    // that were not offered.
    strip_meta(&mut object, |name| name.starts_with(RESERVED) || name == "progressToken");
    object.remove("task");
    match method {
        "elicitation/create" => elicitation(&mut object, profile, fresh_id)?,
        "sampling/createMessage" => sampling(&mut object, profile)?,
        "roots/list" if profile.can.roots => {}
        "roots/list" => return Err(undeclared("roots")),
        _ => return Err(CannotAsk(format!("the server asked for {}, which no client offers", named(method)))),
    }
    Ok(object.finish())
}

/// A method of the server's choice, to be quoted.
fn named(method: &str) -> String {
    let name: String = method.chars().filter(|character| !character.is_control()).take(60).collect();
    if name.is_empty() { "something without a name".to_owned() } else { name }
}

pub(super) fn undeclared(capability: &str) -> CannotAsk {
    CannotAsk(format!("the server asked for {capability}, which this client does not offer"))
}

/// A client's result for a request made of an `inputRequests` entry, as it stands in `inputResponses`.
///
/// Only what a server could not do without is looked for; what it makes of the rest is its business.
///
/// # Errors
/// When it is no answer to `method`.
pub fn answer_to_server<'a>(method: &str, result: &'a str) -> Result<Cow<'a, str>, BadAnswer> {
    let bad = |what| Err(BadAnswer { method: named(method), what });
    let Some(mut object) = Object::of(result) else { return bad("a result that is no object") };
    let is = |name: &str, fits: fn(&str) -> bool| object.get(name).is_some_and(fits);
    let is_text = |json: &str| string(json).is_some();
    match method {
        "elicitation/create" => {
            if !is("action", |json| string(json).is_some_and(|text| ["accept", "decline", "cancel"].contains(&&*text)))
            {
                return bad("an action that is none of accept, decline, cancel");
            }
            // Some serialisers write null for "none", which servers refuse.
            if object.get("content").is_some_and(|content| !json::is_object(content)) {
                object.remove("content");
            }
        }
        "sampling/createMessage" => {
            if !is("role", is_text) || !is("model", is_text) || !is("content", |json| json.starts_with(['{', '['])) {
                return bad("a message that lacks its role, model or content");
            }
        }
        "roots/list" => {
            if !is("roots", |json| Array::of(json).is_some_and(|roots| roots.items().all(is_object))) {
                return bad("no list of roots");
            }
        }
        _ => return bad("a result that nobody asked for"),
    }
    strip_meta(&mut object, |name| name.starts_with(RESERVED));
    Ok(object.finish())
}
