//! Input: what the server asks for, how each client is asked, what goes back.

use Version::{V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25};
use serde_json::json;

use super::*;

/// Declares everything there is.
const ALL: &str = r#"{"roots":{},"sampling":{"tools":{},"context":{}},"elicitation":{"form":{},"url":{}}}"#;
/// What most clients declare that can sample and be elicited.
const PLAIN: &str = r#"{"roots":{},"sampling":{},"elicitation":{}}"#;

const ELICIT: &str = "elicitation/create";
const SAMPLE: &str = "sampling/createMessage";

fn definition(method: &str) -> &'static str {
    match method {
        ELICIT => "ElicitRequest",
        SAMPLE => "CreateMessageRequest",
        _ => "ListRootsRequest",
    }
}

/// What a client is asked, checked against its revision. Elicitation is checked against the first that has it.
fn asked(method: &str, params: &str, version: Version, capabilities: &str) -> Result<String, String> {
    let request = json!({ "method": method, "params": value(params) });
    schema::assert_valid(schema::MODERN, definition(method), &request);
    let profile = client(version, capabilities);
    let params = request_to_client(method, params, &profile, "e-1").map_err(|refused| refused.to_string())?;
    let request = json!({ "jsonrpc": "2.0", "id": "p1", "method": method, "params": value(&params) });
    let revision = if method == ELICIT { version.max(V2025_06_18) } else { version };
    schema::assert_valid(revision.as_str(), definition(method), &request);
    Ok(params.into_owned())
}

fn form(fields: &str) -> String {
    format!(
        r#"{{"mode":"form","message":"m","requestedSchema":{{"type":"object","properties":{fields},"required":["a"]}}}}"#
    )
}

fn sample(members: &str) -> String {
    format!(r#"{{"maxTokens":5,{members}}}"#)
}

#[test]
fn input_required_keeps_order_keys_and_state() {
    let result = r#"{"resultType":"input_required","inputRequests":{
        "b":{"method":"elicitation/create","params":{ "message":"m"}},
        "a\"":{"method":"roots/list"}, "odd":1,
        "b":{"method":"sampling/createMessage","params":{}}},
        "requestState":"v1.\u00e9"}"#;
    let required = input_required(result).expect("it asks");
    let requests: Vec<_> = required
        .requests
        .iter()
        .map(|asked| (asked.key.as_str(), asked.method.as_str(), asked.params.as_str()))
        .collect();
    assert_eq!(requests, [("a\"", "roots/list", "{}"), ("odd", "", "{}"), ("b", "sampling/createMessage", "{}")]);
    assert_eq!(required.state.as_deref(), Some("\"v1.\\u00e9\""));
    let state_only = input_required(r#"{"resultType":"input_required","requestState":""}"#).expect("it asks");
    assert_eq!(state_only, InputRequired { requests: Vec::new(), state: Some("\"\"".to_owned()) });
    for complete in [r#"{"resultType":"complete","inputRequests":{}}"#, r#"{"content":[]}"#, "[]", ""] {
        assert_eq!(input_required(complete), None);
    }
}

