//! When `GET /sse` answers 401, and what that costs the upstream (SECURITY §2.3).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{STREAM, before, challenge, deployed, get, knock, request};
use crate::support::oauth::{ProtectedServer, Protection, token};
use crate::support::script::{Fate, Scripted, Step, reply};
use crate::support::{LegacyClient, pass};

const OURS: &str = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/sse\"";

fn bearer(audience: &str, number: u64) -> String {
    format!("Bearer {}", token(audience, number))
}

#[tokio::test]
async fn client_without_a_credential_is_told_at_once_and_asks_the_server_nothing() {
    let (server, _issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[]).await;
    let (status, challenge) = knock(&proxy, &[]).await;
    assert_eq!(status, 401);
    assert!(
        challenge.starts_with("Bearer ") && challenge.contains(OURS) && challenge.contains("scope=\"mcp\""),
        "{challenge}"
    );
    for _ in 0..5 {
        assert_eq!(knock(&proxy, &[]).await.0, 401);
    }
    assert_eq!(server.count("ping"), 1, "at start, or at the first stream");
    let ping = server.asked().into_iter().find(|asked| asked.body.contains("ping")).expect("a ping");
    let session = ping.headers["mcp-session-id"].to_str().expect("text");
    assert!(session.len() == 32 && session.bytes().all(|byte| byte.is_ascii_hexdigit()), "{session}");
    let log = proxy.stop().await;
    let refused: Vec<_> = log.iter().filter(|record| record["event.name"] == "legacy.refused").collect();
    assert_eq!(refused.len(), 6);
    assert!(
        refused
            .iter()
            .all(|record| record["legacy.refused.reason"] == "auth" && record["http.response.status_code"] == 401),
        "{refused:?}"
    );
    assert!(log.iter().all(|record| record["event.name"] != "legacy.connect"));
}

#[tokio::test]
async fn server_that_wants_no_credential_is_asked_once() {
    let server = ProtectedServer::start().await;
    let proxy = before(&server, &[]);
    for number in 0..4 {
        let sent = bearer(STREAM, number);
        drop(LegacyClient::connect(&proxy, &[("authorization", &sent)]).await);
        drop(proxy.client().await);
    }
    assert_eq!(server.count("ping"), 1);
    // Until it turns one down.
    let client = LegacyClient::connect(&proxy, &[("authorization", "Bearer x")]).await;
    server.protect(Protection { audiences: Some(Vec::new()), ..Protection::default() });
    let call = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let posted = client.post_text(call.clone(), &[]).await;
    assert_eq!(posted.status, 401);
    let opened = LegacyClient::connect(&proxy, &[]).await;
    let asked = server.count("ping");
    assert_eq!(knock(&proxy, &[("authorization", "Bearer y")]).await.0, 401, "credentials are looked at now");
    assert_eq!(server.count("ping"), asked + 1);
    assert_eq!(opened.post_text(call, &[]).await.status, 401);
    assert_eq!(knock(&proxy, &[]).await.0, 401, "and so is whoever has none");
    drop((client, opened));
    proxy.stop().await;
}

#[tokio::test]
async fn credential_is_judged_once_a_minute_if_good_and_once_in_five_seconds_if_not() {
    let (server, _issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[]).await;
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    let (good, bad) = (bearer(STREAM, 1), bearer("https://other.example", 1));
    let asked = server.count("ping");
    for _ in 0..3 {
        drop(LegacyClient::connect(&proxy, &[("authorization", &good)]).await);
        let (status, challenge) = knock(&proxy, &[("authorization", &bad)]).await;
        assert_eq!(status, 401);
        assert!(challenge.contains(OURS), "{challenge}");
    }
    assert_eq!(server.count("ping"), asked + 2);
    pass(Duration::from_secs(6)).await;
    assert_eq!(knock(&proxy, &[("authorization", &bad)]).await.0, 401);
    drop(LegacyClient::connect(&proxy, &[("authorization", &good)]).await);
    assert_eq!(server.count("ping"), asked + 3);
    pass(Duration::from_secs(60)).await;
    drop(LegacyClient::connect(&proxy, &[("authorization", &good)]).await);
    assert_eq!(server.count("ping"), asked + 4);
    proxy.stop().await;
}

