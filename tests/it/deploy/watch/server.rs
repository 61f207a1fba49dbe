//! A real Prometheus with the files of `deploy/prometheus`: other addresses, and in a hurry; nothing else is changed.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{program, read, replaced, yaml};
use crate::support::port::Port;
use crate::support::{http_client, within};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often is scraped and judged here, in place of the times in the files.
const OFTEN: &str = "250ms";

/// It ends with the test.
pub(super) struct Prometheus {
    port: Port,
    _child: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// As `deploy/compose/solo` starts it, for these addresses.
    pub(super) async fn start(targets: &[SocketAddr]) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
        let at = |name: &str| folder.path().join(name);
        let mut config = read("prometheus/prometheus.yml");
        for slow in ["scrape_interval: 15s", "evaluation_interval: 15s"] {
            let (name, _) = slow.split_once(' ').expect("two words");
            config = replaced(&config, &format!("  {slow}"), &format!("  {name} {OFTEN}"));
        }
        fs::write(at("prometheus.yml"), config).expect("a file");
        fs::write(at("rules.yml"), hurried(&read("prometheus/rules.yml"))).expect("a file");
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        fs::write(at("targets.yml"), serde_json::json!([{"targets": targets}]).to_string()).expect("a file");
        let said = at("said");
        let log = File::create(&said).expect("a file");
        let mut command = Command::from(program("prometheus"));
        let compose = yaml("compose/solo/compose.yaml");
        for word in compose["services"]["prometheus"]["command"].as_array().expect("a command") {
            let (name, value) = word.as_str().and_then(|word| word.split_once('=')).expect("an option");
            match name {
                "--config.file" => command.arg(format!("{name}={}", at("prometheus.yml").display())),
                "--storage.tsdb.path" => command.arg(format!("{name}={}", at("data").display())),
                _ => command.arg(format!("{name}={value}")),
            };
        }
        command.arg(format!("--web.listen-address={}", port.address)).arg("--log.level=warn").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let mut child = command.spawn().expect("prometheus, which tests/run puts below target");
        let ready = format!("{}/-/ready", port.base());
        within("Prometheus", async {
            while !http_client().get(&ready).send().await.is_ok_and(|answer| answer.status() == 200) {
                if let Some(status) = child.try_wait().expect("a look") {
                    panic!("{status}: {}", fs::read_to_string(&said).expect("a file"));
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        Prometheus { port, _child: child, _folder: folder }
    }

    /// What it says to a question, or why it does not.
    pub(super) async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let url = format!("{}/api/v1/{path}", self.port.base());
        let request = if parameters.is_empty() { http_client().get(url) } else { http_client().post(url).body(body) };
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = within(path, request.send()).await.expect("an answer").text().await.expect("a text");
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// The series that a query gives now, those left out whose value is no number.
    pub(super) async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let data = self.ask("query", &[("query", query)]).await?;
        Ok(numbered(&data))
    }

    /// The same of the last half minute, as a graph asks.
    pub(super) async fn graph(&self, query: &str) -> Result<Vec<Value>, String> {
        let now = jiff::Timestamp::now().as_second();
        let times = [(now - 30).to_string(), now.to_string()];
        let parameters = [("query", query), ("start", &times[0]), ("end", &times[1]), ("step", "1")];
        let data = self.ask("query_range", &parameters).await?;
        Ok(numbered(&data))
    }

    /// Waits until a query gives something, or nothing.
    pub(super) async fn until(&self, query: &str, gives: bool) {
        within(query, async {
            while self.query(query).await.expect("an answer").is_empty() == gives {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    /// The selectors of `expression` that no series ever matched.
    pub(super) async fn unmatched(&self, expression: &str) -> Vec<String> {
        let mut unmatched = Vec::new();
        for selector in super::promql::selectors(expression) {
            let series = self.ask("series", &[("match[]", &selector)]).await;
            let series = series.unwrap_or_else(|error| panic!("{selector}: {error}"));
            if series.as_array().is_none_or(Vec::is_empty) {
                unmatched.push(selector);
            }
        }
        unmatched
    }
}

/// The series with a number in them.
fn numbered(data: &Value) -> Vec<Value> {
    let is_number = |sample: &Value| sample[1].as_str().is_some_and(|value| value != "NaN");
    let is_numbered = |series: &&Value| {
        is_number(&series["value"]) || series["values"].as_array().into_iter().flatten().any(is_number)
    };
    data["result"].as_array().expect("series").iter().filter(is_numbered).cloned().collect()
}

/// The rules, judged often, without patience, and looking back for seconds where steps of minutes would meet no sample.
fn hurried(rules: &str) -> String {
    let mut text = replaced(rules, "    interval: 2m\n", &format!("    interval: {OFTEN}\n"));
    text = replaced(&text, "[14d:1h]) / 336", "[10s:250ms]) / 40");
    let lines = text.lines().map(|line| match line.strip_prefix("        for: ") {
        Some(time) => {
            assert!(time.ends_with('m'), "{line}");
            "        for: 0s"
        }
        None => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}
