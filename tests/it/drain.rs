//! The orderly end: what is owed is answered, what comes is told, the process ends in time.

use serde_json::json;

use crate::support::{Behaviour, FakeUpstream, Proxy, http_client, within};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

#[tokio::test]
async fn running_call_gets_its_answer_before_the_stream_ends() {
    let upstream = FakeUpstream::start(SSE).await;
    let mut proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "ask", json!({})).await;
    let question = client.message().await;
    proxy.begin_stop();
    // Its answers are still taken, and the call is still answered.
    client.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "in time"}})).await;
    assert_eq!(client.answer(1).await["result"]["content"][0]["text"], "in time");
    assert!(client.event().await.is_none(), "the stream ends once nothing is owed");
    let log = proxy.stop().await;
    let end = log.iter().find(|record| record["event.name"] == "legacy.end").expect("an end");
    assert_eq!(end["session.end.reason"], "drain");
}

#[tokio::test]
async fn call_that_outlasts_the_deadline_gets_an_error() {
    let upstream = FakeUpstream::start(SSE).await;
    let mut proxy = Proxy::start(upstream.url(), &[("drain", "100ms")]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "hang", json!({})).await;
    proxy.begin_stop();
    assert_eq!(client.answer(1).await["error"]["data"]["reason"], "proxy_draining");
    assert!(client.event().await.is_none());
    proxy.stop().await;
}

#[tokio::test]
async fn new_stream_while_closing_is_reset_without_an_answer() {
    let upstream = FakeUpstream::start(SSE).await;
    let mut proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "hang", json!({})).await;
    let idle = proxy.client().await;
    proxy.begin_stop();
    // The idle session ends as soon as the proxy closes: from then on new streams are turned away.
    let mut idle = idle;
    assert!(idle.event().await.is_none());
    let http = http_client();
    let refused = within("the reset", http.get(proxy.url("/sse")).send()).await;
    assert!(refused.expect_err("no answer").status().is_none());
    client.post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})).await;
    proxy.stop().await;
}