#[tokio::test]
async fn client_with_a_key_of_any_name_is_not_told_to_log_in() {
    let server = ProtectedServer::start().await;
    server.protect(Protection { audiences: Some(Vec::new()), api_key: Some("k"), ..Protection::default() });
    let proxy = before(&server, &[]);
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    drop(LegacyClient::connect(&proxy, &[("x-api-key", "k")]).await);
    assert_eq!(knock(&proxy, &[("x-api-key", "wrong")]).await.0, 401);
    proxy.stop().await;
}

#[tokio::test]
async fn whatever_is_no_word_on_credentials_opens_the_stream() {
    for status in [200, 400, 404, 405, 406, 415, 429, 500, 503] {
        let server = ProtectedServer::start().await;
        server.protect(Protection { status: Some(status), ..Protection::default() });
        let proxy = before(&server, &[]);
        drop(LegacyClient::connect(&proxy, &[("authorization", "Bearer x")]).await);
        proxy.stop().await;
    }
    let server = ProtectedServer::start().await;
    server.protect(Protection { disguises: true, ..Protection::default() });
    let proxy = before(&server, &[]);
    drop(proxy.client().await);
    proxy.stop().await;
    let gone = server.url();
    drop(server);
    let proxy = crate::support::Proxy::start(&gone, &[("oauth-resource", "auto")]);
    drop(proxy.client().await);
    proxy.stop().await;
    let server = ProtectedServer::start().await;
    server.protect(Protection { status: Some(403), ..Protection::default() });
    let proxy = before(&server, &[]);
    assert_eq!(knock(&proxy, &[("authorization", "Bearer x")]).await.0, 403, "a server that forbids it says so");
    proxy.stop().await;
}

#[tokio::test]
async fn probe_is_made_as_the_option_says() {
    let (server, _issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[("oauth-probe", "off")]).await;
    let client = proxy.client().await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let posted = client.post_text(initialize, &[]).await;
    assert_eq!(posted.status, 401);
    assert!(posted.headers["www-authenticate"].to_str().expect("text").contains(OURS));
    drop(client);
    proxy.stop().await;
    server.protect(Protection::default());
    let proxy = before(&server, &[("oauth-probe", "always")]);
    let asked = server.count("ping");
    drop(LegacyClient::connect(&proxy, &[("authorization", "Bearer a")]).await);
    drop(LegacyClient::connect(&proxy, &[("authorization", "Bearer b")]).await);
    assert!(server.count("ping") >= asked + 2);
    server.protect(Protection { audiences: Some(Vec::new()), ..Protection::default() });
    assert_eq!(knock(&proxy, &[("authorization", "Bearer c")]).await.0, 401);
    proxy.stop().await;
}

#[tokio::test]
async fn lack_of_scope_passes_with_our_metadata_and_so_does_a_401_in_the_midst() {
    let (server, issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[]).await;
    let sent = bearer(STREAM, 1);
    let mut client = LegacyClient::connect(&proxy, &[("authorization", &sent)]).await;
    client.initialize().await;
    server.protect(Protection { narrow: true, ..Protection::default() });
    let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "x"}}).to_string();
    // Another credential: the session waits for the upstream's word on it.
    let other = bearer(STREAM, 2);
    let posted = client.post_text(call, &[("authorization", &other)]).await;
    assert_eq!(posted.status, 403);
    assert_eq!(
        posted.headers["www-authenticate"],
        format!("Bearer {OURS}, error=\"insufficient_scope\", scope=\"write\"")
    );
    server.demand("https://third.example", "https://internal.example/mcp", &[&issuer.origin]);
    let call = json!({"jsonrpc": "2.0", "id": 6, "method": "tools/list"}).to_string();
    let posted = client.post_text(call, &[("authorization", &bearer(STREAM, 3))]).await;
    assert_eq!(posted.status, 401);
    assert!(posted.headers["www-authenticate"].to_str().expect("text").starts_with(&format!("Bearer {OURS}")));
    assert_eq!(get(&proxy, "/sse", &[("authorization", &bearer(STREAM, 3))]).await.status(), 401, "known by now");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn streamable_http_on_the_path_of_the_stream_is_led_to_the_same_metadata() {
    let (server, _issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[]).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}).to_string();
    let headers = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let answer = request(&proxy, "POST", "/sse", &headers, &initialize).await;
    assert_eq!(answer.status(), 401);
    assert!(challenge(&answer).starts_with(&format!("Bearer {OURS}")), "{answer:?}");
    for number in 0..5 {
        let sent = bearer("https://other.example", number);
        let headers = [headers[0], headers[1], ("authorization", &*sent)];
        let answer = request(&proxy, "POST", "/sse", &headers, &initialize).await;
        assert_eq!(answer.status().as_u16(), if number < 3 { 401 } else { 403 }, "{number}");
    }
    assert_eq!(server.count("initialize"), 6);
    let sent = bearer(STREAM, 1);
    let answer =
        request(&proxy, "POST", "/sse", &[headers[0], headers[1], ("authorization", &*sent)], &initialize).await;
    assert_eq!(answer.status(), 200);
    proxy.stop().await;
}

