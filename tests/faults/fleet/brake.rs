//! What compose.yaml and nginx.conf add for operators: one replica is told to pause and all do, and the whole name may lead to
//! nginx.

use super::nginx::Choice;
use super::stage::{Replica, Stage};
use super::visitor;
use crate::wait::{self, seconds};

/// Longer than it takes one replica to tell the others.
const TOLD: std::time::Duration = seconds(20);

fn is_on(replica: &Replica, metric: &str) -> bool {
    replica.metric(metric) > 0.5
}

#[test]
fn one_replica_is_told_to_pause_and_all_do() {
    let stage = Stage::start(Choice::InTurn);
    let everywhere = |metric: &str, on: bool| {
        wait::until(metric, TOLD, || stage.replicas.iter().all(|replica| is_on(replica, metric) == on));
    };
    everywhere("sse_sunset_paused", false);
    // Clients can be told where to go, though NEW_URL is empty: to the server, by the same name.
    stage.replicas[0].exec(&["sunset", "set", "announce", "--why", "mail of Monday"]);
    everywhere("sse_sunset_phase{phase=\"announce\"}", true);
    stage.replicas[1].exec(&["sunset", "pause", "--why", "incident 7"]);
    everywhere("sse_sunset_paused", true);
    stage.replicas[2].exec(&["sunset", "resume", "--why", "over"]);
    everywhere("sse_sunset_paused", false);
}

/// The whole name may lead to nginx.
#[test]
fn modern_client_that_comes_through_the_balancer_finds_the_server() {
    let stage = Stage::start(Choice::InTurn);
    let (_, said) = visitor::get(&stage.sse_url().replace("/sse", "/mcp"));
    // The server's own words: it knows no such session. A replica would know no such path.
    assert!(said.contains("Session not found"), "{said}");
}
