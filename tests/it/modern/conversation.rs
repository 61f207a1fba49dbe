//! The standard conversation against a modern-only server: every legacy version × {JSON, SSE}.

use http::Method;
use serde_json::json;

use super::stage::{Stage, everything, gathered, rooted, sampled, text};
use crate::support::modern::{Manner, RESOURCE};

async fn converse(version: &'static str, sse: bool) {
    let manner = Manner { sse, ..Manner::default() };
    let mut stage = Stage::with(manner, version, everything(version)).await;
    let client = &mut stage.client;

    let tools = client.ask("tools/list", json!(null)).await;
    assert_eq!(tools["result"]["tools"][0]["name"], "echo");
    let line_ends = "line\u{2028}para\u{2029}next\u{85}é\n";
    assert_eq!(text(&client.call("echo", json!({"text": line_ends})).await), line_ends);

    let id = client.begin_call("progress", json!({})).await;
    let messages = client.until_answer(id).await;
    let progress: Vec<_> = messages.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect();
    assert_eq!(progress, if sse { vec![1, 2, 3] } else { Vec::new() }, "in order and before the answer");

    let id = client.begin_call("sample", json!({})).await;
    let question = client.question("sampling/createMessage").await;
    client.reply(&question, sampled()).await;
    assert_eq!(gathered(&client.answer(id).await), json!({"number": sampled()}));
    let id = client.begin_call("roots", json!({})).await;
    let question = client.question("roots/list").await;
    client.reply(&question, rooted()).await;
    assert_eq!(gathered(&client.answer(id).await), json!({"roots": rooted()}));

    let read = client.ask("resources/read", json!({"uri": RESOURCE})).await;
    assert_eq!(read["result"]["contents"][0]["text"], "content of it");
    let prompt = client.ask("prompts/get", json!({"name": "greet", "arguments": {"who": "all"}})).await;
    assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "hello all");
    assert_eq!(client.ask("ping", json!(null)).await["result"], json!({}));
    assert_eq!(client.call("no-such-tool", json!({})).await["error"]["code"], -32602);

    stage.upstream.wait_listeners(1).await;
    stage.upstream.list_changed("tools").await;
    assert_eq!(client.message().await["method"], "notifications/tools/list_changed");
    let raw = String::from_utf8_lossy(&client.inner.raw).into_owned();
    assert!(!raw.contains(['\u{2028}', '\u{85}', '\r']), "no foreign line ends");
    assert!(stage.upstream.seen().iter().all(|seen| seen.method == Method::POST), "no GET, no DELETE");
    let log = stage.end().await;
    let end = log.iter().find(|record| record["event.name"] == "legacy.end").expect("an end");
    assert_eq!((&end["legacy.errors"], &end["legacy.engagement"]), (&json!(0), &json!("use")));
}

#[tokio::test]
async fn conversation_of_2024_11_05_with_json() {
    converse("2024-11-05", false).await;
}

#[tokio::test]
async fn conversation_of_2024_11_05_with_sse() {
    converse("2024-11-05", true).await;
}

#[tokio::test]
async fn conversation_of_2025_03_26_with_json() {
    converse("2025-03-26", false).await;
}

#[tokio::test]
async fn conversation_of_2025_03_26_with_sse() {
    converse("2025-03-26", true).await;
}

#[tokio::test]
async fn conversation_of_2025_06_18_with_json() {
    converse("2025-06-18", false).await;
}

#[tokio::test]
async fn conversation_of_2025_06_18_with_sse() {
    converse("2025-06-18", true).await;
}

#[tokio::test]
async fn conversation_of_2025_11_25_with_json() {
    converse("2025-11-25", false).await;
}

#[tokio::test]
async fn conversation_of_2025_11_25_with_sse() {
    converse("2025-11-25", true).await;
}
