//! What operators are told, and what they may change.

mod metrics;
mod replicas;
mod state;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Behaviour, FakeUpstream, Proxy, http_client, pass, within};

const JSON: Behaviour = Behaviour { sessions: true, sse: false, token: None };
const SSE: Behaviour = Behaviour { sessions: true, sse: true, token: None };
const TOKEN: &str = "0123456789abcdef";

/// A proxy with a door for operators, on a port that nobody else has.
fn start(upstream: &FakeUpstream, options: &[(&'static str, &str)]) -> Proxy {
    Proxy::start(upstream.url(), &[&[("admin", "127.0.0.1:0")], options].concat())
}

async fn ask(proxy: &Proxy, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = http_client().request(method, proxy.admin_url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within(path, request.send()).await.expect("an answer")
}

async fn get(proxy: &Proxy, path: &str) -> Response {
    ask(proxy, Method::GET, path, &[]).await
}

async fn json_of(answer: Response) -> Value {
    serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
}

/// The samples of a scrape, by name and labels.
async fn scrape(proxy: &Proxy) -> BTreeMap<String, f64> {
    let answer = get(proxy, "/metrics").await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.expect("a text");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a sample");
        (name.to_owned(), value.parse().expect("a number"))
    });
    samples.collect()
}

/// Waits until a scrape shows `value` under `name`.
async fn shows(proxy: &Proxy, name: &str, value: f64) -> BTreeMap<String, f64> {
    within(name, async {
        loop {
            let samples = scrape(proxy).await;
            if (samples[name] - value).abs() < f64::EPSILON {
                return samples;
            }
        }
    })
    .await
}

#[tokio::test]
async fn process_is_alive_and_ready_whatever_the_upstream_does() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    upstream.stop();
    let alive = get(&proxy, "/livez").await;
    assert_eq!((alive.status().as_u16(), alive.text().await.expect("a text").as_str()), (200, "alive\n"));
    let ready = get(&proxy, "/readyz").await;
    assert_eq!(ready.status(), 200);
    assert_eq!(json_of(ready).await, json!({"status": "ready", "degraded": []}));
    proxy.stop().await;
}

#[tokio::test]
async fn drain_is_unready_and_alive_until_its_end() {
    let upstream = FakeUpstream::start(SSE).await;
    let mut proxy = start(&upstream, &[]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "hang", json!({})).await;
    assert_eq!(get(&proxy, "/readyz").await.status(), 200);
    proxy.begin_stop();
    let draining = within("the drain", async {
        loop {
            let ready = get(&proxy, "/readyz").await;
            if ready.status() == StatusCode::SERVICE_UNAVAILABLE {
                return json_of(ready).await;
            }
        }
    })
    .await;
    assert_eq!(draining["status"], "draining");
    // The call still runs, and with it the drain.
    assert_eq!(get(&proxy, "/livez").await.status(), 200);
    let status = json_of(get(&proxy, "/status").await).await;
    assert!(["leaving", "closing"].contains(&status["state"].as_str().expect("a state")), "{status}");
    assert_eq!(status["sessions"]["active"], 1);
    shows(&proxy, "sse_sunset_draining", 1.0).await;
    client.post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})).await;
    let url = proxy.admin_url("/livez");
    proxy.stop().await;
    assert!(http_client().get(url).send().await.expect_err("nobody is there").is_connect());
}

#[tokio::test]
async fn ready_before_the_drain_delay_is_over_is_unready_already() {
    let upstream = FakeUpstream::start(JSON).await;
    let mut proxy = start(&upstream, &[("drain-delay", "5s")]);
    proxy.begin_stop();
    within("the drain", async { while get(&proxy, "/readyz").await.status() != 503 {} }).await;
    // Balancers have not noticed yet: new clients are served.
    let client = proxy.client().await;
    assert_eq!(json_of(get(&proxy, "/status").await).await["state"], "leaving");
    drop(client);
    pass(Duration::from_secs(5)).await;
    proxy.stop().await;
}

