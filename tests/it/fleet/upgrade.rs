//! Clients that try Streamable HTTP on the legacy URL, with replicas: what one process would have to keep is not begun.

use reqwest::Response;
use serde_json::{Value, json};

use super::replicas::Replicas;
use crate::support::modern::{Manner, Modern};
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client, within};

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
        "capabilities": {}, "clientInfo": {"name": "dual", "version": "1"}}})
}

async fn post(proxy: &Proxy, headers: &[(&str, &str)], body: &Value) -> Response {
    let request = http_client().post(proxy.url("/sse")).header("accept", "application/json, text/event-stream");
    let mut request = request.header("content-type", "application/json").body(body.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within("an answer", request.send()).await.expect("an answer")
}

/// As without the upgrade.
async fn stays_legacy(answer: Response) {
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().ok()), (405, Some("GET")));
    assert_eq!(answer.headers()["content-type"], "text/plain");
    let text = answer.text().await.expect("a text");
    assert!(text.starts_with("this is the legacy SSE endpoint"), "{text}");
}

#[tokio::test]
async fn client_stays_legacy_where_its_session_could_only_be_kept_here() {
    let stateless = FakeUpstream::start(Behaviour { sessions: false, sse: true, token: None }).await;
    let modern = Modern::start(Manner::default()).await;
    for url in [stateless.url(), modern.url()] {
        let replicas = Replicas::start(2, url, &[]).await;
        stays_legacy(post(&replicas.all[0], &[], &initialize()).await).await;
        stays_legacy(post(&replicas.all[0], &[], &initialize()).await).await;
        let mut client = LegacyClient::connect(&replicas.all[0], &[]).await;
        client.post_to(&replicas.all[1]);
        assert!(client.initialize().await["result"].is_object(), "and has what it needs there");
        drop(client);
        let logs = replicas.stop().await;
        assert!(logs.iter().flatten().all(|record| record["event.name"] != "legacy.upgrade"));
    }
}

#[tokio::test]
async fn server_that_is_known_to_keep_none_hears_nothing_of_it() {
    let modern = Modern::start(Manner::default()).await;
    let replicas = Replicas::start(2, modern.url(), &[("era", "modern")]).await;
    stays_legacy(post(&replicas.all[0], &[], &initialize()).await).await;
    assert!(modern.seen().is_empty());
    replicas.stop().await;
}

#[tokio::test]
async fn sessions_of_the_server_are_anybodys_to_pass_through() {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let replicas = Replicas::start(2, upstream.url(), &[]).await;
    let greeted = post(&replicas.all[0], &[], &initialize()).await;
    assert_eq!(greeted.status(), 200);
    let session = greeted.headers()["mcp-session-id"].to_str().expect("text").to_owned();
    assert!(!session.starts_with("sunset-"));
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-06-18")];
    assert_eq!(post(&replicas.all[1], &headers, &call).await.status(), 200);
    replicas.stop().await;
}
