//! Clients of both kinds through each balancer, in both layouts.

use serde_json::{Value, json};

use super::{Balancer, Change, Kind, Plan, Route, address, proxy_for, with_each_balancer};
use crate::support::gateway::LOOK;
use crate::support::script::{Scripted, Step};
use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client, within};

/// What a client may claim of itself.
const FORGED: [(&str, &str); 5] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-prefix", "/evil"),
    ("forwarded", "for=203.0.113.9;host=evil.example;proto=https"),
];

/// A client that was upgraded says hello; its name tells it apart.
async fn modern_hello(balancer: &Balancer, name: &str) {
    let params =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": name, "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let mut request = http_client().post(balancer.url("/mcp")).body(hello.to_string());
    request =
        request.header("content-type", "application/json").header("accept", "application/json, text/event-stream");
    for (name, value) in FORGED {
        request = request.header(name, value);
    }
    let mut answer = within("an answer", request.send()).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains("serverInfo") {
        came.extend(within("the answer", answer.chunk()).await.expect("an open stream").expect("more of it"));
    }
}

/// The session's id in the endpoint that a client was told.
fn session_of(client: &LegacyClient) -> String {
    client.endpoint.split_once('=').expect("a query").1.to_owned()
}

/// Waits until the POSTs of a session stand in the logs, and gives them.
async fn logs_with_posts(kind: Kind, balancer: &Balancer) -> String {
    let post = if kind == Kind::Traefik { "mcp-messages" } else { "/messages" };
    within("the access log", async {
        loop {
            let logs = balancer.logs();
            if logs.contains(post) {
                return logs;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

async fn serves(kind: Kind, route: Route) {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let proxy = proxy_for(route, &upstream, &[]);
    let balancer = Balancer::start(Plan::new(kind, route, address(upstream.url()), proxy.address)).await;
    let mut headers = vec![("accept-encoding", "gzip, zstd")];
    headers.extend(FORGED);
    let mut client = LegacyClient::connect_to(&balancer.url(""), &headers).await;
    assert_eq!(client.stream_headers().get("content-encoding"), None, "{kind:?}");
    assert!(client.endpoint.starts_with("/messages?"), "{kind:?}: {}", client.endpoint);
    client.initialize().await;
    client.call(1, "progress", json!({})).await;
    let progress: Vec<Value> =
        client.until_answer(1).await.iter().map(|message| message["params"]["progress"].clone()).collect();
    assert_eq!(progress, [json!(1), json!(2), json!(3), Value::Null], "{kind:?}");
    // An event comes while the stream stays open, without a call to go with.
    upstream.push(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).await;
    assert_eq!(client.message().await["method"], "notifications/tools/list_changed", "{kind:?}");
    let connected = proxy.logged("legacy.connect", 1).await;
    assert_eq!(connected[0]["client.address"], "127.0.0.1", "{kind:?}: the balancer's word, not the client's");

    modern_hello(&balancer, "modern").await;
    let is_modern = |name: &Value| name == "modern";
    let modern = |body: &Value| is_modern(&body["params"]["clientInfo"]["name"]);
    let seen: Vec<_> = upstream.seen().into_iter().filter(|seen| modern(&seen.body)).collect();
    assert_eq!(seen.len(), 1, "{kind:?}");
    for (name, forged) in FORGED {
        assert_ne!(seen[0].headers.get(name).and_then(|value| value.to_str().ok()), Some(forged), "{kind:?} {name}");
    }
    match route {
        Route::All => assert_eq!(proxy.logged("modern.seen", 1).await.len(), 1, "{kind:?}"),
        _ => assert!(proxy.log().iter().all(|record| record["event.name"] != "modern.seen"), "{kind:?}"),
    }

    let (session, logs) = (session_of(&client), logs_with_posts(kind, &balancer).await);
    assert!(!logs.contains(&session) && !logs.contains("sessionId="), "{kind:?}: {logs}");
    drop(client);
    proxy.stop().await;
}

async fn clients_are_served_when_the_streams_are_split_off(kind: Kind) {
    serves(kind, Route::Split).await;
}

async fn clients_are_served_when_all_go_through_the_proxy(kind: Kind) {
    serves(kind, Route::All).await;
}

/// The same file with one thing wrong is found out.
async fn session_id_is_found_in_a_log_that_holds_it(kind: Kind) {
    let wrong: Change = match kind {
        Kind::Nginx => ("mcp.conf", "$request_method $uri ", "$request_method $request_uri ".to_owned()),
        Kind::Haproxy => ("haproxy.cfg", " %HP %ST", " %HU %ST".to_owned()),
        Kind::Caddy => ("Caddyfile", "request>uri regexp", "request>url regexp".to_owned()),
        Kind::Envoy => ("envoy.yaml", "%PATH(NQ)%", "%PATH(WQ)%".to_owned()),
        Kind::Traefik => ("traefik.yaml", "RequestPath: drop", "RequestPath: keep".to_owned()),
    };
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let proxy = proxy_for(Route::Split, &upstream, &[]);
    let plan = Plan::new(kind, Route::Split, address(upstream.url()), proxy.address).with(vec![wrong]);
    let balancer = Balancer::start(plan).await;
    let mut client = LegacyClient::connect_to(&balancer.url(""), &[]).await;
    client.initialize().await;
    let (session, logs) = (session_of(&client), logs_with_posts(kind, &balancer).await);
    assert!(logs.contains(&session), "{kind:?}: {logs}");
    drop(client);
    proxy.stop().await;
}

/// What cuts silent streams in the file, shortened to 4 s (Traefik's is no such time).
fn impatient(kind: Kind) -> Vec<Change> {
    let change = |file, from, to: &str| (file, from, to.to_owned());
    match kind {
        Kind::Nginx => vec![change("mcp.conf", "proxy_read_timeout 24h;", "proxy_read_timeout 4s;")],
        Kind::Haproxy => vec![
            change("haproxy.cfg", "timeout client 24h", "timeout client 4s"),
            change("haproxy.cfg", "timeout server 24h", "timeout server 4s"),
        ],
        Kind::Caddy => vec![change("Caddyfile", "read_timeout 24h", "read_timeout 4s")],
        Kind::Envoy => vec![change("envoy.yaml", "stream_idle_timeout: 86400s", "stream_idle_timeout: 4s")],
        Kind::Traefik => vec![change("traefik.yaml", "writeTimeout: 0s", "writeTimeout: 2s")],
    }
}

/// Traefik's time is for the whole of a stream, silent or not, so the file has none; the others' is for silence.
async fn outlives_silence(kind: Kind, route: Route) {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let server = address(upstream.url());
    let (kept, cut) = match kind {
        Kind::Traefik => ((vec![], "500ms"), (impatient(kind), "500ms")),
        _ => ((impatient(kind), "500ms"), (impatient(kind), "1h")),
    };
    let start = |(changes, keep_alive): (Vec<Change>, &'static str)| {
        let proxy = proxy_for(route, &upstream, &[("keep-alive", keep_alive)]);
        let plan = Plan::new(kind, route, server, proxy.address).with(changes);
        async { (Balancer::start(plan).await, proxy) }
    };
    let ((calm, calm_proxy), (control, control_proxy)) = tokio::join!(start(kept), start(cut));
    // The calm one first: when the other one is cut, it has been silent for longer.
    let mut client = LegacyClient::connect_to(&calm.url(""), &[]).await;
    client.initialize().await;
    let mut other = LegacyClient::connect_to(&control.url(""), &[]).await;
    assert!(other.event().await.is_none(), "{kind:?}: cut off");
    client.call(1, "echo", json!({"text": "still there"})).await;
    assert_eq!(client.answer(1).await["result"]["content"][0]["text"], "still there", "{kind:?}");
    drop((client, other));
    let (calm, control): (Vec<Value>, Vec<Value>) = (calm_proxy.stop().await, control_proxy.stop().await);
    let streams = |log: &[Value]| log.iter().filter(|record| record["event.name"] == "legacy.connect").count();
    assert_eq!((streams(&calm), streams(&control)), (1, 1), "{kind:?}");
}

async fn silent_stream_is_kept_by_comments(kind: Kind) {
    tokio::join!(outlives_silence(kind, Route::Split), outlives_silence(kind, Route::All));
}

/// How often each POST arrives whose connection dies when it is there; a second one would be served.
async fn posts_that_arrive(kind: Kind, route: Route, changes: Vec<Change>) -> Vec<(&'static str, usize)> {
    let dying = Scripted::start(|_| Some(vec![Step::Close])).await;
    let there = address(dying.url());
    let balancer = Balancer::start(Plan::new(kind, route, there, there).with(changes)).await;
    let mut arrived = Vec::new();
    for path in ["/messages", "/mcp", "/sse"] {
        let request = http_client().post(balancer.url(&format!("{path}?sessionId=x"))).body("{}");
        // What may make a balancer, or the library it is built on, take a POST for harmless.
        let request = request.header("idempotency-key", "x").header("content-type", "application/json");
        let request = request.header("x-envoy-retry-on", "reset,5xx").header("x-envoy-max-retries", "3");
        let answer = within("an answer", request.send()).await;
        assert!(answer.map_or(true, |answer| answer.status().is_server_error()), "{kind:?} {path}");
        let is_it = |target: &str, method: &str| method == "POST" && target.starts_with(path);
        arrived.push((path, dying.count(|got| is_it(&got.target, &got.method))));
    }
    arrived
}

async fn post_is_never_sent_twice(kind: Kind) {
    let once = [("/messages", 1), ("/mcp", 1), ("/sse", 1)];
    let arrived = |route| posts_that_arrive(kind, route, Vec::new());
    let (split, all) = tokio::join!(arrived(Route::Split), arrived(Route::All));
    assert_eq!((&split[..], &all[..]), (&once[..], &once[..]), "{kind:?}");
}

with_each_balancer!(clients_are_served_when_the_streams_are_split_off clients_are_served_when_all_go_through_the_proxy
    session_id_is_found_in_a_log_that_holds_it silent_stream_is_kept_by_comments post_is_never_sent_twice);

#[tokio::test]
async fn post_that_is_sent_twice_is_counted() {
    let wrong = ("haproxy.cfg", "retry-on conn-failure", "retry-on all-retryable-errors".to_owned());
    let arrived = posts_that_arrive(Kind::Haproxy, Route::Split, vec![wrong]).await;
    assert!(arrived.iter().all(|(_, count)| *count > 1), "{arrived:?}");
}

#[tokio::test]
async fn clients_own_word_is_found_where_a_file_lets_it_through() {
    let wrong = ("mcp.conf", "X-Forwarded-For $remote_addr;", "X-Forwarded-For $proxy_add_x_forwarded_for;".to_owned());
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let proxy: Proxy = proxy_for(Route::Split, &upstream, &[]);
    let plan = Plan::new(Kind::Nginx, Route::Split, address(upstream.url()), proxy.address).with(vec![wrong]);
    let balancer = Balancer::start(plan).await;
    let client = LegacyClient::connect_to(&balancer.url(""), &FORGED).await;
    assert_eq!(proxy.logged("legacy.connect", 1).await[0]["client.address"], "203.0.113.9");
    drop(client);
    proxy.stop().await;
}
