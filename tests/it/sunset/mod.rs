//! Switching HTTP+SSE off: what clients, operators and the log see in each phase.

mod control;
mod freeze;
mod phases;
mod rehearsal;
mod replicas;

use std::path::{Path, PathBuf};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Behaviour, FakeUpstream, LegacyClient, Proxy, http_client, within};

const JSON: Behaviour = Behaviour { sessions: true, sse: false, token: None };
const TOKEN: &str = "0123456789abcdef";
const NEW_URL: &str = "https://mcp.example.com/mcp";

/// A server, and what a proxy before it keeps on the disk over its restarts.
struct Stage {
    upstream: FakeUpstream,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        Self::with(JSON).await
    }

    async fn with(behaviour: Behaviour) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), TOKEN).expect("written");
        Stage { upstream: FakeUpstream::start(behaviour).await, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A proxy that operators may change, with further options.
    fn proxy(&self, options: &[(&'static str, &str)]) -> Proxy {
        let token = self.path("token");
        let usual = [("admin", "127.0.0.1:0"), ("admin-token-file", text(&token)), ("new-url", NEW_URL)];
        Proxy::start(self.upstream.url(), &[&usual, options].concat())
    }

    /// The same with a state directory.
    fn remembering(&self, options: &[(&'static str, &str)]) -> Proxy {
        let state = self.path("state");
        self.proxy(&[&[("state-dir", text(&state))], options].concat())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// What somebody says to the running proxy; the answer.
async fn say(proxy: &Proxy, order: Value) -> Response {
    let request = http_client().post(proxy.admin_url("/sunset")).bearer_auth(TOKEN).body(order.to_string());
    within("an answer", request.send()).await.expect("an answer")
}

/// The same, done; how it stands then.
async fn done(proxy: &Proxy, order: Value) -> Value {
    let answer = say(proxy, order.clone()).await;
    let (status, text) = (answer.status(), answer.text().await.expect("a text"));
    assert_eq!(status, 200, "{order}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// A phase is set by hand.
async fn set(proxy: &Proxy, phase: &str) -> Value {
    done(proxy, json!({"action": "set", "phase": phase, "force": phase, "why": "a test"})).await
}

async fn status(proxy: &Proxy) -> Value {
    let answer = within("the status", http_client().get(proxy.admin_url("/sunset")).send()).await.expect("an answer");
    serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
}

/// Waits until it stands as `wanted` says.
async fn stands(proxy: &Proxy, wanted: impl Fn(&Value) -> bool) -> Value {
    within("another standing", async {
        loop {
            let status = status(proxy).await;
            if wanted(&status) {
                return status;
            }
        }
    })
    .await
}

/// A client that used the server once and left.
async fn use_once(proxy: &Proxy, name: &str) {
    let mut client = proxy.client().await;
    greet(&mut client, name).await;
    client.call(1, "echo", json!({"text": "x"})).await;
    client.answer(1).await;
    let label = proxy.logged("legacy.use", 1).await.pop().expect("a record")["legacy.session"].clone();
    drop(client);
    within("the end of the session", async {
        while !proxy
            .log()
            .iter()
            .any(|record| record["event.name"] == "legacy.end" && record["legacy.session"] == label)
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The handshake of the client `name`; the answer to its `initialize`.
async fn greet(client: &mut LegacyClient, name: &str) -> Value {
    client.post(initialize(name)).await;
    let answer = client.answer(0).await;
    if answer.get("result").is_some() {
        client.post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    }
    answer
}

fn initialize(name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": name, "version": "1"},
    }})
}

async fn get(proxy: &Proxy, headers: &[(&str, &str)]) -> Response {
    ask(proxy, Method::GET, "/sse", headers).await
}

async fn ask(proxy: &Proxy, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = http_client().request(method, proxy.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within(path, request.send()).await.expect("an answer")
}

/// The records called `name`.
fn records<'a>(log: &'a [Value], name: &str) -> Vec<&'a Value> {
    log.iter().filter(|record| record["event.name"] == name).collect()
}