#[tokio::test]
async fn status_tells_what_runs() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[("instance", "replica-1")]);
    let mut client = proxy.client().await;
    client.initialize().await;
    let status = json_of(get(&proxy, "/status").await).await;
    let start = proxy.logged("proxy.start", 1).await.remove(0);
    for (name, value) in [
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("instance", json!("replica-1")),
        ("boot", start["boot.id"].clone()),
        ("config_hash", start["config.hash"].clone()),
        ("upstream", start["upstream.origin"].clone()),
        ("state", json!("serving")),
        ("era", json!("session")),
        ("era_option", json!("auto")),
        ("prefer", json!("session")),
        ("phase", json!("observe")),
        ("verdict", json!("unknown")),
        ("sessions", json!({"active": 1, "lingering": 0, "opened": 1})),
    ] {
        assert_eq!(status[name], value, "{name}: {status}");
    }
    assert_eq!(status["traffic_log"]["failing"], false);
    assert_eq!(status["traffic_log"]["lost"], 0);
    assert!(status["started"].as_str().expect("a time").ends_with('Z') && status["uptime_s"].is_u64(), "{status}");
    drop(client);
    proxy.stop().await;
}

#[tokio::test]
async fn full_disk_is_degraded_and_ready() {
    let upstream = FakeUpstream::start(JSON).await;
    let mut proxy = start(&upstream, &[("traffic-log", "/dev/full")]);
    // `proxy.start` is lost at once.
    let samples = shows(&proxy, "sse_sunset_traffic_log_failing", 1.0).await;
    assert!(samples["sse_sunset_traffic_log_records_lost_total"] >= 1.0);
    let ready = get(&proxy, "/readyz").await;
    assert_eq!(ready.status(), 200, "its clients are served");
    let ready = json_of(ready).await;
    assert_eq!(ready["status"], "degraded");
    let named = ready["degraded"][0].as_str().expect("a reason");
    assert!(named.starts_with("traffic log: /dev/full") && named.contains("verdict is unknown"), "{named}");
    assert_eq!(json_of(get(&proxy, "/status").await).await["traffic_log"]["failing"], true);
    proxy.begin_stop();
    proxy.ended().await;
}

