//! What a session owes its client: one answer per id, in order, whatever the upstream does.

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::support::{Behaviour, FLOOD, FakeUpstream, LegacyClient, Proxy, pass, within};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

async fn initialized(behaviour: Behaviour, options: &[(&'static str, &str)]) -> (FakeUpstream, Proxy, LegacyClient) {
    let upstream = FakeUpstream::start(behaviour).await;
    let proxy = Proxy::start(upstream.url(), options);
    let mut client = proxy.client().await;
    client.initialize().await;
    (upstream, proxy, client)
}

#[tokio::test]
async fn early_messages_wait_for_the_handshake_in_order() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    let params =
        json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
    // TypeScript sends `initialized` and the first call on two connections: the call may be there first.
    tokio::join!(client.post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})), async {
        upstream.wait_for("initialize", |seen| seen.body["method"] == "initialize").await;
        client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
        client.post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    });
    client.answer(1).await;
    assert_eq!(upstream.methods(), ["initialize", "notifications/initialized", "tools/list"]);
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn client_that_never_says_initialized_goes_on_after_the_grace() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client
        .post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2024-11-05"}}))
        .await;
    client.answer(0).await;
    client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert!(client.answer(1).await["result"].is_object());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn probes_and_pings_before_the_handshake_are_answered_here() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.post(json!({"jsonrpc": "2.0", "id": "server-discover-probe-1", "method": "server/discover"})).await;
    assert_eq!(client.answer("server-discover-probe-1").await["error"]["code"], -32601);
    client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await;
    assert_eq!(client.answer(1).await["result"], json!({}));
    assert!(upstream.seen().is_empty());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn batch_is_split_and_each_part_is_answered() {
    let (upstream, proxy, mut client) = initialized(SSE, &[]).await;
    let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "notifications/x"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}]);
    client.post(batch).await;
    client.answer(2).await;
    assert!(upstream.seen().iter().all(|seen| !seen.body.is_array()));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn id_in_flight_is_taken_twice_and_run_once() {
    let (upstream, proxy, mut client) = initialized(SSE, &[]).await;
    client.call("twin", "ask", json!({})).await;
    let question = client.message().await;
    client.call("twin", "ask", json!({})).await;
    client.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "once"}})).await;
    assert_eq!(client.answer("twin").await["result"]["content"][0]["text"], "once");
    assert_eq!(upstream.methods().iter().filter(|method| *method == "tools/call").count(), 1);
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn cancelled_call_is_cancelled_upstream_and_never_answered() {
    let (upstream, proxy, mut client) = initialized(SSE, &[]).await;
    client.call(5, "ask", json!({})).await;
    let question = client.message().await;
    client.post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}})).await;
    let cancelled =
        upstream.wait_for("the cancellation", |seen| seen.body["method"] == "notifications/cancelled").await;
    assert_eq!(cancelled.body["params"]["requestId"], 5);
    // The server answers all the same; the answer must not reach the client.
    client.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "late"}})).await;
    client.call(6, "echo", json!({"text": "next"})).await;
    let messages = client.until_answer(6).await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn answer_of_nobody_is_dropped_and_a_stream_without_an_answer_is_an_error() {
    let (_upstream, proxy, mut client) = initialized(SSE, &[]).await;
    client.call(1, "stray", json!({})).await;
    assert_eq!(client.until_answer(1).await.len(), 1);
    client.call(2, "quit", json!({})).await;
    let error = client.answer(2).await["error"].clone();
    assert_eq!(error["data"]["reason"], "upstream_no_answer");
    assert!(error["message"].as_str().expect("a text").contains("may have run"));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn upstream_that_is_down_is_an_error_and_the_session_stays() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    upstream.stop();
    drop(upstream);
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client.post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await;
        let error = client.answer(0).await["error"].clone();
        assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(-32002), &json!("upstream_unavailable")));
    }
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn requests_over_the_limits_wait_or_get_an_error_and_answers_pass_them() {
    let (upstream, proxy, mut client) = initialized(SSE, &[("max-in-flight", "1")]).await;
    client.call("asks", "ask", json!({})).await;
    let question = client.message().await;
    for id in 0..64 {
        client.call(id, "echo", json!({"text": "waits"})).await;
    }
    client.call("over", "echo", json!({})).await;
    assert_eq!(client.answer("over").await["error"]["data"]["reason"], "too_many_in_flight");
    assert_eq!(upstream.methods().iter().filter(|method| *method == "tools/call").count(), 1);
    drop(client);
    let _ = question;
    proxy.stop().await;
}

#[tokio::test]
async fn credentials_and_headers_of_this_post_go_up() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", "Bearer first")]).await;
    client.initialize().await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    let headers =
        [("authorization", "Bearer this"), ("x-api-key", "key"), ("mcp-session-id", "forged"), ("cookie", "a=b")];
    assert_eq!(client.post_text(list, &headers).await.status, 202);
    client.answer(1).await;
    let seen = upstream.wait_for("the list", |seen| seen.body["method"] == "tools/list").await;
    assert_eq!(seen.headers["authorization"], "Bearer this");
    assert_eq!(seen.headers["x-api-key"], "key");
    assert_ne!(seen.headers["mcp-session-id"], "forged");
    assert!(!seen.headers.contains_key("cookie") && !seen.headers.contains_key("origin"));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn rejected_credential_comes_down_as_401_until_another_is_sent() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    for _ in 0..2 {
        let posted = client.post_text(initialize.clone(), &[("authorization", "Bearer bad")]).await;
        assert_eq!(posted.status, 401);
        assert_eq!(posted.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    }
    assert_eq!(upstream.seen().len(), 1, "the second 401 needs no upstream");
    assert_eq!(client.post_text(initialize, &[("authorization", "Bearer good")]).await.status, 202);
    assert!(client.answer(0).await["result"].is_object());
    drop(client);
    let log = proxy.stop().await;
    assert!(!log.iter().any(|record| record.to_string().contains("Bearer ")), "no credential is logged");
    let delete = upstream.seen().into_iter().find(|seen| seen.method == Method::DELETE).expect("a DELETE");
    assert_eq!(delete.headers["authorization"], "Bearer good", "under the credential that was accepted");
}

