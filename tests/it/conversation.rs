//! One standard conversation against every kind of session-era server: {session id, no session id} × {JSON, SSE}.

use http::Method;
use serde_json::json;

use crate::support::{Behaviour, FakeUpstream, Proxy};

async fn converse(behaviour: Behaviour) {
    let upstream = FakeUpstream::start(behaviour.clone()).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    assert!(upstream.seen().is_empty(), "nothing goes upstream before the first POST");

    let initialized = client.initialize().await;
    assert_eq!(initialized["result"]["protocolVersion"], "2025-06-18");
    client.post(json!({"jsonrpc": "2.0", "id": "lists-1", "method": "tools/list"})).await;
    assert_eq!(client.answer("lists-1").await["result"]["tools"][0]["name"], "echo");

    let text = "line\u{2028}para\u{2029}next\u{85}é\n";
    client.call(1, "echo", json!({"text": text})).await;
    assert_eq!(client.answer(1).await["result"]["content"][0]["text"], text);

    client.call(2, "progress", json!({})).await;
    let messages = client.until_answer(2).await;
    if behaviour.sse {
        let progress: Vec<_> = messages.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect();
        assert_eq!(progress, [1, 2, 3], "in order and before the answer");

        client.call(3, "ask", json!({})).await;
        let question = client.message().await;
        assert_eq!(question["method"], "sampling/createMessage");
        let ours = question["id"].as_str().expect("a string, so that it collides with no id of the client");
        client.post(json!({"jsonrpc": "2.0", "id": ours, "result": {"text": "answered"}})).await;
        assert_eq!(client.answer(3).await["result"]["content"][0]["text"], "answered");
    }
    client.call(4, "no-such-tool", json!({})).await;
    assert_eq!(client.answer(4).await["error"]["code"], -32602);

    if behaviour.sessions {
        upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).await;
        assert_eq!(client.message().await["method"], "notifications/tools/list_changed");
    }
    assert!(!String::from_utf8_lossy(&client.raw).contains(['\u{2028}', '\u{85}', '\r']), "no foreign line ends");
    drop(client);
    let log = proxy.stop().await;

    let end = log.iter().find(|record| record["event.name"] == "legacy.end").expect("an end");
    assert_eq!((&end["legacy.errors"], &end["legacy.engagement"]), (&json!(0), &json!("use")));
    let deletes = upstream.seen().iter().filter(|seen| seen.method == Method::DELETE).count();
    assert_eq!(deletes, usize::from(behaviour.sessions), "one DELETE for each upstream session");
    let gets = upstream.seen().iter().filter(|seen| seen.method == Method::GET).count();
    assert_eq!(gets, usize::from(behaviour.sessions), "one GET stream where there is a session, none elsewhere");
    assert_headers(&upstream, behaviour.sessions);
}

/// What every request upstream carries, and what it does not.
fn assert_headers(upstream: &FakeUpstream, sessions: bool) {
    for seen in upstream.seen() {
        let is_initialize = seen.body["method"] == "initialize";
        let has = |name: &str| seen.headers.contains_key(name);
        assert_eq!(has("mcp-session-id"), sessions && !is_initialize, "{seen:?}");
        assert_eq!(has("mcp-protocol-version"), !is_initialize, "{seen:?}");
        assert_eq!(seen.headers["accept-encoding"], "identity");
        if seen.method == Method::POST {
            assert_eq!(seen.headers["accept"], "application/json, text/event-stream");
            assert_eq!(seen.headers["content-type"], "application/json");
        }
    }
}

#[tokio::test]
async fn conversation_with_session_id_and_sse() {
    converse(Behaviour { sessions: true, sse: true, ..Behaviour::default() }).await;
}

#[tokio::test]
async fn conversation_with_session_id_and_json() {
    converse(Behaviour { sessions: true, sse: false, ..Behaviour::default() }).await;
}

#[tokio::test]
async fn conversation_without_session_id_and_sse() {
    converse(Behaviour { sessions: false, sse: true, ..Behaviour::default() }).await;
}

#[tokio::test]
async fn conversation_without_session_id_and_json() {
    converse(Behaviour { sessions: false, sse: false, ..Behaviour::default() }).await;
}
