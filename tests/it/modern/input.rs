//! Input that the server asks for by results: questions to the client, answers back, the same call again.
//!
//! That a retry has the same bytes, the same credential, the exact state and another id is what the server checks.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Client, NEWEST, Stage, accepted, gathered, rooted, sampled, start, text};
use crate::support::modern::Manner;
use crate::support::pass;

#[tokio::test]
async fn elicitation_is_asked_and_answered() {
    for version in ["2025-06-18", "2025-11-25"] {
        for sse in [true, false] {
            let manner = Manner { sse, ..Manner::default() };
            let mut stage = Stage::with(manner, version, super::stage::everything(version)).await;
            let id = stage.client.begin_call("elicit", json!({"a": 1})).await;
            let question = stage.client.question("elicitation/create").await;
            assert_eq!(question["params"]["message"], "who?");
            assert_eq!(question["params"].get("mode").is_some(), version == "2025-11-25", "{question}");
            stage.client.reply(&question, accepted("bob")).await;
            assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": accepted("bob")}));
            let calls = stage.seen("tools/call");
            assert_eq!(calls.len(), 2);
            assert_ne!(calls[0].body["id"], calls[1].body["id"]);
            stage.end().await;
        }
    }
}

#[tokio::test]
async fn answers_that_say_no_are_answers() {
    for action in ["decline", "cancel"] {
        let mut stage = Stage::open().await;
        let id = stage.client.begin_call("elicit", json!({})).await;
        let question = stage.client.question("elicitation/create").await;
        stage.client.reply(&question, json!({"action": action})).await;
        assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": {"action": action}}));
        stage.end().await;
    }
}

#[tokio::test]
async fn questions_of_one_round_are_asked_all_at_once() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("ask-three", json!({})).await;
    let mut questions = Vec::new();
    for _ in 0..3 {
        questions.push(stage.client.message().await);
    }
    let mut ids: Vec<&str> = questions.iter().filter_map(|question| question["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{questions:#?}");
    // The last first: the order of the answers is the client's.
    for question in questions.iter().rev() {
        assert_eq!(stage.seen("tools/call").len(), 1, "not before everything is answered");
        let result = match question["method"].as_str() {
            Some("elicitation/create") => accepted("bob"),
            Some("sampling/createMessage") => sampled(),
            _ => rooted(),
        };
        stage.client.reply(question, result).await;
    }
    let expected = json!({"who": accepted("bob"), "number": sampled(), "roots": rooted()});
    assert_eq!(gathered(&stage.client.answer(id).await), expected);
    stage.end().await;
}

#[tokio::test]
async fn several_rounds_are_gone_through() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit-rounds", json!({"rounds": 4})).await;
    for round in 0..4 {
        let question = stage.client.question("elicitation/create").await;
        assert_eq!(question["params"]["message"], format!("round {round}"));
        stage.client.reply(&question, accepted(&round.to_string())).await;
    }
    assert_eq!(gathered(&stage.client.answer(id).await)["round-3"], accepted("3"));
    assert_eq!(stage.seen("tools/call").len(), 5);
    stage.end().await;
}

#[tokio::test]
async fn rounds_have_an_end() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("elicit-rounds", json!({"rounds": 1000})).await;
    let mut rounds = 0;
    let answer = loop {
        let message = stage.client.message().await;
        if message["id"] == id {
            break message;
        }
        rounds += 1;
        stage.client.reply(&message, accepted("x")).await;
    };
    assert_eq!((rounds, stage.seen("tools/call").len()), (10, 11));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(!text(&answer).is_empty());
    stage.client.still_works().await;
    stage.end().await;
}

#[tokio::test]
async fn rounds_of_a_prompt_end_in_an_error() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin("prompts/get", json!({"name": "ask", "arguments": {"rounds": "1000"}})).await;
    for _ in 0..10 {
        let question = stage.client.question("elicitation/create").await;
        stage.client.reply(&question, accepted("x")).await;
    }
    let answer = stage.client.answer(id).await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    stage.end().await;
}

#[tokio::test]
async fn rounds_without_a_question_are_paced_and_have_an_end() {
    let mut stage = Stage::open().await;
    let begun = std::time::Instant::now();
    let answer = stage.client.call("state-only", json!({"rounds": 2})).await;
    assert_eq!(gathered(&answer), json!({}));
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    let answer = stage.client.call("state-only", json!({"rounds": 1000})).await;
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(2700), "{:?}", begun.elapsed());
    assert_eq!(stage.seen("tools/call").len(), 3 + 11);
    stage.end().await;
}

#[tokio::test]
async fn question_without_a_state_is_answered_without_one() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("no-state", json!({})).await;
    let question = stage.client.question("elicitation/create").await;
    stage.client.reply(&question, accepted("bob")).await;
    assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": accepted("bob")}));
    assert!(stage.seen("tools/call")[1].params().get("requestState").is_none());
    stage.end().await;
}

