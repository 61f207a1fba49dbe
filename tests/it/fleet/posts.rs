//! POSTs that come to another replica than the one that holds the stream: nobody can tell them from those that do not.

use std::time::Duration;

use serde_json::{Value, json};

use super::replicas::Replicas;
use crate::support::script::{Gate, Scripted, Step, document, reply};
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Posted, Proxy, http_client, pass, within};

const OPEN: Behaviour = Behaviour { sessions: true, sse: true, token: None };
const PROTECTED: Behaviour = Behaviour { sessions: true, sse: false, token: Some("good") };

/// What it is, its status, and the POST: path, headers, body.
type Case<'a> = (&'a str, u16, String, &'a [(&'a str, &'a str)], String);

fn list(id: impl Into<Value>) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/list"}).to_string()
}

/// A POST of somebody who has the URL and nothing else.
async fn post(proxy: &Proxy, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Posted {
    let mut request = http_client().post(proxy.url(path)).body(body);
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = within("an answer", request.send()).await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    Posted { status, headers, body: answer.text().await.expect("a text") }
}

/// All that can be told from an answer.
fn shown(posted: &Posted) -> (u16, String, Vec<String>) {
    let mut headers: Vec<String> = posted.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    headers.retain(|header| !header.starts_with("date:"));
    headers.sort();
    (posted.status.as_u16(), posted.body.clone(), headers)
}

#[tokio::test]
async fn conversation_goes_on_though_every_post_comes_to_another_replica() {
    let upstream = FakeUpstream::start(OPEN).await;
    let replicas = Replicas::start(3, upstream.url(), &[]).await;
    let mut client = replicas.client(&[]).await;
    assert!(client.initialize().await["result"].is_object());
    client.post_to(&replicas.all[2]);
    client.call("runs", "ask", json!({})).await;
    let question = client.message().await;
    client.post_to(&replicas.all[1]);
    client.post(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "mine"}})).await;
    assert_eq!(client.answer("runs").await["result"]["content"][0]["text"], "mine");
    client.post_to(&replicas.all[0]);
    client.call(1, "echo", json!({"text": "at home"})).await;
    assert_eq!(client.answer(1).await["result"]["content"][0]["text"], "at home");
    client.post_to(&replicas.all[2]);
    client.post_text(format!("[{},{}]", list(2), list(3)), &[]).await;
    let mut answered = vec![client.message().await["id"].clone(), client.message().await["id"].clone()];
    answered.sort_by_key(Value::as_u64);
    assert_eq!(answered, [json!(2), json!(3)], "a batch");
    drop(client);
    let logs = replicas.stop().await;
    let of = |log: &Vec<Value>, name: &str| log.iter().filter(|record| record["event.name"] == name).count();
    assert_eq!((of(&logs[0], "legacy.connect"), of(&logs[0], "legacy.end")), (1, 1));
    assert!(logs[1..].iter().all(|log| of(log, "legacy.connect") == 0), "a session is in one log");
}

#[tokio::test]
async fn what_goes_up_is_the_same_to_the_byte() {
    let upstream = FakeUpstream::start(OPEN).await;
    let replicas = Replicas::start(2, upstream.url(), &[("trusted-proxy", "127.0.0.0/8")]).await;
    let headers = [
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "mcp.example.com"),
        ("x-own", "a"),
        ("cookie", "c=1"),
    ];
    let mut client = replicas.client(&headers).await;
    client.initialize().await;
    let odd =
        |id: &str| format!("{{ \"id\":\"{id}\",\t\"method\" : \"tools\\/list\", \"x\":1.50e1, \"jsonrpc\":\"2.0\" }}");
    for (id, replica) in [("h", 0), ("f", 1)] {
        client.post_to(&replicas.all[replica]);
        assert_eq!(client.post_text(odd(id), &[]).await.status, 202);
        client.answer(id).await;
    }
    let home = upstream.wait_for("the one", |seen| seen.body["id"] == "h").await;
    let foreign = upstream.wait_for("the other", |seen| seen.body["id"] == "f").await;
    assert_eq!(foreign.text, odd("f"));
    assert_eq!(foreign.headers, home.headers);
    assert_eq!(foreign.headers["x-forwarded-for"], "192.0.2.7");
    assert!(!foreign.headers.contains_key("cookie"));
    // Not more: sealing is slow where it is not optimised, and a POST has 2 s.
    let text = "x".repeat(256 << 10);
    client.call(1, "echo", json!({"text": text})).await;
    assert!(client.answer(1).await["result"]["content"][0]["text"] == text.as_str(), "a large body");
    drop(client);
    replicas.stop().await;
}

