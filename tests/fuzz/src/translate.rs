//! The translation for 2026-07-28 servers: no text makes it panic, JSON stays JSON, and what the schema of the one
//! revision allows becomes what the schema of the other allows.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};
use sse_sunset::upstream::shape::{
    Failed, Profile, Version, answer_to_server, error, failed_call, initialize_result, input_required, notification,
    request_to_client, result,
};

/// The members of a result that no old client may see.
const ONLY_MODERN: [&str; 5] = ["resultType", "ttlMs", "cacheScope", "inputRequests", "requestState"];

/// A thing the schemas define, under the method it belongs to.
struct Definition {
    method: &'static str,
    /// By that of 2026-07-28.
    modern: Validator,
    /// By those of [`Version::ALL`]; `None` where the revision does not have it.
    old: Vec<Option<Validator>>,
}

static RESULTS: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    let methods = [
        ("tools/list", "ListToolsResult"),
        ("tools/call", "CallToolResult"),
        ("prompts/list", "ListPromptsResult"),
        ("prompts/get", "GetPromptResult"),
        ("resources/list", "ListResourcesResult"),
        ("resources/templates/list", "ListResourceTemplatesResult"),
        ("resources/read", "ReadResourceResult"),
        ("completion/complete", "CompleteResult"),
    ];
    definitions(&methods)
});

static QUESTIONS: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    definitions(&[
        ("elicitation/create", "ElicitRequest"),
        ("sampling/createMessage", "CreateMessageRequest"),
        ("roots/list", "ListRootsRequest"),
    ])
});

/// `data` is a method, the parameters of an `initialize`, and a text, on a line each; the text may have more of them.
pub fn translate(data: &[u8]) {
    let data = String::from_utf8_lossy(data);
    let mut lines = data.splitn(3, '\n');
    let (method, params) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let text = lines.next().unwrap_or_default();
    let profile = Profile::of(params);
    let up = read(profile.capabilities_up());
    assert!(up.is_none_or(|up| up.is_object() && up.get("tasks").is_none()), "the capabilities are no capabilities");

    results(method, text, &profile);
    questions(method, text, &profile);
    if let Ok(answer) = answer_to_server(method, text) {
        stays_json(text, &answer);
    }
    stays_json(text, &notification(text));
    stays_json("{}", &initialize_result(profile.version(), "{}", text));
    stays_json(text, &initialize_result(profile.version(), text, "s"));
    if let Some(error) = stays_json("{}", &error(method, "{}")).and(read(&error(method, text))) {
        assert!(error["message"].is_string() && error["code"].is_number(), "no error: {error}");
    }
    match failed_call(method, text) {
        Failed::Result(json) => drop(stays_json("{}", &json)),
        Failed::Error(error) => assert_eq!(error.message, text),
    }
}

fn results(method: &str, text: &str, profile: &Profile) {
    if let Some(required) = input_required(text) {
        assert!(result(method, text, profile).is_err(), "it is complete and is not");
        let texts = required.requests.iter().map(|asked| &asked.params).chain(&required.state);
        texts.for_each(|part| assert!(part == "{}" || text.contains(part.as_str()), "{part} is not of the text"));
    }
    let Ok(shaped) = result(method, text, profile) else { return };
    assert_eq!(result(method, &shaped, profile).as_deref(), Ok(&*shaped), "shaped twice is not shaped once");
    let Some(value) = stays_json(text, &shaped) else { return };
    assert!(ONLY_MODERN.iter().all(|name| value.get(name).is_none()), "a modern member is left: {value}");
    stays_valid(&RESULTS, method, text, &value, profile, Value::clone);
}

fn questions(method: &str, text: &str, profile: &Profile) {
    let Ok(asked) = request_to_client(method, text, profile, "e-1") else { return };
    let Some(value) = stays_json(text, &asked) else { return };
    let request = |params: &Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    stays_valid(&QUESTIONS, method, text, &value, profile, request);
}

/// What it says now, if what it said before has a value.
fn stays_json(before: &str, after: &str) -> Option<Value> {
    read(before)?;
    Some(serde_json::from_str(after).unwrap_or_else(|error| panic!("no JSON any more ({error}): {after}")))
}

/// `None` for what is no JSON, or has no value: half of a surrogate pair, 1e999, a nesting of thousands.
fn read(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// If the modern schema allowed it, the client's does. `whole` makes of a value what the schemas define.
fn stays_valid(
    definitions: &[Definition],
    method: &str,
    before: &str,
    after: &Value,
    profile: &Profile,
    whole: impl Fn(&Value) -> Value,
) {
    let Some(definition) = definitions.iter().find(|known| known.method == method) else { return };
    let before = whole(&read(before).expect("it was read before"));
    let at = Version::ALL.iter().position(|version| *version == profile.version()).expect("one of them");
    let (true, Some(old)) = (definition.modern.is_valid(&before), &definition.old[at]) else { return };
    if let Err(error) = old.validate(&whole(after)) {
        panic!("{} does not allow it: {error} at {}\n{after}", profile.version(), error.instance_path());
    }
}

fn definitions(methods: &[(&'static str, &str)]) -> Vec<Definition> {
    let modern = schema("2026-07-28");
    let old: Vec<Value> = Version::ALL.iter().map(|version| schema(version.as_str())).collect();
    let definition = |(method, name): &(&'static str, &str)| Definition {
        method,
        modern: validator(&modern, name).expect("it is defined"),
        old: old.iter().map(|schema| validator(schema, name)).collect(),
    };
    methods.iter().map(definition).collect()
}

fn schema(revision: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema").join(format!("{revision}.json"));
    serde_json::from_slice(&fs::read(path).expect("a schema")).expect("JSON")
}

/// Formats are left out: the drafts differ in whether they are checked, and addresses pass as they are.
fn validator(schema: &Value, name: &str) -> Option<Validator> {
    let definitions = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
    schema[definitions].get(name)?;
    let mut schema = schema.clone();
    schema["allOf"] = json!([{ "$ref": format!("#/{definitions}/{name}") }]);
    Some(jsonschema::options().should_validate_formats(false).build(&schema).expect("a schema"))
}