#[tokio::test]
async fn unknown_paths_list_the_known_and_wrong_methods_the_right() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let missing = get(&proxy, "/sse").await;
    assert_eq!(
        (missing.status().as_u16(), &missing.headers()["content-type"]),
        (404, &"application/problem+json".parse().expect("a header"))
    );
    let problem = json_of(missing).await;
    assert_eq!(
        (&problem["status"], &problem["title"], &problem["type"]),
        (&json!(404), &json!("Not Found"), &json!("about:blank"))
    );
    let paths: Vec<&str> = problem["paths"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(
        paths,
        ["/", "/fragment", "/report.json", "/status", "/metrics", "/livez", "/readyz", "/reopen", "/sunset"]
    );
    for path in paths {
        let (wrong, allow) = match path {
            "/reopen" => (Method::GET, "POST"),
            "/sunset" => (Method::PUT, "GET, HEAD, POST"),
            _ => (Method::POST, "GET, HEAD"),
        };
        let answer = ask(&proxy, wrong, path, &[]).await;
        assert_eq!(answer.status(), 405, "{path}");
        assert_eq!(answer.headers()["allow"], allow, "{path}");
        assert_eq!(ask(&proxy, Method::DELETE, path, &[]).await.status(), 405, "{path}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    for path in ["/livez", "/readyz", "/nowhere"] {
        let (whole, head) = (get(&proxy, path).await, ask(&proxy, Method::HEAD, path, &[]).await);
        assert_eq!(head.status(), whole.status());
        for name in ["content-type", "content-length"] {
            assert_eq!(head.headers()[name], whole.headers()[name], "{path} {name}");
        }
        assert_eq!(head.text().await.expect("no body"), "");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn every_answer_is_protected_against_browsers() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    for path in ["/livez", "/metrics", "/status", "/", "/nowhere"] {
        let answer = ask(&proxy, Method::GET, path, &[("origin", "http://evil.example")]).await;
        let headers = answer.headers();
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert!(headers["content-security-policy"].to_str().expect("text").contains("frame-ancestors 'none'"));
        assert!(
            !headers.keys().any(|name| name.as_str().starts_with("access-control")),
            "no page of others may read it"
        );
    }
    proxy.stop().await;
}

#[tokio::test]
async fn foreign_host_names_are_misdirected() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let answer = ask(&proxy, Method::GET, "/metrics", &[("host", "rebound.example:9090")]).await;
    assert_eq!(answer.status(), 421);
    assert!(json_of(answer).await["detail"].as_str().expect("a text").contains("http://localhost"));
    assert_eq!(ask(&proxy, Method::GET, "/metrics", &[("host", "localhost")]).await.status(), 200);
    proxy.stop().await;
}

#[tokio::test]
async fn nothing_of_it_is_on_the_public_address() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    for path in ["/", "/fragment", "/report.json", "/status", "/metrics", "/livez", "/readyz", "/reopen"] {
        for method in [Method::GET, Method::POST] {
            let request = http_client().request(method.clone(), proxy.url(path));
            let answer = within(path, request.send()).await.expect("an answer");
            assert_eq!(answer.status(), 404, "{method} {path}");
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn changes_need_the_token_and_no_page_of_others() {
    let upstream = FakeUpstream::start(JSON).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("written");
    let proxy = start(&upstream, &[("admin-token-file", file.to_str().expect("a path"))]);
    let right = format!("Bearer {TOKEN}");
    let own = proxy.admin_url("");
    for (status, headers) in [
        (200, vec![("authorization", right.as_str())]),
        (200, vec![("authorization", right.as_str()), ("origin", own.as_str())]),
        (403, vec![("authorization", right.as_str()), ("origin", "http://evil.example")]),
        (403, vec![("authorization", right.as_str()), ("origin", "null")]),
        (401, vec![]),
        (401, vec![("authorization", "Bearer 0123456789abcdeF")]),
        (401, vec![("authorization", "Basic 0123456789abcdef")]),
        (401, vec![("authorization", "0123456789abcdef")]),
    ] {
        let answer = ask(&proxy, Method::POST, "/reopen", &headers).await;
        assert_eq!(answer.status(), status, "{headers:?}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{headers:?}");
    }
    proxy.stop().await;
}

#[tokio::test]
async fn without_a_token_nothing_can_be_changed_and_the_answer_says_how() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let answer = ask(&proxy, Method::POST, "/reopen", &[("authorization", "Bearer ")]).await;
    assert_eq!(answer.status(), 403);
    assert!(json_of(answer).await["detail"].as_str().expect("a text").contains("--admin-token-file"));
    proxy.stop().await;
}

#[tokio::test]
async fn reopen_begins_the_log_anew_and_says_when_it_cannot() {
    let upstream = FakeUpstream::start(JSON).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (token, logs) = (folder.path().join("token"), folder.path().join("logs"));
    std::fs::write(&token, TOKEN).expect("written");
    std::fs::create_dir(&logs).expect("a folder");
    let log = logs.join("t.log");
    let options =
        [("admin-token-file", token.to_str().expect("a path")), ("traffic-log", log.to_str().expect("a path"))];
    let mut proxy = start(&upstream, &options);
    let right = format!("Bearer {TOKEN}");
    let shown = [("authorization", right.as_str())];
    let reopen = || ask(&proxy, Method::POST, "/reopen", &shown);
    std::fs::rename(&log, logs.join("t.log.1")).expect("renamed");
    let answer = reopen().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(json_of(answer).await["failing"], false);
    assert!(log.exists(), "the file is there before the answer is");
    std::fs::rename(&logs, folder.path().join("gone")).expect("renamed");
    let answer = reopen().await;
    assert_eq!(answer.status(), 500);
    assert!(json_of(answer).await["detail"].as_str().expect("a text").contains("the old file stays in use"));
    proxy.begin_stop();
    proxy.ended().await;
}

#[tokio::test]
async fn more_connections_than_seats_are_closed_and_the_others_answered() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let address = proxy.admin_url("").trim_start_matches("http://").to_owned();
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(tokio::net::TcpStream::connect(&address).await.expect("a connection"));
    }
    let mut one_too_many = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let mut nothing = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut one_too_many, &mut nothing);
    let _ = within("the end of the connection", read).await;
    assert!(nothing.is_empty());
    held.truncate(32);
    // The others may not have been taken for gone yet.
    within("a seat", async { while http_client().get(proxy.admin_url("/livez")).send().await.is_err() {} }).await;
    proxy.stop().await;
}

