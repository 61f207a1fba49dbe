//! Servers that speak 2026-07-28 and nothing else: the client of the session era is translated for, and one of 2026 passes.

use reqwest::Method;
use serde_json::{Value, json};
use sse_sunset::sse::Decoder;

use super::{Client, message, messages, upgrades};
use crate::support::modern::{Legacy, Manner, Modern};
use crate::support::{Proxy, within};

async fn start(manner: Manner) -> (Modern, Proxy) {
    let upstream = Modern::start(manner).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    (upstream, proxy)
}

/// The next message of a stream.
pub(super) async fn next(stream: &mut reqwest::Response, decoder: &mut Decoder) -> Value {
    within("an event", async {
        loop {
            if let Some(event) = decoder.next_event().expect("a small event") {
                return serde_json::from_slice(&event.data).expect("JSON");
            }
            decoder.feed(&stream.chunk().await.expect("a stream").expect("more of it"));
        }
    })
    .await
}

#[tokio::test]
async fn calls_are_translated_both_ways() {
    for sse in [true, false] {
        let (upstream, proxy) = start(Manner { sse, ..Manner::default() }).await;
        let mut client = Client::new(&proxy);
        let greeted = client.initialize().await;
        assert_eq!(greeted["result"]["protocolVersion"], "2025-06-18");
        assert!(client.session.is_some());
        let answer = client.call("echo", json!({"text": "hi"})).await;
        assert_eq!(answer.headers()["content-type"], "application/json", "one message is a document");
        assert_eq!(message(answer).await["result"]["content"][0]["text"], "hi");
        let pong = message(client.post(json!({"jsonrpc": "2.0", "id": 9, "method": "ping"})).await).await;
        assert_eq!(pong, json!({"jsonrpc": "2.0", "id": 9, "result": {}}));
        let refused =
            client.post(json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "x"}]));
        assert_eq!(refused.await.status(), 400, "batches are gone");
        assert_eq!(client.ask(Method::DELETE, None).await.status(), 200);
        drop(upstream);
        let log = proxy.stop().await;
        assert_eq!(upgrades(&log).len(), 1);
        assert_eq!(upgrades(&log)[0]["identity"], "name:dual");
    }
}

#[tokio::test]
async fn client_that_names_its_methods_is_not_taken_for_one_of_2026() {
    let (_upstream, proxy) = start(Manner::default()).await;
    // mcp-remote does so.
    let client = Client::new(&proxy).with("mcp-method", "initialize");
    let greeted = client.post(super::initialize()).await;
    assert_eq!(greeted.status(), 200);
    assert!(greeted.headers().contains_key("mcp-session-id"));
    proxy.stop().await;
}

#[tokio::test]
async fn server_asks_on_the_stream_of_the_call_and_is_answered_by_a_post() {
    let (_upstream, proxy) = start(Manner::default()).await;
    let mut client = Client::new(&proxy);
    client.initialize().await;
    let mut stream = client.call("elicit", json!({})).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut decoder = Decoder::new(1 << 20);
    let question = next(&mut stream, &mut decoder).await;
    assert_eq!(question["method"], "elicitation/create", "{question}");
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    let answered = client.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": answer})).await;
    assert_eq!(answered.status(), 202);
    let result = next(&mut stream, &mut decoder).await;
    assert_eq!(result["id"], 7);
    assert!(result["result"].is_object(), "{result}");
    assert!(within("the end", stream.chunk()).await.expect("a clean end").is_none());
    proxy.stop().await;
}

#[tokio::test]
async fn changes_come_on_the_get_stream() {
    let (upstream, proxy) = start(Manner::default()).await;
    let mut client = Client::new(&proxy);
    client.initialize().await;
    let mut stream = client.ask(Method::GET, None).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    upstream.wait_for("the subscription", |seen| seen.rpc() == "subscriptions/listen").await;
    assert_eq!(upstream.list_changed("tools").await, 1);
    let change = next(&mut stream, &mut Decoder::new(1 << 20)).await;
    assert_eq!(change["method"], "notifications/tools/list_changed");
    drop(stream);
    proxy.stop().await;
    upstream.wait_listeners(0).await;
}