#[tokio::test]
async fn client_that_leaves_has_its_calls_cancelled_and_its_session_deleted() {
    let (upstream, proxy, client) = initialized(SSE, &[]).await;
    client.call(9, "hang", json!({})).await;
    upstream.wait_for("the call", |seen| seen.body["method"] == "tools/call").await;
    drop(client);
    let cancelled =
        upstream.wait_for("the cancellation", |seen| seen.body["method"] == "notifications/cancelled").await;
    assert_eq!(cancelled.body["params"]["requestId"], 9);
    upstream.wait_for("the DELETE", |seen| seen.method == Method::DELETE).await;
    let end = proxy.logged("legacy.end", 1).await.remove(0);
    assert_eq!(end["session.end.reason"], "client_disconnect");
    assert_eq!(end["legacy.undelivered"], 1, "the answer that was owed");
    proxy.stop().await;
}

#[tokio::test]
async fn use_is_logged_at_the_first_call_and_totals_at_the_end() {
    let (_upstream, proxy, mut client) = initialized(SSE, &[]).await;
    for id in 1..=3 {
        client.call(id, "echo", json!({"text": "x"})).await;
        client.answer(id).await;
    }
    drop(client);
    let log = proxy.stop().await;
    let names: Vec<&str> = log.iter().filter_map(|record| record["event.name"].as_str()).collect();
    assert_eq!(names, ["proxy.start", "legacy.connect", "legacy.identify", "legacy.use", "legacy.end", "proxy.stop"]);
    assert_eq!(log[3]["legacy.uses"], 1);
    assert_eq!((&log[4]["legacy.requests"], &log[4]["legacy.uses"]), (&json!(4), &json!(3)));
    for record in &log[1..5] {
        for field in ["legacy.session", "identity", "client.family", "schema", "boot.id", "@timestamp"] {
            assert!(record[field].is_string(), "{field} in {record}");
        }
        assert!(!record.to_string().contains("127.0.0.1:"), "{record}");
    }
}

#[tokio::test]
async fn client_that_does_not_read_stops_the_upstream_and_loses_nothing() {
    let (upstream, proxy, mut slow) = initialized(SSE, &[]).await;
    slow.call("flood", "flood", json!({})).await;
    // Other sessions go on meanwhile, for long enough that an unbounded proxy would have taken everything.
    let mut other = proxy.client().await;
    other.initialize().await;
    for id in 1..=300 {
        other.call(id, "echo", json!({"text": "x"})).await;
        other.answer(id).await;
    }
    let sent = upstream.flooded();

    // What the sockets on the way hold is the kernel's; on loopback some megabytes.
    assert!(sent < FLOOD * (64 << 10) * 3 / 4, "{sent} bytes went into a proxy whose client does not read");
    let messages = slow.until_answer("flood").await;
    assert_eq!(messages.len(), FLOOD + 1, "everything came once the client read");
    drop((slow, other));
    proxy.stop().await;
}

#[tokio::test]
async fn missing_scope_comes_down_as_403_and_any_other_403_as_an_error_on_the_stream() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let posted = client.post_text(initialize.clone(), &[("authorization", "Bearer narrow")]).await;
    assert_eq!(posted.status, 403);
    assert_eq!(posted.headers["www-authenticate"], "Bearer error=\"insufficient_scope\", scope=\"write\"");
    assert_eq!(client.post_text(initialize, &[("authorization", "Bearer banned")]).await.status, 202);
    let error = client.answer(0).await["error"].clone();
    assert_eq!(error["message"], "upstream answered HTTP 403: banned here");
    drop(client);
    proxy.stop().await;
}

/// Python sends its POSTs one at a time: one that waits for a tool would hold up the answer to what the tool asks.
#[tokio::test]
async fn posts_under_an_accepted_credential_are_not_held_until_the_upstream_answers() {
    let (_upstream, proxy, client) = initialized(Behaviour { sse: false, sessions: true, token: None }, &[]).await;
    // Without event streams no head comes before the answer; each would be held for 2 s.
    within("sixty acknowledgements", async {
        for id in 0..60 {
            client.call(id, "hang", json!({})).await;
        }
    })
    .await;
    drop(client);
    proxy.stop().await;
}

/// And one under an unknown credential is held for 2 s, as only a 401 makes clients renew theirs.
#[tokio::test]
async fn post_under_an_unknown_credential_waits_two_seconds_for_the_upstreams_word() {
    let upstream = FakeUpstream::start(Behaviour { sse: false, sessions: true, token: None }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", "Bearer old")]).await;
    client.initialize().await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hang"}}).to_string();
    let headers = [("authorization", "Bearer new")];
    let posting = async {
        assert_eq!(client.post_text(call, &headers).await.status, 202);
        tokio::time::Instant::now()
    };
    let asked = async {
        upstream.wait_for("the call", |seen| seen.body["id"] == 1).await;
        let asked = tokio::time::Instant::now();
        pass(Duration::from_millis(1900)).await;
        asked
    };
    let (answered, asked) = tokio::join!(posting, asked);
    assert!(answered - asked >= Duration::from_millis(1900), "it was not held");
    drop(client);
    proxy.stop().await;
}
