//! The whole conversation of every client once more, with three replicas in the proxy's place.
//!
//! nginx picks a replica at random for each request and keeps no connection to any, so the stream opens anywhere and each POST
//! lands anywhere; a real Redis carries it to the replica with the stream. Promise: what a client saw with one proxy it sees
//! byte by byte with replicas, their logs together tell of one client, and POSTs really did come to other replicas.
//!
//! The trap: with replicas a client of the session era is upgraded only where the server keeps the session, as no replica could keep
//! it for the others. Elsewhere it falls back to HTTP+SSE, and has the same conversation there.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::child::Child;
use crate::clients::{Transport, client};
use crate::comparison::{Conversation, Findings, Front, findings, upgraded};
use crate::nginx::{self, Choice};
use crate::oauth::http::{RUNTIME, get};
use crate::port::Port;
use crate::processes::Proxy;
use crate::redis::Redis;
use crate::servers::{
    EVERYTHING, FASTMCP, PYTHON_1, PYTHON_1_JSON, PYTHON_1_STATELESS, PYTHON_2, PYTHON_2_BY_RESULT, PYTHON_2_STATELESS,
    RMCP, RMCP_STATELESS, Server, TYPESCRIPT_2, TYPESCRIPT_2_REJECT,
};
use crate::upgrade::{assert_upgraded, dual};
use crate::wait::{self, seconds};
use crate::{assert_conversations, events};

/// How long anything may take that is not a conversation. Generous: machines with two busy cores.
const PATIENCE: Duration = seconds(30);
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// What `sse_sunset_fleet_calls_total` counts that is a POST handed on in vain.
const FAILURES: [&str; 3] = ["gone", "unreachable", "unanswered"];

/// Three replicas behind a balancer. They end before what they depend on.
pub(crate) struct Fleet {
    replicas: [Proxy; 3],
    _balancer: Child,
    port: Port,
    _redis: Redis,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// Replicas with these options, once they know each other.
    pub(crate) fn start(upstream: &str, options: &[&str]) -> Self {
        let (redis, port, folder) = (Redis::start(), Port::reserve(), tempfile::tempdir().expect("a folder"));
        let key = folder.path().join("fleet.key");
        std::fs::write(&key, KEY).expect("a file");
        let (url, public) = (redis.url(), port.base());
        let fleet = ["--fleet", &url, "--fleet-key-file", key.to_str().expect("a plain path")];
        let behind = ["--public-url", &public, "--trusted-proxy", "127.0.0.1/32", "--admin", "127.0.0.1:0"];
        let replicas = ["replica-0", "replica-1", "replica-2"].map(|name| {
            let own = ["--instance", name];
            Proxy::start(upstream, &[options, &fleet, &behind, &own].concat())
        });
        let balancer = nginx::start(Choice::Random, port.address, replicas.each_ref().map(Proxy::address));
        wait::until("the balancer accepts connections", PATIENCE, || TcpStream::connect(port.address).is_ok());
        let fleet = Fleet { replicas, _balancer: balancer, port, _redis: redis, _folder: folder };
        fleet.await_all("it knows the others", |status| {
            let fleet = &status["fleet"];
            fleet["connected"] == true && fleet["peers"].as_array().is_some_and(|peers| peers.len() == 2)
        });
        fleet
    }

    /// Where clients go.
    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.port.base())
    }

    /// How many POSTs a replica has handed to another. All of them must have been answered there.
    pub(crate) fn handed(&self) -> u64 {
        let calls = |metrics: &str, outcome: &str| -> u64 {
            let name = format!("sse_sunset_fleet_calls_total{{outcome=\"{outcome}\"}} ");
            let count = metrics.lines().find_map(|line| line.strip_prefix(name.as_str())?.parse().ok());
            count.unwrap_or_else(|| panic!("no {name}in\n{metrics}"))
        };
        let all = self.replicas.each_ref().map(|replica| {
            let metrics = asked(replica, "/metrics");
            for outcome in FAILURES {
                assert_eq!(calls(&metrics, outcome), 0, "{outcome}");
            }
            calls(&metrics, "answered")
        });
        all.iter().sum()
    }

    /// Stops all in order, once they have seen their clients go, and gives their logs.
    pub(crate) fn stop(self) -> Vec<Vec<Value>> {
        self.await_all("nobody has a stream there", |status| {
            status["sessions"]["active"] == status["sessions"]["lingering"]
        });
        self.replicas.map(Proxy::stop).into()
    }

    /// Waits until what every replica says of itself is as `holds` wants it.
    fn await_all(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        for replica in &self.replicas {
            wait::until(what, PATIENCE, || {
                holds(&serde_json::from_str(&asked(replica, "/status")).expect("a status in JSON"))
            });
        }
    }
}

