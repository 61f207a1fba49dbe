//! What is answered here, because a modern server has no such method.

use serde_json::json;

use super::stage::{Client, NEWEST, Stage, everything, start};
use crate::support::modern::Manner;

/// What the server saw that was no part of the handshake.
fn extra(stage: &Stage) -> Vec<String> {
    let own = ["initialize", "server/discover", "subscriptions/listen"];
    stage.upstream.methods().into_iter().filter(|method| !own.contains(&method.as_str())).collect()
}

#[tokio::test]
async fn ping_is_answered_here() {
    let mut stage = Stage::open().await;
    assert_eq!(stage.client.ask("ping", json!(null)).await["result"], json!({}));
    assert_eq!(extra(&stage), [""; 0]);
    stage.end().await;
}

#[tokio::test]
async fn log_level_goes_along_with_every_later_request() {
    let mut stage = Stage::open().await;
    let id = stage.client.begin_call("log", json!({})).await;
    assert_eq!(stage.client.until_answer(id).await.len(), 1, "no level, no messages");
    assert_eq!(stage.client.ask("logging/setLevel", json!({"level": "error"})).await["result"], json!({}));
    let id = stage.client.begin_call("log", json!({})).await;
    let messages = stage.client.until_answer(id).await;
    let levels: Vec<_> = messages.iter().filter_map(|message| message["params"]["level"].as_str()).collect();
    assert_eq!(levels, ["error", "critical", "alert", "emergency"]);
    let calls = stage.seen("tools/call");
    assert_eq!((calls[0].meta("logLevel"), calls[1].meta("logLevel")), (&json!(null), &json!("error")));
    stage.client.ask("logging/setLevel", json!({"level": "debug"})).await;
    let id = stage.client.begin_call("log", json!({})).await;
    assert_eq!(stage.client.until_answer(id).await.len(), 9);
    stage.end().await;
}

#[tokio::test]
async fn log_level_that_is_none_is_refused() {
    let mut stage = Stage::open().await;
    for level in [json!("loud"), json!(3), json!(null)] {
        let answer = stage.client.ask("logging/setLevel", json!({"level": level})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    stage.client.still_works().await;
    assert!(stage.seen("tools/call")[0].meta("logLevel").is_null(), "nothing was set");
    stage.end().await;
}

#[tokio::test]
async fn log_level_of_a_server_that_does_not_log_is_an_unknown_method() {
    let manner = Manner { capabilities: json!({"tools": {}}), ..Manner::default() };
    let mut stage = Stage::manner(manner).await;
    let answer = stage.client.ask("logging/setLevel", json!({"level": "info"})).await;
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    stage.end().await;
}

#[tokio::test]
async fn notifications_of_the_client_are_swallowed() {
    let mut stage = Stage::open().await;
    stage.client.notify("notifications/roots/list_changed", None).await;
    stage.client.notify("notifications/progress", Some(json!({"progressToken": 1, "progress": 1}))).await;
    stage.client.notify("notifications/cancelled", Some(json!({"requestId": 77}))).await;
    stage.client.notify("notifications/of/its/own", Some(json!({}))).await;
    stage.client.still_works().await;
    assert_eq!(extra(&stage), ["tools/call"]);
    stage.end().await;
}

#[tokio::test]
async fn tasks_are_unknown_and_a_call_that_wants_to_be_one_is_a_call() {
    let mut stage = Stage::open().await;
    for method in ["tasks/get", "tasks/list", "tasks/cancel", "tasks/result"] {
        let answer = stage.client.ask(method, json!({"taskId": "t"})).await;
        assert_eq!(answer["error"]["code"], -32601, "{method}: {answer}");
    }
    assert_eq!(extra(&stage), [""; 0]);
    let params = json!({"name": "echo", "arguments": {"text": "x"}, "task": {"ttl": 1000}});
    let answer = stage.client.ask("tools/call", params).await;
    assert_eq!(answer["result"]["content"][0]["text"], "x");
    stage.end().await;
}

#[tokio::test]
async fn method_that_nobody_knows_is_asked_for_and_its_error_relayed() {
    for sse in [true, false] {
        let mut stage = Stage::manner(Manner { sse, ..Manner::default() }).await;
        let answer = stage.client.ask("example/own", json!({"name": "n", "x": 1})).await;
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
        let asked = stage.seen("example/own").remove(0);
        assert_eq!((asked.header("mcp-name"), &asked.params()["x"]), (None, &json!(1)));
        stage.end().await;
    }
}

#[tokio::test]
async fn batch_is_split_and_answered_one_by_one() {
    let mut stage = Stage::version("2025-03-26").await;
    let call = |id: u64, text: &str| {
        let params = json!({"name": "echo", "arguments": {"text": text}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    for id in [1, 2] {
        stage.client.expect(&json!(id), "tools/call");
    }
    stage.client.expect(&json!(3), "ping");
    let ping = json!({"jsonrpc": "2.0", "id": 3, "method": "ping"});
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    let posted = stage.client.inner.post_text(json!([call(1, "a"), note, call(2, "b"), ping]).to_string(), &[]).await;
    assert_eq!(posted.status, 202);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = stage.client.message().await;
        assert!(answer["result"].is_object(), "{answer}");
        ids.push(answer["id"].as_u64().expect("an id"));
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    stage.end().await;
}

#[tokio::test]
async fn discovery_by_a_client_over_sse_is_an_unknown_method() {
    let (upstream, proxy) = start(Manner::default(), &[]).await;
    let mut client = Client::connect(&proxy, NEWEST).await;
    let answer = client.ask("server/discover", json!({})).await;
    assert_eq!(answer["error"]["code"], -32601, "so that it goes on with initialize: {answer}");
    client.handshake(everything(NEWEST)).await;
    client.still_works().await;
    drop(client);
    proxy.stop().await;
    drop(upstream);
}
