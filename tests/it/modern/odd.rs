//! Servers and clients that say what neither should: the other side never sees it, and nothing waits for ever.

use serde_json::{Value, json};

use super::stage::{Client, NEWEST, Stage, accepted, everything, gathered, rooted, sampled, start, text};
use crate::support::modern::{FLOOD, Manner};

#[tokio::test]
async fn question_that_is_none_ends_the_call() {
    for tool in ["odd-empty", "odd-method", "odd-request", "odd-mode"] {
        let mut stage = Stage::open().await;
        let id = stage.client.begin_call(tool, json!({})).await;
        let answer = stage.client.answer(id).await;
        assert!(answer["result"]["isError"] == true || answer["error"]["code"] == -32603, "{tool}: {answer}");
        assert_eq!(stage.seen("tools/call").len(), 1, "{tool}: not called again");
        stage.client.still_works().await;
        stage.end().await;
    }
}

/// No server of this era sends requests (streamable-http §Receiving Messages); whoever asked could not be answered.
#[tokio::test]
async fn request_that_a_server_pushes_is_not_answered_upstream() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("odd-push", json!({})).await;
    loop {
        let message = stage.client.message().await;
        if message["id"] == id {
            assert_eq!(text(&message), "pushed");
            break;
        }
        stage.client.reply(&message, sampled()).await;
    }
    stage.client.still_works().await;
    assert_eq!(stage.seen("").len(), 0, "no answer can be posted");
    stage.end().await;
}

#[tokio::test]
async fn answers_of_others_and_second_answers_are_dropped() {
    let mut stage = Stage::open().await;
    assert_eq!(text(&stage.client.call("odd-stray", json!({})).await), "mine");
    assert_eq!(text(&stage.client.call("odd-twice", json!({})).await), "first");
    stage.client.still_works().await;
    stage.end().await;
}

#[tokio::test]
async fn client_that_does_not_read_holds_up_nobody_else_and_loses_nothing() {
    let mut stage = Stage::open().await;
    let mut other = Client::connect(&stage.proxy, NEWEST).await;
    other.handshake(everything(NEWEST)).await;
    let id = stage.client.begin_call("flood", json!({})).await;
    let mut before = usize::MAX;
    // Until it goes nowhere while another client is served.
    while std::mem::replace(&mut before, stage.upstream.flooded()) != stage.upstream.flooded() {
        for _ in 0..50 {
            other.still_works().await;
        }
    }
    assert!(before < FLOOD, "it all went somewhere");
    let messages = stage.client.until_answer(id).await;
    let (answer, flood) = messages.split_last().expect("the answer");
    assert_eq!((flood.len(), text(answer)), (FLOOD, "all of it"));
    drop(other);
    stage.end().await;
}

#[tokio::test]
async fn more_questions_than_anybody_answers_do_not_end_the_session() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("odd-many", json!({})).await;
    let mut asked = 0;
    let answer = loop {
        let message = stage.client.message().await;
        if message["id"] == id {
            break message;
        }
        asked += 1;
        stage.client.reply(&message, accepted("x")).await;
    };
    // Either all were asked, and the server that keeps no state asked again until that was enough, or it was refused.
    assert!(answer["result"]["isError"] == true || answer["error"].is_object(), "{asked} asked: {answer}");
    stage.client.still_works().await;
    stage.end().await;
}

#[tokio::test]
async fn answer_of_the_client_that_is_none_is_not_passed_on() {
    for (tool, kind, answers) in [
        ("elicit", "elicitation/create", [json!({}), json!({"action": "perhaps"}), json!("yes")]),
        ("sample", "sampling/createMessage", [json!({}), json!({"role": "assistant"}), json!(4)]),
        ("roots", "roots/list", [json!({}), json!({"roots": "/"}), json!(null)]),
    ] {
        for wrong in answers {
            let mut stage = Stage::open().await;
            let id = stage.client.begin_call(tool, json!({})).await;
            let question = stage.client.question(kind).await;
            stage.client.reply(&question, wrong.clone()).await;
            let answer = stage.client.answer(id).await;
            let cancelled = || gathered(&answer) == json!({"who": {"action": "cancel"}});
            assert!(answer["result"]["isError"] == true || cancelled(), "{tool} {wrong}: {answer}");
            assert!(!text(&answer).is_empty());
            stage.client.still_works().await;
            stage.end().await;
        }
    }
}

#[tokio::test]
async fn answers_with_more_than_is_needed_are_passed_on() {
    let with = |mut result: Value| {
        result["_meta"] = json!({"example.com/own": 1});
        result["x-own"] = json!([1]);
        result
    };
    for (tool, kind, answer) in [
        ("elicit", "elicitation/create", with(accepted("bob"))),
        ("sample", "sampling/createMessage", with(sampled())),
        ("roots", "roots/list", with(rooted())),
    ] {
        let mut stage = Stage::open().await;
        let id = stage.client.begin_call(tool, json!({})).await;
        let question = stage.client.question(kind).await;
        stage.client.reply(&question, answer.clone()).await;
        let got = gathered(&stage.client.answer(id).await);
        let (_, got) = got.as_object().and_then(|got| got.iter().next()).expect("an answer");
        assert_eq!(got["x-own"], json!([1]), "{got}");
        stage.end().await;
    }
}

#[tokio::test]
async fn content_of_an_elicitation_is_passed_on_in_all_its_types() {
    let content = json!({"text": "ü", "number": 3, "flag": false, "several": ["a", "b"]});
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit", json!({})).await;
    let question = stage.client.question("elicitation/create").await;
    stage.client.reply(&question, json!({"action": "accept", "content": content})).await;
    assert_eq!(gathered(&stage.client.answer(id).await)["who"]["content"], content);
    stage.end().await;
}

#[tokio::test]
async fn params_that_are_no_object_are_the_clients_fault() {
    let mut stage = Stage::open().await;
    for (method, params) in
        [("tools/call", json!({})), ("tools/call", json!({"name": 3})), ("resources/read", json!({"uri": []}))]
    {
        let answer = stage.client.ask(method, params).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    let answer = stage.client.ask("resources/subscribe", json!({"uri": 1})).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    // Whoever answers these, nothing went up that had to be refused for its headers.
    stage.client.still_works().await;
    stage.end().await;
}

#[tokio::test]
async fn client_that_says_half_of_who_it_is_is_served() {
    for info in [json!({}), json!({"name": "n"}), json!({"name": 3, "version": null}), json!("n"), json!(null)] {
        let (upstream, proxy) = start(Manner::default(), &[]).await;
        let mut client = Client::connect(&proxy, NEWEST).await;
        let params = json!({"protocolVersion": NEWEST, "capabilities": {"sampling": true, "roots": null, "x": 1},
            "clientInfo": info});
        let answer = client.ask("initialize", params).await;
        assert!(answer["result"].is_object(), "{info}: {answer}");
        client.notify("notifications/initialized", None).await;
        client.still_works().await;
        drop(client);
        proxy.stop().await;
        drop(upstream);
    }
}

#[tokio::test]
async fn progress_token_that_is_none_is_left_out() {
    let mut stage = Stage::open().await;
    for meta in [json!({"progressToken": null}), json!({"progressToken": {"a": 1}}), json!(null), json!([])] {
        let params = json!({"name": "echo", "arguments": {"text": "x"}, "_meta": meta});
        assert_eq!(text(&stage.client.ask("tools/call", params).await), "x", "{meta}");
    }
    stage.end().await;
}