/// What is known is never renewed by what comes of it: a false word of the server is over in five seconds.
#[tokio::test]
async fn credential_that_was_falsely_rejected_is_good_again_however_often_its_client_comes() {
    let (server, issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[]).await;
    let late = bearer("https://late.example", 1);
    assert_eq!(knock(&proxy, &[("authorization", &late)]).await.0, 401);
    server.demand("https://late.example", "https://internal.example/mcp", &[&issuer.origin]);
    pass(Duration::from_secs(4)).await;
    assert_eq!(knock(&proxy, &[("authorization", &late)]).await.0, 401, "the same word");
    pass(Duration::from_secs(4)).await;
    drop(LegacyClient::connect(&proxy, &[("authorization", &late)]).await);
    proxy.stop().await;
}

#[tokio::test]
async fn server_that_wants_no_credential_any_more_is_open_again_however_many_came_meanwhile() {
    let (server, _issuer, proxy) = deployed(STREAM, "https://internal.example/mcp", &[]).await;
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    server.protect(Protection::default());
    pass(Duration::from_secs(250)).await;
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    pass(Duration::from_secs(250)).await;
    drop(proxy.client().await);
    proxy.stop().await;
}

/// Old rmcp says 401 for a session that it has forgotten, and ordinary clients ask for those after a restart.
#[tokio::test]
async fn refusal_of_one_request_locks_nobody_out() {
    let server = ProtectedServer::start().await;
    server.protect(Protection { disguises: true, ..Protection::default() });
    let proxy = before(&server, &[]);
    drop(proxy.client().await);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let headers = [("mcp-session-id", "forgotten"), ("content-type", "application/json")];
    assert_eq!(request(&proxy, "POST", "/sse", &headers, list).await.status(), 401);
    drop(proxy.client().await);
    proxy.stop().await;
    // And some servers ask for a credential only where they need one.
    let server = ProtectedServer::start().await;
    server.protect(Protection { guards_tools: true, ..Protection::default() });
    let proxy = before(&server, &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}}).to_string();
    client.call(0, "x", json!({})).await;
    assert_eq!(client.answer(0).await["error"]["data"]["reason"], "unauthorized");
    assert_eq!(client.post_text(call, &[]).await.status, 401);
    drop((client, proxy.client().await));
    proxy.stop().await;
}

/// A worker that hangs at boot takes requests and answers none.
#[tokio::test]
async fn server_that_hangs_at_start_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(move |_| {
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        Some(if is_first { vec![Step::Hold] } else { vec![reply(401, &[("www-authenticate", "Bearer")], "no")] })
    })
    .await;
    let proxy = crate::support::Proxy::start(server.url(), &[("oauth-resource", "auto")]);
    server.wait_for("the first ping", |got| got.rpc() == "ping").await;
    pass(Duration::from_secs(4)).await;
    server.wait_for("the end of it", |got| got.fate == Fate::Abandoned).await;
    pass(Duration::from_secs(6)).await;
    assert_eq!(knock(&proxy, &[]).await.0, 401);
    proxy.stop().await;
}