#[test]
fn client_is_asked_only_for_what_it_declared() {
    let message = sample(r#""messages":[]"#);
    let url = r#"{"mode":"url","message":"m","url":"https://a/"}"#;
    let rows = [
        ("roots/list", "{}".to_owned(), r#"{"sampling":{},"elicitation":{}}"#, "roots"),
        (SAMPLE, message, r#"{"roots":{},"elicitation":{}}"#, "sampling"),
        (ELICIT, form("{}"), r#"{"roots":{},"sampling":{}}"#, "elicitation by form"),
        (ELICIT, form("{}"), r#"{"elicitation":{"url":{}}}"#, "elicitation by form"),
        (ELICIT, url.to_owned(), r#"{"elicitation":{}}"#, "elicitation by URL"),
    ];
    for (method, params, capabilities, what) in rows {
        let refused = asked(method, &params, V2025_11_25, capabilities).expect_err("it did not declare it");
        assert_eq!(refused, format!("the server asked for {what}, which this client does not offer"));
    }
    for method in ["tools/call", "", "a\nb"] {
        let refused = request_to_client(method, "{}", &client(V2025_11_25, ALL), "e").expect_err("nobody offers it");
        assert!(!refused.to_string().contains('\n'), "{refused}");
    }
    assert!(request_to_client(ELICIT, "[]", &client(V2025_11_25, ALL), "e").is_err());
}

#[test]
fn question_without_anything_to_change_passes() {
    let roots = r#"{ "_meta":{"x":1} }"#;
    for version in Version::ALL {
        assert_eq!(asked("roots/list", roots, version, PLAIN).expect("asked"), roots);
        let message =
            sample(r#""messages":[ {"role":"user","content":{"type":"text","text":"\u00e9"}} ],"temperature":1.0"#);
        assert_eq!(asked(SAMPLE, &message, version, PLAIN).expect("asked"), message);
    }
    let form = form(
        r#"{"a":{"type":"string","oneOf":[{"const":"x","title":"X"}]},"b":{"type":"array","items":{"type":"string","enum":["x"]}}}"#,
    );
    assert_eq!(asked(ELICIT, &form, V2025_11_25, PLAIN).expect("asked"), form);
}

#[test]
fn reserved_marks_of_a_question_are_taken_out() {
    let params = r#"{"_meta":{"progressToken":[],"io.modelcontextprotocol/x":1},"task":{"ttl":1}}"#;
    let asked = request_to_client("roots/list", params, &client(V2025_11_25, PLAIN), "e").expect("asked");
    assert_eq!(asked, "{}");
}

#[test]
fn form_before_2025_11_25_has_no_mode_and_other_choices() {
    let new = form(
        r#"{"a":{"type":"string","title":"A","oneOf":[{"const":"x","title":"X \"1\""},{"const":"y","title":"Y"}],"default":"x"}, "b":{"type":"boolean"}}"#,
    );
    let old = r#"{"message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"string","title":"A","default":"x","enum":["x","y"],"enumNames":["X \"1\"","Y"]}, "b":{"type":"boolean"}},"required":["a"]}}"#;
    for version in [V2024_11_05, V2025_03_26, V2025_06_18] {
        assert_eq!(asked(ELICIT, &new, version, PLAIN).expect("asked"), old);
    }
    let legacy = r#"{"message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"string","enum":["x"],"enumNames":["X"]}}}}"#;
    assert_eq!(asked(ELICIT, legacy, V2025_06_18, PLAIN).expect("asked"), legacy);
}

#[test]
fn choice_of_several_is_refused_before_2025_11_25() {
    let several = form(r#"{"a":{"type":"array","items":{"anyOf":[{"const":"x","title":"X"}]}}}"#);
    let refused = asked(ELICIT, &several, V2025_06_18, PLAIN).expect_err("it has no words for it");
    assert!(refused.contains("choose several"), "{refused}");
    assert!(asked(ELICIT, &several, V2025_11_25, PLAIN).is_ok());
}

#[test]
fn elicitation_by_url_gets_an_id_in_2025_11_25_and_is_refused_before() {
    let url = r#"{"mode":"url","message":"m","url":"https://a/"}"#;
    let expected = r#"{"mode":"url","message":"m","url":"https://a/","elicitationId":"e-1"}"#;
    assert_eq!(asked(ELICIT, url, V2025_11_25, ALL).expect("asked"), expected);
    for version in [V2024_11_05, V2025_03_26, V2025_06_18] {
        assert!(asked(ELICIT, url, version, ALL).is_err());
    }
    let odd = request_to_client(ELICIT, r#"{"mode":"voice"}"#, &client(V2025_11_25, ALL), "e");
    assert!(odd.is_err_and(|refused| refused.to_string().contains("unknown mode")));
}

#[test]
fn sampling_with_tools_is_for_clients_of_2025_11_25_that_declared_it() {
    let text = r#"{"type":"text","text":"t"}"#;
    let used = r#"{"type":"tool_use","id":"1","name":"t","input":{}}"#;
    let content = |content: &str| sample(&format!(r#""messages":[{{"role":"user","content":{content}}}]"#));
    let with_tools = [
        sample(r#""messages":[],"tools":[{"name":"t","inputSchema":{"type":"object"}}]"#),
        content(&format!("[{text},{text}]")),
        content("[]"),
        content(used),
        content(&format!("[{used}]")),
        content(r#"{"type":"tool_result","toolUseId":"1","content":[]}"#),
    ];
    for params in &with_tools {
        assert_eq!(&asked(SAMPLE, params, V2025_11_25, ALL).expect("asked"), params);
        assert!(asked(SAMPLE, params, V2025_11_25, PLAIN).is_err(), "{params}");
        for version in [V2024_11_05, V2025_03_26, V2025_06_18] {
            assert!(asked(SAMPLE, params, version, ALL).is_err(), "{params}");
        }
    }
    for version in Version::ALL {
        // What asks for nothing in particular is no reason to refuse.
        assert_eq!(asked(SAMPLE, &content(&format!("[{text}]")), version, PLAIN).expect("asked"), content(text));
        let none = sample(r#""messages":[],"tools":[],"toolChoice":{"mode":"none"}"#);
        assert_eq!(asked(SAMPLE, &none, version, PLAIN).expect("asked"), sample(r#""messages":[]"#));
    }
}

#[test]
fn sampling_tools_and_their_results_are_shaped_as_elsewhere() {
    let params = sample(
        r#""tools":[{"name":"t","inputSchema":{"type":"object","properties":{"a":true}},"outputSchema":{"type":"array"}}],"messages":[{"role":"user","content":[{"type":"tool_result","toolUseId":"1","content":[],"structuredContent":[1]}]}]"#,
    );
    let shaped = value(&asked(SAMPLE, &params, V2025_11_25, ALL).expect("asked"));
    assert_eq!(shaped["tools"][0]["inputSchema"]["properties"]["a"], json!({}));
    assert_eq!(shaped["tools"][0]["outputSchema"]["properties"]["result"], json!({ "type": "array" }));
    assert_eq!(shaped["messages"][0]["content"][0]["structuredContent"], json!({ "result": [1] }));
}

#[test]
fn sampling_audio_is_a_note_before_2025_03_26() {
    let audio =
        sample(r#""messages":[{"role":"user","content":{"type":"audio","data":"AA==","mimeType":"audio/wav"}}]"#);
    let shaped = value(&asked(SAMPLE, &audio, V2024_11_05, PLAIN).expect("asked"));
    assert_eq!(shaped["messages"][0]["content"]["type"], "text");
    assert!(shaped["messages"][0]["content"]["text"].as_str().is_some_and(|text| text.contains("audio/wav")));
    assert_eq!(asked(SAMPLE, &audio, V2025_03_26, PLAIN).expect("asked"), audio);
}

#[test]
fn context_is_included_only_where_it_is_offered() {
    let with = |context: &str| sample(&format!(r#""includeContext":"{context}","messages":[]"#));
    let without = sample(r#""messages":[]"#);
    assert_eq!(asked(SAMPLE, &with("thisServer"), V2025_11_25, PLAIN).expect("asked"), without);
    for (version, capabilities, context) in
        [(V2025_11_25, ALL, "allServers"), (V2025_11_25, PLAIN, "none"), (V2025_06_18, PLAIN, "thisServer")]
    {
        assert_eq!(asked(SAMPLE, &with(context), version, capabilities).expect("asked"), with(context));
    }
}

#[test]
fn answers_go_up_as_they_came() {
    let rows = [
        (ELICIT, r#"{ "action":"accept", "content":{"a":"b","n":1}, "new":1.0 }"#, "ElicitResult"),
        (ELICIT, r#"{"action":"decline"}"#, "ElicitResult"),
        (
            SAMPLE,
            r#"{"role":"assistant","model":"m","content":{"type":"text","text":"t"},"stopReason":"endTurn"}"#,
            "CreateMessageResult",
        ),
        ("roots/list", r#"{"roots":[{"uri":"file:///a","name":"a"}]}"#, "ListRootsResult"),
        ("roots/list", r#"{"roots":[],"_meta":{"x":1}}"#, "ListRootsResult"),
    ];
    for (method, result, definition) in rows {
        let answer = answer_to_server(method, result).expect("an answer");
        assert_eq!(answer, result);
        schema::assert_valid(schema::MODERN, definition, &value(&answer));
        schema::assert_valid(schema::MODERN, "InputResponse", &value(&answer));
    }
    let marked = r#"{"action":"cancel","content":null,"_meta":{"io.modelcontextprotocol/x":1}}"#;
    assert_eq!(answer_to_server(ELICIT, marked).expect("an answer"), r#"{"action":"cancel"}"#);
}

#[test]
fn answer_that_is_none_is_refused() {
    let rows = [
        (ELICIT, "[]"),
        (ELICIT, "{}"),
        (ELICIT, r#"{"action":"maybe"}"#),
        (SAMPLE, r#"{"role":"assistant","content":{"type":"text","text":"t"}}"#),
        (SAMPLE, r#"{"role":"assistant","model":"m","content":"t"}"#),
        ("roots/list", r#"{"roots":{}}"#),
        ("roots/list", r#"{"roots":["file:///a"]}"#),
        ("x", "{}"),
    ];
    for (method, result) in rows {
        let refused = answer_to_server(method, result).expect_err("no answer").to_string();
        assert!(refused.starts_with(&format!("the client answered {method} with ")), "{refused}");
    }
}
