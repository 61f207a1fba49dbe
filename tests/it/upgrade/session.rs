//! Servers of the session era, with session ids and without.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::json;

use super::{Client, initialize, message, upgrades};
use crate::support::script::{Scripted, reply};
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, pass, within};

const SESSIONS: Behaviour = Behaviour { sessions: true, sse: true, token: None };
const STATELESS: Behaviour = Behaviour { sessions: false, sse: false, token: None };

#[tokio::test]
async fn session_of_the_server_is_its_own_from_the_first_answer_on() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = Client::new(&proxy);
    let answer = client.initialize().await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "fake");
    assert!(client.session.as_deref().expect("an id").starts_with("upstream-session-"));
    let mut stream = client.ask(Method::GET, None).await;
    assert_eq!(stream.status(), 200);
    upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).await;
    let chunk = within("a change", stream.chunk()).await.expect("a stream").expect("a chunk");
    assert!(String::from_utf8_lossy(&chunk).contains("list_changed"));
    let answer = message(client.call("echo", json!({"text": "hi"})).await).await;
    assert_eq!(answer["result"]["content"][0]["text"], "hi");
    assert_eq!(client.ask(Method::DELETE, None).await.status(), 200);
    drop(stream);
    let seen = upstream.seen();
    let raw = seen.iter().find(|seen| seen.body["method"] == "tools/call").expect("the call");
    assert_eq!(raw.headers["mcp-protocol-version"], "2025-06-18", "its own words");
    let log = proxy.stop().await;
    let upgrades = upgrades(&log);
    assert_eq!(upgrades.len(), 1);
    assert_eq!(upgrades[0]["identity"], "name:dual");
    assert_eq!(upgrades[0]["url.path"], "/sse");
    assert!(log.iter().all(|record| record["event.name"] != "legacy.connect"), "no legacy session: {log:?}");
}

#[tokio::test]
async fn session_is_kept_here_where_the_server_keeps_none() {
    let upstream = FakeUpstream::start(STATELESS).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = Client::new(&proxy);
    client.initialize().await;
    let session = client.session.clone().expect("an id");
    assert!(session.len() > 40 && session.bytes().all(|byte| byte.is_ascii_graphic()), "{session}");
    for text in ["one", "two"] {
        let answer = message(client.call("echo", json!({"text": text})).await).await;
        assert_eq!(answer["result"]["content"][0]["text"], text);
    }
    assert_eq!(
        client.ask(Method::GET, None).await.status(),
        405,
        "told from a legacy GET, and the server has no stream"
    );
    assert_eq!(client.ask(Method::DELETE, None).await.status(), 200);
    assert_eq!(client.call("echo", json!({"text": "x"})).await.status(), 404, "it is over");
    let seen = upstream.seen();
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("mcp-session-id")), "the server gave none");
    assert!(seen.iter().all(|seen| seen.method != Method::DELETE), "and has none to end");
    assert_eq!(upgrades(&proxy.stop().await).len(), 1);
}

#[tokio::test]
async fn session_is_of_use_only_to_its_principal() {
    let upstream = FakeUpstream::start(STATELESS).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let token = |subject: &str, number: u32| {
        let claims = json!({"iss": "https://as.example", "sub": subject, "jti": number}).to_string();
        format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    };
    let with = |token: &str| Client::new(&proxy).with("authorization", token);
    let mut owner = with(&token("ann", 1));
    owner.initialize().await;
    let renewed = Client { session: owner.session.clone(), ..with(&token("ann", 2)) };
    assert_eq!(renewed.call("echo", json!({"text": "x"})).await.status(), 200, "a token is renewed under way");
    for stranger in [Client::new(&proxy), with(&token("ben", 1)), with("Bearer opaque")] {
        let stranger = Client { session: owner.session.clone(), ..stranger };
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let body = (method == Method::POST).then(|| json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
            assert_eq!(stranger.ask(method, body.as_ref()).await.status(), 404);
        }
    }
    let unknown = Client { session: Some("sunset-unknown".to_owned()), ..Client::new(&proxy) };
    let refused = unknown.call("echo", json!({})).await;
    assert_eq!(refused.status(), 404);
    assert!(refused.text().await.expect("a text").contains("initialize"));
    assert_eq!(owner.call("echo", json!({"text": "x"})).await.status(), 200, "it does not suffer from that");
    proxy.stop().await;
}

