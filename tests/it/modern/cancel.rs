//! Calls that do not come to their end: cancelled, cut off, or left behind by a client that went.

use std::time::Duration;

use serde_json::json;

use super::stage::{Stage, accepted};
use crate::support::modern::{Ending, Manner};
use crate::support::pass;

#[tokio::test]
async fn cancelling_closes_the_answer_of_that_request_alone() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ..Manner::default() }).await;
        let kept = stage.client.begin_call("wait", json!({"mine": "kept"})).await;
        let cancelled = stage.client.begin_call("wait", json!({"mine": "cancelled"})).await;
        let call =
            |mine: &'static str| move |seen: &crate::support::modern::Seen| seen.params()["arguments"]["mine"] == mine;
        let (first, second) = (
            stage.upstream.wait_for("the first call", call("kept")).await,
            stage.upstream.wait_for("the second call", call("cancelled")).await,
        );
        stage.client.notify("notifications/cancelled", Some(json!({"requestId": cancelled, "reason": "r"}))).await;
        assert_eq!(stage.upstream.ending(&second).await, Ending::Abandoned);
        stage.upstream.tell();
        let answer = stage.client.answer(kept).await;
        assert!(answer["result"].is_object(), "nothing came for the other: {answer}");
        assert_eq!(stage.upstream.ending(&first).await, Ending::Whole);
        assert!(stage.seen("notifications/cancelled").is_empty(), "closing is all there is to say");
        stage.client.still_works().await;
        stage.end().await;
    }
}

#[tokio::test]
async fn cancelling_while_the_client_is_asked_calls_the_question_off() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit", json!({})).await;
    let question = stage.client.question("elicitation/create").await;
    stage.client.notify("notifications/cancelled", Some(json!({"requestId": id}))).await;
    let told = stage.client.message().await;
    assert_eq!((&told["method"], &told["params"]["requestId"]), (&json!("notifications/cancelled"), &question["id"]));
    stage.client.reply(&question, accepted("late")).await;
    stage.client.still_works().await;
    assert_eq!(stage.seen("tools/call").len(), 2, "the cancelled call was not taken up again");
    stage.end().await;
}

#[tokio::test]
async fn cancelling_between_rounds_ends_them() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("state-only", json!({"rounds": 1000})).await;
    stage
        .upstream
        .until("a second round", |server| (server.count(|seen| seen.calls("state-only")) > 1).then_some(()))
        .await;
    stage.client.notify("notifications/cancelled", Some(json!({"requestId": id}))).await;
    stage.client.still_works().await;
    let rounds = stage.upstream.count(|seen| seen.calls("state-only"));
    for _ in 0..3 {
        pass(Duration::from_millis(300)).await;
        stage.client.still_works().await;
    }
    assert_eq!(stage.upstream.count(|seen| seen.calls("state-only")), rounds);
    stage.end().await;
}

#[tokio::test]
async fn client_that_goes_closes_everything_of_its_own() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ..Manner::default() }).await;
        stage.client.begin_call("wait-forever", json!({})).await;
        let call = stage.upstream.wait_for("the call", |seen| seen.calls("wait-forever")).await;
        stage.upstream.wait_listeners(1).await;
        drop(stage.client);
        assert_eq!(stage.upstream.ending(&call).await, Ending::Abandoned);
        stage.upstream.wait_listeners(0).await;
        stage.proxy.stop().await;
    }
}

#[tokio::test]
async fn client_that_goes_while_it_is_asked_leaves_nothing_behind() {
    let mut stage = Stage::open().await;
    stage.client.begin_call("elicit", json!({})).await;
    stage.client.question("elicitation/create").await;
    let upstream_calls = stage.seen("tools/call").len();
    let log = stage.end().await;
    assert_eq!(upstream_calls, 1);
    assert!(log.iter().any(|record| record["event.name"] == "legacy.end"));
}

#[tokio::test]
async fn stream_that_ends_without_an_answer_is_an_error_and_no_second_call() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("quit", json!({})).await;
    let messages = stage.client.until_answer(id).await;
    assert_eq!(messages.len(), 2, "the progress before is passed on: {messages:#?}");
    assert_eq!(messages[1]["error"]["code"], -32603, "{messages:#?}");
    assert_eq!(stage.seen("tools/call").len(), 1, "it may have run");
    stage.client.still_works().await;
    stage.end().await;
}

#[tokio::test]
async fn answer_that_is_written_as_a_bare_line_is_found() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("go-error", json!({})).await;
    let messages = stage.client.until_answer(id).await;
    let error = &messages.last().expect("the answer")["error"];
    assert_eq!((&error["code"], &error["message"]), (&json!(-32602), &json!("late invalid")));
    stage.end().await;
}

#[tokio::test]
async fn drain_answers_what_still_runs() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit", json!({})).await;
    stage.client.question("elicitation/create").await;
    stage.proxy.begin_stop();
    pass(Duration::from_secs(11)).await;
    let messages = stage.client.until_answer(id).await;
    let answer = messages.last().expect("the answer");
    assert!(answer["error"]["code"].is_i64() || answer["result"]["isError"] == true, "{answer}");
    stage.end().await;
}
