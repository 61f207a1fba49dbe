//! Who speaks Streamable HTTP already is known by the name of its legacy sessions, and written down once a day.

use serde_json::{Value, json};

use crate::support::modern::{Manner, Modern};
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client, within};

const SESSIONS: Behaviour = Behaviour { sessions: true, sse: false, token: None };

fn initialize(name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
        "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}})
}

async fn post(proxy: &Proxy, body: &Value, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = http_client().post(proxy.url("/mcp")).body(body.to_string());
    request =
        request.header("content-type", "application/json").header("accept", "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within("an answer", request.send()).await.expect("an answer")
}

fn seen(log: &[Value]) -> Vec<String> {
    let records = log.iter().filter(|record| record["event.name"] == "modern.seen");
    records.map(|record| record["identity"].as_str().expect("an identity").to_owned()).collect()
}

#[tokio::test]
async fn client_is_seen_once_a_day_under_the_name_of_its_legacy_sessions() {
    let upstream = FakeUpstream::start(SESSIONS).await;
    let proxy = Proxy::start(upstream.url(), &[("passthrough", "mcp")]);
    let mut legacy = LegacyClient::connect(&proxy, &[]).await;
    legacy.initialize().await;
    let identified = proxy.logged("legacy.identify", 1).await.remove(0);
    for _ in 0..2 {
        let answer = post(&proxy, &initialize("it-client"), &[]).await;
        assert_eq!(answer.status(), 200);
        let session = answer.headers()["mcp-session-id"].to_str().expect("an id").to_owned();
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        assert_eq!(post(&proxy, &ping, &[("mcp-session-id", &session)]).await.status(), 200);
    }
    drop(legacy);
    proxy.metrics_show(|metrics| metrics.modern_requests.get() == 4).await;
    let log = proxy.stop().await;
    assert_eq!(seen(&log), [identified["identity"].as_str().expect("an identity")]);
    let record = log.iter().find(|record| record["event.name"] == "modern.seen").expect("a record");
    assert_eq!(record["identity.source"], "client_info");
    assert_eq!(record["client.address"], identified["client.address"]);
    assert!(!record.to_string().contains("upstream-session"), "no session id: {record}");
}

#[tokio::test]
async fn request_without_a_name_is_nobodys_and_a_credential_names_before_all() {
    let upstream = FakeUpstream::start(Behaviour { sessions: false, sse: false, token: None }).await;
    let proxy = Proxy::start(upstream.url(), &[("passthrough", "all"), ("identity-header", "x-team")]);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    post(&proxy, &ping, &[]).await;
    post(&proxy, &ping, &[("mcp-session-id", "unknown")]).await;
    post(&proxy, &ping, &[("x-team", "a")]).await;
    post(&proxy, &initialize("someone"), &[("x-team", "a")]).await;
    // What fails shows nobody at work, and other paths are no MCP.
    upstream.close(Some(503));
    assert_eq!(post(&proxy, &initialize("unlucky"), &[]).await.status(), 503);
    within("an answer", http_client().get(proxy.url("/other")).header("x-team", "b").send()).await.expect("an answer");
    proxy.metrics_show(|metrics| metrics.modern_requests.get() == 5).await;
    assert_eq!(seen(&proxy.stop().await), ["header:a"]);
}

#[tokio::test]
async fn client_of_2026_names_itself_on_every_request() {
    let upstream = Modern::start(Manner::default()).await;
    let proxy = Proxy::start(upstream.url(), &[("passthrough", "mcp")]);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "new", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {}});
    for id in 0..2 {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": {"_meta": meta}});
        let headers =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list"), ("accept-encoding", "identity")];
        let answer = post(&proxy, &call, &headers).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.expect("a body").contains("tools"));
    }
    assert_eq!(seen(&proxy.stop().await), ["name:new"]);
}

#[tokio::test]
async fn name_at_the_start_of_a_large_request_is_heard_and_the_request_is_whole() {
    let upstream = FakeUpstream::start(Behaviour { sessions: false, sse: false, token: None }).await;
    let proxy = Proxy::start(upstream.url(), &[("passthrough", "mcp"), ("max-body", "1KiB")]);
    let pad = "x".repeat(5 << 20);
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"_meta":{{"io.modelcontextprotocol/clientInfo":{{"name":"large"}}}},"name":"echo","arguments":{{"text":"{pad}"}}}}}}"#
    );
    let request = http_client().post(proxy.url("/mcp")).header("content-type", "application/json").body(text);
    let answer = within("an answer", request.send()).await.expect("an answer");
    assert_eq!(answer.status(), 200, "no limit of the proxy's");
    assert!(answer.text().await.expect("a body").contains(&pad));
    assert_eq!(seen(&proxy.stop().await), ["name:large"]);
}
