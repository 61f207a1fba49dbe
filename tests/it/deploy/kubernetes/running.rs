//! What the manifests say, carried out on this machine: the same program, variables and words, with other addresses and folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::meaning::{environment, keys, list, text, words};
use super::render::{find, overlay, pod};
use crate::binary::first_line;
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::{Behaviour, FakeUpstream, http_client, within};

/// The key of a Secret: what `openssl rand -hex 32` says.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn program(variables: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-sunset"));
    command.env_clear().envs(variables).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn done(command: &mut Command) -> Output {
    within("the end of the command", command.output()).await.expect("the program")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn container(object: &Value) -> &Value {
    &pod(object).expect("pods")["spec"]["containers"][0]
}

/// A pod of the `StatefulSet`.
struct Pod {
    variables: BTreeMap<String, String>,
    listen: Port,
    admin: Port,
    child: Child,
    folder: TempDir,
}

impl Pod {
    /// Starts the pod `name` of `objects`, in front of `upstream`.
    async fn start(objects: &[Value], name: &str, upstream: &str, redis: Option<&Redis>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for key in keys().1 {
            fs::create_dir_all(folder.path().join("keys")).expect("a folder");
            fs::write(folder.path().join("keys").join(key), KEY).expect("a file");
        }
        let (listen, admin) = (Port::reserve(), Port::reserve());
        let set = find(objects, "StatefulSet", "sse-sunset");
        let (mut variables, problems) = environment(objects, container(set));
        assert!(problems.is_empty(), "{problems:?}");
        for (variable, from, to) in [
            ("UPSTREAM", "http://mcp-server:3001/mcp", upstream.to_owned()),
            ("PUBLIC_URL", "https://mcp.example.com", listen.base()),
            ("LISTEN", "0.0.0.0:8080", listen.address.to_string()),
            ("ADMIN", "0.0.0.0:9090", admin.address.to_string()),
            ("INSTANCE", "POD", name.to_owned()),
        ] {
            let value = variables.get_mut(&format!("SSE_SUNSET_{variable}")).expect("is there");
            assert_eq!(value, from, "{variable}");
            *value = to;
        }
        if let Some(redis) = redis {
            variables.insert("SSE_SUNSET_FLEET".to_owned(), redis.url());
        }
        for value in variables.values_mut() {
            *value = inside(value, folder.path());
        }
        let words = words(container(set), &variables);
        let mut child = program(&variables).args(&words).stderr(Stdio::piped()).spawn().expect("the program");
        let line = first_line(&mut child).await;
        assert!(line.contains("accepting connections"), "{line}");
        Pod { variables, listen, admin, child, folder }
    }

    /// The path that a probe asks, at the admin address, and what it is answered.
    async fn ask(&self, path: &str) -> (u16, String) {
        let answer = http_client().get(format!("{}{path}", self.admin.base())).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    async fn exec(&self, words: &[&str]) -> Output {
        done(program(&self.variables).args(words)).await
    }

    /// The words of a `CronJob`, which find the proxy by its Service and not by a variable.
    async fn job(&self, objects: &[Value], name: &str) -> Output {
        let container = container(find(objects, "CronJob", name));
        let (mut variables, problems) = environment(objects, container);
        assert!(problems.is_empty(), "{problems:?}");
        if let Some(url) = variables.get_mut("SSE_SUNSET_PUBLIC_URL") {
            *url = self.listen.base();
        }
        let words = words(container, &variables).into_iter();
        let words = words
            .map(|word| inside(&word.replace("http://sse-sunset-admin:9090", &self.admin.base()), self.folder.path()));
        done(program(&BTreeMap::new()).args(words)).await
    }
}

/// A path of the container, on this machine.
fn inside(text: &str, folder: &Path) -> String {
    let folder = folder.display();
    text.replace("/run/keys/", &format!("{folder}/keys/")).replace("/var/lib/sse-sunset", &format!("{folder}/state"))
}

#[tokio::test]
async fn pod_serves_is_probed_walked_reported_on_and_drained() {
    let objects = overlay("solo");
    let upstream = FakeUpstream::start(Behaviour::default()).await;
    let mut pod = Pod::start(&objects, "sse-sunset-0", upstream.url(), None).await;
    let probes = ["startupProbe", "readinessProbe", "livenessProbe"];
    let container = container(find(&objects, "StatefulSet", "sse-sunset"));
    let paths = probes.map(|probe| text(&container[probe]["httpGet"]["path"]));
    for path in paths {
        assert_eq!(pod.ask(path).await.0, 200, "{path}");
    }
    let walk = pod.job(&objects, "sse-sunset-canary").await;
    assert!(walk.status.success() && said(&walk).contains(r#""signature":"accepted""#), "{}", said(&walk));
    let report = pod.job(&objects, "sse-sunset-report").await;
    assert!(report.status.success() && said(&report).contains("verdict"), "{}", said(&report));
    // What the README types into the container.
    assert!(pod.exec(&["healthcheck"]).await.status.success());
    let paused = pod.exec(&["sunset", "pause", "--why", "incident 7"]).await;
    assert!(paused.status.success() && said(&paused).contains("incident 7"), "{}", said(&paused));
    let log = pod.variables["SSE_SUNSET_TRAFFIC_LOG"].clone();
    let judged = pod.exec(&["report", &format!("{log}*")]).await;
    assert_eq!(judged.status.code(), Some(3), "too young to know: {}", said(&judged));
    let written = fs::read_to_string(log).expect("a log");
    assert!(written.contains("canary.seen") && !written.contains("legacy.connect"), "{written}");
    assert!(written.contains(r#""service.instance.id":"sse-sunset-0""#), "{written}");

    let id = pod.child.id().expect("running").to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
    within("the end of readiness", async { while pod.ask(paths[1]).await.0 != 503 {} }).await;
    assert_eq!(pod.ask(paths[2]).await.0, 200, "and it lives");
    assert_eq!(within("the end", pod.child.wait()).await.expect("a status").code(), Some(0));
}

#[tokio::test]
async fn pods_of_the_fleet_find_each_other_and_count_their_sessions() {
    let objects = overlay("fleet");
    let (upstream, redis) = (FakeUpstream::start(Behaviour::default()).await, Redis::start());
    let first = Pod::start(&objects, "sse-sunset-0", upstream.url(), Some(&redis)).await;
    let second = Pod::start(&objects, "sse-sunset-1", upstream.url(), Some(&redis)).await;
    within("both", async { while !said(&second.exec(&["sunset", "status"]).await).contains("2 replicas follow") {} })
        .await;
    let metric =
        &find(&objects, "HorizontalPodAutoscaler", "sse-sunset")["spec"]["metrics"][0]["pods"]["metric"]["name"];
    let metrics = first.ask(text(&find(&objects, "StatefulSet", "sse-sunset")["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"])).await.1;
    assert!(metrics.lines().any(|line| line == format!("{} 0", text(metric))), "{metric}: {metrics}");
    let walk = second.job(&objects, "sse-sunset-canary").await;
    assert!(walk.status.success(), "{}", said(&walk));
    assert_eq!(list(&container(find(&objects, "CronJob", "sse-sunset-canary"))["args"]).count(), 4);
}