#[tokio::test]
async fn taken_admin_address_is_told_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.args(["serve", "--upstream", "http://127.0.0.1:9/mcp", "--listen", "127.0.0.1:0", "--admin", &address]);
    let output = within("the end", command.kill_on_drop(true).output()).await.expect("an end");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    for expected in [address.as_str(), "--admin 127.0.0.1:0", "--admin off"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn healthcheck_tells_by_its_exit_code() {
    let upstream = FakeUpstream::start(JSON).await;
    let mut proxy = start(&upstream, &[("drain-delay", "5s")]);
    let url = proxy.admin_url("");
    let check = async |admin: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
        let output = command.args(["healthcheck", "--admin", admin]).kill_on_drop(true).output();
        let output = within("the end", output).await.expect("an end");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check(&url).await;
    assert!(code == Some(0) && said.contains("\"ready\""), "{said}");
    proxy.begin_stop();
    within("the drain", async { while get(&proxy, "/readyz").await.status() != 503 {} }).await;
    let (code, said) = check(&url).await;
    assert!(code == Some(1) && said.contains("draining"), "{said}");
    pass(Duration::from_secs(5)).await;
    proxy.stop().await;
    assert_eq!(check(&url).await.0, Some(1), "nobody is there");
    assert_eq!(check("off").await.0, Some(2));
}

#[tokio::test]
async fn live_page_and_report_show_what_the_log_holds() {
    let upstream = FakeUpstream::start(JSON).await;
    let proxy = start(&upstream, &[]);
    let empty = json_of(get(&proxy, "/report.json").await).await;
    assert_eq!((&empty["verdict"], &empty["totals"]["users"]), (&json!("unknown"), &json!(0)));
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": "x"})).await;
    client.answer(1).await;
    // A report is at most a second old.
    pass(Duration::from_secs(2)).await;
    let report = get(&proxy, "/report.json").await;
    assert_eq!(report.headers()["content-type"], "application/json");
    let report = json_of(report).await;
    assert_eq!((&report["verdict"], &report["totals"]["open_sessions"]), (&json!("not_yet"), &json!(1)));
    let status = json_of(get(&proxy, "/status").await).await;
    assert_eq!((&status["verdict"], &status["reason"]), (&report["verdict"], &report["reason"]));
    let page = get(&proxy, "/").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.expect("a text");
    let fragment = get(&proxy, "/fragment").await;
    assert!(fragment.headers().contains_key("etag"));
    let fragment = fragment.text().await.expect("a text");
    for text in [&page, &fragment] {
        assert!(text.contains("NOT YET"), "{text}");
    }
    assert!(page.starts_with("<!DOCTYPE html>") && !fragment.contains("<html"), "{fragment}");
    proxy.stop().await;
}

#[tokio::test]
async fn last_use_canary_and_verdict_outlive_a_restart_with_a_state_directory() {
    let upstream = FakeUpstream::start(JSON).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (state, key) = (folder.path().join("state"), folder.path().join("probe.key"));
    std::fs::write(&key, "the key that both sides have").expect("written");
    let [state, key] = [&state, &key].map(|path| path.to_str().expect("a plain path"));
    let begun = jiff::Timestamp::now().as_duration().as_secs_f64();
    let proxy = start(&upstream, &[("state-dir", state), ("probe-key-file", key)]);
    let mut client = proxy.client().await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": "x"})).await;
    client.answer(1).await;
    drop(client);
    let mut canary = tokio::process::Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    canary.args(["canary", "--url", &proxy.url("/sse"), "--probe-key-file", key]).kill_on_drop(true);
    assert!(within("the canary", canary.status()).await.expect("the binary").success());
    let samples = shows(&proxy, "sse_sunset_canaries_total", 1.0).await;
    assert!(samples["sse_sunset_last_canary_timestamp_seconds"] >= begun, "{samples:?}");
    proxy.stop().await;
    let again = start(&upstream, &[("state-dir", state)]);
    let report = json_of(get(&again, "/report.json").await).await;
    assert_eq!((&report["verdict"], &report["totals"]["uses"]), (&json!("not_yet"), &json!(1)));
    let samples = shows(&again, "sse_sunset_clients{state=\"blocking\"}", 1.0).await;
    let family = "last_use_timestamp_seconds{client_family=\"other\"}";
    for name in [family, "last_canary_timestamp_seconds", "newest_client_timestamp_seconds"] {
        let time = samples[&format!("sse_sunset_{name}")];
        // Kept to the millisecond, and begun before that.
        assert!(begun - 0.001 < time && time < begun + 60.0, "{name}: {time} after {begun}");
    }
    assert_eq!(samples.get("sse_sunset_verdict{verdict=\"not_yet\"}"), Some(&1.0), "{samples:?}");
    again.stop().await;
}
