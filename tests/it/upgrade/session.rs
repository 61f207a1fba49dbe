//! Servers of the session era, with session ids and without.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{Client, initialize, jwt, message, upgrades};
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
    let token = |subject: &str, signature: &str| format!("Bearer {}", jwt(subject, signature));
    let with = |token: &str| Client::new(&proxy).with("authorization", token);
    let mut owner = with(&token("ann", "b25l"));
    owner.initialize().await;
    // Whether it is genuine is for the server to say (`forged`).
    let renewed = owner.taken_by(&token("ann", "dHdv"));
    assert_eq!(renewed.call("echo", json!({"text": "x"})).await.status(), 200, "a token is renewed under way");
    for stranger in [Client::new(&proxy), with(&token("ben", "b25l")), with("Bearer opaque")] {
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

/// A proxy that has just started knows of no redirect, and neither do its clients that have a session with the server.
#[tokio::test]
async fn redirect_is_followed_for_requests_that_go_up_as_they_are() {
    let upstream = Scripted::start(|got| {
        // As uvicorn does it that believes what we say of the client's scheme.
        let location = format!("https://{}/mcp/?code=c", got.header("host").expect("a host"));
        got.target.starts_with("/mcp?").then(|| vec![reply(307, &[("location", &location)], "")])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let client = Client { session: Some("the-session".to_owned()), ..Client::new(&proxy) };
    // What is too large to be sent twice cannot follow, and is told so in words.
    let large = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": {"name": "echo", "arguments": {"text": "x".repeat(300 << 10)}}});
    let refused = client.post(large.clone()).await;
    assert_eq!(refused.status(), 502);
    assert!(refused.text().await.expect("a text").contains("send it again"));
    for text in ["one", "two"] {
        let answer = message(client.call("echo", json!({"text": text})).await).await;
        assert_eq!(answer["result"]["content"][0]["text"], text);
    }
    assert_eq!(client.post(large).await.status(), 200, "the way is known now");
    assert_eq!(client.ask(Method::GET, None).await.status(), 405, "the server's own word");
    let targets: Vec<String> = upstream.got().into_iter().map(|got| got.target).collect();
    let (old, new) = ("/mcp?code=c", "/mcp/?code=c");
    assert_eq!(targets, [old, old, new, new, new, new]);
    proxy.stop().await;
}

#[tokio::test]
async fn redirect_to_another_place_reaches_nobody() {
    for (status, location) in [(307, "https://login.example/secret"), (302, "/login"), (308, "/mcp?code=c")] {
        let upstream = Scripted::start(move |_| Some(vec![reply(status, &[("location", location)], "")])).await;
        let proxy = Proxy::start(upstream.url(), &[]);
        let client = Client { session: Some("the-session".to_owned()), ..Client::new(&proxy) };
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let body = (method == Method::POST).then(|| json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
            let refused = client.ask(method, body.as_ref()).await;
            assert_eq!(refused.status(), 502);
            assert!(!refused.headers().contains_key("location"));
            let text = refused.text().await.expect("a text");
            assert!(text.contains("--upstream") && !text.contains("secret") && !text.contains("code=c"), "{text}");
        }
        proxy.stop().await;
    }
}

#[tokio::test]
async fn neither_cookies_nor_banners_pass_on_the_legacy_url() {
    let upstream = Scripted::start(|got| {
        let text = json!({"jsonrpc": "2.0", "id": got.body["id"], "result": {}}).to_string();
        let headers = [("content-type", "application/json"), ("set-cookie", "a=b"), ("server", "uvicorn")];
        (got.rpc() == "ping").then(|| vec![reply(200, &headers, text)])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let client =
        Client { session: Some("the-session".to_owned()), ..Client::new(&proxy) }.with("cookie", "session=canary");
    let answer = client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("set-cookie") && !answer.headers().contains_key("server"));
    assert_eq!(upstream.got()[0].header("cookie"), None);
    proxy.stop().await;
}

#[tokio::test]
async fn answer_that_is_made_here_says_nothing_of_how_the_servers_own_was_written() {
    let upstream = Scripted::start(|got| {
        let headers = [("content-type", "application/json"), ("content-encoding", "gzip"), ("etag", "1")];
        (got.rpc() == "initialize").then(|| vec![reply(200, &headers, "\x1f\u{8b}")])
    })
    .await;
    let proxy = Proxy::start(upstream.url(), &[]);
    let refused = Client::new(&proxy).post(initialize()).await;
    for name in ["content-encoding", "etag"] {
        assert!(!refused.headers().contains_key(name), "{name}");
    }
    assert!(message(refused).await["error"]["message"].as_str().expect("words").contains("compressed"));
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
