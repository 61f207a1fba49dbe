//! The upstream has lost the session: the client notices nothing but a slower call (WIRE, Upstream 7 and 8).

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Behaviour, Disguise, FakeUpstream, LegacyClient, Proxy, pass};

const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };
const JSON: Behaviour = Behaviour { sessions: true, sse: false, token: None };

async fn initialized(behaviour: Behaviour) -> (FakeUpstream, Proxy, LegacyClient) {
    let upstream = FakeUpstream::start(behaviour).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    upstream.wait_for("the GET stream", |seen| seen.method == Method::GET).await;
    (upstream, proxy, client)
}

async fn request(client: &mut LegacyClient, id: u64, method: &str, params: Value) -> Value {
    client.post(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
    client.answer(id).await
}

/// The requests of one method.
fn of_method(upstream: &FakeUpstream, method: &str) -> Vec<Value> {
    upstream.seen().into_iter().map(|seen| seen.body).filter(|body| body["method"] == method).collect()
}

async fn ends(upstream: FakeUpstream, proxy: Proxy, client: LegacyClient) -> FakeUpstream {
    drop(client);
    proxy.stop().await;
    upstream
}

#[tokio::test]
async fn session_stands_up_again_under_every_disguise_and_the_call_runs_once() {
    for behaviour in [SSE, JSON] {
        for disguise in Disguise::ALL {
            let (upstream, proxy, mut client) = initialized(behaviour.clone()).await;
            request(&mut client, 1, "logging/setLevel", json!({"level": "debug"})).await;
            request(&mut client, 2, "resources/subscribe", json!({"uri": "a://b"})).await;
            upstream.forget(disguise);
            client.call(3, "echo", json!({"text": "again"})).await;
            let messages = client.until_answer(3).await;
            let methods: Vec<&str> = messages.iter().filter_map(|message| message["method"].as_str()).collect();
            assert_eq!(methods, ["notifications/tools/list_changed"], "{disguise:?}: {messages:?}");
            assert_eq!(messages[1]["result"]["content"][0]["text"], "again", "{disguise:?}");

            let handshakes = of_method(&upstream, "initialize");
            assert_eq!(handshakes.len(), 2, "{disguise:?}");
            assert_eq!(handshakes[0], handshakes[1], "the client's own");
            for method in ["notifications/initialized", "logging/setLevel", "resources/subscribe"] {
                let said = of_method(&upstream, method);
                assert!(said.len() == 2 && said[0] == said[1], "{disguise:?}: {method}");
            }
            assert_eq!(upstream.ran().len(), 1, "{disguise:?}: the call ran once");
            upstream.wait_for_several("the new GET stream", 2, |seen| seen.method == Method::GET).await;
            let upstream = ends(upstream, proxy, client).await;
            let deleted = upstream.seen().into_iter().filter(|seen| seen.method == Method::DELETE).count();
            assert_eq!(deleted, 1, "{disguise:?}: the session that is there");
        }
    }
}

#[tokio::test]
async fn many_calls_at_once_open_one_session_and_all_run_once() {
    for behaviour in [SSE, JSON] {
        for disguise in Disguise::ALL {
            many_calls_at_once(behaviour.clone(), disguise).await;
        }
    }
}

async fn many_calls_at_once(behaviour: Behaviour, disguise: Disguise) {
    let (upstream, proxy, mut client) = initialized(behaviour).await;
    upstream.forget(disguise);
    for id in 1..=20 {
        client.call(id, "echo", json!({"text": id.to_string()})).await;
    }
    let mut answered: Vec<u64> = Vec::new();
    while answered.len() < 20 {
        let message = client.message().await;
        if let Some(id) = message["id"].as_u64() {
            assert_eq!(message["result"]["content"][0]["text"], id.to_string(), "{disguise:?}: {message}");
            answered.push(id);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=20).collect::<Vec<_>>());
    assert_eq!(of_method(&upstream, "initialize").len(), 2);
    assert_eq!(upstream.ran().len(), 20);
    ends(upstream, proxy, client).await;
}

#[tokio::test]
async fn calls_that_were_running_get_an_error_that_says_so_and_late_answers_are_dropped() {
    let (upstream, proxy, mut client) = initialized(SSE).await;
    client.call("runs", "ask", json!({})).await;
    let asked = client.message().await;
    upstream.forget(Disguise::NotFoundRpc);
    client.call("new", "echo", json!({"text": "x"})).await;
    let messages = client.until_answer("new").await;
    let failed = messages.iter().find(|message| message["id"] == "runs").expect("an error");
    assert_eq!(failed["error"]["data"]["reason"], "session_lost");
    assert!(failed["error"]["message"].as_str().expect("a text").contains("may have run"));
    // The question was asked in the session that is lost: its answer is nobody's.
    client.post(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"text": "late"}})).await;
    client.call("last", "echo", json!({"text": "x"})).await;
    assert_eq!(client.until_answer("last").await.len(), 1, "and no late answer");
    assert!(!upstream.seen().iter().any(|seen| seen.body["result"]["text"] == "late"));
    ends(upstream, proxy, client).await;
}

