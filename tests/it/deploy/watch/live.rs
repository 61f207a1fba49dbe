//! A real Prometheus that scrapes the real program, with the words that `deploy/compose/solo` gives both, while a legacy client works,
//! one is upgraded, somebody is turned away and the canary walks: everything the dashboard and the rules ask has an answer.
//!
//! A second proxy beside it stands for a replica: it has the numbers of a fleet, whose Redis is not there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::super::files::with_defaults;
use super::super::strings;
use super::dashboard::{Query, queries};
use super::server::Prometheus;
use super::{rules, yaml};
use crate::binary::first_line;
use crate::support::port::Port;
use crate::support::{Behaviour, FakeUpstream, LegacyClient, http_client, within};

/// What is right not to happen here: nobody's connection is lost, and nothing starts anew on the same port.
const NOTHING: [&str; 2] = ["sse_sunset_connections_lost_total", "changes(process_start_time_seconds"];
/// What holds as long as no canary has come.
const FAILING: &str = "ALERTS{alertname=\"SseSunsetCanaryFailing\", alertstate=\"firing\"}";

/// The command of a service of `solo`, with `replaced` in place of what the file says.
fn command(service: &str, replaced: &[(&str, &str)]) -> Command {
    let file = yaml("compose/solo/compose.yaml");
    let mut words: Vec<String> =
        strings(&file["services"][service]["command"]).into_iter().map(with_defaults).collect();
    for (name, value) in replaced {
        let option = format!("--{name}=");
        let word = words.iter_mut().find(|word| word.starts_with(&option));
        *word.unwrap_or_else(|| panic!("{service} is given {option}")) = format!("{option}{value}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.args(words).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// A running `serve`.
struct Proxy {
    child: Child,
    base: String,
    admin: SocketAddr,
}

impl Proxy {
    /// With the words of `solo`, and with what it keeps in `folder`.
    async fn start(upstream: &str, folder: &Path, more: &[&str]) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        let (key, state, log) = (at("probe.key"), at("state"), at("traffic.log"));
        let replaced = [
            ("upstream", upstream),
            ("listen", "127.0.0.1:0"),
            ("allowed-host", "127.0.0.1"),
            ("probe-key-file", &key),
            ("state-dir", &state),
            ("traffic-log", &log),
        ];
        let mut command = command("sunset", &replaced);
        command.env("SSE_SUNSET_ADMIN", "127.0.0.1:0").args(["--linger=0s", "--drain-delay=0s"]).args(more);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary");
        let line = first_line(&mut child).await;
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let admin = said["admin"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address");
        let base = format!("http://{}", said["listen"].as_str().expect("an address"));
        Proxy { base, admin: admin.parse().expect("an address"), child }
    }

    /// Ends it in order.
    async fn stop(mut self) {
        let id = self.child.id().expect("running").to_string();
        assert!(Command::new("kill").arg(id).status().await.expect("kill").success());
        assert!(within("the end", self.child.wait()).await.expect("a status").success());
    }
}

/// What makes every number move that moves while clients come.
async fn traffic(proxy: &Proxy) {
    let mut client = LegacyClient::connect_to(&proxy.base, &[]).await;
    client.initialize().await;
    client.call(1, "echo", json!({"text": "x"})).await;
    client.answer(1).await;
    // The server breaks off.
    client.call(2, "quit", json!({})).await;
    assert_eq!(client.answer(2).await["error"]["data"]["reason"], "upstream_no_answer");
    drop(client);
    let params =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "dual", "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string();
    let url = format!("{}/sse", proxy.base);
    let upgrade = http_client().post(&url).header("content-type", "application/json").body(hello);
    let upgrade = upgrade.header("accept", "application/json, text/event-stream").send();
    assert_eq!(within("an answer", upgrade).await.expect("an answer").status(), 200);
    let refused = http_client().get(&url).header("host", "evil.example").send();
    assert_eq!(within("an answer", refused).await.expect("an answer").status(), 421);
}

/// Asks as Grafana would until something comes. What may be empty is only asked.
async fn answered(prometheus: &Prometheus, query: &Query) {
    let Query { name, expression, is_instant } = query;
    within(&format!("{name}: {expression}"), async {
        loop {
            let found =
                if *is_instant { prometheus.query(expression).await } else { prometheus.graph(expression).await };
            let found = found.unwrap_or_else(|error| panic!("{name}: {expression}: {error}"));
            if !found.is_empty() || NOTHING.iter().any(|name| expression.contains(name)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// What Prometheus says of its own rules: that all could be judged, and that no text of an alert is broken.
async fn rules_are_judged(prometheus: &Prometheus) {
    let groups = prometheus.ask("rules", &[]).await.expect("rules");
    let groups = groups["groups"].as_array().expect("groups");
    let all: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    assert_eq!(all.len(), rules().len());
    for rule in all {
        assert_eq!((&rule["health"], rule.get("lastError")), (&json!("ok"), None), "{rule:#}");
        for alert in rule["alerts"].as_array().into_iter().flatten() {
            assert!(!alert["annotations"].to_string().contains("<error"), "{alert:#}");
        }
    }
}

#[tokio::test]
async fn prometheus_answers_every_query_and_rule_from_what_the_program_really_shows() {
    let upstream = FakeUpstream::start(Behaviour { sessions: true, sse: true, token: None }).await;
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for folder in [&folder, &other] {
        for key in ["probe.key", "fleet.key"] {
            std::fs::write(folder.path().join(key), "0f".repeat(32)).expect("written");
        }
    }
    // What is known from an earlier life is shown from the start.
    let proxy = Proxy::start(upstream.url(), folder.path(), &[]).await;
    traffic(&proxy).await;
    proxy.stop().await;
    let proxy = Proxy::start(upstream.url(), folder.path(), &[]).await;
    let (nobody, key) = (Port::reserve(), other.path().join("fleet.key"));
    let fleet = [format!("--fleet=redis://{}", nobody.address), format!("--fleet-key-file={}", key.display())];
    let replica = Proxy::start(upstream.url(), other.path(), &[&fleet[0], &fleet[1], "--instance=other"]).await;
    let prometheus = Prometheus::start(&[proxy.admin, replica.admin]).await;

    // An alert comes, and goes when its reason does.
    prometheus.until(FAILING, true).await;
    prometheus.until("ALERTS{alertname=\"SseSunsetFleetDisconnected\", alertstate=\"firing\"}", true).await;
    traffic(&proxy).await;
    let (url, key) = (format!("{}/sse", proxy.base), folder.path().join("probe.key").display().to_string());
    let mut canary = command("canary", &[("url", &url), ("probe-key-file", &key), ("every", "100ms")]);
    let canary = canary.stdout(Stdio::null()).spawn().expect("the binary");
    prometheus.until(FAILING, false).await;

    let queries = queries();
    assert!(queries.len() > 30, "{} are not all", queries.len());
    for query in &queries {
        answered(&prometheus, query).await;
    }
    let asked = queries.iter().map(|query| (query.name.clone(), query.expression.clone()));
    let judged =
        rules().into_iter().map(|(name, rule)| (name, rule["expr"].as_str().expect("an expression").to_owned()));
    for (name, expression) in asked.chain(judged) {
        let unmatched = prometheus.unmatched(&expression).await;
        assert!(unmatched.is_empty(), "{name}: nothing is called {unmatched:?}");
    }
    rules_are_judged(&prometheus).await;
    // What is asked wrong is found by this.
    let wrong = "sse_sunset_verdicts or sum by (verdict) (sse_sunset_verdict{verdict=\"maybe\"}) or up";
    let found = prometheus.unmatched(wrong).await;
    assert_eq!(found, ["sse_sunset_verdicts", "sse_sunset_verdict{verdict=\"maybe\"}"]);
    assert!(prometheus.query("sum by (up").await.is_err());

    drop(canary);
    replica.stop().await;
    proxy.stop().await;
}
