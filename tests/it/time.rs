//! What happens when nothing happens for long.

use std::time::Duration;

use serde_json::json;

use crate::support::{Behaviour, FakeUpstream, Proxy, pass, stuck};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

#[tokio::test]
async fn heartbeat_tells_every_minute_that_the_proxy_lives() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    pass(Duration::from_secs(61)).await;
    let beat = proxy.logged("proxy.heartbeat", 1).await.remove(0);
    assert_eq!(
        (&beat["sessions.active"], &beat["sessions.opened"], &beat["requests"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(beat["log.lost"], 0);
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_takes_nothing_for_a_minute_is_closed_as_a_slow_consumer() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call("flood", "flood", json!({})).await;
    let mut other = proxy.client().await;
    other.initialize().await;
    // That time moves wakes the proxy up and may let it get rid of a little more, so that the stall begins anew.
    for _ in 0..20 {
        stuck(&upstream, &mut other).await;
        if proxy.log().iter().any(|record| record["event.name"] == "legacy.end") {
            break;
        }
        pass(Duration::from_secs(61)).await;
    }
    let end = proxy.logged("legacy.end", 1).await.remove(0);
    assert_eq!(end["session.end.reason"], "slow_consumer");
    assert!(end["legacy.undelivered"].as_u64().expect("a count") > 0, "{end}");
    drop((client, other));
    proxy.stop().await;
}

/// The kernel gives a client up that acknowledges nothing for 45 s, before the proxy does.
#[tokio::test]
async fn connection_that_ends_in_the_middle_of_a_stall_was_a_slow_consumers_too() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let (mut client, mut other) = (proxy.client().await, proxy.client().await);
    client.initialize().await;
    other.initialize().await;
    client.call("flood", "flood", json!({})).await;
    for _ in 0..3 {
        stuck(&upstream, &mut other).await;
        pass(Duration::from_secs(11)).await;
    }
    stuck(&upstream, &mut other).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    drop(client);
    tokio::time::resume();
    let end = proxy.logged("legacy.end", 1).await.remove(0);
    assert_eq!(end["session.end.reason"], "slow_consumer", "{end}");
    drop(other);
    proxy.stop().await;
}

#[tokio::test]
async fn request_answered_401_gets_an_error_unless_it_is_posted_again() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    assert_eq!(client.post_text(initialize.clone(), &[("authorization", "Bearer bad")]).await.status, 401);
    pass(Duration::from_secs(31)).await;
    assert_eq!(client.answer(0).await["error"]["data"]["reason"], "unauthorized");
    // It has its answer: what comes late under the same id must not run.
    assert_eq!(client.post_text(initialize, &[("authorization", "Bearer good")]).await.status, 202);
    assert_eq!(upstream.seen().len(), 1);
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn call_that_the_upstream_forgets_gets_an_error_after_ten_minutes() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "hang", json!({})).await;
    upstream.wait_for("the call", |seen| seen.body["method"] == "tools/call").await;
    pass(Duration::from_secs(601)).await;
    let error = client.answer(1).await["error"].clone();
    assert_eq!(error["data"]["reason"], "upstream_timeout");
    upstream.wait_for("the cancellation", |seen| seen.body["method"] == "notifications/cancelled").await;
    drop(client);
    proxy.stop().await;
}
