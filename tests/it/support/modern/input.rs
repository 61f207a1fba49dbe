//! Input that is asked for by results (basic/patterns/mrtr), and whether what comes back is what was asked for.
//!
//! Nothing is kept in the open: a state is a random-looking text that has to come back as it is, once, with the same
//! params and credential, under another id, and with an answer for every question.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Seen, Shared};

/// What the next request has to look like.
pub(super) struct Leg {
    tool: String,
    /// The bytes of `params.arguments`.
    arguments: String,
    /// `_meta`.
    meta: Value,
    authorization: Option<String>,
    id: Value,
    keys: Vec<String>,
    /// Answers so far, of all rounds.
    gathered: Map<String, Value>,
    round: u64,
}

/// What a tool does next.
pub(super) enum Next {
    /// Asks for these, by key.
    Ask(Value),
    /// Asks for nothing but to be called again.
    Again,
    /// Has everything.
    Done(Value),
}

/// Where a conversation stands.
pub(super) struct Round {
    /// From 0.
    pub(super) number: u64,
    pub(super) gathered: Map<String, Value>,
}

/// The bytes of `params.arguments`.
fn arguments(seen: &Seen) -> String {
    type Texts = HashMap<String, Box<RawValue>>;
    let inside = |text: &str, name: &str| serde_json::from_str::<Texts>(text).ok()?.remove(name);
    let params = inside(&seen.raw, "params");
    let arguments = params.and_then(|params| inside(params.get(), "arguments"));
    arguments.map_or(String::new(), |arguments| arguments.get().to_owned())
}

/// The name of what is called, read, or got.
fn target(seen: &Seen) -> String {
    format!("{} {} {}", seen.rpc(), seen.params()["name"], seen.params()["uri"])
}

/// The round that `seen` begins; an error where its state is none of ours.
pub(super) fn round(shared: &Arc<Shared>, seen: &Seen) -> Result<Round, String> {
    let responses = seen.params()["inputResponses"].as_object().cloned();
    let Some(token) = seen.params()["requestState"].as_str() else {
        let number = u64::from(responses.is_some());
        return Ok(Round { number, gathered: responses.unwrap_or_default() });
    };
    let Some(leg) = shared.state().legs.remove(token) else {
        shared.refuse(-32602, format!("a state that was never given or has come back before: {token:?}"));
        return Err("Invalid or expired requestState".to_owned());
    };
    let mut wrong = Vec::new();
    let mut same = |what: &str, is: bool| {
        if !is {
            wrong.push(what.to_owned());
        }
    };
    let mut answered: Vec<String> = responses.iter().flatten().map(|(key, _)| key.clone()).collect();
    answered.sort();
    same("the target is another", leg.tool == target(seen));
    same("the arguments have other bytes", leg.arguments == arguments(seen));
    same("_meta is another", leg.meta == seen.params()["_meta"]);
    // Where the server looks at credentials, those it takes are of the same person.
    let is_own = shared.manner().token.is_some() || leg.authorization.as_deref() == seen.header("authorization");
    same("the credential is another", is_own);
    same("the id is that of the round before", leg.id != seen.body["id"]);
    same(&format!("asked for {:?}, got {answered:?}", leg.keys), leg.keys == answered);
    if !wrong.is_empty() {
        shared.refuse(-32602, format!("a retry that is none: {wrong:?} in {}", seen.raw));
        return Err("Invalid or expired requestState".to_owned());
    }
    let mut gathered = leg.gathered;
    gathered.extend(responses.unwrap_or_default());
    Ok(Round { number: leg.round + 1, gathered })
}

/// The result that asks for `requests`, or for nothing but another call.
pub(super) fn ask(
    shared: &Arc<Shared>,
    seen: &Seen,
    round: Round,
    requests: Option<Value>,
    keeps_state: bool,
) -> Value {
    let mut result = json!({"resultType": "input_required"});
    let mut keys: Vec<String> =
        requests.iter().filter_map(Value::as_object).flatten().map(|(key, _)| key.clone()).collect();
    keys.sort();
    if let Some(requests) = requests {
        result["inputRequests"] = requests;
    }
    if !keeps_state {
        return result;
    }
    let mut state = shared.state();
    state.states += 1;
    // Whoever touches it breaks it: escapes, blanks, characters beyond ASCII and beyond the first plane.
    let token = format!("v1.{}. \"\\/\u{8}é\u{2028}😀=", state.states);
    let leg = Leg {
        tool: target(seen),
        arguments: arguments(seen),
        meta: seen.params()["_meta"].clone(),
        authorization: seen.header("authorization").map(str::to_owned),
        id: seen.body["id"].clone(),
        keys,
        gathered: round.gathered,
        round: round.number,
    };
    state.legs.insert(token.clone(), leg);
    drop(state);
    result["requestState"] = json!(token);
    result
}

pub(super) fn elicitation(message: &str) -> Value {
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": message,
        "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}}})
}

pub(super) fn sampling() -> Value {
    json!({"method": "sampling/createMessage", "params": {"maxTokens": 100,
        "messages": [{"role": "user", "content": {"type": "text", "text": "a number, please"}}]}})
}

pub(super) fn roots() -> Value {
    json!({"method": "roots/list"})
}

/// What a tool with input does in `round`.
pub(super) fn next(name: &str, arguments: &Value, round: &Round) -> Next {
    let done =
        || Next::Done(json!({"content": [{"type": "text", "text": Value::from(round.gathered.clone()).to_string()}]}));
    // Arguments of prompts are texts.
    let text = arguments["rounds"].as_str().and_then(|text| text.parse().ok());
    let rounds = arguments["rounds"].as_u64().or(text).unwrap_or(1);
    if round.number >= rounds {
        return done();
    }
    match name {
        "state-only" => Next::Again,
        "elicit-rounds" => {
            let key = format!("round-{}", round.number);
            Next::Ask(json!({key: elicitation(&format!("round {}", round.number))}))
        }
        "sample" => Next::Ask(json!({"number": sampling()})),
        "sample-tools" => {
            let mut request = sampling();
            request["params"]["tools"] = json!([{"name": "t", "inputSchema": {"type": "object"}}]);
            Next::Ask(json!({"number": request}))
        }
        "roots" => Next::Ask(json!({"roots": roots()})),
        "ask-three" => Next::Ask(json!({"who": elicitation("who?"), "number": sampling(), "roots": roots()})),
        "elicit-url" => Next::Ask(json!({"who": {"method": "elicitation/create", "params":
            {"mode": "url", "message": "log in", "url": "https://example.com/login"}}})),
        "elicit-titled" => Next::Ask(json!({"who": with_property(
            &json!({"type": "string", "oneOf": [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}]}))})),
        "elicit-multi" => Next::Ask(json!({"who": with_property(
            &json!({"type": "array", "items": {"type": "string", "enum": ["r", "g"]}}))})),
        _ => Next::Ask(json!({"who": elicitation("who?")})),
    }
}

fn with_property(property: &Value) -> Value {
    let mut request = elicitation("which?");
    request["params"]["requestedSchema"] = json!({"type": "object", "properties": {"name": property}});
    request
}
