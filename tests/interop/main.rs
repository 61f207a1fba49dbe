//! Real legacy clients against real upgraded servers, through the real binary.
//!
//! Each test runs one whole conversation twice: straight against a native legacy server (the control), and through the
//! proxy against the same server's Streamable HTTP flavour. Where the control passes, the proxy must give the very same
//! line; where they differ, it is our bug. What the clients and servers need is installed here, from the pinned lists.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that finds something missing shall panic, and its tasks end with it"
)]

mod setup;

use std::collections::BTreeMap;

use serde_json::Value;
use setup::{Client, Proxy, Server, ServerKind, converse};

/// The steps of a conversation by name, each as the line the client printed.
type Steps = BTreeMap<String, String>;

fn steps(lines: &[String]) -> Steps {
    let name = |line: &String| {
        let step: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        step["step"].as_str().expect("a step has a name").to_owned()
    };
    lines.iter().map(|line| (name(line), line.clone())).collect()
}

fn is_ok(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|step| step["ok"] == true)
}

/// One conversation natively and one through the proxy: the same lines, and the log tells who it was and what it did.
fn assert_no_difference(client: Client, kind: ServerKind, least_steps: usize) {
    let control = {
        let native = Server::start(kind, setup::Flavour::LegacySse);
        steps(&converse(client, &native.sse_url(), kind))
    };
    let server = Server::start(kind, setup::Flavour::StreamableHttp);
    let proxy = Proxy::start(&server.mcp_url());
    let through = steps(&converse(client, &proxy.sse_url(), kind));
    let log = proxy.stop();

    let passed = control.values().filter(|line| is_ok(line)).count();
    assert!(passed >= least_steps, "the control itself fails: {control:#?}");
    let mut different = Vec::new();
    for (step, line) in control.iter().filter(|(_, line)| is_ok(line)) {
        if through.get(step) != Some(line) {
            different
                .push(format!("{step}\n  native: {line}\n  proxy:  {}", through.get(step).map_or("-", |line| line)));
        }
    }
    assert!(different.is_empty(), "{client:?} sees a difference:\n{}", different.join("\n"));
    assert_log_tells(&log, client);
}

fn assert_log_tells(log: &[Value], client: Client) {
    let events = |name: &str| -> Vec<&Value> { log.iter().filter(|record| record["event.name"] == name).collect() };
    assert_eq!(log.first().expect("a log")["event.name"], "proxy.start");
    assert_eq!(log.last().expect("a log")["event.name"], "proxy.stop");
    let sequence: Vec<u64> = log.iter().filter_map(|record| record["log.seq"].as_u64()).collect();
    assert_eq!(sequence, (0..log.len() as u64).collect::<Vec<_>>(), "log.seq has no hole");

    assert_eq!(events("legacy.connect").len(), 1);
    let identify = events("legacy.identify")[0];
    assert_eq!(identify["mcp.client.name"], client.name());
    assert_eq!(identify["identity"], format!("name:{}", client.name()));
    assert_eq!(identify["client.family"], client.family());
    assert_eq!(events("legacy.use")[0]["mcp.method.name"], "tools/call");
    let end = events("legacy.end")[0];
    assert_eq!(end["legacy.engagement"], "use");
    assert_eq!(end["legacy.errors"], 0);
    assert_eq!(end["session.end.reason"], "client_disconnect");
    assert!(end["legacy.uses"].as_u64().expect("a count") > 50, "{end}");
    assert!(!log.iter().any(|record| record.to_string().contains("interop-token")), "no credential is logged");
}

#[test]
fn typescript_client_sees_no_difference_with_server_everything() {
    assert_no_difference(Client::TypeScript, ServerKind::Everything, 28);
}

#[test]
fn typescript_client_sees_no_difference_with_a_python_server() {
    assert_no_difference(Client::TypeScript, ServerKind::Python, 30);
}

#[test]
fn python_client_sees_no_difference_with_server_everything() {
    assert_no_difference(Client::Python, ServerKind::Everything, 28);
}

#[test]
fn python_client_sees_no_difference_with_a_python_server() {
    assert_no_difference(Client::Python, ServerKind::Python, 30);
}