#[tokio::test]
async fn error_of_a_tool_that_speaks_of_a_session_is_no_loss() {
    for behaviour in [SSE, JSON] {
        let (upstream, proxy, mut client) = initialized(behaviour).await;
        client.call("runs", "hang", json!({})).await;
        client.call(1, "browse", json!({})).await;
        assert_eq!(client.until_answer(1).await.len(), 1);
        let ran: Vec<Value> = upstream.ran().into_iter().filter(|ran| ran["name"] == "browse").collect();
        assert_eq!(ran.len(), 1, "it has run, and must not run again");
        assert_eq!(of_method(&upstream, "initialize").len(), 1);
        assert_eq!(of_method(&upstream, "ping").len(), 1, "a ping told");
        ends(upstream, proxy, client).await;
    }
}

#[tokio::test]
async fn notification_that_was_turned_away_is_sent_again() {
    let (upstream, proxy, client) = initialized(SSE).await;
    upstream.forget(Disguise::BadRequest);
    client.post(json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})).await;
    let sent = |seen: &crate::support::Seen| seen.body["method"] == "notifications/roots/list_changed";
    let sent = upstream.wait_for_several("the notification", 2, sent).await;
    assert_ne!(sent[0].headers["mcp-session-id"], sent[1].headers["mcp-session-id"]);
    ends(upstream, proxy, client).await;
}

#[tokio::test]
async fn upstream_that_opens_no_session_is_one_error_and_the_next_call_works_when_it_does() {
    let (upstream, proxy, mut client) = initialized(SSE).await;
    upstream.forget(Disguise::NotFound);
    upstream.close(Some(503));
    for id in 1..=2 {
        client.call(id, "echo", json!({"text": "x"})).await;
        let messages = client.until_answer(id).await;
        assert_eq!(messages.len(), 1);
        let error = &messages[0]["error"];
        assert_eq!((&error["data"]["status"], &error["data"]["retry_after"]), (&json!(503), &json!("7")), "{error}");
        assert!(error["message"].as_str().expect("a text").contains("did not run"), "{error}");
    }
    upstream.close(None);
    client.call(3, "echo", json!({"text": "back"})).await;
    let messages = client.until_answer(3).await;
    assert_eq!(messages.last().expect("an answer")["result"]["content"][0]["text"], "back");
    assert_eq!(upstream.ran().len(), 1);
    ends(upstream, proxy, client).await;
}

/// An idle session finds out by itself, so that what the server says of its own accord goes on coming.
#[tokio::test]
async fn idle_session_stands_up_again_by_its_get_stream_or_by_a_ping() {
    for by_ping in [false, true] {
        let (upstream, proxy, mut client) = initialized(SSE).await;
        if by_ping {
            upstream.forget_quietly(Disguise::NotFound);
            pass(Duration::from_secs(91)).await;
            upstream.wait_for("a ping", |seen| seen.body["method"] == "ping").await;
        } else {
            upstream.forget(Disguise::NotFound);
        }
        let handshakes = |seen: &crate::support::Seen| seen.body["method"] == "initialize";
        upstream.wait_for_several("another handshake", 2, handshakes).await;
        assert_eq!(client.message().await["method"], "notifications/tools/list_changed");
        upstream.wait_for_listener().await;
        upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "new"}})).await;
        assert_eq!(client.message().await["params"]["data"], "new");
        ends(upstream, proxy, client).await;
    }
}

#[tokio::test]
async fn session_is_pinged_while_nothing_is_posted_and_while_a_call_runs() {
    let (upstream, proxy, client) = initialized(SSE).await;
    client.call(1, "hang", json!({})).await;
    upstream.wait_for("the call", |seen| seen.body["method"] == "tools/call").await;
    for count in 1..=3 {
        pass(Duration::from_secs(91)).await;
        let pings = upstream.wait_for_several("a ping", count, |seen| seen.body["method"] == "ping").await;
        assert_eq!(pings.len(), count);
        assert!(pings[0].headers.contains_key("mcp-session-id"));
    }
    ends(upstream, proxy, client).await;
}

