//! Input that is not to be had: the client says no by an error, or never said that it could.

use serde_json::{Value, json};

use super::stage::{Stage, accepted, gathered, rooted, text};
use crate::support::modern::Manner;

/// The tool's result is an error of the tool, so that the model sees the text.
fn is_failure(answer: &Value) {
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(!text(answer).is_empty(), "{answer}");
}

/// Calls a tool that asks for what the client cannot do: the answer is the next message, no question comes.
async fn refused_here(stage: &mut Stage, tool: &str) {
    let answer = stage.client.call(tool, json!({})).await;
    if answer["result"]["isError"] == true {
        is_failure(&answer);
    } else {
        assert_eq!(gathered(&answer), json!({"who": {"action": "cancel"}}));
    }
    stage.client.still_works().await;
}

#[tokio::test]
async fn elicitation_refused_by_an_error_is_cancelled() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit", json!({})).await;
    let question = stage.client.question("elicitation/create").await;
    stage.client.refuse(&question, -32603, "no window").await;
    assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": {"action": "cancel"}}));
    stage.end().await;
}

#[tokio::test]
async fn sampling_or_roots_refused_by_an_error_end_the_call() {
    for (tool, kind) in [("sample", "sampling/createMessage"), ("roots", "roots/list")] {
        let mut stage = Stage::open().await;
        let id = stage.client.begin_call(tool, json!({})).await;
        let question = stage.client.question(kind).await;
        stage.client.refuse(&question, -1, "the user said no").await;
        let answer = stage.client.answer(id).await;
        is_failure(&answer);
        assert!(text(&answer).contains("the user said no"), "{answer}");
        assert_eq!(stage.seen("tools/call").len(), 1, "not retried");
        stage.client.still_works().await;
        stage.end().await;
    }
}

#[tokio::test]
async fn prompt_that_cannot_go_on_gets_the_clients_code() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin("prompts/get", json!({"name": "sample"})).await;
    let question = stage.client.question("sampling/createMessage").await;
    stage.client.refuse(&question, -1, "the user said no").await;
    let answer = stage.client.answer(id).await;
    assert_eq!(answer["error"]["code"], -1, "{answer}");
    assert!(answer["error"]["message"].as_str().expect("a text").contains("the user said no"), "{answer}");
    stage.end().await;
}

#[tokio::test]
async fn refusal_of_one_question_ends_the_others() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("ask-three", json!({})).await;
    let mut questions = Vec::new();
    for _ in 0..3 {
        questions.push(stage.client.message().await);
    }
    let of = |kind: &str| questions.iter().find(|question| question["method"] == kind).expect("it was asked");
    stage.client.reply(of("roots/list"), rooted()).await;
    stage.client.refuse(of("sampling/createMessage"), -1, "no model").await;
    // Whether the third is called off or not, its late answer goes nowhere.
    let messages = stage.client.until_answer(id).await;
    is_failure(messages.last().expect("the answer"));
    stage.client.reply(of("elicitation/create"), accepted("late")).await;
    stage.client.still_works().await;
    assert_eq!(stage.seen("tools/call").len(), 2, "one each");
    stage.end().await;
}

#[tokio::test]
async fn what_the_client_never_declared_is_not_asked_of_it() {
    for (tool, declared) in [
        ("sample", json!({"roots": {}, "elicitation": {}})),
        ("roots", json!({"sampling": {}, "elicitation": {}})),
        ("ask-three", json!({"elicitation": {}})),
        ("sample-tools", json!({"sampling": {}})),
    ] {
        let mut stage = Stage::capable(declared).await;
        // The answer is the next message: no question came.
        is_failure(&stage.client.call(tool, json!({})).await);
        assert_eq!(stage.seen("tools/call").len(), 1);
        stage.client.still_works().await;
        stage.end().await;
    }
}

#[tokio::test]
async fn elicitation_that_was_never_declared_is_cancelled_or_ends_the_call() {
    for (tool, declared) in [
        ("elicit", json!({"sampling": {}})),
        ("elicit-url", json!({"elicitation": {}})),
        ("elicit-url", json!({"elicitation": {"form": {}}})),
        ("elicit", json!({"elicitation": {"url": {}}})),
    ] {
        let mut stage = Stage::capable(declared.clone()).await;
        let answer = stage.client.call(tool, json!({})).await;
        let cancelled =
            answer["result"]["isError"] != true && gathered(&answer) == json!({"who": {"action": "cancel"}});
        if !cancelled {
            is_failure(&answer);
        }
        stage.end().await;
    }
}

#[tokio::test]
async fn prompt_that_needs_what_was_never_declared_is_an_error() {
    let mut stage = Stage::capable(json!({})).await;
    let answer = stage.client.ask("prompts/get", json!({"name": "sample"})).await;
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    stage.end().await;
}

#[tokio::test]
async fn versions_before_elicitation_are_asked_if_they_declare_it_and_not_by_url() {
    for version in ["2024-11-05", "2025-03-26"] {
        let capabilities = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}});
        let mut stage = Stage::with(Manner::default(), version, capabilities).await;
        let id = stage.client.begin_call("elicit", json!({})).await;
        let question = stage.client.question("elicitation/create").await;
        stage.client.reply(&question, accepted("bob")).await;
        assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": accepted("bob")}));
        refused_here(&mut stage, "elicit-url").await;
        stage.end().await;

        let mut stage = Stage::version(version).await;
        refused_here(&mut stage, "elicit").await;
        stage.end().await;
    }
}

#[tokio::test]
async fn url_elicitation_has_an_id_where_the_version_wants_one() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit-url", json!({})).await;
    let question = stage.client.question("elicitation/create").await;
    assert!(question["params"]["elicitationId"].is_string(), "{question}");
    stage.client.reply(&question, json!({"action": "accept"})).await;
    assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": {"action": "accept"}}));
    stage.end().await;

    let mut stage = Stage::version("2025-06-18").await;
    refused_here(&mut stage, "elicit-url").await;
    stage.end().await;
}

#[tokio::test]
async fn choices_with_titles_are_what_the_version_has_for_them() {
    for version in ["2025-06-18", "2025-11-25"] {
        let mut stage = Stage::version(version).await;
        let id = stage.client.begin_call("elicit-titled", json!({})).await;
        let question = stage.client.question("elicitation/create").await;
        let property = &question["params"]["requestedSchema"]["properties"]["name"];
        if version == "2025-06-18" {
            assert_eq!((&property["enum"], &property["enumNames"]), (&json!(["r", "g"]), &json!(["Red", "Green"])));
            assert!(property.get("oneOf").is_none(), "{property}");
        } else {
            assert_eq!(property["oneOf"][0]["title"], "Red");
        }
        stage.client.reply(&question, accepted("r")).await;
        assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": accepted("r")}));
        stage.end().await;
    }
}

#[tokio::test]
async fn choice_of_several_is_asked_of_those_who_know_it_only() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit-multi", json!({})).await;
    let question = stage.client.question("elicitation/create").await;
    stage.client.reply(&question, json!({"action": "accept", "content": {"name": ["r", "g"]}})).await;
    assert_eq!(gathered(&stage.client.answer(id).await)["who"]["content"]["name"], json!(["r", "g"]));
    stage.end().await;

    let mut stage = Stage::version("2025-06-18").await;
    refused_here(&mut stage, "elicit-multi").await;
    stage.end().await;
}