#[tokio::test]
async fn refusals_are_those_of_the_owner() {
    let upstream = FakeUpstream::start(PROTECTED).await;
    let options = [("max-body", "1KiB"), ("opaque-rotation", "deny")];
    let replicas = Replicas::start(2, upstream.url(), &options).await;
    let own = ("authorization", "Bearer good");
    let mut client = replicas.client(&[own]).await;
    client.initialize().await;
    let url = client.endpoint.clone();
    let (large, text) = ("x".repeat(3 << 10), ("content-type", "text/plain"));
    let too_large_for_all = "x".repeat(8 << 10);
    let cases: [Case<'_>; 8] = [
        ("no such session", 404, "/messages?sessionId=none".into(), &[own], list(1)),
        ("another's session", 404, url.clone(), &[("authorization", "Bearer other")], list(1)),
        ("nobody's credential", 404, url.clone(), &[], list(1)),
        ("no session id", 400, "/messages".into(), &[own], list(1)),
        ("no JSON", 400, url.clone(), &[own], "no message".into()),
        ("another media type", 415, url.clone(), &[own, text], list(1)),
        ("too large, without an id", 413, url.clone(), &[own], large),
        ("too large to be read", 413, url.clone(), &[own], too_large_for_all),
    ];
    for (what, status, path, headers, body) in cases {
        let at_home = post(&replicas.all[0], &path, headers, body.clone()).await;
        let elsewhere = post(&replicas.all[1], &path, headers, body).await;
        assert_eq!(elsewhere.status.as_u16(), status, "{what}");
        assert_eq!(shown(&elsewhere), shown(&at_home), "{what}");
    }
    replicas.all[0].metrics_show(|metrics| metrics.foreign_posts.get() == 4).await;
    let padding = "x".repeat(3 << 10);
    let large = json!({"id": "large", "jsonrpc": "2.0", "method": "tools/list", "params": {"_": padding}});
    client.post(large).await;
    assert_eq!(client.answer("large").await["error"]["data"]["reason"], "message_too_large");
    assert_eq!(client.post_text(r#"{"id":"cut","method":"tools/list","#, &[]).await.status, 202);
    assert_eq!(client.answer("cut").await["error"]["data"]["reason"], "malformed_message");
    client.call("unharmed", "echo", json!({"text": "x"})).await;
    client.answer("unharmed").await;
    drop(client);
    replicas.stop().await;
}

#[tokio::test]
async fn credential_that_the_server_turns_down_is_told_by_http_with_its_challenge() {
    let upstream = FakeUpstream::start(PROTECTED).await;
    let replicas = Replicas::start(2, upstream.url(), &[("opaque-rotation", "allow")]).await;
    let mut client = replicas.client(&[("authorization", "Bearer bad")]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let rejected = client.post_text(initialize, &[]).await;
    assert_eq!(rejected.status, 401);
    assert_eq!(rejected.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    let mut good = replicas.client(&[("authorization", "Bearer good")]).await;
    good.initialize().await;
    for (id, replica) in [("h", 0), ("f", 1)] {
        good.post_to(&replicas.all[replica]);
        let narrow = good.post_text(list(id), &[("authorization", "Bearer narrow")]).await;
        assert_eq!(narrow.status, 403);
        assert_eq!(narrow.headers["www-authenticate"], "Bearer error=\"insufficient_scope\", scope=\"write\"");
        assert!(narrow.body.contains("the scope \"write\""), "{}", narrow.body);
    }
    client.post_to(&replicas.all[0]);
    let at_home = client.post_text(list(1), &[]).await;
    assert_eq!(shown(&rejected), shown(&at_home));
    drop((client, good));
    replicas.stop().await;
}

#[tokio::test]
async fn what_a_session_is_bound_to_counts_even_if_it_does_not_go_up() {
    let upstream = FakeUpstream::start(OPEN).await;
    let peers = ("trusted-proxy", "127.0.0.0/8");
    let options = [peers, ("credential-header", "cookie"), ("identity-header", "x-team"), ("opaque-rotation", "deny")];
    let replicas = Replicas::start(2, upstream.url(), &options).await;
    for (own, other) in [(("cookie", "key=a"), ("cookie", "key=b")), (("x-team", "a"), ("x-team", "b"))] {
        let mut client = replicas.client(&[own]).await;
        client.initialize().await;
        assert_eq!(client.post_text(list(1), &[other]).await.status, 404, "{other:?}");
        client.call(2, "echo", json!({"text": "x"})).await;
        assert_eq!(client.until_answer(2).await.len(), 1);
        drop(client);
    }
    replicas.stop().await;
}

#[tokio::test]
async fn server_that_takes_its_time_costs_a_post_no_more_than_the_two_seconds() {
    let gate = Gate::default();
    let late = gate.clone();
    let play = move |got: &crate::support::script::Got| {
        let answer = json!({"jsonrpc": "2.0", "id": got.body["id"], "result": {"tools": []}});
        (got.rpc() == "tools/list").then(|| vec![Step::Wait(late.clone()), document(answer.to_string())])
    };
    let upstream = Scripted::start(play).await;
    // A client that is told of no other credential has to wait for the word on this one.
    let replicas = Replicas::start(2, upstream.url(), &[("opaque-rotation", "allow")]).await;
    let mut client = replicas.client(&[("authorization", "Bearer a")]).await;
    client.initialize().await;
    // After 2 s it would be the asking replica's 503.
    assert_eq!(client.post_text(list(1), &[("authorization", "Bearer b")]).await.status, 202);
    gate.open();
    assert!(client.answer(1).await["result"].is_object());
    drop(client);
    replicas.stop().await;
}

#[tokio::test]
async fn session_that_takes_no_more_is_busy_for_all() {
    let gate = Gate::default();
    let late = gate.clone();
    let play = move |got: &crate::support::script::Got| {
        (got.rpc() == "initialize").then(|| vec![Step::Wait(late.clone()), reply(500, &[], "no")])
    };
    let upstream = Scripted::start(play).await;
    let replicas = Replicas::start(2, upstream.url(), &[("max-waiting", "1")]).await;
    let mut client = replicas.client(&[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}});
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).to_string();
    client.post(initialize).await;
    assert_eq!(client.post_text(note.clone(), &[]).await.status, 202, "one waits");
    let elsewhere = client.post_text(note.clone(), &[]).await;
    client.post_to(&replicas.all[0]);
    let at_home = client.post_text(note, &[]).await;
    assert_eq!(elsewhere.status, 503);
    assert_eq!(shown(&elsewhere), shown(&at_home));
    gate.open();
    client.answer(0).await;
    drop(client);
    replicas.stop().await;
}

#[tokio::test]
async fn without_redis_own_sessions_go_on_and_others_are_told_why() {
    let upstream = FakeUpstream::start(OPEN).await;
    let mut replicas = Replicas::start(2, upstream.url(), &[]).await;
    let mut client = replicas.client(&[]).await;
    client.initialize().await;
    replicas.redis.stop();
    let refused = client.post_text(list(1), &[]).await;
    assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].to_str().ok()), (503, Some("1")));
    assert!(refused.body.starts_with("the session is on another replica"), "{}", refused.body);
    client.post_to(&replicas.all[0]);
    client.call(2, "echo", json!({"text": "x"})).await;
    assert_eq!(client.until_answer(2).await.len(), 1);
    let unknown = client.post_text(list(3), &[]).await;
    assert_eq!(unknown.status, 202);
    client.answer(3).await;
    replicas.redis.restart();
    replicas.know_each_other().await;
    client.post_to(&replicas.all[1]);
    client.call(4, "echo", json!({"text": "x"})).await;
    client.answer(4).await;
    drop(client);
    replicas.stop().await;
}