fn asked(replica: &Proxy, path: &str) -> String {
    let url = format!("{}{path}", replica.admin());
    let (status, _, text) = RUNTIME.block_on(get(&url)).unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(status, 200, "{url}: {text}");
    text
}

/// Every client sees the same bytes as with one proxy, wherever its POSTs land.
fn assert_no_difference(server: &'static Server, least_steps: usize) {
    let with_one = findings(server);
    let running = server.start();
    let again = |one: &Conversation| one.through_replicas((server, &running), &["--no-upgrade"]);
    let found = Findings { conversations: with_one.conversations.iter().map(again).collect(), stale: Vec::new() };
    assert_conversations(server, &found, least_steps);
    for conversation in &found.conversations {
        assert!(conversation.handed > 0, "{}: every POST came to its session's replica", conversation.client.title);
    }
}

#[test]
fn replicas_make_no_difference_with_server_everything() {
    assert_no_difference(&EVERYTHING, 26);
}

#[test]
fn replicas_make_no_difference_with_a_python_1_server() {
    assert_no_difference(&PYTHON_1, 29);
}

#[test]
fn replicas_make_no_difference_with_a_stateless_python_1_server() {
    assert_no_difference(&PYTHON_1_STATELESS, 23);
}

#[test]
fn replicas_make_no_difference_with_a_python_1_server_that_answers_with_json() {
    assert_no_difference(&PYTHON_1_JSON, 24);
}

#[test]
fn replicas_make_no_difference_with_a_python_2_server() {
    assert_no_difference(&PYTHON_2, 29);
}

#[test]
fn replicas_make_no_difference_with_a_fastmcp_server() {
    assert_no_difference(&FASTMCP, 29);
}

#[test]
fn replicas_make_no_difference_with_an_rmcp_server() {
    assert_no_difference(&RMCP, 29);
}

#[test]
fn replicas_make_no_difference_with_an_rmcp_server_that_refuses_the_session_era_after_initialize() {
    assert_no_difference(&RMCP_STATELESS, 29);
}

#[test]
fn replicas_make_no_difference_with_a_typescript_2_server() {
    assert_no_difference(&TYPESCRIPT_2, 29);
}

#[test]
fn replicas_make_no_difference_with_a_typescript_2_server_that_speaks_the_era_of_2026_only() {
    assert_no_difference(&TYPESCRIPT_2_REJECT, 29);
}

#[test]
fn replicas_make_no_difference_with_a_stateless_python_2_server() {
    assert_no_difference(&PYTHON_2_STATELESS, 29);
}

#[test]
fn replicas_make_no_difference_with_a_python_2_server_that_has_sessions_and_asks_by_results() {
    assert_no_difference(&PYTHON_2_BY_RESULT, 29);
}

#[test]
fn clients_of_a_server_with_sessions_are_upgraded_by_replicas_too() {
    for (title, transport) in
        [("TypeScript SDK 1.32.2", Transport::StreamableHttp), ("mcp-remote 0.15.1", Transport::Sse)]
    {
        let conversation = upgraded(Front::Replicas, &EVERYTHING, client(title), transport);
        assert_upgraded(&conversation, &EVERYTHING);
        assert_eq!(conversation.handed, 0, "{title}: no replica keeps what another needs");
    }
}

#[test]
fn clients_of_a_server_of_2026_only_fall_back_to_http_sse_with_replicas() {
    let server = &TYPESCRIPT_2_REJECT;
    let mcp_remote = client("mcp-remote 0.15.1");
    let with_one = findings(server).conversations.iter().find(|one| one.client == mcp_remote).expect("it took part");
    let running = server.start();
    let found = Findings { conversations: vec![with_one.through_replicas((server, &running), &[])], stale: Vec::new() };
    assert_conversations(server, &found, 29);
    let conversation = &found.conversations[0];
    assert!(conversation.handed > 0, "every POST came to its session's replica");
    assert_eq!(events(&conversation.logs.concat(), "legacy.upgrade").len(), 0);

    for kind in ["typescript", "vscode"] {
        let fleet = Fleet::start(&running.mcp_url(), server.options);
        let came_to = dual(kind, &fleet.sse_url());
        assert_eq!(came_to["transport"], "sse", "{kind}: {came_to}");
        assert!(came_to["text"].as_str().is_some_and(|text| text.contains("both ways")), "{kind}: {came_to}");
        let log = fleet.stop().concat();
        let counts = ["legacy.upgrade", "legacy.identify"].map(|name| events(&log, name).len());
        assert_eq!(counts, [0, 1], "{kind}: {log:#?}");
    }
}