#[tokio::test]
async fn credential_that_expired_meanwhile_comes_down_as_401() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("good"), ..SSE }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", "Bearer good")]).await;
    client.initialize().await;
    upstream.forget(Disguise::NotFound);
    upstream.close(Some(401));
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    client.post_text(call.clone(), &[]).await;
    let messages = client.until_answer(1).await;
    assert_eq!(messages[0]["error"]["data"]["reason"], "unauthorized");
    let posted = client.post_text(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string(), &[]).await;
    assert_eq!(posted.status, 401, "so that the client renews its token");
    drop(client);
    proxy.stop().await;
}

/// TypeScript clients come back after the proxy itself was restarted, and never say `initialize` again.
#[tokio::test]
async fn handshake_is_made_for_a_client_that_goes_on_without_one() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    for (named, asked) in [(Some("2025-06-18"), "2025-06-18"), (None, "2024-11-05")] {
        let headers: Vec<_> = named.map(|version| ("mcp-protocol-version", version)).into_iter().collect();
        let mut client = LegacyClient::connect(&proxy, &headers).await;
        client.call(7, "echo", json!({"text": "x"})).await;
        let messages = client.until_answer(7).await;
        assert_eq!(messages.last().expect("the answer")["result"]["content"][0]["text"], "x");
        assert!(messages.iter().all(|message| message["id"] != "sse-sunset-initialize"), "its result is kept back");
        let made = of_method(&upstream, "initialize").pop().expect("a handshake");
        assert_eq!(made["params"]["protocolVersion"], asked);
        assert_eq!(made["params"]["clientInfo"]["name"], "sse-sunset");
        drop(client);
    }
    let said = upstream.methods();
    assert_eq!(said.iter().filter(|method| *method == "notifications/initialized").count(), 2);
    proxy.stop().await;
    let deletes = upstream.seen().into_iter().filter(|seen| seen.method == Method::DELETE).count();
    assert_eq!(deletes, 2);
}

#[tokio::test]
async fn handshake_that_cannot_be_made_is_one_error_and_is_tried_again() {
    let upstream = FakeUpstream::start(SSE).await;
    upstream.close(Some(500));
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = proxy.client().await;
    client.call(1, "echo", json!({"text": "x"})).await;
    assert_eq!(client.until_answer(1).await[0]["error"]["data"]["status"], 500);
    upstream.close(None);
    client.call(2, "echo", json!({"text": "x"})).await;
    assert!(client.answer(2).await["result"].is_object());
    ends(upstream, proxy, client).await;
}

/// What Express and its like answer; some of them without a challenge. It speaks of the credential, not of the session.
#[tokio::test]
async fn bare_401_is_passed_on_and_costs_no_session() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", "Bearer old")]).await;
    client.initialize().await;
    upstream.expire("Bearer old");
    let call = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}).to_string();
    for _ in 0..2 {
        assert_eq!(client.post_text(call(2), &[]).await.status, 401);
    }
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).to_string();
    assert_eq!(client.post_text(notice, &[("authorization", "Bearer old")]).await.status, 401);
    let posted = client.post_text(call(2), &[("authorization", "Bearer new")]).await;
    assert_eq!(posted.status, 202);
    assert!(client.answer(2).await["result"].is_object());
    assert_eq!(of_method(&upstream, "initialize").len(), 1);
    drop(client);
    proxy.stop().await;
}

/// The credential is what the upstream turns down; another, or none, is only the client's to try.
#[tokio::test]
async fn session_whose_credential_is_turned_down_waits_for_another() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", "Bearer old")]).await;
    client.initialize().await;
    upstream.wait_for("the GET stream", |seen| seen.method == Method::GET).await;
    upstream.expire("Bearer old");
    upstream.forget(Disguise::NotFound);
    pass(Duration::from_secs(91)).await;
    let posted = client.post_text(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string(), &[]).await;
    assert_eq!(posted.status, 401);
    for _ in 0..5 {
        pass(Duration::from_secs(31)).await;
    }
    let posted = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string();
    client.post_text(posted, &[("authorization", "Bearer new")]).await;
    assert!(client.until_answer(2).await.pop().expect("an answer")["result"].is_object());
    let handshakes: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.body["method"] == "initialize").collect();
    assert!(handshakes.iter().all(|seen| seen.headers.contains_key("authorization")), "never without a credential");
    drop(client);
    proxy.stop().await;
}
