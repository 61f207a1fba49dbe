//! The numbers: what is there from the start, what known traffic makes of them, and how they are written.

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::json;
use sse_sunset::metrics::CLIENT_STATES;
use sse_sunset::session::LISTS;

use super::{JSON, SSE, ask, get, scrape, shows, start};
use crate::support::{FakeUpstream, LegacyClient, http_client, within};

#[tokio::test]
async fn metrics_are_all_there_with_zero_before_anything_happened() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let samples = scrape(&proxy).await;
    let lists = LISTS;
    let series = [
        ("uses_total", "client_family", lists.client_families),
        ("sessions_opened_total", "client_family", lists.client_families),
        ("last_use_timestamp_seconds", "client_family", lists.client_families),
        ("sessions_ended_total", "reason", lists.end_reasons),
        ("refused_total", "reason", lists.refusals),
        ("upstream_errors_total", "kind", lists.upstream_errors),
        ("clients", "state", CLIENT_STATES),
    ];
    for (name, label, values) in series {
        for value in values {
            let name = format!("sse_sunset_{name}{{{label}=\"{value}\"}}");
            assert_eq!(samples.get(&name), Some(&0.0), "{name}");
        }
        let prefix = format!("sse_sunset_{name}{{");
        assert_eq!(samples.keys().filter(|key| key.starts_with(&prefix)).count(), values.len(), "{name}");
    }
    for name in [
        "requests_total",
        "errors_total",
        "streams_resumed_total",
        "streams_adopted_total",
        "panics_total",
        "canaries_total",
        "last_canary_timestamp_seconds",
        "newest_client_timestamp_seconds",
    ] {
        assert_eq!(samples.get(&format!("sse_sunset_{name}")), Some(&0.0), "{name}");
    }
    let holds = |name: &str| {
        samples
            .iter()
            .filter(|(key, value)| key.starts_with(name) && **value > 0.5)
            .map(|(key, _)| key.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(holds("sse_sunset_verdict{"), ["sse_sunset_verdict{verdict=\"unknown\"}"]);
    assert_eq!(holds("sse_sunset_phase{"), ["sse_sunset_phase{phase=\"observe\"}"]);
    assert_eq!(samples.keys().filter(|key| key.starts_with("sse_sunset_phase{")).count(), 6);
    let build = format!("sse_sunset_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(samples.get(&build), Some(&1.0));
    for name in ["start_time_seconds", "resident_memory_bytes", "open_fds", "max_fds"] {
        assert!(samples[&format!("process_{name}")] > 1.0, "{name}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn metrics_after_known_traffic_are_exact() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = start(&upstream, &[]);
    let before = jiff::Timestamp::now().as_duration().as_secs_f64();
    let mut client = LegacyClient::connect(&proxy, &[("user-agent", "python-httpx/0.28.1")]).await;
    client.initialize().await;
    for id in 1..=3 {
        client.call(id, "echo", json!({"text": "x"})).await;
        client.answer(id).await;
    }
    client.post(json!({"jsonrpc": "2.0", "id": 4, "method": "tools/list"})).await;
    client.answer(4).await;
    client.call(5, "quit", json!({})).await;
    assert_eq!(client.answer(5).await["error"]["data"]["reason"], "upstream_no_answer");
    let refused = http_client().get(proxy.url("/sse")).header("host", "evil.example");
    assert_eq!(within("an answer", refused.send()).await.expect("an answer").status(), 421);
    let samples = scrape(&proxy).await;
    let family = "{client_family=\"python-sdk\"}";
    for (name, value) in [
        ("sessions_active".to_owned(), 1.0),
        (format!("sessions_opened_total{family}"), 1.0),
        ("requests_total".to_owned(), 6.0),
        (format!("uses_total{family}"), 4.0),
        ("uses_total{client_family=\"other\"}".to_owned(), 0.0),
        ("request_duration_seconds_count".to_owned(), 6.0),
        ("upstream_head_duration_seconds_count".to_owned(), 6.0),
        ("upstream_errors_total{kind=\"upstream_no_answer\"}".to_owned(), 1.0),
        ("errors_total".to_owned(), 1.0),
        ("refused_total{reason=\"host\"}".to_owned(), 1.0),
        ("stream_bytes_total".to_owned(), f64::from(u32::try_from(client.raw.len()).expect("a few"))),
        ("outbox_bytes".to_owned(), 0.0),
        ("inbox_bytes".to_owned(), 0.0),
        ("messages_undelivered_total".to_owned(), 0.0),
    ] {
        assert_eq!(samples.get(&format!("sse_sunset_{name}")), Some(&value), "{name}");
    }
    let last_use = samples[&format!("sse_sunset_last_use_timestamp_seconds{family}")];
    let now = jiff::Timestamp::now().as_duration().as_secs_f64();
    assert!((before..=now).contains(&last_use), "{before} <= {last_use} <= {now}");
    drop(client);
    let samples = shows(&proxy, "sse_sunset_sessions_ended_total{reason=\"client_disconnect\"}", 1.0).await;
    assert_eq!(samples.get("sse_sunset_sessions_active"), Some(&0.0));
    proxy.stop().await;
}

#[tokio::test]
async fn upstream_errors_are_counted_once_by_kind() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[("upstream", "http://127.0.0.1:9/mcp")]);
    let mut client = proxy.client().await;
    client.post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})).await;
    assert_eq!(client.answer(0).await["error"]["data"]["reason"], "upstream_unavailable");
    let samples = scrape(&proxy).await;
    let errors =
        samples.iter().filter(|(name, value)| name.starts_with("sse_sunset_upstream_errors_total") && **value > 0.0);
    let errors: Vec<_> = errors.map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(errors, [("sse_sunset_upstream_errors_total{kind=\"upstream_unavailable\"}", 1.0)]);
    assert_eq!(samples.get("sse_sunset_request_duration_seconds_count"), Some(&1.0));
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_client_is_shown() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = start(&upstream, &[("linger", "60s")]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "ask", json!({})).await;
    let question = client.message().await;
    let endpoint = client.endpoint.clone();
    drop(client);
    shows(&proxy, "sse_sunset_sessions_lingering", 1.0).await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"text": "x".repeat(1000)}});
    let post = http_client().post(proxy.url(&endpoint)).header("content-type", "application/json");
    assert_eq!(within("202", post.body(answer.to_string()).send()).await.expect("an answer").status(), 202);
    within("bytes that wait", async { while scrape(&proxy).await["sse_sunset_outbox_bytes"] < 1000.0 {} }).await;
    proxy.stop().await;
}

#[tokio::test]
async fn openmetrics_is_given_to_scrapers_that_ask_for_it() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let answer = ask(&proxy, Method::GET, "/metrics", &[("accept", accept)]).await;
    assert_eq!(answer.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text().await.expect("a text");
    assert!(text.contains("# TYPE sse_sunset_requests counter\nsse_sunset_requests_total 0\n"), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    proxy.stop().await;
}

#[tokio::test]
async fn scrape_after_traffic_lints_clean() {
    let upstream = FakeUpstream::start(SSE).await;
    let proxy = start(&upstream, &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": "x"})).await;
    client.answer(1).await;
    let refused = http_client().get(proxy.url("/sse")).header("host", "evil.example");
    assert_eq!(within("an answer", refused.send()).await.expect("an answer").status(), 421);
    let text = get(&proxy, "/metrics").await.text().await.expect("a text");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is not on the PATH: tests/run puts it there, from Debian's package prometheus");
    std::io::Write::write_all(&mut promtool.stdin.take().expect("piped"), text.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
    drop(client);
    proxy.stop().await;
}