#[tokio::test]
async fn session_that_nobody_uses_is_forgotten() {
    let upstream = FakeUpstream::start(STATELESS).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = Client::new(&proxy);
    client.initialize().await;
    pass(Duration::from_secs(29 * 60)).await;
    assert_eq!(client.call("echo", json!({"text": "x"})).await.status(), 200);
    pass(Duration::from_secs(29 * 60)).await;
    assert_eq!(client.call("echo", json!({"text": "x"})).await.status(), 200, "its time begins anew with every use");
    pass(Duration::from_secs(32 * 60)).await;
    let gone = || async { client.call("echo", json!({"text": "x"})).await.status() == 404 };
    within("the session is forgotten", async { while !gone().await {} }).await;
    client.session = None;
    client.initialize().await;
    proxy.stop().await;
}

#[tokio::test]
async fn more_sessions_than_may_be_kept_are_refused() {
    let upstream = FakeUpstream::start(STATELESS).await;
    let proxy = Proxy::start(upstream.url(), &[("max-sessions", "1")]);
    let mut first = Client::new(&proxy);
    first.initialize().await;
    let refused = Client::new(&proxy).post(initialize()).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    first.ask(Method::DELETE, None).await;
    Client::new(&proxy).initialize().await;
    proxy.stop().await;
}

#[tokio::test]
async fn challenge_of_the_server_reaches_the_client() {
    let upstream = FakeUpstream::start(Behaviour { token: Some("right"), ..SESSIONS }).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let refused = Client::new(&proxy).post(initialize()).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer error=\"invalid_token\"");
    let mut client = Client::new(&proxy).with("authorization", "Bearer right");
    client.initialize().await;
    assert_eq!(upgrades(&proxy.stop().await).len(), 1, "what was refused did not move");
}

#[tokio::test]
async fn what_is_no_initialize_is_the_servers_to_judge() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let client = Client::new(&proxy);
    let refused = client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.expect("a text").contains("no session"), "the server's own words");
    let stranger = Client { session: Some("another's".to_owned()), ..Client::new(&proxy) };
    assert_eq!(stranger.ask(Method::GET, None).await.status(), 404, "the server's own word on ids that are not ours");
    assert_eq!(upstream.seen().len(), 2);
    proxy.stop().await;
}

#[tokio::test]
async fn upstream_that_is_down_is_named() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    upstream.stop();
    let proxy = Proxy::start(upstream.url(), &[]);
    drop(upstream);
    let refused = Client::new(&proxy).post(initialize()).await;
    assert_eq!(refused.status(), 502);
    assert!(refused.text().await.expect("a text").contains("cannot be reached"));
    proxy.stop().await;
}

#[tokio::test]
async fn redirect_that_was_followed_once_is_where_the_session_goes() {
    // Starlette redirects so where an application is mounted.
    let upstream = Scripted::start(|got| {
        let moved = [("location", "/mcp/?code=c")];
        got.target.starts_with("/mcp?").then(|| vec![reply(307, &moved, "")])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut client = Client::new(&proxy);
    client.initialize().await;
    assert_eq!(client.session.as_deref(), Some("the-session"));
    let answer = message(client.call("echo", json!({"text": "x"})).await).await;
    assert_eq!(answer["result"]["content"][0]["text"], "x");
    let targets: Vec<String> = upstream.got().into_iter().map(|got| got.target).collect();
    assert_eq!(targets, ["/mcp?code=c", "/mcp/?code=c", "/mcp/?code=c", "/mcp/?code=c"]);
    proxy.stop().await;
}

#[tokio::test]
async fn clients_that_stay_legacy_are_told_apart() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    // VS Code, refused by a POST, comes with a GET that has nothing but `Accept`.
    let proxy = Proxy::start(upstream.url(), &[("no-upgrade", "true")]);
    let refused = Client::new(&proxy).post(initialize()).await;
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.headers()["allow"], "GET");
    assert!(refused.headers()["content-type"].to_str().expect("text").starts_with("text/plain"));
    let mut legacy = LegacyClient::connect(&proxy, &[]).await;
    legacy.initialize().await;
    drop(legacy);
    proxy.stop().await;
    // Where it is upgraded a GET without a session is legacy all the same, whatever version it names.
    let proxy = Proxy::start(upstream.url(), &[]);
    let mut legacy = LegacyClient::connect(&proxy, &[("mcp-protocol-version", "2024-11-05")]).await;
    legacy.initialize().await;
    drop(legacy);
    proxy.stop().await;
}