#[tokio::test]
async fn prompts_and_resources_may_ask_too() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ..Manner::default() }).await;
        for (method, params) in
            [("prompts/get", json!({"name": "ask"})), ("resources/read", json!({"uri": "ask:///name"}))]
        {
            let id = stage.client.begin(method, params).await;
            let question = stage.client.question("elicitation/create").await;
            stage.client.reply(&question, accepted("bob")).await;
            let answer = stage.client.answer(id).await;
            assert!(answer["result"].to_string().contains("bob"), "{answer}");
        }
        stage.end().await;
    }
}

#[tokio::test]
async fn progress_and_logs_of_every_round_reach_the_client() {
    let mut stage = Stage::open().await;
    stage.client.ask("logging/setLevel", json!({"level": "info"})).await;
    let id = stage.client.begin_call("ask-and-tell", json!({})).await;
    let mut messages = Vec::new();
    loop {
        let message = stage.client.message().await;
        if message["method"] == "elicitation/create" {
            stage.client.reply(&message, accepted("bob")).await;
        }
        messages.push(message);
        if messages.last().expect("just pushed")["id"] == id {
            break;
        }
    }
    let kinds: Vec<&str> = messages.iter().map(|message| message["method"].as_str().unwrap_or("-")).collect();
    let both = ["notifications/progress", "notifications/message"];
    assert_eq!(kinds, [both[0], both[1], "elicitation/create", both[0], both[1], "-"]);
    stage.end().await;
}

#[tokio::test]
async fn calls_at_the_same_time_keep_their_questions_apart() {
    let mut stage = Stage::open().await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        let id = stage.client.begin_call("elicit", json!({"mine": begun.len()})).await;
        begun.push((id, stage.client.question("elicitation/create").await));
    }
    for (id, question) in begun.iter().rev() {
        stage.client.reply(question, accepted(&id.to_string())).await;
        assert_eq!(gathered(&stage.client.answer(*id).await), json!({"who": accepted(&id.to_string())}));
    }
    stage.end().await;
}

#[tokio::test]
async fn two_clients_are_asked_apart() {
    let (upstream, proxy) = start(Manner::default(), &[]).await;
    let (mut one, mut two) = (Client::connect(&proxy, NEWEST).await, Client::connect(&proxy, NEWEST).await);
    one.handshake(json!({"elicitation": {}})).await;
    two.handshake(json!({"elicitation": {}})).await;
    let first = one.begin_call("elicit", json!({})).await;
    let second = two.begin_call("elicit", json!({})).await;
    let (for_one, for_two) = (one.question("elicitation/create").await, two.question("elicitation/create").await);
    two.reply(&for_two, accepted("two")).await;
    one.reply(&for_one, accepted("one")).await;
    assert_eq!(gathered(&one.answer(first).await), json!({"who": accepted("one")}));
    assert_eq!(gathered(&two.answer(second).await), json!({"who": accepted("two")}));
    drop((one, two));
    proxy.stop().await;
    drop(upstream);
}

#[tokio::test]
async fn answer_nobody_waits_for_goes_nowhere() {
    let mut stage = Stage::open().await;
    stage.client.reply(&json!({"id": "nobody's"}), accepted("x")).await;
    let id = stage.client.begin_call("elicit", json!({})).await;
    let question = stage.client.question("elicitation/create").await;
    stage.client.reply(&question, accepted("first")).await;
    stage.client.reply(&question, accepted("second")).await;
    assert_eq!(gathered(&stage.client.answer(id).await), json!({"who": accepted("first")}));
    stage.client.still_works().await;
    stage.end().await;
}

#[tokio::test]
async fn state_that_has_expired_is_told_as_a_failure_of_the_tool() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ..Manner::default() }).await;
        let id = stage.client.begin_call("expire", json!({"rounds": 2})).await;
        let question = stage.client.question("elicitation/create").await;
        stage.client.reply(&question, accepted("late")).await;
        let answer = stage.client.answer(id).await;
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        assert!(text(&answer).contains("again"), "what to do: {answer}");
        stage.end().await;
    }
}

#[tokio::test]
async fn client_that_never_answers_does_not_hold_the_call_for_ever() {
    for (tool, kind) in [("elicit", "elicitation/create"), ("sample", "sampling/createMessage")] {
        let mut stage = Stage::open().await;
        let id = stage.client.begin_call(tool, json!({})).await;
        let question = stage.client.question(kind).await;
        pass(Duration::from_secs(601)).await;
        let messages = stage.client.until_answer(id).await;
        let answer = messages.last().expect("the answer");
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        // It may be told that nobody waits any more; nothing else comes before the answer.
        let told = &messages[..messages.len() - 1];
        let cancels = |message: &Value| {
            message["method"] == "notifications/cancelled" && message["params"]["requestId"] == question["id"]
        };
        assert!(told.len() <= 1 && told.iter().all(cancels), "{messages:#?}");
        stage.client.reply(&question, accepted("late")).await;
        assert_eq!(stage.seen("tools/call").len(), 1, "the late answer goes nowhere");
        stage.client.still_works().await;
        stage.end().await;
    }
}