/// A client whose network has changed opens another, long before anybody notices that the first one is dead.
#[tokio::test]
async fn second_stream_of_a_session_ends_the_first() {
    let (upstream, proxy) = start(Manner::default()).await;
    let mut client = Client::new(&proxy);
    client.initialize().await;
    let mut first = client.ask(Method::GET, None).await;
    upstream.wait_for("the subscription", |seen| seen.rpc() == "subscriptions/listen").await;
    let mut second = client.ask(Method::GET, None).await;
    assert!(within("the end of the first", first.chunk()).await.expect("a clean end").is_none());
    assert_eq!(upstream.list_changed("tools").await, 1);
    let change = next(&mut second, &mut Decoder::new(1 << 20)).await;
    assert_eq!(change["method"], "notifications/tools/list_changed");
    assert_eq!(client.ask(Method::DELETE, None).await.status(), 200);
    assert!(within("the end of the second", second.chunk()).await.expect("a clean end").is_none(), "with its session");
    proxy.stop().await;
}

#[tokio::test]
async fn subject_that_is_named_twice_goes_nowhere() {
    let (upstream, proxy) = start(Manner::default()).await;
    let mut client = Client::new(&proxy);
    client.initialize().await;
    let before = upstream.seen().len();
    for (method, key) in [("tools/call", "name"), ("resources/read", "uri"), ("prompts/get", "name")] {
        let params = format!(r#"{{"{key}":"echo","{key}":"other","arguments":{{}}}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let refused = client.post_text(&text).await;
        assert_eq!(refused.status(), 400, "{method}");
        assert!(refused.text().await.expect("a text").contains("twice"));
    }
    assert_eq!(upstream.seen().len(), before);
    proxy.stop().await;
}

/// It would be kept for as long as the session, which costs its client nothing.
#[tokio::test]
async fn handshake_of_a_size_that_no_client_needs_is_not_kept() {
    for (length, asks) in [(1 << 10, 1), (40 << 10, 0)] {
        let (upstream, proxy) = start(Manner { legacy: Legacy::Stateless, ..Manner::default() }).await;
        let mut hello = super::initialize();
        hello["params"]["clientInfo"]["description"] = json!("x".repeat(length));
        let greeted = Client::new(&proxy).post(hello).await;
        let session = greeted.headers()["mcp-session-id"].to_str().expect("visible").to_owned();
        let client = Client { session: Some(session), ..Client::new(&proxy) };
        let answer = message(client.call("echo", json!({"text": "x"})).await).await;
        assert!(answer["result"]["content"][0]["text"].as_str().expect("a text").ends_with('x'), "served all the same");
        assert_eq!(upstream.count(|seen| seen.rpc() == "server/discover"), asks, "{length}");
        proxy.stop().await;
    }
}

#[tokio::test]
async fn server_that_fails_is_quoted() {
    let (upstream, proxy) = start(Manner::default()).await;
    let mut client = Client::new(&proxy);
    client.initialize().await;
    upstream.change(|manner| manner.broken = Some(500));
    let answer = client.call("echo", json!({"text": "x"})).await;
    assert_eq!(answer.status(), 500);
    let text = answer.text().await.expect("a text");
    assert!(text.contains("out of order"), "{text}");
    proxy.stop().await;
}

#[tokio::test]
async fn stream_without_an_answer_ends_with_an_error_under_the_clients_id() {
    let (_upstream, proxy) = start(Manner::default()).await;
    let mut client = Client::new(&proxy);
    client.initialize().await;
    // It sends progress, and ends.
    let messages = messages(client.call("quit", json!({})).await).await;
    let (last, before) = messages.split_last().expect("messages");
    assert!(before.iter().all(|message| message["method"] == "notifications/progress"), "{before:?}");
    assert_eq!(last["id"], 7, "{last}");
    assert!(last["error"]["message"].as_str().expect("words").contains("may have run"), "{last}");
    proxy.stop().await;
}

#[tokio::test]
async fn client_of_2026_passes_and_is_written_down_once_a_day() {
    let (upstream, proxy) = start(Manner::default()).await;
    let client = Client::new(&proxy)
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", "tools/list")
        .with("accept-encoding", "identity");
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "new", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {}});
    for _ in 0..2 {
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
        assert_eq!(client.post(list).await.status(), 200);
    }
    assert_eq!(upstream.methods(), ["tools/list", "tools/list"], "nothing is asked besides");
    let log = proxy.stop().await;
    assert_eq!(upgrades(&log).len(), 1);
    assert_eq!(upgrades(&log)[0]["identity"], "name:new");
}