#[tokio::test]
async fn session_of_a_replica_that_has_gone_is_no_session() {
    let upstream = FakeUpstream::start(OPEN).await;
    let mut replicas = Replicas::start(2, upstream.url(), &[]).await;
    let mut client = replicas.client(&[]).await;
    client.initialize().await;
    let endpoint = client.endpoint.clone();
    drop(client);
    replicas.all.remove(0).stop().await;
    replicas.redis_has_been_there_for_long();
    let gone = post(&replicas.all[0], &endpoint, &[], list(1)).await;
    let never = post(&replicas.all[0], "/messages?sessionId=none", &[], list(1)).await;
    assert_eq!(gone.status, 404);
    assert_eq!(shown(&gone), shown(&never));
    replicas.stop().await;
}

/// A person takes minutes to log in, and the metadata is read wherever the balancer leads.
#[tokio::test]
async fn client_that_asks_another_replica_how_to_log_in_is_waited_for() {
    let upstream = FakeUpstream::start(PROTECTED).await;
    let replicas = Replicas::start(2, upstream.url(), &[("opaque-rotation", "allow")]).await;
    let mut waits = replicas.client(&[("authorization", "Bearer old")]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    assert_eq!(waits.post_text(initialize.clone(), &[]).await.status, 401);
    let metadata = replicas.all[1].url("/.well-known/oauth-protected-resource/sse");
    within("an answer", http_client().get(metadata).send()).await.expect("an answer");
    // What is said later on the same way arrives later.
    assert_eq!(post(&replicas.all[1], &waits.endpoint, &[], list(1)).await.status, 404);
    pass(Duration::from_secs(40)).await;
    let mut other = LegacyClient::connect(&replicas.all[0], &[("authorization", "Bearer good")]).await;
    other.initialize().await;
    // So long a jump is an outage to those who wait for Redis. It is over when a POST of somebody else's goes all the way again.
    other.post_to(&replicas.all[1]);
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).to_string();
    within("the way to the other replica", async {
        while other.post_text(note.clone(), &[("authorization", "Bearer good")]).await.status != 202 {}
    })
    .await;
    let again = waits.post_text(initialize, &[("authorization", "Bearer good")]).await;
    assert_eq!(again.status, 202);
    let messages = waits.until_answer(0).await;
    assert_eq!(messages.len(), 1, "no error before it");
    assert!(messages[0]["result"].is_object(), "{messages:?}");
    drop((waits, other));
    replicas.stop().await;
}
