//! What the front answers, byte for byte where clients depend on it.

use serde_json::json;

use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client};

const JSON_SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };

async fn both(options: &[(&'static str, &str)]) -> (FakeUpstream, Proxy) {
    let upstream = FakeUpstream::start(JSON_SSE).await;
    let proxy = Proxy::start(upstream.url(), options);
    (upstream, proxy)
}

async fn request(proxy: &Proxy, method: &str, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let http = http_client();
    let mut request = http.request(method.parse().expect("a method"), proxy.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn stream_starts_with_one_endpoint_event_under_the_headers_clients_need() {
    let (_upstream, proxy) = both(&[]).await;
    let client = proxy.client().await;
    let headers = client.stream_headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-cache, no-transform");
    assert_eq!(headers["x-accel-buffering"], "no");
    let id = client.endpoint.strip_prefix("/messages?sessionId=").expect("path-absolute, one parameter");
    assert!(id.len() >= 43 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "256 bits, unreserved: {id}");
    assert_eq!(client.raw, format!("event: endpoint\ndata: {}\n\n", client.endpoint).into_bytes());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn messages_are_single_lines_with_the_upstreams_own_bytes() {
    let (_upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    client.initialize().await;
    client.raw.clear();
    client.post(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).await;
    client.answer(1).await;
    let text = String::from_utf8_lossy(&client.raw);
    let (id, event) = text.split_once('\n').expect("lines");
    assert!(id.starts_with("id: ") && id.ends_with("-2"), "which session, and where in it: {id}");
    assert_eq!(event, "event: message\ndata: {\"id\":1,\"jsonrpc\":\"2.0\",\"result\":{}}\n\n");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn keep_alive_is_a_comment_without_a_blank_line() {
    let (_upstream, proxy) = both(&[("keep-alive", "10ms")]).await;
    let mut client = proxy.client().await;
    client.raw.clear();
    client.read_until(": k\n: k\n").await;
    client.initialize().await;
    let raw = String::from_utf8_lossy(&client.raw).into_owned();
    assert!(raw.starts_with(": k\n: k\n") && !raw.contains(": k\n\n"), "{raw}");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_what_to_do() {
    let (_upstream, proxy) = both(&[]).await;
    let answer = request(&proxy, "PUT", "/sse", &[]).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["allow"]),
        (405, &"GET, POST, DELETE".parse().expect("text"))
    );
    proxy.stop().await;
    let (_upstream, proxy) = both(&[("no-upgrade", "true")]).await;
    for (method, path, status, allow, text) in [
        ("GET", "/nowhere", 404, None, "GET /sse and POST /messages"),
        ("POST", "/sse", 405, Some("GET"), "open it with GET"),
        ("PUT", "/sse", 405, Some("GET"), "open it with GET"),
        ("GET", "/messages", 405, Some("POST"), "POST JSON-RPC"),
        ("GET", "/sse/.well-known/openid-configuration", 404, None, "GET /sse"),
    ] {
        let answer = request(&proxy, method, path, &[]).await;
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        assert_eq!(answer.headers().get("allow").map(|allow| allow.to_str().expect("text")), allow, "{method} {path}");
        assert_eq!(answer.headers()["content-type"], "text/plain");
        let body = answer.text().await.expect("a body");
        assert!(body.contains(text), "{method} {path}: {body}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn session_id_must_be_one_that_lives() {
    let (_upstream, proxy) = both(&[]).await;
    let json = [("content-type", "application/json")];
    for (path, status) in [
        ("/messages", 400),
        ("/messages?sessionId=", 400),
        ("/messages?sessionId=a&sessionId=b", 400),
        (&*format!("/messages?sessionId={}", "a".repeat(200)), 400),
        ("/messages?sessionId=unknown", 404),
    ] {
        let answer = request(&proxy, "POST", path, &json).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert!(answer.text().await.expect("a body").contains("GET /sse"), "{path}");
    }
    let client = proxy.client().await;
    let endpoint = client.endpoint.clone();
    drop(client);
    proxy.logged("legacy.end", 1).await;
    assert_eq!(request(&proxy, "POST", &endpoint, &json).await.status().as_u16(), 404, "ended sessions are unknown");
    proxy.stop().await;
}

#[tokio::test]
async fn endpoint_is_reached_by_every_spelling_that_clients_use() {
    let (_upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    let id = client.endpoint.split_once('=').expect("an id").1.to_owned();
    for (number, path) in [
        format!("/messages/?session_id={id}"),
        format!("//messages?sessionId={id}"),
        format!("/gw/messages?sessionId={id}"),
    ]
    .into_iter()
    .enumerate()
    {
        client.endpoint = path;
        client.post(json!({"jsonrpc": "2.0", "id": number, "method": "ping"})).await;
        assert_eq!(client.answer(number).await["result"], json!({}));
    }
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn post_that_is_no_json_message_is_refused_without_an_id_and_answered_with_one() {
    let (upstream, proxy) = both(&[]).await;
    let mut client = proxy.client().await;
    assert_eq!(client.post_text("x", &[("content-type", "text/plain")]).await.status, 415);
    assert_eq!(client.post_text("x", &[("content-encoding", "gzip")]).await.status, 415);
    for text in ["", "{", "[]", "nonsense", r#"{"jsonrpc":"2.0","method":"m","id":null}"#] {
        let posted = client.post_text(text, &[]).await;
        assert_eq!(posted.status, 400, "{text}");
        assert!(!posted.body.is_empty());
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"m","Method":"n"}"#,
    ] {
        assert_eq!(client.post_text(text, &[]).await.status, 202, "{text}");
        assert_eq!(client.answer(7).await["error"]["code"], -32700, "{text}");
    }
    assert!(upstream.seen().is_empty());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn oversized_body_is_answered_under_its_id_wherever_that_stands() {
    let (upstream, proxy) = both(&[("max-body", "1KiB")]).await;
    let mut client = proxy.client().await;
    let pad = "x".repeat(2000);
    for text in [
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"m","params":"{pad}"}}"#),
        format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"id":1,"pad":"{pad}"}},"id":7}}"#),
    ] {
        assert_eq!(client.post_text(text, &[]).await.status, 202);
        let error = client.answer(7).await["error"].clone();
        assert_eq!(error["data"], json!({"reason": "message_too_large", "limit_bytes": 1024}));
    }
    let without_id = format!(r#"{{"jsonrpc":"2.0","method":"m","params":"{pad}"}}"#);
    assert_eq!(client.post_text(without_id, &[]).await.status, 413);
    let far_over = |id| format!(r#"{{"jsonrpc":"2.0",{id}"method":"m","params":"{}"}}"#, "x".repeat(5000));
    assert_eq!(client.post_text(far_over(""), &[]).await.status, 413);
    let posted = client.post_text(far_over(r#""id":8,"#), &[]).await;
    assert_eq!(posted.status, 202);
    assert_eq!(posted.headers["connection"], "close", "the rest of it was not read");
    assert_eq!(client.answer(8).await["error"]["data"]["reason"], "message_too_large");
    assert!(upstream.seen().is_empty());
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn foreign_host_and_origin_are_refused_and_logged() {
    let (_upstream, proxy) = both(&[("allowed-origin", "https://app.example.com")]).await;
    assert_eq!(request(&proxy, "GET", "/sse", &[("host", "evil.example")]).await.status(), 421);
    for origin in ["https://evil.example", "null"] {
        assert_eq!(request(&proxy, "GET", "/sse", &[("origin", origin)]).await.status(), 403, "{origin}");
    }
    let client = LegacyClient::connect(&proxy, &[("origin", "https://app.example.com")]).await;
    let posted = client.post_text("{}", &[("origin", "https://evil.example")]).await;
    assert_eq!(posted.status, 403);
    drop(client);
    let log = proxy.stop().await;
    let refused: Vec<_> = log.iter().filter(|record| record["event.name"] == "legacy.refused").collect();
    assert_eq!(refused.len(), 3, "attempts to connect, not every POST");
    assert_eq!(refused[0]["legacy.refused.reason"], "host");
    assert_eq!(refused[1]["http.response.status_code"], 403);
}

#[tokio::test]
async fn trusted_proxy_names_client_and_prefix_and_others_do_not() {
    let claims = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-prefix", "/gw")];
    let (_upstream, proxy) = both(&[("trusted-proxy", "127.0.0.0/8"), ("client-address", "full")]).await;
    let client = LegacyClient::connect(&proxy, &claims).await;
    assert!(client.endpoint.starts_with("/gw/messages?"), "{}", client.endpoint);
    drop(client);
    let log = proxy.stop().await;
    assert_eq!(log[1]["client.address"], "192.0.2.7");
    assert_eq!(log[1]["network.peer.address"], "127.0.0.1");

    let (_upstream, proxy) = both(&[("client-address", "full"), ("public-path", "/own")]).await;
    let client = LegacyClient::connect(&proxy, &claims).await;
    assert!(client.endpoint.starts_with("/own/messages?"), "{}", client.endpoint);
    drop(client);
    assert_eq!(proxy.stop().await[1]["client.address"], "127.0.0.1");
}

#[tokio::test]
async fn paths_are_options() {
    let (_upstream, proxy) = both(&[("sse-path", "/v1/events"), ("messages-path", "/v1/inbox")]).await;
    assert_eq!(request(&proxy, "GET", "/sse", &[]).await.status(), 404);
    let answer = request(&proxy, "GET", "/v1/events", &[]).await;
    assert_eq!(answer.status(), 200);
    drop(answer);
    proxy.stop().await;
}

#[tokio::test]
async fn session_over_the_limit_is_told_so_on_initialize() {
    let (upstream, proxy) = both(&[("max-sessions", "1")]).await;
    let mut first = proxy.client().await;
    first.initialize().await;
    let mut second = proxy.client().await;
    let refused = second.initialize().await;
    assert_eq!(refused["error"]["data"]["reason"], "too_many_sessions");
    assert_eq!(upstream.methods(), ["initialize", "notifications/initialized"]);
    drop((first, second));
    let log = proxy.stop().await;
    assert_eq!(log.iter().filter(|record| record["event.name"] == "legacy.refused").count(), 1);
}

#[tokio::test]
async fn limits_for_one_client_and_one_address_leave_the_others_alone() {
    let options =
        [("max-sessions-per-principal", "1"), ("max-sessions-per-address", "3"), ("trusted-proxy", "127.0.0.0/8")];
    let (_upstream, proxy) = both(&options).await;
    let guest = async |token: &str, address: &str| {
        LegacyClient::connect(&proxy, &[("authorization", token), ("x-forwarded-for", address)]).await
    };
    let mut first = guest("Bearer a", "192.0.2.1").await;
    let mut second = guest("Bearer a", "192.0.2.2").await;
    let mut other = guest("Bearer b", "192.0.2.1").await;
    let mut third = guest("Bearer c", "192.0.2.1").await;
    let mut fourth = guest("Bearer d", "192.0.2.1").await;
    for (client, is_served) in
        [(&mut first, true), (&mut second, false), (&mut other, true), (&mut third, true), (&mut fourth, false)]
    {
        let answer = client.initialize().await;
        assert_eq!(answer["error"]["data"]["reason"] == "too_many_sessions", !is_served, "{answer}");
    }
    drop(first);
    proxy.logged("legacy.end", 1).await;
    let mut again = guest("Bearer a", "192.0.2.1").await;
    assert!(again.initialize().await["result"].is_object(), "its place is free again");
    drop((second, other, third, fourth, again));
    proxy.stop().await;
}

#[tokio::test]
async fn refused_guests_take_no_place_of_others() {
    let (_upstream, proxy) = both(&[("max-sessions", "3"), ("max-sessions-per-principal", "1")]).await;
    let mut greedy = Vec::new();
    for _ in 0..8 {
        greedy.push(LegacyClient::connect(&proxy, &[("authorization", "Bearer a")]).await);
    }
    let mut other = LegacyClient::connect(&proxy, &[("authorization", "Bearer b")]).await;
    assert!(other.initialize().await["result"].is_object());
    drop((greedy, other));
    proxy.stop().await;
}

#[tokio::test]
async fn stream_on_which_nothing_is_posted_costs_the_upstream_nothing() {
    let (upstream, proxy) = both(&[]).await;
    let probes = [proxy.client().await, proxy.client().await];
    let mut client = proxy.client().await;
    client.initialize().await;
    upstream.wait_for("the GET stream", |seen| seen.method == http::Method::GET).await;
    drop(probes);
    proxy.logged("legacy.end", 2).await;
    client.call(1, "echo", json!({"text": "x"})).await;
    client.answer(1).await;
    let seen: Vec<String> = upstream.seen().iter().map(|seen| seen.method.to_string()).collect();
    assert_eq!(seen, ["POST", "POST", "GET", "POST"], "one client's, no DELETE");
    drop(client);
    proxy.stop().await;
}
